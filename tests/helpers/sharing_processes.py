"""Two processes that train with one cache on the RAM disk: ``[torchrun ...] python sharing_processes.py FOLDER``.

Each writes what it puts there to ``FOLDER/RANK.txt``.
"""

import sys
from pathlib import Path

from anomalib.engine import Engine
from helpers.images import TINY_PHANTOM
from helpers.models import TINY_MEMMC
from helpers.runs import TRAINER

from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.data.base import cache

TWO = {"devices": 2, "strategy": "ddp", "max_epochs": 2, "limit_val_batches": 0}


def main(folder):
    data = Phantom(root=folder / "data", cache="memory", cache_size=16, **TINY_PHANTOM)
    engine = Engine(default_root_dir=folder / "run", **{**TRAINER, **TWO})
    save, saved = cache._save, []

    def save_and_note(path, pixels):
        saved.append(str(path))
        save(path, pixels)

    cache._save = save_and_note
    engine.fit(MemMCMAE(**TINY_MEMMC, seed=0, picture_every=0), datamodule=data)
    (folder / f"{engine.trainer.global_rank}.txt").write_text("\n".join(saved))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
