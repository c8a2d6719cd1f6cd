"""The ``anomalib-memmc`` command: anomalib's command line with the plugin registered, and commands of its own."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from anomalib.cli import AnomalibCLI
from anomalib.engine import Engine
from jsonargparse import ArgumentError, ArgumentParser
from jsonargparse import Path as ConfigPath
from lightning import seed_everything
from lightning.fabric.utilities.exceptions import MisconfigurationException

from anomalib_memmc.accelerators import require_accelerator
from anomalib_memmc.archive.calibrate import main as calibrate
from anomalib_memmc.archive.score import main as score
from anomalib_memmc.backbone.folder import main as backbone
from anomalib_memmc.benchmark.command import main as benchmark
from anomalib_memmc.benchmark.compare import main as compare
from anomalib_memmc.benchmark.figures import main as figures
from anomalib_memmc.benchmark.shift_test import main as shift_test
from anomalib_memmc.callbacks.one_folder import folder_of_process
from anomalib_memmc.command_help import ANOMALIB, asks_for_help, command_help, overview
from anomalib_memmc.detection.predict import is_anomalibs as is_anomalibs_predict
from anomalib_memmc.detection.predict import main as predict
from anomalib_memmc.export.int8 import require_openvino
from anomalib_memmc.foreign_warnings import ignore_warnings_at_work
from anomalib_memmc.inspection.command import main as inspect
from anomalib_memmc.instantiation import constructor_errors
from anomalib_memmc.logs import configure_logger
from anomalib_memmc.memory.command import main as memory
from anomalib_memmc.model import MemMCMAE
from anomalib_memmc.model.checkpoint_file import require_checkpoint
from anomalib_memmc.presets.arguments import with_preset_files
from anomalib_memmc.presets.command import main as presets
from anomalib_memmc.register import register
from anomalib_memmc.reporting.report.command import main as report
from anomalib_memmc.resuming import link_latest_weights
from anomalib_memmc.usage import main_line

TRACEBACK_VARIABLE = "MEMMC_TRACEBACK"
USER_ERRORS = (ValueError, OSError, RuntimeError, MisconfigurationException, ModuleNotFoundError)
COMMANDS = {
    "backbone": backbone,
    "benchmark": benchmark,
    "calibrate": calibrate,
    "compare": compare,
    "figures": figures,
    "inspect": inspect,
    "memory": memory,
    "predict": predict,
    "presets": presets,
    "report": report,
    "score": score,
    "shift-test": shift_test,
}
"""The plugin's own commands; all others are anomalib's, and so is ``predict`` with anomalib's options."""
OWN_COMMANDS = """\
  backbone     Save the encoder of a checkpoint as a backbone for other detectors.
  benchmark    Train and test several models with several seeds, and print one table.
  calibrate    Learn threshold and percentiles of a checkpoint from normal images of another place.
  compare      Print the difference of two models of a benchmark, also among images that are alike.
  figures      Draw a finished benchmark.
  inspect      Measure what memory and encoder levels do in a checkpoint, and what is lost without them.
  memory       Print what a training step takes on a GPU, without one.
  predict      Say whether images are anomalous, by a checkpoint alone: a picture and a row each.
  presets      List the presets, or print one as a file of your own.
  report       Write what a test found as one HTML file; of several runs, a comparison.
  score        Score every image of an archive, a row each, and go on after a stop.
  shift-test   Test a checkpoint under harmless changes of acquisition.
"""


