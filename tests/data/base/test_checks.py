"""What a data module says about its samples before the run."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.images import save_frame, save_mask
from pandas import DataFrame
from PIL import Image

from anomalib_memmc.data import DatasetError, ImageReadError, MedicalDataModule, make_samples


class Frames(MedicalDataModule):
    """Four frames to train, two normal and two anomalous ones to test, with masks."""

    def __init__(self, root: Path) -> None:
        super().__init__(num_workers=0)
        self.rows = []
        for number in range(8):
            path = root / f"{number}.png"
            save_frame(path, number)
            row = {"image_path": path, "label_index": int(number > 5), "split": "train" if number < 4 else "test"}
            if number > 5:
                row["mask_path"] = root / "masks" / f"{number}.jpg"
                save_mask(row["mask_path"])
            self.rows.append(row)

    def _make_samples(self) -> DataFrame:
        return make_samples(self.rows)


@pytest.fixture
def frames(tmp_path: Path) -> Frames:
    return Frames(tmp_path)


def test_nothing_is_said_where_nothing_is_wrong(frames: Frames, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="anomalib_memmc"):
        frames.setup()
    assert not caplog.records


@pytest.mark.parametrize("name", ["1.png", "copy.png"])
def test_an_image_to_train_and_to_test_is_refused(frames: Frames, tmp_path: Path, name: str) -> None:
    if name == "copy.png":
        shutil.copy(tmp_path / "1.png", tmp_path / name)
    frames.rows.append({"image_path": tmp_path / name, "label_index": 0, "split": "test"})
    with pytest.raises(DatasetError, match=rf"Frames: 1 images of the test part .*{name} is the same file as .*1\.png"):
        frames.setup()


def test_files_of_one_size_are_no_copies(frames: Frames, tmp_path: Path) -> None:
    for number in range(8):
        Image.fromarray(np.full((8, 8), number, dtype=np.uint8)).save(tmp_path / f"{number}.bmp")
        frames.rows[number]["image_path"] = tmp_path / f"{number}.bmp"
    for number in (6, 7):
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "masks" / f"{number}.png")
        frames.rows[number]["mask_path"] = tmp_path / "masks" / f"{number}.png"
    frames.setup()


@pytest.mark.parametrize(("kept", "kind"), [(0, "normal"), (1, "anomalous")])
def test_a_test_of_one_class_is_told(frames: Frames, caplog: pytest.LogCaptureFixture, kept: int, kind: str) -> None:
    frames.rows = [row for row in frames.rows if row["split"] == "train" or row["label_index"] == kept]
    with caplog.at_level(logging.WARNING):
        frames.setup()
        frames.setup()
    assert caplog.text.count(f"Frames: the test part holds only {kind} images. AUROC") == 1


def test_empty_masks_are_told_once_with_their_count(
    frames: Frames, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("L", (48, 40)).save(tmp_path / "masks" / "7.jpg")
    with caplog.at_level(logging.WARNING):
        frames.setup()
        list(frames.test_dataloader())
    assert caplog.text.count("Frames: the masks of 1 of 2 anomalous images are empty") == 1
    assert f"first: {tmp_path / 'masks' / '7.jpg'}" in caplog.text


def test_a_broken_mask_stops_before_the_run(frames: Frames, tmp_path: Path) -> None:
    (tmp_path / "masks" / "7.jpg").unlink()
    with pytest.raises(ImageReadError, match=r"masks.7\.jpg of .*7\.png is missing"):
        frames.setup()
