"""Every Python block of README and docs is executed: here, or by the test that is named for its page."""

import re
from pathlib import Path

import pandas as pd
import pytest
from helpers.images import TINY_PHANTOM
from helpers.models import TINY_MEMMC
from helpers.shell import PAGES, REPO, blocks

from anomalib_memmc import HyperKvasir, Phantom

ELSEWHERE = {
    "docs/backbone.md": "tests/backbone/test_page.py",
    "docs/data-set.md": "tests/docs/test_data_set.py",
    "docs/deploy.md": "tests/export/test_deploy_page.py",
    "docs/extending.md": "tests/test_extending.py",
    "docs/reading-a-result.md": "tests/detection/test_page.py",
}
HERE = {"README.md", "docs/archive.md", "docs/thresholds.md", "docs/your-data.md"}


def block(page):
    ((_, code),) = blocks(REPO / page, {"python"})
    return code


def test_every_page_with_python_has_a_test():
    with_python = {page.relative_to(REPO).as_posix() for page in PAGES if blocks(page, {"python"})}
    assert HERE <= with_python <= HERE | ELSEWHERE.keys()
    for page in with_python - HERE:
        assert Path(page).name in (REPO / ELSEWHERE[page]).read_text(encoding="utf-8")


def test_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = block("README.md").replace("Engine(max_epochs=5)", "Engine(max_epochs=1, accelerator='cpu')")
    code = code.replace("Phantom(num_workers=0)", f"Phantom(**{TINY_PHANTOM})").replace("num_masks=8", "num_masks=2")
    for key, value in TINY_MEMMC.items():
        code = re.sub(rf"\b{key}=\d+", f"{key}={value}", code)
    names = {}
    exec(code, names)
    assert list(tmp_path.glob("results/MemMCMAE/Phantom/v0/predictions.csv"))
    datamodule = Phantom(**TINY_PHANTOM)
    datamodule.setup()
    image = names["model"].pre_processor(next(iter(datamodule.test_dataloader())).image)
    made, scores = names["model"].model.reconstruct(image), names["model"].model.eval().score(image)
    assert made.pixels.shape[2:] == made.masked_inputs.shape[2:] == image.shape[1:]
    assert made.masks.shape[2] == 16
    assert scores.pred_score.shape == scores.score_std.shape == image.shape[:1]
    assert scores.anomaly_map.shape == (len(image), 1, 32, 32)


def test_thresholds_prints_the_rows_of_its_table(capsys):
    exec(block("docs/thresholds.md"), {})
    rows = capsys.readouterr().out
    assert len(rows.splitlines()) == 4
    assert rows in (REPO / "docs" / "thresholds.md").read_text(encoding="utf-8")


def test_archive_lists_the_alarms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("DIR/scores").mkdir(parents=True)
    rows = pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "label": pd.array([0, 1, None], dtype="Int8")})
    rows.to_parquet("DIR/scores/part-000000.parquet")
    exec(block("docs/archive.md"), {})
    assert Path("alarms.csv").read_text().split() == ["path", "b.png"]


def test_your_data_splits_alike(hyperkvasir_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("datasets").mkdir()
    Path("datasets/HyperKvasir").symlink_to(hyperkvasir_root)
    names = {}
    exec(block("docs/your-data.md"), names)
    datamodule, same = names["datamodule"], names["same"]
    assert isinstance(same, HyperKvasir)
    columns = ["image_path", "label_index", "split"]
    one, other = (module.parts[columns].sort_values("image_path").to_numpy().tolist() for module in (datamodule, same))
    assert one == other


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_json_and_yaml_are_read(page):
    import json

    import yaml

    for _, text in blocks(page, {"json"}):
        json.loads(text)
    for _, text in blocks(page, {"yaml"}):
        assert isinstance(yaml.safe_load(text), dict)
