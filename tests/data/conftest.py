from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPO = Path(__file__).resolve().parents[2]
CLASSES = {
    "cecum": "anatomical-landmarks/cecum",
    "ileum": "anatomical-landmarks/ileum",
    "bbps-2-3": "quality-of-mucosal-views/bbps-2-3",
}


def save_frame(path: Path, seed: int, size: tuple[int, int] = (40, 48), shade: float = 0.0) -> None:
    """Write a colour frame of large blotches; frames of one seed are near-duplicates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blotches = np.random.default_rng(seed).integers(40, 215, (5, 5, 3)).astype(np.uint8)
    frame = Image.fromarray(blotches).resize(size[::-1], Image.Resampling.BICUBIC)
    Image.fromarray(np.clip(np.asarray(frame) + shade, 0, 255).astype(np.uint8)).save(path, quality=95)


def save_mask(path: Path, size: tuple[int, int] = (40, 48)) -> None:
    """Write a JPEG mask as Hyper-Kvasir's are: a white square, and values beside 0 and 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((*size, 3), dtype=np.uint8)
    mask[9:23, 11:31] = 255
    Image.fromarray(mask).save(path, quality=60)


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


TRAIN_LINES = [
    *(f"p{number // 3} neg-{number:02d}.png negative rsna" for number in range(24)),
    "COVID 1 COVID(1).png positive sirm",
    "COVID 2 COVID(2).png positive sirm",
]
TEST_LINES = [
    *(f"t{number} tneg-{number}.JPG negative rsna" for number in range(5)),
    *(f"u{number} tpos-{number}.jpeg positive ricord" for number in range(5)),
]


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