class RunEngine(Engine):
    """anomalib's engine, but ``latest`` leads to weights while a run that begins has none.

    Processes that are started after the first one look for the checkpoint that is resumed from by that link too.
    """

    def _setup_workspace(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_workspace(*args, **kwargs)
        link_latest_weights(Path(self._cache.args["default_root_dir"]))


class CLI(AnomalibCLI):
    """anomalib's command line, with ``--seed_everything N`` honoured.

    anomalib parses the option and ignores it. Here an integer, from the command line or a configuration file, seeds
    Python, NumPy and PyTorch before model and data are built. anomalib's default, ``true``, seeds nothing.
    """

    @staticmethod
    def init_parser(**kwargs: Any) -> ArgumentParser:
        """As anomalib's, but a mistake raises ``ArgumentError`` instead of ending the process."""
        return AnomalibCLI.init_parser(**{"exit_on_error": False, **kwargs})

    def before_instantiate_classes(self) -> None:
        """Seed everything, then let anomalib prepare the configuration.

        Raises:
            ValueError: If a configuration file has a ``trainer`` that jsonargparse would leave out silently, the
                trainer is to use a GPU that is not here, or an export would leave out its compression silently.
        """
        for file in (each for each in self._get(self.config, "config") or () if isinstance(each, ConfigPath)):
            require_trainer_section(str(file), yaml.safe_load(file.get_content()))
        require_accelerator(self._get(self.config, "trainer.accelerator"))
        if self.subcommand == "export":
            require_openvino(self._get(self.config, "export_type"), self._get(self.config, "compression_type"))
        seed = self._get(self.config, "seed_everything")
        if isinstance(seed, int) and not isinstance(seed, bool):
            seed_everything(seed, workers=True)
        super().before_instantiate_classes()

    def instantiate_classes(self) -> None:
        """Build model, data and engine; an error is the one that a constructor raised."""
        with constructor_errors(self.parser):
            super().instantiate_classes()

    def instantiate_engine(self) -> None:
        """Build the engine; processes that start at the same time do not make the same folder."""
        trainer = self._get(self.config_init, "trainer")
        trainer["default_root_dir"] = folder_of_process(trainer.get("default_root_dir") or "results")
        super().instantiate_engine()
        self.engine.__class__ = RunEngine  # anomalib's command line builds its own

    def _run_subcommand(self) -> None:
        """Look at the checkpoint first, whose errors would be those of a file format; then run.

        ``train --ckpt_path`` tests the weights that it trained, and not the file once more.
        """
        checkpoint = self._get(self.config, "ckpt_path")
        if checkpoint:
            require_checkpoint(Path(checkpoint), type(self.model), resume=self.subcommand in {"fit", "train"})
        if self.subcommand != "train" or not isinstance(self.model, MemMCMAE):
            super()._run_subcommand()
            return
        arguments = self._prepare_subcommand_kwargs("train")
        self.engine.fit(**arguments)
        self.engine.trainer.test(self.model, datamodule=arguments.get("datamodule"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    A user's mistake (a misspelt key, a wrong value, a missing file or package, weights that do not fit) ends in one
    message on stderr, its last line. Set the environment variable ``MEMMC_TRACEBACK=1`` to see where it was raised.
    Other exceptions are bugs and keep their traceback.

    Args:
        argv: Arguments without the program's name. Defaults to those of the process.

    Returns:
        The exit code: 0 for success, 1 for an error or a failed benchmark job, 2 for a key or a value that no class
        takes, 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments in ([], ["-h"], ["--help"]):
            print(overview(OWN_COMMANDS, COMMANDS), end="")
            return 0
        ignore_warnings_at_work()
        arguments = with_preset_files(arguments)
        if arguments and arguments[0] in COMMANDS and not _is_anomalibs(arguments):
            return COMMANDS[arguments[0]](arguments[1:])
        require_command(arguments[0])
        if asks_for_help(arguments):
            print(command_help(arguments[0]), end="")
            return 0
        configure_logger()
        register()
        CLI(arguments)
    except (*USER_ERRORS, ArgumentError) as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        is_usage = isinstance(error, ArgumentError)
        message = main_line(str(error)) if is_usage else " ".join(describe(error).split())
        print(f"({TRACEBACK_VARIABLE}=1 shows the whole report)\nerror: {message}", file=sys.stderr)
        return 2 if is_usage else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _is_anomalibs(arguments: Sequence[str]) -> bool:
    """Whether a command that both have is meant to be anomalib's."""
    return arguments[0] == "predict" and is_anomalibs_predict(arguments[1:])


def require_command(name: str) -> None:
    """Refuse a misspelt command.

    Args:
        name: The first argument.

    Raises:
        ValueError: If it is neither an option nor a command, naming the nearest one.
    """
    known = [*COMMANDS, *ANOMALIB]
    if name.startswith("-") or name in known:
        return
    nearest = get_close_matches(name, known, n=1)
    hint = f" Is it {nearest[0]}?" if nearest else ""
    msg = f"There is no command {name}.{hint} anomalib-memmc --help names all commands."
    raise ValueError(msg)


def require_trainer_section(file: str, config: Mapping[str, Any]) -> None:
    """Refuse what would be left out of a configuration file's ``trainer``, and nothing would say so.

    Args:
        file: The file's name, for the error.
        config: Its values.

    Raises:
        ValueError: If ``trainer`` is no mapping, or holds ``default_root_dir``.
    """
    trainer = config.get("trainer")
    if trainer is not None and not isinstance(trainer, Mapping):
        msg = f"{file}: trainer must be a mapping of the trainer's arguments to values, got {trainer!r}."
        raise ValueError(msg)
    if "default_root_dir" in (trainer or {}) or "trainer.default_root_dir" in config:
        msg = f"{file}: trainer.default_root_dir is set by default_root_dir: write default_root_dir: DIR instead."
        raise ValueError(msg)


def describe(error: BaseException) -> str:
    """Return an error's message, without the traceback that a data loader's worker process puts into it.

    Args:
        error: The exception to describe.

    Returns:
        The message, or the exception's name if it has none.
    """
    message = str(error)
    _, is_from_worker, worker_traceback = message.partition("Original Traceback")
    if is_from_worker and (final := re.search(r"^[\w.]+: .*", worker_traceback, re.DOTALL | re.MULTILINE)):
        message = final[0].strip()
    return message or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
