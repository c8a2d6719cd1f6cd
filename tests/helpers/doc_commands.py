"""Rules for the commands of the pages: which run at their smallest, and which are only parsed."""

import argparse
import importlib.metadata
import importlib.util
import itertools
import re
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import lightning.pytorch.loggers
import pytest
from anomalib.cli import AnomalibCLI
from helpers.models import TINY_MEMMC
from helpers.shell import REPO, split
from torch.distributed.run import get_args_parser as torchrun_parser

from anomalib_memmc import cli, register
from anomalib_memmc.benchmark.config import dotlist, load
from anomalib_memmc.benchmark.job import parse as read_job
from anomalib_memmc.presets.arguments import with_preset_files

RUN = "results/MemMCMAE/Phantom/v0"
CHECKPOINT = f"{RUN}/weights/lightning/model.ckpt"
STAND_INS = {"IMAGE_OR_FOLDER": "images", "FOLDER": "images", "ARCHIVE": "images", "NORMALS": "normals"}
"""What the pages' names in capitals stand for; DIR is a new folder or the root of a data set."""
TINY = {f"model.init_args.{key}": value for key, value in TINY_MEMMC.items()} | {
    "data.init_args.train_batch_size": 4,
    "data.init_args.num_workers": 0,
    "trainer.max_epochs": 1,
    "trainer.accelerator": "cpu",
    "trainer.precision": "32-true",
    "trainer.enable_progress_bar": False,
}
FEW = {"image_size": 32, "num_train": 16, "num_test_normal": 2, "num_test_anomalous": 2}
QUICKSTART = TINY | {f"data.init_args.{key}": value for key, value in FEW.items()}
QUICKSTART |= {"model.init_args.scorer.init_args.num_masks": 4}
PLAIN_SCORE = {  # the presets' pretrained features may not be here
    "model.init_args.multi_level": "true",
    "model.init_args.feature_target": "null",
    "model.init_args.scorer": "anomalib_memmc.scoring.ReconstructionScorer",
    "data.init_args.train_augmentations": "null",
    "model.init_args.visualizer": "false",
    "model.init_args.report": "false",
}
HYPERKVASIR = {
    "data.init_args.root": "hyper-kvasir",
    "data.init_args.num_train_normal": 24,
    "data.init_args.num_test_normal": 6,
}
SMALLEST = {
    "configs/quickstart.yaml": QUICKSTART,
    "quickstart": QUICKSTART,
    "my.yaml": QUICKSTART,  # a copy of it
    "cpu/folder": TINY | PLAIN_SCORE | {"data.init_args.root": "folder"},
    "cpu/covidx": TINY | PLAIN_SCORE | {"data.init_args.root": "covidx"},
    "cpu/hyperkvasir": TINY | PLAIN_SCORE | HYPERKVASIR,
}
"""Presets that the pages train by one plain line, and what makes them tiny. All others are parsed."""
NOT_OURS = {"onnxruntime", "openvino", "tensorboard"}
"""Packages that the pages say to install, beside this one."""
SMALL_NETWORK = {"encoder_dim": 48, "encoder_depth": 1, "decoder_dim": 64, "decoder_depth": 1}

Rule = Callable[[list[str], Path], None]


class ParsedError(Exception):
    """Raised in place of the work, when a parser has read its arguments."""


def check(words: Sequence[str], place: Path) -> None:
    """Run or parse a command.

    Args:
        words: The command.
        place: The current folder, with what the pages expect there.

    Raises:
        AssertionError: If there is no rule for it, or it fails.
    """
    program = words[2].partition(".")[0] if words[:2] == ["python", "-m"] else words[0]
    rule = PROGRAMS.get(program)
    assert rule is not None, f"no rule for the program {program!r}: add one to {Path(__file__).name}"
    rule(list(words), place)


def behind(words: list[str]) -> list[str]:
    """What stands behind the program's name."""
    return words[3:] if words[:2] == ["python", "-m"] else words[1:]


def ours(words: list[str], place: Path) -> None:
    """``anomalib-memmc``."""
    command, *arguments = behind(words)
    if command in OWN and not (command == "predict" and cli._is_anomalibs([command, *arguments])):
        OWN[command](command, arguments, place)
    else:
        anomalibs_command(cli.CLI, with_preset_files([command, *arguments]), behind(words))


