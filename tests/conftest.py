"""Fixtures shared by all tests."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: workers share the cores

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.engine import Engine
from helpers.brightness import PictureData
from helpers.images import CLASSES, TEST_LINES, TINY_PHANTOM, TRAIN_LINES, save_frame, save_mask
from helpers.models import FOUR_MASKS, TINY_MEMMC, build_model
from PIL import Image

from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.scoring import MahalanobisScorer

REPO = Path(__file__).resolve().parents[1]
ARCHIVE = {**TINY_PHANTOM, "num_train": 60, "num_val_normal": 24, "num_test_normal": 20, "num_test_anomalous": 10}


@pytest.fixture
def build():
    """Make a tiny model in evaluation mode; arguments override ``TINY``."""
    return build_model


@pytest.fixture
def images():
    return torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def picture_parts(tmp_path):
    """Sample tables: dim normals, anomalous images with a bright square (source a) or a bright frame (source b)."""
    rng = np.random.default_rng(0)
    tables = {}
    for part, kinds in {"train": ["normal"] * 8, "val": ["normal"] * 6, "test": ["normal", "a", "b"] * 4}.items():
        rows = []
        for index, kind in enumerate(kinds):
            image = rng.integers(40, 90, (48, 48, 3), dtype=np.uint8)
            mask = np.zeros((48, 48), dtype=np.uint8)
            if kind == "a":
                mask[10:30, 10:30] = 255
            elif kind == "b":
                mask[:, :6] = 255
            image[mask > 0] = 230
            path = tmp_path / "images" / part / f"{index:02d}_{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
            mask_path = path.with_name(f"mask_{path.name}")
            Image.fromarray(mask).save(mask_path)
            rows.append(
                {
                    "image_path": str(path),
                    "mask_path": str(mask_path) if kind != "normal" else "",
                    "label_index": int(kind != "normal"),
                    "label": kind,
                    "split": part,
                    "stratum": kind,
                }
            )
        tables[part] = pd.DataFrame(rows)
    return tables


@pytest.fixture
def datamodule(picture_parts):
    return PictureData(picture_parts)


@pytest.fixture
def hyperkvasir_root(tmp_path: Path) -> Path:
    """20 + 2 + 18 normal frames, the first six of cecum from one video, and 6 segmented polyps."""
    root = tmp_path / "hyper-kvasir"
    labeled = root / "labeled-images" / "lower-gi-tract"
    for offset, (name, count) in enumerate({"cecum": 20, "ileum": 2, "bbps-2-3": 18}.items()):
        for number in range(count):
            seed = 1000 * offset + (0 if name == "cecum" and number < 6 else number)
            save_frame(labeled / CLASSES[name] / f"{name}-{number:02d}.jpg", seed, shade=0.5 * number)
    for number in range(6):
        save_frame(root / "segmented-images" / "images" / f"polyp-{number}.jpg", 9000 + number)
        save_mask(root / "segmented-images" / "masks" / f"polyp-{number}.jpg")
        save_frame(labeled / "pathological-findings" / "polyps" / f"polyp-{number}.jpg", 9000 + number)
    return root


@pytest.fixture
def covidx_root(tmp_path: Path) -> Path:
    """24 negatives of 8 patients and 2 positives to train, 5 + 5 to test, under the names of COVIDx8B."""
    root = tmp_path / "covidx"
    for part, lines in (("train", TRAIN_LINES), ("test", TEST_LINES)):
        (root / part).mkdir(parents=True)
        (root / f"{part}_COVIDx8B.txt").write_text("\n".join(lines) + "\n")
        for seed, line in enumerate(lines):
            save_frame(root / part / line.split()[-3], seed)
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, from MEMMC_DATA."""
    folder = Path(os.environ.get("MEMMC_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} does not exist (set MEMMC_DATA)")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A tiny trained model: its checkpoint, its arguments, the data module, and the predictions of a test."""
    folder = tmp_path_factory.mktemp("archive")
    datamodule = Phantom(root=folder / "images", **ARCHIVE)
    arguments = {**TINY_MEMMC, "seed": 0}
    model = MemMCMAE(**arguments, scorer=MahalanobisScorer(**FOUR_MASKS), visualizer=False)
    engine = Engine(
        default_root_dir=folder, max_epochs=1, devices=1, accelerator="cpu", logger=False, enable_progress_bar=False
    )
    engine.train(model, datamodule=datamodule)
    (predictions,) = folder.rglob("predictions.csv")
    return SimpleNamespace(
        checkpoint=Path(engine.trainer.checkpoint_callback.best_model_path),
        arguments=arguments,
        datamodule=datamodule,
        folder=datamodule.folder,
        predictions=pd.read_csv(predictions),
    )
