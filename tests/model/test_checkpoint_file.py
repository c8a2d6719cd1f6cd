"""Files that are no checkpoint of a model: one message each, and nothing in them is run."""

import os

import lightning
import pytest
import torch
from helpers.models import TINY_MEMMC

from anomalib_memmc import MemMCMAE, cli
from anomalib_memmc.model.checkpoint_file import require_checkpoint

MARK = "MEMMC_TEST_CODE_WAS_RUN"


class Code:
    """Something that only an unsafe load would run."""

    def __reduce__(self):
        return exec, (f"import os; os.environ[{MARK!r}] = 'run'",)


@pytest.fixture(scope="module")
def whole():
    """What a training leaves, as far as it is looked at."""
    model = MemMCMAE(**TINY_MEMMC, seed=0)
    checkpoint = {
        "epoch": 1,
        "global_step": 2,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": model.state_dict(),
        "callbacks": {},
        "loops": {},
        "optimizer_states": [],
        "lr_schedulers": [],
        "hyper_parameters": dict(model.hparams),
    }
    model.on_save_checkpoint(checkpoint)
    return checkpoint


CONTENTS = {
    "code": (lambda whole: {**whole, "extra": Code()}, r"holds more than weights .*: builtins\.exec"),
    "a list": (lambda _: [1], "no checkpoint of a training"),
    "a tensor": (lambda _: torch.zeros(3), "no checkpoint of a training"),
    "bare weights": (lambda whole: whole["state_dict"], "no checkpoint of a training"),
    "a list as weights": (lambda whole: {**whole, "state_dict": [1]}, "state_dict or .* missing or damaged"),
    "a number as component": (lambda whole: {**whole, "anomalib_pre_processor_config": 0}, "no checkpoint"),
    "another model": (lambda whole: {**whole, "memmc_arguments": None}, "lacks memmc_arguments"),
    "another version": (
        lambda whole: {**whole, "hyper_parameters": {**whole["hyper_parameters"], "num_slots": 4}},
        "another version .*unknown here, num_slots",
    ),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_other_content(whole, tmp_path, case):
    make, message = CONTENTS[case]
    path = tmp_path / "model.ckpt"
    torch.save(make(whole), path)
    with pytest.raises(ValueError, match=rf"model\.ckpt .*{message}") as error:
        require_checkpoint(path, MemMCMAE)
    assert "weights_only" not in str(error.value)  # PyTorch's advice would run the code
    assert MARK not in os.environ


@pytest.mark.parametrize("content", [b"", b"weights\n", b"PK\x03\x04 cut off", b"\x80\x04."])
def test_files_of_another_kind(tmp_path, content):
    (tmp_path / "model.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.ckpt cannot be read as a file of torch\.save"):
        require_checkpoint(tmp_path / "model.ckpt", MemMCMAE)


def test_one_changed_bit_of_the_weights(whole, tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save(whole, path)
    require_checkpoint(path, MemMCMAE, resume=True)
    data = bytearray(path.read_bytes())
    place = data.index(whole["state_dict"]["model.network.patch_embed.weight"].numpy().tobytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))
    torch.load(path, weights_only=True)  # PyTorch does not see it
    with pytest.raises(ValueError, match=r"model\.ckpt .*damaged, since checksums"):
        require_checkpoint(path, MemMCMAE)


def test_a_training_needs_more_than_weights(whole, tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({name: value for name, value in whole.items() if name != "optimizer_states"}, path)
    require_checkpoint(path, MemMCMAE)
    with pytest.raises(ValueError, match=r"cannot go on from .*model\.ckpt"):
        require_checkpoint(path, MemMCMAE, resume=True)


@pytest.mark.parametrize("command", ["fit", "test", "predict", "export"])
def test_every_command_with_a_checkpoint(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setattr(cli, "configure_logger", lambda: None)
    torch.save({"state_dict": {}, "extra": Code()}, "code.ckpt")
    arguments = [f"--model.init_args.{name}={value}" for name, value in TINY_MEMMC.items()]
    arguments += ["--ckpt_path", "code.ckpt", "--trainer.accelerator", "cpu"]
    arguments += ["--export_type", "torch"] if command == "export" else ["--data", "Phantom"]
    assert cli.main([command, "--model", "MemMCMAE", *arguments]) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: code.ckpt holds more than weights")
    assert MARK not in os.environ


@pytest.mark.parametrize("command", ["inspect", "shift-test"])
def test_own_commands_with_a_checkpoint(tmp_path, monkeypatch, capsys, command):
    (tmp_path / "text.ckpt").write_text("weights")
    assert cli.main([command, "--checkpoint", str(tmp_path / "text.ckpt"), "--config", "quickstart"]) == 1
    assert "text.ckpt cannot be read" in capsys.readouterr().err.splitlines()[-1]
