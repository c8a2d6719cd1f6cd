"""The command ``calibrate``: what it learns is what a validation on the same images learns."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.engine import Engine
from helpers.models import FOUR_MASKS
from PIL import Image

from anomalib_memmc import MemMCMAE, cli
from anomalib_memmc.archive.calibrate import as_text
from anomalib_memmc.archive.calibration import NormalFiles, held_out
from anomalib_memmc.archive.calibration import calibrate as learn
from anomalib_memmc.detection.detector import Detector
from anomalib_memmc.detection.paths import Paths
from anomalib_memmc.metrics.conformal import p_values
from anomalib_memmc.scoring import ReconstructionScorer

BUFFERS = ("normal_scores", "promise", "_image_threshold", "_pixel_threshold", *(
    f"{part}_{end}" for part in ("image", "pixel") for end in ("min", "max")
))  # fmt: skip


@pytest.fixture
def calibrate(trained, tmp_path, capsys):
    """Run the command; the exit code, the new file, what was printed, and the error."""

    def run(*normals, options=(), checkpoint=trained.checkpoint, name="new.ckpt"):
        output = tmp_path / name
        arguments = ["calibrate", "--checkpoint", str(checkpoint), "--normals", *map(str, normals)]
        code = cli.main([*arguments, "--output", str(output), "--workers", "0", "--device", "cpu", *options])
        printed = capsys.readouterr()
        return code, output, printed.out, printed.err

    return run


@pytest.fixture
def held_out_list(trained, tmp_path):
    """The normal images that the training's validation was made of."""
    trained.datamodule.setup()
    path = tmp_path / "normals.txt"
    path.write_text("\n".join(map(str, trained.datamodule.val_data.samples["image_path"])))
    return path


@pytest.fixture
def changed(trained, tmp_path):
    """Normal images of a place with a noisier camera, one of them damaged."""
    folder = tmp_path / "place"
    folder.mkdir()
    for index, file in enumerate(sorted((trained.folder / "train").glob("*.png"))[:50]):
        noise = np.random.default_rng(index).normal(0, 25, (32, 32, 3))
        Image.fromarray(np.clip(np.array(Image.open(file)) + noise, 0, 255).astype(np.uint8)).save(folder / file.name)
    (folder / "bad.png").write_text("text")
    return folder


def post_processor(checkpoint):
    return MemMCMAE.load_from_checkpoint(checkpoint).post_processor


def test_the_validations_own_images_change_nothing(trained, calibrate, held_out_list):
    code, output, printed, _ = calibrate(held_out_list)
    assert code == 0
    before, after = (torch.load(path, weights_only=False) for path in (trained.checkpoint, output))
    assert before["state_dict"].keys() == after["state_dict"].keys()
    for name, value in before["state_dict"].items():
        torch.testing.assert_close(after["state_dict"][name], value, rtol=0, atol=1e-5, equal_nan=True, msg=name)
    assert before.keys() == after.keys()
    learnt = post_processor(output).state_dict()
    assert all(torch.isfinite(learnt[name]).all() for name in BUFFERS)
    assert "24 normal images read, 0 not.\nThey cannot be told from" in printed
    assert "calls 0 of them" in printed or "calls 1 of them" in printed


def test_another_place_gets_its_own_threshold(trained, calibrate, changed):
    code, output, printed, _ = calibrate(changed)
    assert code == 0
    scores = [
        result.score
        for batch in Detector(trained.checkpoint, "cpu").results(Paths(map(str, sorted(changed.glob("*.png")))))
        for result in batch
        if result.error is None
    ]
    learnt = post_processor(output)
    assert learnt.normal_scores.numpy() == pytest.approx(np.sort(scores), abs=1e-6)
    assert learnt.image_threshold.item() == pytest.approx(np.sort(scores)[48], abs=1e-6)  # rank ceil(51 * 0.95) = 49
    assert learnt.promise[[0, 3]].tolist() == pytest.approx([2 / 51, 50])
    readable = json.loads(output.with_name("new.thresholds.json").read_text())
    assert readable["image_threshold"] == learnt.image_threshold.item()
    assert (readable["normal_images"], readable["promised_false_alarm_rate"]) == (50, pytest.approx(2 / 51))
    old = post_processor(trained.checkpoint).image_threshold.item()
    assert f"calls {(np.array(scores) > old).sum()} of them anomalous" in printed
    assert "50 normal images read, 1 not.\n  Cannot read the image" in printed
    assert "They differ from the training's normal images" in printed
    assert "promises 3.9% false alarms" in printed


