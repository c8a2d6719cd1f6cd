"""What all data modules share: one list of arguments."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml
from anomalib.data import AnomalibDataModule
from jsonargparse import ArgumentParser

from anomalib_memmc import cli
from anomalib_memmc.data import CovidX, HyperKvasir, MedicalDataModule, Phantom

MODULES = [CovidX, HyperKvasir, Phantom]
SHARED = {name: argument.default for name, argument in inspect.signature(MedicalDataModule).parameters.items()}


@pytest.mark.parametrize("module", MODULES)
def test_shared_arguments_have_default_type_and_help_in_every_module(module: type[MedicalDataModule]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(module, "data", fail_untyped=False)
    defaults = parser.get_defaults().data
    assert {name: defaults[name] for name in SHARED} == SHARED
    assert "crop" not in defaults
    shown = " ".join(parser.format_help().split())
    assert "--data.num_workers NUM_WORKERS Worker processes of each loader. (type: int, default: 8)" in shown
    assert "Keep the training images shrunk and decoded between epochs" in shown
    assert parser.parse_args(["--data.cache=disk", "--data.val_split_mode=none"]).data.cache == "disk"
    with pytest.raises(Exception, match="cache"):
        parser.parse_args(["--data.cache=ram"])


def test_the_help_of_a_subclass_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AnomalibDataModule, "data", fail_untyped=False)  # as anomalib's command line does
    with pytest.raises(SystemExit):
        parser.parse_args(["--data.help=anomalib_memmc.data.HyperKvasir"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--data.crop_border" in shown
    assert "--data.cache_size CACHE_SIZE Shorter side of a cached image in pixels" in shown


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("name", ["num_wokers", "crop", "test_split_mode"])
def test_a_name_that_is_no_argument_is_refused_in_python(module: type[MedicalDataModule], name: str) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        module(**{name: None})


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file of the command with a misspelt argument of the data module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "configure_logger", lambda: None)
    data = {"class_path": "Phantom", "init_args": {"num_wokers": 0}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"model": {"class_path": "MemMCMAE"}, "data": data}))
    return path


def test_a_misspelt_argument_is_a_usage_error(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["--config", str(config)],
        ["--model", "MemMCMAE", "--data", "Phantom", "--data.init_args.num_wokers", "0"],
    ):
        with pytest.raises(SystemExit) as error:
            cli.main(["fit", *arguments])
        assert error.value.code == 2
        assert "num_wokers" in capsys.readouterr().err


def test_the_printed_configuration_holds_the_defaults(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().replace("num_wokers", "num_workers"))
    with pytest.raises(SystemExit):
        cli.main(["fit", "--config", str(config), "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]
    assert set(SHARED) < set(printed)
    assert (printed["num_workers"], printed["eval_batch_size"], printed["cache"]) == (0, 32, None)
