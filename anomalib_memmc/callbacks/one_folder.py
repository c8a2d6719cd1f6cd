"""Several processes write into one folder: that of the first."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer


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
            if re.fullmatch(r"v\d+", own.name):
                with suppress(OSError):  # only an empty folder can be removed
                    own.rmdir()
        trainer.strategy.barrier("one folder")
        if trainer.is_global_zero and re.fullmatch(r"v\d+", shared.name):
            _link_latest(shared)


def _link_latest(folder: Path) -> None:
    """Point a link ``latest`` that leads nowhere to a run's folder."""
    link = folder.with_name("latest")
    if link.is_symlink() and not link.exists():
        link.unlink()
        link.symlink_to(folder, target_is_directory=True)
