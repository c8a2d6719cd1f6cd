"""The command ``predict``: a verdict, a picture and a row an image, and nothing overwritten."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomalib_memmc import Detector, cli
from anomalib_memmc.detection import predict as module
from anomalib_memmc.detection.predict import is_anomalibs

COLUMNS = ["image_path", "score", "threshold", "label", "percentile", "p_value", "spread", "error", "case"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.TRACEBACK_VARIABLE, raising=False)


@pytest.fixture
def predict(trained, capsys):
    """Run the command; the exit code, what was printed, and the error."""

    def run(*inputs, options=(), checkpoint=trained.checkpoint):
        arguments = ["predict", "--checkpoint", str(checkpoint), *map(str, inputs), "--device", "cpu"]
        code = cli.main([*arguments, "--workers", "0", *map(str, options)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def scans(trained, tmp_path):
    """Images under equal names, of 8 and 16 bits and grey, one of them damaged."""
    paths = trained.predictions["image_path"]
    for folder, row in (("a", 0), ("b", 1), ("B", 2)):
        (tmp_path / "scans" / folder).mkdir(parents=True)
        shutil.copy(paths[row], tmp_path / "scans" / folder / "x.png")
    Image.open(paths[3]).save(tmp_path / "scans" / "x.jpg", quality=95)
    grey = np.asarray(Image.open(paths[4]).convert("L")).astype(np.uint16)
    Image.fromarray(grey * 16).save(tmp_path / "scans" / "deep.png")
    (tmp_path / "scans" / "bad.png").write_text("text")
    return tmp_path / "scans"


def results(folder=Path("results", "predict")):
    (run,) = folder.iterdir()
    return run, pd.read_csv(run / "predictions.csv")


def test_a_folder_gets_rows_pictures_and_a_short_table(trained, predict, scans):
    code, printed, _ = predict(scans)
    assert code == 0
    run, table = results()
    assert table.columns.tolist() == COLUMNS
    assert table["image_path"].tolist() == [
        str(scans / name) for name in ("bad.png", "deep.png", "x.jpg", "B/x.png", "a/x.png", "b/x.png")
    ]
    judged = Detector(trained.checkpoint, "cpu")
    for row in table.to_dict("records")[1:]:
        expected = judged.judge(row["image_path"])
        for name in COLUMNS[1:7]:
            assert row[name] == pytest.approx(getattr(expected, name), abs=1e-6), name
        assert Image.open(run / row["case"]).width > 500
    assert table["case"].tolist()[1:] == [f"cases/{name}.png" for name in ("deep", "x.jpg", "x", "x-2", "x-3")]
    assert len(list((run / "cases").iterdir())) == 5
    assert "Cannot read the image" in table["error"][0]
    assert table.loc[0, COLUMNS[1:7]].isna().all()
    assert table["error"][1:].isna().all()
    text = " ".join(printed.split())
    assert text.startswith("6 images.")
    assert "scans/bad.png" in text
    assert "not read" in text
    assert f"Called anomalous: {table['label'].sum():.0f} of 5 images. The threshold is" in text
    assert "which promises 4.0% false alarms" in text
    assert f"Table: {run}/predictions.csv Pictures: {run}/cases" in text
    assert max(map(len, printed.splitlines())) <= 80


def test_the_table_shows_the_highest_scores_of_many(trained, predict):
    code, printed, _ = predict(trained.folder / "normal", trained.folder / "anomalous")
    assert code == 0
    _, table = results()
    assert len(table) == 30
    assert "The 20 highest scores of 30 images" in printed
    top = table.sort_values("score", ascending=False)["image_path"].head(20)
    shown = [line for line in printed.splitlines() if ".png" in line]
    assert [Path(path).name in line for path, line in zip(top, shown, strict=True)] == [True] * 20


def test_earlier_results_are_kept(trained, predict, monkeypatch):
    image = trained.predictions["image_path"][0]
    monkeypatch.setattr(time, "strftime", lambda _: "noon")
    for _ in range(2):
        assert predict(image)[0] == 0
    assert sorted(os.listdir("results/predict")) == ["noon", "noon-2"]
    assert predict(image, options=["--output", "mine"])[0] == 0
    before = Path("mine/predictions.csv").read_bytes()
    code, _, error = predict(image, options=["--output", "mine"])
    assert code == 1
    assert "--output mine is not empty, and nothing is overwritten" in error
    assert Path("mine/predictions.csv").read_bytes() == before
    Path("empty").mkdir()
    assert predict(image, options=["--output", "empty"])[0] == 0


def test_pictures_of_earlier_results_are_no_images(trained, predict, tmp_path):
    shutil.copy(trained.predictions["image_path"][0], tmp_path / "a.png")
    for _ in range(2):
        assert predict(tmp_path)[1].startswith("1 image.")


def test_names_with_brackets_are_printed_as_they_are(trained, predict, tmp_path):
    (tmp_path / "p[").mkdir()
    for name in ("scan[red].png", "p[/x].png", ":smile:.png"):
        shutil.copy(trained.predictions["image_path"][0], tmp_path / name)
    (tmp_path / "broken[bold].png").write_text("text")
    code, printed, _ = predict(tmp_path)
    assert code == 0
    for name in ("scan[red].png", "p[/x].png", ":smile:.png", "broken[bold].png"):
        assert name in printed


def test_where_nothing_can_be_read_the_command_fails(predict, scans):
    code, printed, _ = predict(scans / "bad.png")
    assert code == 1
    _, table = results()
    assert len(table) == 1
    assert "Not read: 1." in printed


def test_a_mistake_is_one_message_and_leaves_nothing(trained, predict, scans, tmp_path):
    (tmp_path / "file").write_text("mine")
    image = scans / "a" / "x.png"
    for inputs, options, message in (
        ([tmp_path / "gone"], {}, "no folder or file"),
        ([image], {"checkpoint": scans / "bad.png"}, "bad.png cannot be read as a file of torch.save"),
        ([image], {"checkpoint": tmp_path / "gone.ckpt"}, "gone.ckpt"),
        ([image], {"options": ["--output", "file"]}, "--output file is a file"),
    ):
        code, _, error = predict(*inputs, **options)
        assert code == 1
        assert message in error
        assert "Traceback" not in error
        assert not Path("results").exists()


def test_a_checkpoint_that_was_never_validated_is_refused(trained, predict, tmp_path, monkeypatch):
    detector = Detector(trained.checkpoint, "cpu")
    detector.post_processor.pixel_min.fill_(float("nan"))
    monkeypatch.setattr(module, "Detector", lambda *_: detector)
    code, _, error = predict(trained.predictions["image_path"][0])
    assert code == 1
    assert "never validated: calibrate it first" in error
    assert not Path("results").exists()


def test_without_a_threshold_there_are_scores_and_no_verdicts(trained, predict, monkeypatch):
    detector = Detector(trained.checkpoint, "cpu")
    detector.post_processor.enable_thresholding = False
    monkeypatch.setattr(module, "Detector", lambda *_: detector)
    code, printed, _ = predict(trained.predictions["image_path"][0])
    assert code == 0
    assert "has no threshold, so there are scores and no verdicts" in " ".join(printed.split())
    _, table = results()
    assert table[["threshold", "label"]].isna().all(axis=None)
    assert table["percentile"].notna().all()


def test_pydicoms_own_files_are_read(predict):
    data = pytest.importorskip("pydicom.data")
    files = [data.get_testdata_file(name) for name in ("CT_small.dcm", "MR_small.dcm")]
    code, _, _ = predict(*files)
    assert code == 0
    run, table = results()
    assert table["score"].notna().all()
    assert sorted(os.listdir(run / "cases")) == ["CT_small.dcm.png", "MR_small.dcm.png"]


@pytest.mark.parametrize(
    ("arguments", "anomalibs"),
    [
        (["--checkpoint", "a.ckpt", "b.png"], False),
        (["--checkpoint=a.ckpt", "b.png", "--config", "c.yaml"], False),
        (["--help"], False),
        ([], False),
        (["--model", "Padim", "--data", "b.png"], True),
        (["--config=c.yaml"], True),
        (["--data.init_args.path", "b"], True),
        (["--ckpt_path", "a.ckpt"], True),
    ],
)
def test_anomalibs_options_are_for_anomalib(arguments, anomalibs):
    assert is_anomalibs(arguments) is anomalibs


def test_anomalibs_predict_goes_on_working(monkeypatch):
    """It is asked for a model that does not exist, and says so in its words."""
    assert cli.main(["predict", "--model", "NoSuchModel", "--data", "x"]) == 2


def test_both_at_once_is_one_message(trained, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(["predict", "--checkpoint", str(trained.checkpoint), "x.png", "--config", "quickstart"])
    assert error.value.code == 2
    assert "unrecognized arguments: --config" in capsys.readouterr().err
