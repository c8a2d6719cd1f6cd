import os
import runpy
import sys
from importlib.util import find_spec

import pytest
import torch
import yaml
from helpers.models import TINY_MEMMC

from anomalib_memmc import MemMCMAE, cli

MODEL = {
    "class_path": "MemMCMAE",
    "init_args": {
        **TINY_MEMMC,
        "scorer": {
            "class_path": "anomalib_memmc.scoring.ReconstructionScorer",
            "init_args": {
                "error_map": {"class_path": "anomalib_memmc.scoring.SquaredErrorMap"},
                "num_masks": 1,
            },
        },
        "max_epochs": 1,
    },
}
DATA = {
    "class_path": "Phantom",
    "init_args": {
        "image_size": 32,
        "num_train": 4,
        "num_test_normal": 2,
        "num_test_anomalous": 2,
        "num_val_normal": 1,
        "num_workers": 0,
    },
}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A configuration file with bare class names; the working directory is temporary."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.TRACEBACK_VARIABLE, raising=False)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # restored at the end; seed_everything changes it
    monkeypatch.setattr(cli, "configure_logger", lambda: None)
    path = tmp_path / "config.yaml"
    trainer = {"accelerator": "cpu", "enable_progress_bar": False}
    path.write_text(yaml.safe_dump({"model": MODEL, "data": DATA, "trainer": trainer, "seed_everything": 5}))
    return str(path)


@pytest.mark.parametrize(
    ("name", "said"), [("tset", "Is it test?"), ("raport", "Is it report?"), ("x", "--help names")]
)
def test_a_misspelt_command_is_one_message(name, said, capsys):
    assert cli.main([name, "--config", "quickstart"]) == 1
    error = capsys.readouterr().err
    assert f"There is no command {name}." in error
    assert said in error


def test_train_by_bare_names(config, tmp_path):
    assert cli.main(["train", "--config", config]) == 0
    assert list(tmp_path.glob("results/MemMCMAE/Phantom/v0/weights/lightning/model.ckpt"))
    assert os.environ["PL_GLOBAL_SEED"] == "5"


def test_train_from_a_checkpoint_tests_what_it_trained(config, tmp_path, monkeypatch):
    tested = []
    monkeypatch.setattr(
        MemMCMAE, "on_test_start", lambda model: tested.append(model.trainer.global_step), raising=False
    )
    trainer = ["--model.init_args.max_epochs", "2", "--model.init_args.checkpoint_minutes", "0"]
    trainer += ["--data.init_args.train_batch_size", "1"]
    with monkeypatch.context() as context:
        context.setattr(MemMCMAE, "on_train_epoch_end", cut_power, raising=False)
        assert cli.main(["fit", "--config", config, *trainer]) == 1
    last = "results/MemMCMAE/Phantom/latest/weights/lightning/last.ckpt"
    assert cli.main(["train", "--config", config, *trainer, "--ckpt_path", last]) == 0
    assert tested == [6]
    (path,) = tmp_path.glob("results/MemMCMAE/Phantom/latest/weights/lightning/*.ckpt")
    assert torch.load(path, weights_only=True)["global_step"] == 6
    tested.clear()
    assert cli.main(["train", "--config", config, *trainer]) == 0
    assert tested == [6]


def cut_power(*_):
    msg = "power cut"
    raise RuntimeError(msg)


