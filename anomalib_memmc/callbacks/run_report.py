"""A test ends with a report."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from numpy.typing import NDArray
from rich.console import Console

from anomalib_memmc.gathering import gather_objects
from anomalib_memmc.reporting.report.cases import Case
from anomalib_memmc.reporting.report.collector import Collector, Localisation
from anomalib_memmc.reporting.report.facts import test_facts, training_facts
from anomalib_memmc.reporting.report.page import write_report
from anomalib_memmc.reporting.report.record import PREDICTIONS, read_training, write_test, write_training
from anomalib_memmc.reporting.visualizer import dataset_of

logger = logging.getLogger(__name__)

_CLOCK = 1.0
"""Seconds by which the clock of a file system may differ."""


class RunReport(Callback):
    """Write ``report.html`` at the end of a test, and keep in the run's folder what it is made of.

    It belongs behind the post-processor in the list of callbacks, and behind a ``PredictionTable``, whose table it
    reads. In the run's folder (``trainer.default_root_dir``) it keeps ``report/``: facts of training and test, and
    pictures of the best, the worst and the borderline cases. Trouble is logged and never costs a run its results.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started = 0.0
        self._first_epoch = 0
        self._collector: Collector | None = None
        self._is_broken = False
        self._kept: tuple[list[Case], Localisation | None] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time, and where a resumed training goes on."""
        del pl_module
        self._started, self._first_epoch = time.perf_counter(), trainer.current_epoch

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the facts of the training."""
        if not trainer.is_global_zero:
            return
        try:
            seconds = time.perf_counter() - self._started
            facts = training_facts(trainer, pl_module, seconds, self._first_epoch)
            write_training(Path(trainer.default_root_dir), facts)
        except Exception:  # a report must not cost the run its results
            logger.exception("The facts of the training could not be kept for the report.")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        del trainer
        self._started, self._kept, self._is_broken = time.perf_counter(), None, False
        self._collector = Collector(pl_module)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take what the report needs of a batch."""
        del trainer, pl_module, batch, batch_idx
        if self._collector is None or self._is_broken:
            return
        try:
            self._collector.add(outputs, dataloader_idx)
        except Exception:
            logger.exception("A batch could not be kept for the report, which will have no pictures.")
            self._is_broken = True

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put together what the processes have; all of them come here."""
        del trainer, pl_module
        if self._collector is None:
            return
        try:
            is_broken = any(gather_objects(self._is_broken))
            kept = self._collector.gathered()
            self._kept = None if is_broken else kept
        except Exception:
            logger.exception("What the processes have for the report could not be put together.")
        self._collector = None

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what was found, and write the report."""
        kept, self._kept = self._kept, None
        if not trainer.is_global_zero:
            return
        run = Path(trainer.default_root_dir)
        seconds = time.perf_counter() - self._started
        try:
            if not _is_new(run / PREDICTIONS, seconds):
                logger.warning("There is no report, since the test left no %s.", PREDICTIONS)
                return
            if kept is not None:
                facts = test_facts(trainer, pl_module, seconds)
                write_test(run, facts, _training(trainer), *kept, source=_source(trainer))
            path = write_report(run)
            Console(markup=False, emoji=False).print(f"Report: {path}", soft_wrap=True)
        except Exception:
            logger.exception("The report could not be written.")


def _training(trainer: Trainer) -> dict[str, Any] | None:
    """Facts of the training behind the tested weights, which are in its own run's folder; None where not known."""
    if trainer.ckpt_path is not None:
        return read_training(Path(trainer.ckpt_path).parents[2])
    found = read_training(Path(trainer.default_root_dir))
    return found if found and found["steps"] == trainer.global_step else None  # another training may have left them


def _is_new(path: Path, seconds: float) -> bool:
    """Whether a file was written in the last seconds; an older one is of another test."""
    return path.is_file() and time.time() - path.stat().st_mtime < seconds + _CLOCK


def _source(trainer: Any) -> Any:
    """Read a case's image as the data set cuts it, at its own resolution; where that fails it is the model's."""

    def read(case: Case) -> NDArray[np.uint8] | None:
        reader = getattr(dataset_of(trainer, case.loader), "read", None)
        if reader is None or not case.path:
            return None
        try:
            pixels = reader(case.path).clamp(0, 1).permute(1, 2, 0)
        except Exception:  # moved or renamed since
            return None
        return (pixels * 255).round().byte().numpy()

    return read
