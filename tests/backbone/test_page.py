"""The code of docs/backbone.md, run as a reader would run it, with fewer images and an encoder that is not trained."""

import re
import shlex
from pathlib import Path

import lightning
import pytest
import timm
import torch
import yaml
from helpers.images import TINY_PHANTOM

from anomalib_memmc import cli, save_backbone
from anomalib_memmc.benchmark.config import read_config
from anomalib_memmc.benchmark.job import build

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "backbone.md").read_text(encoding="utf-8")
CHECKPOINT = "results/MemMCMAE/Phantom/latest/weights/lightning/model.ckpt"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The reader's folder after the quickstart: the presets and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "configure_logger", lambda: None)
    (tmp_path / "configs").symlink_to(REPO / "configs")
    model, _, _ = build(read_config(REPO / "configs" / "quickstart.yaml"))
    checkpoint = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    checkpoint["pytorch-lightning_version"] = lightning.__version__
    model.on_save_checkpoint(checkpoint)
    Path(CHECKPOINT).parent.mkdir(parents=True)
    torch.save(checkpoint, CHECKPOINT)
    return tmp_path


def test_commands(folder):
    commands = [shlex.split(line) for block in blocks("bash") for line in block.splitlines()]
    assert [command[:2] for command in commands] == [["anomalib-memmc", "backbone"], *[["anomalib", "train"]] * 2]
    assert cli.main(commands[0][1:]) == 0
    for command in commands[1:]:
        with pytest.raises(SystemExit) as exit_:
            cli.main([*command[1:], "--print_config"])
        assert exit_.value.code == 0


def test_yaml_is_a_detector_on_the_checkpoints_encoder(folder):
    save_backbone(CHECKPOINT, "backbones/quickstart")
    (text,) = blocks("yaml")
    data = {"class_path": "anomalib_memmc.Phantom", "init_args": {"root": str(folder)}}
    model, _, _ = build({**yaml.safe_load(text), "data": data, "trainer": {}})
    images = model.pre_processor(torch.rand(2, 3, 100, 100))
    assert model.model.train()(images).shape == (2 * 8 * 8, 256)


def test_python(folder):
    (code,) = blocks("python")
    code = code.replace("Phantom()", f"Phantom(**{TINY_PHANTOM})").replace("Engine()", "Engine(accelerator='cpu')")
    names = {}
    exec(code, names)
    assert names["model"].model.gaussian.mean.shape == (100, 8 * 8)
    (call,) = re.findall(r"`(timm\.create_model\(.*?\))`", PAGE)
    first, second = eval(call, {"timm": timm})(torch.rand(1, 3, 64, 64))
    assert first.shape == second.shape == (1, 128, 8, 8)
