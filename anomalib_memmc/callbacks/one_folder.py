"""Several processes write into one folder: that of the first."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from anomalib_memmc.resuming.latest import LATEST, link_latest


class OneFolder(Callback):
    """Give all processes the run's folder of the first one.

    anomalib makes a new folder (``v0``, ``v1``, ...) for each training in every process, so that pictures of one run
    are scattered and the link ``latest`` points to an empty folder. Here all processes write into the first one's. The
    empty folders are removed and the link is mended.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on a folder before anything is written."""
        del pl_module, stage
        if trainer.world_size == 1:
            return
        own = Path(trainer.default_root_dir)
        shared = Path(trainer.strategy.broadcast(str(own)))
        if own != shared:
            cast(Any, trainer)._default_root_dir = str(shared)  # Lightning offers no other way
            if own.parent != shared.parent:
                _link(own).unlink(missing_ok=True)
            _remove_if_empty(own)
        trainer.strategy.barrier("one folder")
        if trainer.is_global_zero and _is_run(shared) and not _link(shared).exists():
            link_latest(shared)


def folder_of_process(root: str | Path) -> Path:
    """Where a process may make its run's folder without getting in the way of others that start at the same time.

    Args:
        root: Folder of all runs.

    Returns:
        ``root`` for the first process, or the only one; ``root/process-N`` for another that torchrun or SLURM started.
    """
    for environment, variable in ((TorchElasticEnvironment, "RANK"), (SLURMEnvironment, "SLURM_PROCID")):
        if environment.detect():
            rank = int(os.environ.get(variable, "0"))
            return Path(root) / f"process-{rank}" if rank > 0 else Path(root)
    return Path(root)


def _is_run(folder: Path) -> bool:
    return re.fullmatch(r"v\d+", folder.name) is not None


def _link(folder: Path) -> Path:
    return folder.with_name(LATEST)


def _remove_if_empty(folder: Path) -> None:
    """Remove a run's folder, and those above it that were made for this process, as far as they are empty."""
    if not _is_run(folder):
        return
    made = [above for above in folder.parents if any(_is_of_process(part) for part in (above, *above.parents))]
    with suppress(OSError):  # only an empty folder can be removed
        for empty in (folder, *made):
            empty.rmdir()


def _is_of_process(folder: Path) -> bool:
    return re.fullmatch(r"process-\d+", folder.name) is not None
