from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from anomalib import TaskType
from helpers.images import save_frame, save_mask
from pandas import DataFrame
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Resize

from anomalib_memmc.data import DatasetError, ImageReadError, MedicalImageDataset, make_samples
from anomalib_memmc.data.base.cache import ImageCache


@pytest.fixture
def samples(tmp_path: Path) -> DataFrame:
    rows = []
    for number in range(6):
        save_frame(tmp_path / f"{number}.jpg", number)
        row = {
            "image_path": tmp_path / f"{number}.jpg",
            "label_index": number % 2,
            "split": "test",
            "group": f"g{number}",
        }
        if number % 2:
            save_mask(tmp_path / "masks" / f"{number}.jpg")
            row["mask_path"] = tmp_path / "masks" / f"{number}.jpg"
        rows.append(row)
    return make_samples(rows)


def test_items(samples: DataFrame) -> None:
    dataset = MedicalImageDataset(samples)
    assert dataset.task == TaskType.SEGMENTATION
    normal, anomalous = dataset[0], dataset[1]
    assert normal.image.shape == (3, 40, 48)
    assert normal.gt_mask.shape == (40, 48)
    assert not normal.gt_mask.any()
    assert not normal.gt_label
    assert anomalous.gt_label
    assert anomalous.gt_mask.sum() == 14 * 20
    assert anomalous.mask_path.endswith("1.jpg")


def test_without_masks_it_classifies(samples: DataFrame) -> None:
    samples["mask_path"] = ""
    dataset = MedicalImageDataset(samples)
    assert dataset.task == TaskType.CLASSIFICATION
    assert dataset[1].gt_mask is None


def test_the_task_survives_what_anomalib_does_to_datasets(samples: DataFrame) -> None:
    dataset = MedicalImageDataset(samples)
    normal = dataset.subsample([0, 2, 4])
    normal.samples.attrs.clear()
    whole = normal + dataset.subsample([1, 3])
    for same in (normal, whole, copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        assert same.task == TaskType.SEGMENTATION
    assert whole.samples.attrs["task"] == "segmentation"
    assert len(whole) == 5
    assert {"group", "stratum"} <= set(whole.samples.columns)


def test_crop_cuts_image_and_mask_alike(samples: DataFrame) -> None:
    whole, part = MedicalImageDataset(samples)[1], MedicalImageDataset(samples, crop=(0.25, 0.1, 0.75, 0.5))[1]
    assert torch.equal(part.image, whole.image[:, 4:20, 12:36])
    assert torch.equal(part.gt_mask, whole.gt_mask[4:20, 12:36])


def test_augmentations_reach_image_and_mask(samples: DataFrame) -> None:
    item = MedicalImageDataset(samples, augmentations=Resize((20, 24)))[1]
    assert item.image.shape == (3, 20, 24)
    assert item.gt_mask.shape == (20, 24)
    assert set(item.gt_mask.unique().tolist()) == {0, 1}


def test_two_workers_deliver_batches(samples: DataFrame) -> None:
    dataset = MedicalImageDataset(samples)
    batches = list(DataLoader(dataset, batch_size=3, num_workers=2, collate_fn=dataset.collate_fn))
    assert [batch.image.shape for batch in batches] == [(3, 3, 40, 48)] * 2
    assert torch.cat([batch.gt_label for batch in batches]).tolist() == [False, True] * 3


def test_a_mask_of_another_size_names_both_files(samples: DataFrame, tmp_path: Path) -> None:
    save_mask(tmp_path / "masks" / "3.jpg", (30, 30))
    with pytest.raises(ImageReadError, match=r"masks.3\.jpg is 30 x 30 .*3\.jpg is 48 x 40"):
        MedicalImageDataset(samples)[3]


def test_an_anomalous_image_without_mask_is_named(samples: DataFrame) -> None:
    samples.loc[3, "mask_path"] = ""
    with pytest.raises(DatasetError, match=r"3\.jpg has no mask"):
        MedicalImageDataset(samples)[3]


def test_missing_images_are_named(samples: DataFrame) -> None:
    samples.loc[2, "image_path"] = "absent.jpg"
    with pytest.raises(FileNotFoundError, match=r"1 images.*absent\.jpg"):
        MedicalImageDataset(samples)


def test_a_name_that_is_not_utf_8_is_read_and_cached(tmp_path: Path) -> None:
    path = tmp_path / "\udcff.png"
    save_frame(path, 0)
    samples = make_samples([{"image_path": path, "label_index": 0, "split": "train"}])
    cache = ImageCache("disk", folder=tmp_path / "cache")
    assert MedicalImageDataset(samples, cache=cache)[0].image_path == str(path)
    assert samples["group"].astype(str).tolist() == [f"{tmp_path}/\\udcff.png"]