def anomalibs(words: list[str], place: Path) -> None:
    """``anomalib``, which knows no bare names of this plugin and no presets by name."""
    bare = {"MemMCMAE", "Phantom", "HyperKvasir", "CovidX"} & {*words}
    assert not bare, f"anomalib does not know {bare}"
    for preset in options(words, "--config"):
        assert Path(preset).is_file(), preset
    anomalibs_command(AnomalibCLI, words[1:], words[1:])


def anomalibs_command(program: type[AnomalibCLI], arguments: list[str], written: list[str]) -> None:
    """Train at the smallest where that is known; read the arguments of everything else, and print what they are."""
    for name in options(written, "--trainer.logger"):
        if any(importlib.util.find_spec(package) is None for package in LOGGERS.get(name, ())):
            assert hasattr(lightning.pytorch.loggers, name), name
            return
    presets = options(written, "--config")
    smallest = SMALLEST.get(presets[0]) if len(presets) == 1 and written[0] == "train" else None
    if smallest is None or {"--ckpt_path", "--data", "--trainer.logger"} & {*written}:
        with pytest.raises(SystemExit) as exit_:
            program([*arguments, "--print_config"])
        assert exit_.value.code in {0, None}
        return
    runs = len(list(Path("results").rglob("predictions.csv")))
    program([*arguments, *(f"--{key}={value}" for key, value in smallest.items())])
    assert len(list(Path("results").rglob("predictions.csv"))) == runs + 1


def run_own(command: str, arguments: list[str], place: Path) -> None:
    """Run one of the plugin's own commands on the tiny checkpoint, with results in new folders."""
    words = [STAND_INS.get(word, word) for word in arguments]
    words = [str(place / CHECKPOINT) if word == "CKPT" or word.endswith("model.ckpt") else word for word in words]
    for index, word in enumerate(words):
        if index and words[index - 1] == "--output":
            words[index] = str(place / "written" / word)
    (place / "written").mkdir()
    assert cli.main([command, *words, *EXTRA.get(command, ())]) == 0


def run_or_parse_score(command: str, arguments: list[str], place: Path) -> None:
    """Score here; with ``--ray`` only read the arguments."""
    if "--ray" in arguments:
        parse(lambda: cli.main([command, *arguments]))
    else:
        run_own(command, arguments, place)


def list_benchmark(command: str, arguments: list[str], place: Path) -> None:
    """Read the arguments, then list the jobs in place of running them, and read what the first would be built of."""
    del place
    parse(lambda: cli.main([command, *arguments]))
    kept = [word for word in arguments if word != "--list"]
    for option in ("--ray", "--job"):
        if option in kept:
            del kept[kept.index(option) : kept.index(option) + 2]
    assert cli.main([command, *kept, "--list"]) == 0
    register()
    (config,) = options(kept, "--config")
    overrides = [word for word in kept if word not in {"--config", config}]
    read_job(load(config, list(dotlist(overrides))).jobs[0].config)


def small_memory(command: str, arguments: list[str], place: Path) -> None:
    """Count the memory of a small network."""
    del place
    small = [f"--model.init_args.{key}={value}" for key, value in SMALL_NETWORK.items()]
    assert cli.main([command, *arguments, *small]) == 0


def parse_inspect(command: str, arguments: list[str], place: Path) -> None:
    """Read the arguments; those of the configuration as a test reads them."""
    del place
    parse(lambda: cli.main([command, *arguments]))
    with_value = ("--checkpoint", "--output", "--stratum", "--device")
    rest = [word for at, word in enumerate(arguments) if not {word, arguments[at - 1] if at else ""} & {*with_value}]
    anomalibs_command(cli.CLI, ["test", *rest], ["test", *rest])


def experiment(words: list[str], place: Path) -> None:
    """``python -m experiments.NAME``: its parser reads the arguments; runs that it names in docs/runs are there."""
    del place
    for word in words:
        assert not word.startswith("docs/runs") or (REPO / word).is_dir(), word
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [words[2], *words[3:]])
        parse(lambda: runpy.run_module(words[2], run_name="__main__"))


