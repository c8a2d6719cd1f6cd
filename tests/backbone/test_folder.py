"""The folder of a backbone: from a model, from its checkpoint, from the command line; and what is no checkpoint."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

from anomalib_memmc import cli, save_backbone


def test_model_and_checkpoint_give_the_same_folder(trained, tmp_path):
    model, _, checkpoint = trained
    save_backbone(model, tmp_path / "of-model")
    save_backbone(str(checkpoint), tmp_path / "deep" / "of-checkpoint")
    of_model = load_file(tmp_path / "of-model" / "model.safetensors")
    of_checkpoint = load_file(tmp_path / "deep" / "of-checkpoint" / "model.safetensors")
    assert of_model.keys() == of_checkpoint.keys()
    for name, value in of_model.items():
        assert torch.equal(value, of_checkpoint[name])
        assert torch.equal(value, model.model.state_dict()[name])
    assert not any("decoder" in name for name in of_model)
    configs = [(tmp_path / name / "config.json").read_text() for name in ("of-model", "deep/of-checkpoint")]
    assert configs[0] == configs[1]
    config = json.loads(configs[0])
    assert config["architecture"] == "memmc_mae"
    assert config["model_args"]["in_channels"] == 1
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]


def test_command_prints_what_to_write(trained, tmp_path, capsys):
    _, _, checkpoint = trained
    assert cli.main(["backbone", str(checkpoint), str(tmp_path / "saved")]) == 0
    _, text = capsys.readouterr().out.split("\n", maxsplit=1)
    assert yaml.safe_load(text) == {
        "backbone": f"local-dir:{tmp_path / 'saved'}",
        "layers": ["blocks.1"],
        "pre_processor": {"class_path": "anomalib_memmc.ResizePreProcessor", "init_args": {"size": [32, 32]}},
    }
    assert (tmp_path / "saved" / "model.safetensors").is_file()


def test_missing_checkpoint(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(cli.TRACEBACK_VARIABLE, raising=False)
    assert cli.main(["backbone", str(tmp_path / "none.ckpt"), str(tmp_path / "saved")]) == 1
    assert "There is no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "saved").exists()


RESNET = {"state_dict": {}, "hyper_parameters": {"backbone": "resnet18"}, "pytorch-lightning_version": "2.6.0"}


@pytest.mark.parametrize(
    ("content", "message"),
    [(RESNET, "of this version of MemMC-MAE: it lacks memmc_arguments"), ([1], "of a training: state_dict")],
)
def test_checkpoint_of_another_model(content, message, tmp_path):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=rf"other\.ckpt is no checkpoint {message}"):
        save_backbone(tmp_path / "other.ckpt", tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_file_that_is_no_checkpoint(tmp_path):
    (tmp_path / "text.ckpt").write_text("weights")
    with pytest.raises(ValueError, match=r"text\.ckpt cannot be read as a file of torch\.save"):
        save_backbone(tmp_path / "text.ckpt", tmp_path / "saved")
