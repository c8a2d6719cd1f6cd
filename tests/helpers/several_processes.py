"""A run in one or several processes: fit, test and predict, and what came of it as one file.

``python several_processes.py PROCESSES FOLDER DATA`` with DATA "phantom" or "folder".
"""

import json
import sys
from pathlib import Path

from anomalib.data import Folder
from anomalib.engine import Engine
from helpers.models import TINY_MEMMC

from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.scoring import MahalanobisScorer

LOADERS = {"train_batch_size": 4, "eval_batch_size": 16, "num_workers": 0}
IMAGES = {"image_size": 32, "num_train": 36, "num_test_normal": 17, "num_test_anomalous": 16}


def make_data(kind, root):
    """33 test images: two batches for one of two processes, one for the other."""
    phantom = Phantom(root=root, num_val_normal=21, **IMAGES, **LOADERS)
    if kind == "phantom":
        return phantom
    phantom.prepare_data()
    folders = {"normal_dir": "train", "normal_test_dir": "normal", "abnormal_dir": "anomalous", "mask_dir": "masks"}
    return Folder("pictures", root=phantom.folder, **folders, **LOADERS, val_split_mode="same_as_test")


def main(processes, folder, kind):
    model = MemMCMAE(**TINY_MEMMC, scorer=MahalanobisScorer(num_masks=4), lr=0.0, seed=0, picture_every=1)
    data = make_data(kind, folder.parent / "data")
    engine = Engine(
        default_root_dir=folder,
        max_epochs=1,
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        logger=False,
        enable_progress_bar=False,
    )
    engine.fit(model, datamodule=data)
    (metrics,) = engine.test(model, datamodule=data)
    engine.predict(model, datamodule=data)
    if engine.trainer.is_global_zero:
        learnt = {name: value.tolist() for name, value in model.post_processor.state_dict().items()}
        result = {"metrics": metrics, "learnt": learnt, "folder": engine.trainer.default_root_dir}
        (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
