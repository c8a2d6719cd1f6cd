"""The code of docs/data-set.md, run as a reader would run it: by the command and in Python."""

import shlex
import sys

import pandas as pd
import pytest
from helpers.doc_commands import PLAIN_SCORE, TINY
from helpers.images import save_frame
from helpers.models import TINY_MEMMC
from helpers.shell import REPO, blocks

from anomalib_memmc import cli
from anomalib_memmc.data import DatasetError

PAGE = REPO / "docs" / "data-set.md"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The reader's folder: the page's file, and the table of 24 training images of 8 patients and 6 test images."""
    rows = []
    for number in range(30):
        is_test, anomalous = number >= 24, number % 2 if number >= 24 else 0
        path = f"images/{number}.png"
        save_frame(tmp_path / path, number)
        rows.append((path, anomalous, f"patient-{number // 3}", "test" if is_test else "train"))
    pd.DataFrame(rows, columns=["path", "anomalous", "patient", "part"]).to_csv(tmp_path / "images.csv", index=False)
    (tmp_path / "my_data.py").write_text(blocks(PAGE, {"python"})[0][1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setattr(cli, "configure_logger", lambda: None)
    yield tmp_path
    sys.modules.pop("my_data", None)


def test_patients_stay_on_one_side_and_broken_tables_are_named(folder):
    from my_data import ImageTable

    datamodule = ImageTable("images.csv", num_val_normal=6, num_workers=0)
    parts = datamodule.parts
    assert parts["split"].value_counts().to_dict() == {"train": 18, "test": 6, "val": 6}
    assert (parts.groupby("group")["split"].nunique() == 1).all()
    assert parts.loc[parts["split"] == "test", "label_index"].sum() == 3
    with pytest.raises(DatasetError, match=r"no table other\.csv"):
        ImageTable("other.csv").prepare_data()
    pd.DataFrame({"path": []}).to_csv("bad.csv")
    with pytest.raises(DatasetError, match=r"bad\.csv has no column anomalous, part, patient"):
        ImageTable("bad.csv").parts  # noqa: B018


def test_the_command_trains(folder):
    ((_, text),) = blocks(PAGE, {"bash"})
    words = shlex.split(text.replace("DIR/images.csv", "images.csv"))
    assert words[:3] == ["python", "-m", "anomalib_memmc"]
    tiny = {key: value for key, value in (TINY | PLAIN_SCORE).items() if "train_augmentations" not in key}
    assert cli.main([*words[3:], *(f"--{key}={value}" for key, value in tiny.items())]) == 0
    (table,) = folder.glob("results/MemMCMAE/*/v0/predictions.csv")
    assert len(pd.read_csv(table)) == 6


def test_the_python_code_trains(folder):
    code = blocks(PAGE, {"python"})[1][1]
    code = code.replace("max_epochs=30", "max_epochs=1, accelerator='cpu'").replace(
        "MemMCMAE(image_size=128)", f"MemMCMAE(**{TINY_MEMMC}, visualizer=False, report=False)"
    )
    exec(code.replace('ImageTable("images.csv")', 'ImageTable("images.csv", num_workers=0)'), {})
    assert list(folder.glob("results/MemMCMAE/ImageTable/v0/predictions.csv"))
