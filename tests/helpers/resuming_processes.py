"""A run of two processes, and others that go on from its checkpoints: ``python resuming_processes.py FOLDER NAME...``.

The names are those of checkpoints as ``Kept`` gives them. The largest difference of each resumed run to the whole one
goes into ``FOLDER/differences.json``.
"""

import json
import sys
from pathlib import Path

from helpers.images import TINY_PHANTOM
from helpers.models import TINY_MEMMC
from helpers.runs import Kept, fit
from torchvision.transforms.v2 import RandomResizedCrop

from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.scoring import MahalanobisScorer

TRAINER = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "max_epochs": 2}


def train(folder, ckpt_path=None, callbacks=()):
    """Three batches an epoch in each process, the last of them smaller; masks, crops and order are random.

    A worker of each stays from one epoch to the next.
    """
    data = Phantom(
        root=folder.parent / "data",
        **{**TINY_PHANTOM, "num_train": 23, "num_workers": 1, "train_augmentations": RandomResizedCrop((32, 32))},
    )
    model = MemMCMAE(**TINY_MEMMC, scorer=MahalanobisScorer(num_masks=4), seed=0, warmup_epochs=1, checkpoint_minutes=0)
    return fit(data, folder, ckpt_path=ckpt_path, callbacks=callbacks, model=model, **TRAINER)


def main(folder, names):
    kept = Kept(folder / "kept")
    whole, engine = train(folder / "whole", callbacks=[kept])
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    differences = {}
    for name in names:
        resumed, engine = train(folder / name, ckpt_path=kept.folder / f"{name}.ckpt")
        pairs = ((value.double(), state[key].double()) for key, value in resumed.state_dict().items())
        differences[name] = max((one - other).nan_to_num(0).abs().max().item() for one, other in pairs if one.numel())
    if engine.trainer.is_global_zero:
        (folder / "differences.json").write_text(json.dumps(differences))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
