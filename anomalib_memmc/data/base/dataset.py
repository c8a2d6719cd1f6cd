"""A dataset of medical images, from a table of samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from anomalib import TaskType
from anomalib.data.dataclasses import ImageItem
from anomalib.data.datasets.base.image import AnomalibDataset
from anomalib.data.utils import LabelName
from pandas import DataFrame, Series
from torchvision.transforms.v2 import Transform
from torchvision.tv_tensors import Image, Mask

from anomalib_memmc.data.base.batch import PinnableBatch
from anomalib_memmc.data.base.cache import ImageCache
from anomalib_memmc.data.base.loader import EpochSeed
from anomalib_memmc.data.io import DatasetError, read_image, read_mask
from anomalib_memmc.data.io.text import printable

COLUMNS = ["image_path", "label", "label_index", "mask_path", "split", "group", "stratum"]
PATHS, NAMES = ("image_path", "mask_path"), ("label", "split", "group", "stratum")
LABELS = {0: "normal", 1: "abnormal"}

Rectangle = tuple[float, float, float, float]
"""(left, top, right, bottom) as fractions of width and height."""


def make_samples(rows: Sequence[dict[str, Any]]) -> DataFrame:
    """Build the table of samples that :class:`MedicalImageDataset` takes.

    Args:
        rows: One dictionary an image: ``image_path``, ``label_index`` (0 normal, 1 anomalous), ``split`` ("train",
            "val" or "test"), and optionally ``mask_path``, ``group`` (images of one group, such as a patient's, never
            go to two parts) and ``stratum`` (a name to report results by).

    Returns:
        Table with the columns image_path, label, label_index, mask_path, split, group and stratum.
    """
    filled = [
        {"mask_path": "", "group": str(row["image_path"]), "stratum": "", "label": LABELS[row["label_index"]], **row}
        for row in rows
    ]
    columns = {  # objects, since the strings of pandas 3 hold no file name that is not UTF-8
        name: Series([text(row[name]) for row in filled], dtype=object)
        for text, names in ((str, PATHS), (printable, NAMES))
        for name in names
    }
    columns["label_index"] = Series([row["label_index"] for row in filled], dtype="int64")
    return DataFrame(columns, columns=COLUMNS)


class MedicalImageDataset(AnomalibDataset):
    """Images, labels and masks of a table, read by :func:`~anomalib_memmc.data.read_image`.

    Args:
        samples: Table of :func:`make_samples`; extra columns are kept.
        task: "segmentation" if anomalous images have masks (normal ones then get an empty one), "classification"
            if not; ``None`` looks whether any row has a mask.
        crop: Rectangle to cut out of every image and mask before anything else, as fractions of its width and height
            (left, top, right, bottom), each in [0, 1]. ``None`` keeps the whole image.
        blank: Rectangle to paint black in every image and normal in every mask, as fractions of what the crop leaves.
            An anomaly that lies wholly in it keeps its label, with an empty mask. ``None`` paints nothing.
        augmentations: torchvision v2 transform of image and mask.
        cache: Where shrunk images are kept between epochs, for samples without anomalies only; ``None``: nowhere.

    Attributes:
        epoch_seed: In the workers of a :func:`~anomalib_memmc.data.base.loader.lasting_loader`, what seeds each image.

    Raises:
        ValueError: If a cache is given for samples with anomalies, whose masks would not fit the shrunk images.
    """

    epoch_seed: EpochSeed | None = None

    def __init__(
        self,
        samples: DataFrame,
        task: TaskType | str | None = None,
        crop: Rectangle | None = None,
        augmentations: Transform | None = None,
        cache: ImageCache | None = None,
        blank: Rectangle | None = None,
    ) -> None:
        super().__init__(augmentations=augmentations)
        if cache is not None and samples["label_index"].any():
            msg = "A cache takes normal images only: the masks of anomalous ones would not fit the shrunk images."
            raise ValueError(msg)
        self.cache = cache
        has_masks = bool((samples["mask_path"] != "").any())
        self._task = TaskType(task or ("segmentation" if has_masks else "classification"))
        self.crop = crop
        self.blank = blank
        self.samples = samples

    @property
    def samples(self) -> DataFrame:
        """Table of samples, one row an image, sorted by path; ``attrs["task"]`` is the task's name."""
        return super().samples

    @samples.setter
    def samples(self, samples: DataFrame) -> None:
        missing = [path for path in samples["image_path"] if not Path(path).exists()]
        if missing:
            msg = f"{len(missing)} images of the data set are missing on disk, the first of them: {missing[:3]}"
            raise FileNotFoundError(msg)
        super(MedicalImageDataset, type(self)).samples.__set__(self, samples)  # type: ignore[attr-defined]
        # A copy or a concatenation in pandas may lose attrs, so they are written anew each time.
        self.samples.attrs["task"] = self._task.value

    @property
    def collate_fn(self) -> Callable:
        """Makes a batch of items."""
        return PinnableBatch.collate

    @property
    def task(self) -> TaskType:
        """What the ground truth is: labels, or labels and masks."""
        return self._task

    def __getitem__(self, index: int) -> ImageItem:
        """Read one image.

        Args:
            index: Row of :attr:`samples`.

        Returns:
            Item with ``image`` (3, H, W), float32 in [0, 1], ``gt_label`` (a boolean scalar), ``gt_mask`` (H, W)
            in segmentation, and the two paths.

        Raises:
            ImageReadError: If the image or the mask cannot be read.
        """
        if self.epoch_seed is not None:
            self.epoch_seed.seed_image(index)
        row = self.samples.iloc[index]
        if self.cache is None:
            image = read_image(row.image_path)
            mask = self._read_mask(row, image) if self._task == TaskType.SEGMENTATION else None
            image, mask = self._cut(image), self._cut(mask)
        else:
            key = self.crop if self.blank is None else (self.crop, self.blank)
            image = self.cache.read(row.image_path, key, lambda least: self.read(row.image_path, least))
            mask = self._read_mask(row, image) if self._task == TaskType.SEGMENTATION else None
        if self.augmentations and mask is None:
            image = self.augmentations(image)
        elif self.augmentations:
            image, mask = self.augmentations(image, mask)
        return ImageItem(
            image=image,
            gt_mask=mask,
            gt_label=torch.tensor(int(row.label_index)),
            image_path=row.image_path,
            mask_path=row.mask_path,
        )

    def read(self, path: str | Path, least: int | None = None) -> Image:
        """Read an image file and cut it as all images here are.

        Args:
            path: The file.
            least: Pixels that suffice for the shorter side of what is cut out: a JPEG may then be read at a fraction of
                its size. ``None`` reads every pixel.

        Returns:
            Image (3, H, W), float32 in [0, 1], without augmentations.

        Raises:
            ImageReadError: If it cannot be read.
        """
        if least is not None and self.crop is not None:
            left, top, right, bottom = self.crop
            share = min(right - left, bottom - top)
            least = math.ceil(least / share) if share > 0 else None
        return self._cut(read_image(path, least))

    def __add__(self, other_dataset: AnomalibDataset) -> MedicalImageDataset:  # type: ignore[override]
        """Join the samples of two datasets; masks in either make the sum a segmentation dataset."""
        if not isinstance(other_dataset, MedicalImageDataset):
            msg = f"Only a MedicalImageDataset can be added, not a {type(other_dataset).__name__}."
            raise TypeError(msg)
        samples = pd.concat([self.samples, other_dataset.samples], ignore_index=True)
        task = max(self._task, other_dataset._task, key=lambda task: task == TaskType.SEGMENTATION)
        return MedicalImageDataset(samples, task, self.crop, self.augmentations, blank=self.blank)

    @staticmethod
    def _read_mask(row: Any, image: Image) -> Mask:
        size = (int(image.shape[-2]), int(image.shape[-1]))
        if row.label_index == LabelName.NORMAL:
            return Mask(torch.zeros(size, dtype=torch.uint8))
        if not row.mask_path:
            msg = f"The anomalous image {row.image_path} has no mask, but other images of the data set have one."
            raise DatasetError(msg)
        return read_mask(row.mask_path, size, row.image_path)

    def _cut(self, picture: Any) -> Any:
        """Crop an Image (3, H, W) or a Mask (H, W), and blank its rectangle."""
        if picture is None or (self.crop is None and self.blank is None):
            return picture
        if self.crop is not None:
            picture = type(picture)(picture[_inside(self.crop, picture)])
        if self.blank is not None:
            picture = type(picture)(picture.clone())
            picture[_inside(self.blank, picture)] = 0
        return picture


def _inside(rectangle: Rectangle, picture: Any) -> tuple[Any, slice, slice]:
    """Index of a rectangle's pixels in (..., H, W), at least one row and column."""
    height, width = picture.shape[-2:]
    left, top, right, bottom = rectangle
    rows = slice(round(top * height), max(round(bottom * height), round(top * height) + 1))
    columns = slice(round(left * width), max(round(right * width), round(left * width) + 1))
    return ..., rows, columns