def parse(call: Callable[[], object]) -> None:
    """Call a function until an argparse parser has read all that it was given."""
    known = argparse.ArgumentParser.parse_known_args

    def stop(parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        known(parser, *args, **kwargs)  # type: ignore[arg-type]
        raise ParsedError

    def stop_strictly(parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        _, unknown = known(parser, *args, **kwargs)  # type: ignore[arg-type]
        assert not unknown, unknown
        raise ParsedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        patch.setattr(argparse.ArgumentParser, "parse_args", stop_strictly)
        with pytest.raises(ParsedError):
            call()


def pip(words: list[str], place: Path) -> None:
    """``pip install``: this package, from here or by its name, with extras that it has, or one that is known here."""
    del place
    assert words[1] == "install"
    known = set(importlib.metadata.metadata("anomalib-memmc").get_all("Provides-Extra") or ()) | _extras()
    for word in words[2:]:
        name, extras = re.fullmatch(r"([\w.-]+)(?:\[([\w,-]+)\])?", word).groups()  # type: ignore[union-attr]
        assert name in {".", "-e", "anomalib-memmc", *NOT_OURS}, word
        assert not extras or set(extras.split(",")) <= known, word


def _extras() -> set[str]:
    """The optional dependencies of pyproject.toml."""
    section = (REPO / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]\n")[2]
    return set(re.findall(r"^([\w-]+) = \[", section.partition("\n[")[0], flags=re.MULTILINE))


def tests(words: list[str], place: Path) -> None:
    """``pytest``: its files exist, and pytest-xdist, where it shares them among processes, is installed."""
    del place
    parallel = ["-n", "auto", "--dist", "loadfile"]
    if words[1:5] == parallel:
        assert importlib.util.find_spec("xdist")
        words = words[4:]
    for word in words[1:]:
        assert (REPO / word).exists(), word


def torchrun(words: list[str], place: Path) -> None:
    """``torchrun``: its own options, then the command that it starts."""
    options_ = torchrun_parser().parse_args(words[1:])
    assert options_.module
    check(["python", "-m", options_.training_script, *options_.training_script_args], place)


def sbatch(words: list[str], place: Path) -> None:
    """``sbatch --wrap COMMAND``: the command."""
    (wrapped,) = options(words, "--wrap")
    (inner,) = split(wrapped, {})
    check(inner, place)


def make(words: list[str], place: Path) -> None:
    """``make``: its targets exist."""
    del place
    targets = re.findall(r"^(\w+):", (REPO / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(words[1:]) <= set(targets), words[1:]


def nothing(words: list[str], place: Path) -> None:
    """A command of the system, which is not this package's to test."""


def options(words: Sequence[str], name: str) -> list[str]:
    """The values of an option that is given as two words."""
    return [value for option, value in itertools.pairwise(words) if option == name]


LOGGERS = {"MLFlowLogger": ["mlflow"], "WandbLogger": ["wandb"]}
"""Loggers whose packages this one does not install."""
EXTRA = {
    "predict": ["--workers", "0", "--device", "cpu"],
    "score": ["--workers", "0", "--device", "cpu"],
    "calibrate": ["--workers", "0", "--device", "cpu"],
}
OWN: dict[str, Callable[[str, list[str], Path], None]] = {
    "backbone": run_own,
    "benchmark": list_benchmark,
    "calibrate": run_own,
    "compare": run_own,
    "figures": run_own,
    "inspect": parse_inspect,
    "memory": small_memory,
    "predict": run_own,
    "presets": run_own,
    "report": lambda command, arguments, place: parse(lambda: cli.main([command, *arguments])),
    "score": run_or_parse_score,
}
PROGRAMS: dict[str, Rule] = {
    "anomalib": anomalibs,
    "anomalib-memmc": ours,
    "anomalib_memmc": ours,
    "experiments": experiment,
    "make": make,
    "mkdocs": nothing,
    "pip": pip,
    "pre-commit": nothing,
    "pytest": tests,
    "sbatch": sbatch,
    "sed": nothing,
    "source": nothing,
    "srun": lambda words, place: check(words[1:], place),
    "tensorboard": nothing,
    "torchrun": torchrun,
    "venv": nothing,
}
