"""The command ``score`` on a tiny trained checkpoint."""

import io
import os
import shutil
from itertools import chain

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.models import Padim
from helpers.models import FOUR_MASKS
from lightning import Trainer
from PIL import Image

from anomalib_memmc import MemMCMAE, cli
from anomalib_memmc.archive.rows import as_png
from anomalib_memmc.data import read_image
from anomalib_memmc.detection.detector import Detector
from anomalib_memmc.detection.paths import Paths
from anomalib_memmc.scoring import ReconstructionScorer, TokenScorer


@pytest.fixture
def score(trained, tmp_path, capsys):
    """Run the command; the exit code, the table, what was printed, and the error."""

    def run(*inputs, output="out", workers=0, checkpoint=trained.checkpoint, options=()):
        arguments = ["score", *map(str, inputs), "--checkpoint", str(checkpoint), "--output", str(tmp_path / output)]
        code = cli.main([*arguments, "--workers", str(workers), "--device", "cpu", *map(str, options)])
        printed = capsys.readouterr()
        scores = tmp_path / output / "scores"
        return code, pd.read_parquet(scores) if scores.is_dir() else None, printed.out, printed.err

    return run


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_are_those_of_a_test(trained, score, workers):
    code, table, printed, _ = score(
        *(trained.folder / part for part in ("train", "normal", "anomalous")),
        workers=workers,
        options=["--batch-size", 7 + workers],
    )
    assert code == 0
    assert len(table) == table["path"].nunique() == 90
    assert printed.startswith("90 images.\n90 rows in ")
    expected = trained.predictions.assign(path=[os.path.abspath(path) for path in trained.predictions["image_path"]])
    both = expected.merge(table, on="path", suffixes=("_of_test", ""), validate="one_to_one")
    assert len(both) == 30
    for column in ("score", "spread"):
        assert both[column].to_numpy() == pytest.approx(both[f"{column}_of_test"].to_numpy(), abs=1e-6)
    assert both["percentile"].tolist() == both["percentile_of_test"].tolist()
    assert both["p_value"].tolist() == both["p_value_of_test"].tolist()
    assert both["label"].tolist() == both["label_of_test"].tolist()
    assert table["error"].isna().all()
    assert (table["seconds"] > 0).all()
    assert table["versions"].str.contains("anomalib-memmc .*, torch .*, checkpoint [0-9a-f]{12}").all()


def test_the_spread_is_the_models(trained, score):
    images = sorted((trained.folder / "anomalous").glob("*.png"))[:3]
    _, table, _, _ = score(*images)
    model = MemMCMAE.load_from_checkpoint(trained.checkpoint).eval()
    batch = torch.stack([model.pre_processor.transform(read_image(image)) for image in images])
    with torch.no_grad():
        expected = model.model.score(batch.as_subclass(torch.Tensor)).score_std
    assert table["spread"].to_numpy() == pytest.approx(expected.numpy(), abs=1e-6)


def test_a_scorer_without_masks_has_no_spread(trained):
    detector = Detector(trained.checkpoint, "cpu")
    detector.model.model.set_scorer(TokenScorer())
    ((result,),) = detector.results(Paths([str(next(trained.folder.glob("*/*.png")))]))
    assert result.score is not None
    assert result.spread is None