@pytest.mark.parametrize(("arguments", "seed"), [([], "5"), (["--seed_everything", "9"], "9")])
def test_seed_is_set_before_the_model_is_built(config, monkeypatch, arguments, seed):
    seen = []

    def build(*_):
        seen.append(os.environ["PL_GLOBAL_SEED"])
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.AnomalibCLI, "instantiate_classes", build)
    assert cli.main(["fit", "--config", config, *arguments]) == 130
    assert seen == [seed]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.init_args.num_train", "0"], "num_train"),
        (["--model.init_args.encoder_heads", "3"], "heads"),
        (["--model.init_args.lr", "null"], "lr of MemMCMAE must not be null"),
        (["--data.init_args.num_train", "null"], "num_train of Phantom must not be null"),
        (
            ["--model.init_args.scorer", "anomalib_memmc.scoring.PlaceScorer"],
            "PlaceScorer is a base class without features",
        ),
        (["--data.init_args.train_batch_size", "0"], "train_batch_size must be a whole number of at least 1"),
        (["--trainer.devices", "0"], "Trainer(devices='0')"),
        pytest.param(
            ["--trainer.logger", "WandbLogger"],
            "Requirement 'wandb",
            marks=pytest.mark.skipif(find_spec("wandb") is not None, reason="Weights & Biases is installed"),
        ),
    ],
)
def test_user_error_is_one_message(config, capsys, arguments, message):
    assert cli.main(["fit", "--config", config, *arguments]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: ")
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error
    assert "Union" not in error


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["gpu", "cuda", "mps"])
def test_a_gpu_that_is_not_there_is_one_message_and_starts_nothing(config, tmp_path, capsys, name):
    assert cli.main(["fit", "--config", config, "--trainer.accelerator", name]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: trainer.accelerator is {name}: PyTorch ")
    assert "--trainer.accelerator auto" in last
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("model: {class_path: MemMCMAE", 2, "the configuration is not valid YAML: "),
        ("model: MemMCMAE\ntrainer: [1]", 1, "trainer must be a mapping of the trainer's arguments to values, got [1]"),
        (
            "model: MemMCMAE\ntrainer: {default_root_dir: x}",
            1,
            "wrong.yaml: trainer.default_root_dir is set by",
        ),
        ("trainer.default_root_dir: x\nmodel: MemMCMAE", 1, "write default_root_dir: DIR instead"),
    ],
)
def test_configuration_file_with_a_mistake(config, tmp_path, capsys, text, code, message):
    (tmp_path / "wrong.yaml").write_text(text)
    assert cli.main(["fit", "--config", "wrong.yaml"]) == code
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_traceback_on_request(config, monkeypatch):
    monkeypatch.setenv(cli.TRACEBACK_VARIABLE, "1")
    with pytest.raises(ValueError, match="num_train"):
        cli.main(["fit", "--config", config, "--data.init_args.num_train", "0"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.init_args.memory_slot", "3"], "there is no key memory_slot in model.init_args"),
        (["--model.init_args.scorer.init_args.num_mask", "3"], "no key num_mask in model.init_args.scorer.init_args"),
        (["--model.init_args.encoder_depth", "two"], "model.init_args.encoder_depth: expected int. Got value: two"),
        (["--model.init_args.optimizer", "sgd"], "model.init_args.optimizer: expected one of 'adamw', 'adam'"),
        (["--model.init_args.scorer", "no_such.Scorer"], "model.init_args.scorer: No module named 'no_such'"),
        (["--data.init_args.num_train", "few"], "data.init_args.num_train: expected int. Got value: few"),
        (["--model.init_args.scorer.init_args.num_masks", "null"], "scorer.init_args.num_masks"),
        (["--trainer.max_stepz", "3"], "trainer.max_stepz"),
        (["--trainer.logger", "TensorBoardLogger"], "trainer.logger: Option 'save_dir' is required"),
        (
            ["--trainer.default_root_dir", "x"],
            "trainer.default_root_dir is set by default_root_dir: give --",
        ),
    ],
)
def test_the_last_line_of_a_usage_error_says_what_is_wrong(config, capsys, arguments, message):
    assert cli.main(["fit", "--config", config, *arguments]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ")
    assert message in last
    assert len(last) < 200


def test_benchmark_without_its_file(capsys):
    assert cli.main(["benchmark", "--config", "missing.yaml"]) == 1
    assert "missing.yaml" in capsys.readouterr().err


def test_package_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["anomalib_memmc", "benchmark", "--config", "missing.yaml"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("anomalib_memmc", run_name="__main__")
    assert exit_.value.code == 1
    assert "missing.yaml" in capsys.readouterr().err


def test_describe_takes_the_message_out_of_a_workers_traceback():
    error = FileNotFoundError(
        "Caught FileNotFoundError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "a.py", line 1, in f\n    raise FileNotFoundError(msg)\n'
        "FileNotFoundError: No image a.png.\nLook at it.\n"
    )
    assert cli.describe(error) == "FileNotFoundError: No image a.png.\nLook at it."
    assert cli.describe(ValueError("plain")) == "plain"
    assert cli.describe(ValueError()) == "ValueError"
