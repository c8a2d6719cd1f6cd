from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from helpers.images import save_frame

from anomalib_memmc.data import ImageReadError
from anomalib_memmc.data.hyperkvasir.duplicates import near_duplicate_groups


def test_neighbouring_frames_are_one_group(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(12)]
    for number, path in enumerate(paths):
        save_frame(path, seed=0 if number < 4 else number, shade=3.0 * number)
    groups = near_duplicate_groups(paths)
    assert set(groups[:4]) == {"0.jpg"}
    assert len(set(groups)) == 9


def test_copies_are_found_even_in_a_set_of_two(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        save_frame(tmp_path / name, seed=1)
    assert near_duplicate_groups([tmp_path / "a.jpg", tmp_path / "b.jpg"]) == ["a.jpg", "a.jpg"]
    assert near_duplicate_groups([]) == []


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no image")
    with pytest.raises(ImageReadError, match=r"bad\.jpg"):
        near_duplicate_groups([tmp_path / "bad.jpg"])


def test_large_frames_are_compared_quickly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    from PIL import Image

    Image.fromarray(rng.integers(0, 255, (1072, 1920, 3), dtype=np.uint8)).save(tmp_path / "large.jpg")
    start = time.perf_counter()
    near_duplicate_groups([tmp_path / "large.jpg"] * 10)
    assert (time.perf_counter() - start) / 10 < 0.1  # noise is the hardest to decode; 2,166 frames in under a minute


def test_real_frames_form_many_groups(real_data: Path) -> None:
    paths = sorted((real_data / "hyper-kvasir" / "labeled-images").rglob("*.jpg"))
    groups = near_duplicate_groups(paths)
    sizes = sorted((groups.count(name) for name in set(groups)), reverse=True)
    assert len(sizes) > 0.5 * len(paths)
    assert sizes[0] < 0.15 * len(paths)
