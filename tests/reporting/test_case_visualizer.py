"""A test and a prediction draw each image's case, with what the table says."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.engine import Engine
from PIL import Image

from anomalib_memmc import CaseVisualizer, CovidX, HyperKvasir, MemMCMAE
from anomalib_memmc.reporting import case_visualizer
from anomalib_memmc.reporting.case import case_figure


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn: images (C, H, W) and results."""
    calls = []

    def noted(image, result):
        calls.append((torch.as_tensor(image).as_subclass(torch.Tensor), result))
        return case_figure(image, result)

    monkeypatch.setattr(case_visualizer, "case_figure", noted)
    return calls


def engine_in(folder, **arguments):
    quiet = {"logger": False, "enable_progress_bar": False}
    return Engine(default_root_dir=folder, accelerator="cpu", devices=1, **quiet, **arguments)


@pytest.fixture
def engine(tmp_path):
    return engine_in(tmp_path)


def test_each_image_of_a_test_has_its_case(trained, engine, drawn, tmp_path):
    engine.test(MemMCMAE(**trained.arguments), datamodule=trained.datamodule, ckpt_path=trained.checkpoint)
    (path,) = tmp_path.rglob("predictions.csv")
    table = pd.read_csv(path)
    pictures = sorted(tmp_path.rglob("images/**/*.png"))
    assert sorted(picture.name for picture in pictures) == sorted(Path(path).name for path in table["image_path"])
    assert len(drawn) == len(table) == 30
    for (image, result), row in zip(drawn, table.to_dict("records"), strict=True):
        assert result.path == row["image_path"]
        for name in ("gt_label", "score", "threshold", "label", "percentile", "p_value", "spread"):
            assert getattr(result, name) == pytest.approx(row[name], abs=1e-6), name
        file = np.asarray(Image.open(row["image_path"]).convert("RGB"))
        assert torch.equal((255 * image).round().byte(), torch.from_numpy(file.copy()).permute(2, 0, 1))
        assert bool(result.gt_mask is not None and result.gt_mask.any()) == bool(row["gt_label"])
        assert result.map_threshold == 0.5
        assert result.anomaly_map.shape == result.reconstruction.shape[1:] == (32, 32)
    assert Image.open(pictures[0]).width > 500


def test_files_of_a_prediction_keep_their_names_apart(trained, engine, drawn, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a.png", "a.jpg"):
        Image.open(trained.predictions["image_path"][0]).convert("RGB").save(folder / name)
    engine.predict(MemMCMAE(**trained.arguments), data_path=folder, ckpt_path=trained.checkpoint)
    (table,) = tmp_path.rglob("predict.csv")
    assert sorted(path.name for path in table.parent.rglob("images/**/*.png")) == ["a.jpg.png", "a.png"]
    assert [result.gt_label for _, result in drawn] == [None, None]


def test_a_cropped_frame_and_a_deep_radiograph_are_shown_as_the_model_sees_them(
    hyperkvasir_root, covidx_root, trained, drawn, tmp_path
):
    for path in (covidx_root / "test").iterdir():
        ramp = np.linspace(0, 4000, 40 * 50).reshape(40, 50).astype(np.uint16)
        Image.fromarray(ramp).save(path, format="PNG")
    arguments = {"num_workers": 0, "eval_batch_size": 4}
    for data in (
        HyperKvasir(hyperkvasir_root, num_train_normal=24, num_test_normal=8, **arguments),
        CovidX(covidx_root, **arguments),
    ):
        drawn.clear()
        engine = engine_in(tmp_path, limit_test_batches=1)
        engine.test(MemMCMAE(**trained.arguments), datamodule=data, ckpt_path=trained.checkpoint)
        assert len(drawn) == 4
        for image, result in drawn:
            torch.testing.assert_close(image, data.test_data.read(result.path).as_subclass(torch.Tensor))


def test_a_picture_that_fails_ends_nothing(trained, engine, monkeypatch, caplog, tmp_path):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(case_visualizer, "case_figure", fail)
    with caplog.at_level(logging.ERROR):
        engine.test(MemMCMAE(**trained.arguments), datamodule=trained.datamodule, ckpt_path=trained.checkpoint)
    assert caplog.text.count("could not be drawn") == 30
    assert list(tmp_path.rglob("predictions.csv"))


def test_the_folder_can_be_chosen(trained, tmp_path):
    engine = engine_in(tmp_path, limit_test_batches=1)
    model = MemMCMAE(**trained.arguments, visualizer=CaseVisualizer(tmp_path / "mine"))
    engine.test(model, datamodule=trained.datamodule, ckpt_path=trained.checkpoint)
    assert len(list((tmp_path / "mine").rglob("*.png"))) == 4
