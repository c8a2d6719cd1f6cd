"""Metrics of a training go into files, unless it has a logger of its own."""

import warnings
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

FOLDER = "logs"
_EVERY_EPOCH_IS_LOGGED = "The number of training batches .* is smaller than the logging interval"


class ExperimentLog(Callback):
    """Write losses, learning rates and metrics to ``logs/metrics.csv`` in the run's folder, and for TensorBoard.

    anomalib's engine trains without a logger, so that metrics are on the screen alone. A trainer that has one, such as
    Weights & Biases or MLflow, keeps it, and these files are not written. The files for TensorBoard need
    ``tensorboard`` or ``tensorboardX`` to be installed. A test within the same run adds its metrics.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own: list[Logger] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give a trainer without loggers those of the run's folder."""
        del pl_module
        has_others = any(logger not in self._own for logger in trainer.loggers)
        if stage != "fit" or has_others or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        root = Path(trainer.default_root_dir)
        if not self._own or self._own[0].save_dir != str(root):
            self._own = run_loggers(root)
        trainer.loggers = self._own
        warnings.filterwarnings("ignore", _EVERY_EPOCH_IS_LOGGED)


def run_loggers(root: Path) -> list[Logger]:
    """Loggers that write into a run's folder.

    Args:
        root: The folder.

    Returns:
        One for CSV files and, where it is installed, one for TensorBoard.
    """
    loggers: list[Logger] = [CSVLogger(str(root), name=FOLDER, version="")]
    if find_spec("tensorboard") or find_spec("tensorboardX"):
        loggers.append(TensorBoardLogger(str(root), name=FOLDER, version=""))
    return loggers