def test_a_calibrated_checkpoint_is_tested_and_scores(trained, calibrate, changed, tmp_path):
    _, output, _, _ = calibrate(changed)
    engine = Engine(default_root_dir=tmp_path, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False)
    engine.test(MemMCMAE(**trained.arguments), datamodule=trained.datamodule, ckpt_path=output)
    (path,) = tmp_path.rglob("predictions.csv")
    table, learnt = pd.read_csv(path), post_processor(output)
    assert table["p_value"].tolist() == p_values(table["score"], learnt.normal_scores.numpy()).tolist()
    assert (table["label"] == (table["score"] > learnt.image_threshold.item())).all()
    arguments = ["score", str(changed), "--checkpoint", str(output), "--output", str(tmp_path / "out")]
    assert cli.main([*arguments, "--workers", "0", "--device", "cpu"]) == 0


def test_a_refit_learns_from_most_and_calibrates_on_the_rest(trained, calibrate, changed):
    code, output, printed, _ = calibrate(changed, options=["--refit"])
    assert code == 0
    assert "The scorer was fitted to 31 of them, and the threshold learnt from the other 19." in printed
    assert "They differ from the training's normal images" in printed  # by the scorer as it was
    before, after = (MemMCMAE.load_from_checkpoint(path) for path in (trained.checkpoint, output))
    assert not torch.equal(before.model.scorer.mean, after.model.scorer.mean)
    for name, value in before.model.network.state_dict().items():
        assert torch.equal(after.model.network.state_dict()[name], value), name
    scores = [
        result.score
        for batch in Detector(output, "cpu").results(Paths(map(str, sorted(changed.glob("*.png")))))
        for result in batch
        if result.error is None
    ]
    held = after.post_processor.normal_scores
    assert len(held) == 19
    distances = np.abs(np.array(scores)[:, None] - held.numpy()).min(axis=1)
    assert (distances < 1e-5).sum() == 19
    rest = np.array(scores)[distances >= 1e-5]
    assert np.median(rest) < held.median()  # what a scorer has learnt from looks too normal: hence the split


@pytest.mark.parametrize(
    ("count", "rate", "held"), [(1000, 0.05, 200), (60, 0.05, 19), (30, 0.05, 15), (5, 0.05, 2), (1000, 0.001, 500)]
)
def test_how_many_a_refit_holds_out(count, rate, held):
    assert held_out(count, rate) == held


def test_what_cannot_be_done_is_one_message(trained, calibrate, changed, tmp_path, monkeypatch):
    monkeypatch.delenv(cli.TRACEBACK_VARIABLE, raising=False)
    for normals, options, message in (
        ([changed / "bad.png"], [], "None of the 1 normal images can be read: Cannot read"),
        ([*sorted(changed.glob("*.png"))[:3]], ["--refit"], "at least 4 normal images, and 3 can be read"),
        ([tmp_path / "gone"], [], "no folder or file"),
    ):
        code, output, _, error = calibrate(*normals, options=options)
        assert code == 1
        assert not output.exists()
        assert message in error
        assert "Traceback" not in error
    (tmp_path / "new.ckpt").write_text("mine")
    code, output, _, error = calibrate(changed)
    assert code == 1
    assert "new.ckpt exists" in error
    assert output.read_text() == "mine"


def test_a_checkpoint_without_thresholds_says_so(trained, changed):
    detector = Detector(trained.checkpoint, "cpu")
    detector.post_processor.enable_thresholding = False
    paths = Paths(map(str, sorted(changed.glob("0*.png"))))
    text = as_text(learn(detector, NormalFiles(detector, paths, 32, 0, {}), refit=False), float("nan"))
    assert text.endswith("enable_thresholding off.")
    assert len(detector.normals) == 50


def test_a_scorer_that_learns_nothing_is_not_refitted(trained, tmp_path):
    detector = Detector(trained.checkpoint, "cpu")
    detector.model.model.set_scorer(ReconstructionScorer(**FOUR_MASKS))
    with pytest.raises(ValueError, match="ReconstructionScorer learns nothing"):
        learn(detector, NormalFiles(detector, Paths(["a.png"]), 2, 0, {}), refit=True)
