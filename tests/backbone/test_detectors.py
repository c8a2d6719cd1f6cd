"""anomalib's PaDiM and PatchCore on the encoder: in Python, from the command line, in a benchmark, from presets."""

from pathlib import Path

import pytest
import torch
from anomalib.engine import Engine
from anomalib.models import Padim, Patchcore
from helpers.images import TINY_PHANTOM

from anomalib_memmc import ResizePreProcessor, cli, save_backbone
from anomalib_memmc.benchmark.config import load, read_config
from anomalib_memmc.benchmark.job import build, parse, run

CONFIGS = Path(__file__).parents[2] / "configs" / "backbone"
LAYERS = ["blocks.0", "blocks.1"]
PIXELS = {"class_path": "anomalib_memmc.ResizePreProcessor", "init_args": {"size": [32, 32]}}
TRAINER = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "logger": False, "max_epochs": 1}


@pytest.fixture(scope="module")
def backbone(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    save_backbone(trained[2], folder)
    return f"local-dir:{folder}"


@pytest.mark.parametrize(("detector", "arguments"), [(Padim, {"n_features": 20}), (Patchcore, {})], ids=str)
def test_fit_test_and_load(detector, arguments, backbone, trained, tmp_path):
    _, datamodule, _ = trained
    model = detector(
        backbone=backbone, layers=LAYERS, pre_processor=ResizePreProcessor((32, 32)), visualizer=False, **arguments
    )
    engine = Engine(default_root_dir=tmp_path, **TRAINER)
    engine.fit(model, datamodule=datamodule)
    (metrics,) = engine.test(model, datamodule=datamodule)
    assert 0 <= metrics["image_AUROC"] <= 1
    assert 0 <= metrics["pixel_AUROC"] <= 1
    path = engine.trainer.checkpoint_callback.best_model_path
    loaded = detector.load_from_checkpoint(path, weights_only=False).eval()  # PatchCore's holds an enum
    images = loaded.pre_processor.transform(torch.rand(2, 3, 40, 40))
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(images), model.eval().model(images))


def test_default_pre_processor_is_refused_with_the_one_to_write(backbone, trained, tmp_path):
    model = Padim(backbone=backbone, layers=LAYERS, n_features=20, visualizer=False)
    with pytest.raises(ValueError, match="ResizePreProcessor"):
        Engine(default_root_dir=tmp_path, **TRAINER).fit(model, datamodule=trained[1])


def test_layers_of_another_backbone_are_refused(backbone):
    with pytest.raises(ValueError, match=r"blocks\.0 to blocks\.1"):
        Padim(backbone=backbone, n_features=20)


def test_command_line(backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "configure_logger", lambda: None)
    model = {"backbone": backbone, "layers": "[blocks.1]", "n_features": 8, "visualizer": "false"}
    options = [f"--model.{name}={value}" for name, value in model.items()]
    options += ["--model.pre_processor=anomalib_memmc.ResizePreProcessor", "--model.pre_processor.size=[32,32]"]
    options += [f"--data.{name}={value}" for name, value in TINY_PHANTOM.items()]
    options += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    assert cli.main(["train", "--model", "Padim", "--data", "anomalib_memmc.Phantom", *options]) == 0
    assert list(tmp_path.glob("results/Padim/Phantom/v0/weights/lightning/model.ckpt"))


def test_folder_that_is_missing_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.TRACEBACK_VARIABLE, raising=False)
    monkeypatch.setattr(cli, "configure_logger", lambda: None)
    assert cli.main(["fit", "--config", str(CONFIGS / "padim.yaml")]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: ")
    assert "backbones/quickstart" in error.splitlines()[-1]
    assert "Union" not in error


def test_row_of_a_benchmark(backbone, tmp_path):
    model = {"backbone": backbone, "layers": ["blocks.1"], "coreset_sampling_ratio": 0.1, "pre_processor": PIXELS}
    config = {
        "model": {"class_path": "anomalib.models.Patchcore", "init_args": model},
        "data": {"class_path": "anomalib_memmc.Phantom", "init_args": {**TINY_PHANTOM, "root": str(tmp_path / "data")}},
        "trainer": TRAINER,
    }
    assert 0 <= run(config, 0, tmp_path)["image_AUROC"] <= 1


def test_preset_fits_the_encoder_of_the_quickstart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    preset, quickstart = read_config(CONFIGS / "padim.yaml"), read_config(CONFIGS.parent / "quickstart.yaml")
    save_backbone(build(quickstart)[0], "backbones/quickstart")
    padim, datamodule, _ = build({**preset, "trainer": {}})
    size = quickstart["model"]["init_args"]["image_size"]
    assert padim.pre_processor.size == (size, size)
    assert len(padim.model.idx) == 100
    padim.model.train()(torch.rand(2, 3, size, size))
    theirs = build(quickstart)[1]
    assert datamodule.folder == theirs.folder  # the images that the encoder was trained on, and no others


def test_benchmark_adds_two_rows_to_the_one_that_trains_the_encoder():
    jobs, before = load(CONFIGS / "benchmark.yaml"), load(CONFIGS.parent / "benchmark.yaml")
    assert jobs.output == before.output
    hashes = {job.model: job.config_hash for job in jobs.jobs}
    assert hashes.items() >= {job.model: job.config_hash for job in before.jobs}.items()
    (encoder,) = [job.config["model"]["init_args"] for job in before.jobs if job.model == "MemMC-MAE"]
    for job in jobs.jobs:
        if job.model in ("PaDiM-MemMC", "PatchCore-MemMC"):
            parse(job.config)
            arguments = job.config["model"]["init_args"]
            assert arguments["pre_processor"]["init_args"]["size"] == [encoder["image_size"]] * 2
            assert max(arguments["layers"]) == f"blocks.{encoder['encoder_depth'] - 1}"
    assert len(jobs.jobs) == len(before.jobs) + 2