def test_images_that_cannot_be_read_are_rows(trained, score, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(trained.folder / "normal", folder)
    whole = (folder / "00000.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.tif").write_text("text")
    (folder / "no.dcm").write_text("text")
    (folder / "link.png").symlink_to(folder / "gone.png")
    code, table, printed, _ = score(folder, workers=1)
    assert code == 0
    failed = table[table["error"].notna()]
    assert [os.path.basename(path) for path in failed["path"]] == [
        "cut.png", "empty.jpg", "link.png", "no.dcm", "text.tif",
    ]  # fmt: skip
    assert all(path in error for path, error in zip(failed["path"], failed["error"], strict=True))
    assert failed[["score", "percentile", "p_value", "label", "spread"]].isna().all(axis=None)
    assert table["score"].notna().sum() == 20
    assert "5 not read" in printed
    assert printed.count("Cannot read") + printed.count("does not exist") == 3  # the first three are shown


def test_where_nothing_can_be_read_the_command_fails(score, tmp_path):
    (tmp_path / "a.png").write_text("text")
    code, table, printed, _ = score(tmp_path / "a.png")
    assert code == 1
    assert table["error"].notna().tolist() == [True]
    assert "1 not read" in printed


def test_deep_images_and_dicom_are_scored_as_our_reader_reads_them(trained, score, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    levels = np.linspace(100, 4095, 40 * 40).reshape(40, 40).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.840.1"
    dataset.Rows, dataset.Columns = levels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PixelData = levels.tobytes()
    dataset.save_as(tmp_path / "1.2.840.1", enforce_file_format=True)
    dataset.NumberOfFrames, dataset.PixelData = 2, 2 * levels.tobytes()
    dataset.save_as(tmp_path / "frames.dcm", enforce_file_format=True)
    _, table, _, _ = score(tmp_path)
    one, deep, frames = (table[table["path"].str.endswith(name)].iloc[0] for name in ("1", "deep.png", "frames.dcm"))
    assert one["score"] == pytest.approx(deep["score"], abs=1e-6)
    assert "one PNG per frame" in frames["error"]
    model = MemMCMAE.load_from_checkpoint(trained.checkpoint).eval()
    image = model.pre_processor.transform(torch.from_numpy((levels - 100) / 3995).float().expand(1, 3, -1, -1))
    with torch.no_grad():
        assert deep["score"] == pytest.approx(model.model.score(image).pred_score.item(), abs=1e-5)


def test_maps_are_16_bit_and_half_is_the_threshold(trained, score, tmp_path):
    code, table, _, _ = score(trained.folder / "anomalous", options=["--maps"])
    assert code == 0
    model = MemMCMAE.load_from_checkpoint(trained.checkpoint).eval()
    for row in table.itertuples():
        with Image.open(tmp_path / "out" / row.map) as picture:
            levels = np.array(picture).astype(int)
        assert picture.mode == "I;16"
        with torch.no_grad():
            expected = model(read_image(row.path)[None].as_subclass(torch.Tensor))
        assert np.abs(levels / 65_535 - expected.anomaly_map.squeeze().numpy()).max() < 1e-4
        sure = np.abs(levels - 32_767.5) > 20
        assert ((levels > 32_768) == expected.pred_mask.squeeze().numpy())[sure].all()
    files = {path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.glob("out/maps/**/*.png")}
    assert files == set(table["map"])
    assert score(trained.folder / "anomalous")[0] == 1  # the same folder, without maps


def test_a_map_keeps_its_levels():
    levels = torch.tensor([[0.0, 0.5, 1.0], [1.7, -1.0, 1 / 65_535]])
    with Image.open(io.BytesIO(as_png(levels))) as picture:
        read = np.array(picture)
    assert read.tolist() == [[0, 32_768, 65_535], [65_535, 0, 1]]


def test_another_rate_labels_by_the_p_value(trained, score):
    _, table, printed, _ = score(trained.folder, options=["--false-alarm-rate", "0.3"])
    assert (table["label"] == (table["p_value"] <= 0.3)).all()
    assert f"{int(table['label'].sum())} labelled anomalous at a false-alarm rate of 0.3" in printed
    _, table, printed, _ = score(trained.folder, output="few", options=["--false-alarm-rate", "0.01"])
    assert "24 normal images are too few for a false-alarm rate of 0.01: it takes 99" in printed
    assert (table["label"] == (table["p_value"] <= 0.04 + 1e-9)).all()


def test_growing_archives_are_finished_and_old_rows_left(trained, score):
    normal, anomalous = trained.folder / "normal", trained.folder / "anomalous"
    _, before, _, _ = score(normal)
    _, after, _, _ = score(normal, anomalous)
    assert len(after) == after["path"].nunique() == 30
    pd.testing.assert_frame_equal(after.iloc[:20], before)


def test_drift_is_announced(trained, score, tmp_path):
    folder = tmp_path / "changed"
    folder.mkdir()
    for file in (trained.folder / "normal").glob("*.png"):
        noise = np.random.default_rng(0).normal(0, 40, np.array(Image.open(file)).shape)
        Image.fromarray(np.clip(np.array(Image.open(file)) + noise, 0, 255).astype(np.uint8)).save(folder / file.name)
    assert "DRIFT" in score(folder)[2]
    assert "No drift" in score(trained.folder / "normal", output="same")[2]


def saved(model, path):
    """A checkpoint of a model that was never trained."""
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return path


def test_what_is_no_use_is_one_message(trained, score, tmp_path, monkeypatch):
    monkeypatch.delenv(cli.TRACEBACK_VARIABLE, raising=False)
    bad = tmp_path / "bad.ckpt"
    bad.write_bytes(b"no checkpoint")
    fresh = saved(MemMCMAE(**trained.arguments, scorer=ReconstructionScorer(**FOUR_MASKS)), tmp_path / "fresh.ckpt")
    other = saved(Padim(backbone="resnet18", pre_trained=False), tmp_path / "padim.ckpt")
    for checkpoint, message in (
        (bad, "bad.ckpt as a checkpoint of MemMCMAE: it is damaged"),
        (other, "padim.ckpt as a checkpoint of MemMCMAE"),
        (fresh, "knows no scores of normal images"),
        (tmp_path / "gone.ckpt", "no checkpoint"),
    ):
        code, table, _, error = score(trained.folder, checkpoint=checkpoint)
        assert (code, table) == (1, None)
        assert error.splitlines()[-1].startswith("error: ")
        assert message in error
        assert "Traceback" not in error
    code, table, _, error = score(trained.folder, options=["--false-alarm-rate", "1.5"])
    assert (code, table) == (1, None)
    assert "between 0 and 1" in error


@pytest.mark.parametrize("option", [("--batch-size", "0"), ("--workers", "-1"), ("--batch-size", "a")])
def test_effort_is_checked(score, trained, option, capsys):
    with pytest.raises(SystemExit):
        score(trained.folder, options=option)
    assert option[0] in capsys.readouterr().err


def test_a_detector_gives_results_in_order_whatever_the_batch(trained):
    detector = Detector(trained.checkpoint, "cpu")
    paths = Paths(map(str, [*sorted(trained.folder.glob("*/*.png"))[:7], trained.folder / "gone.png"]))
    one, three = ([*chain.from_iterable(detector.results(paths, size))] for size in (1, 3))
    assert [result.path for result in three] == [*paths]
    assert [result.score for result in three[:7]] == pytest.approx([result.score for result in one[:7]], abs=1e-6)
    assert three[7].score is None
    assert "gone.png" in three[7].error


def test_a_score_that_is_no_number_is_an_error(trained):
    detector = Detector(trained.checkpoint, "cpu")
    detector.model.model.scorer.mean.fill_(float("nan"))
    ((result,),) = detector.results(Paths([str(next(trained.folder.glob("*/*.png")))]))
    assert result.score is None
    assert "is nan" in result.error
