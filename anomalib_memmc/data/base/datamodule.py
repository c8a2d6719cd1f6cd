"""What the data modules of this package share: parts by group, validation from training normals, augmentations."""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
from abc import abstractmethod
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from anomalib import TaskType
from anomalib.data.datamodules.base.image import AnomalibDataModule
from anomalib.data.datasets.base.image import AnomalibDataset
from anomalib.data.utils import LabelName, Split, TestSplitMode, ValSplitMode
from anomalib.utils.attrs import get_nested_attr
from lightning.pytorch.utilities.types import EVAL_DATALOADERS, TRAIN_DATALOADERS
from pandas import DataFrame
from torch.utils.data import DataLoader, RandomSampler, Sampler
from torchvision.transforms.v2 import Transform

from anomalib_memmc.arguments import require_count
from anomalib_memmc.data.base.cache import CacheMode, ImageCache
from anomalib_memmc.data.base.checks import check_samples
from anomalib_memmc.data.base.dataset import LABELS, MedicalImageDataset, Rectangle
from anomalib_memmc.data.base.grouping import draw_groups
from anomalib_memmc.data.base.loader import lasting_loader
from anomalib_memmc.data.base.synthetic import add_synthetic_anomalies
from anomalib_memmc.data.io import DatasetError

logger = logging.getLogger(__name__)

DEFAULT_RATIO = 0.1
ENOUGH_FOR_A_THRESHOLD = 19  # normal images: what a false-alarm rate of 5 % takes


class MedicalDataModule(AnomalibDataModule):
    """Base of the data modules: a subclass lists its images in :meth:`_make_samples` and names its own arguments only.

    Unlike in anomalib's modules, the whole test part stays the test set. Validation by default takes normal images out
    of the training part, group by group (patient, cluster of near-duplicates).

    Args:
        train_batch_size: Images a batch in training.
        eval_batch_size: Images a batch in validation, test and prediction.
        num_workers: Worker processes of each loader; those of training and validation stay from epoch to epoch.
        train_augmentations: torchvision v2 transform of the training images.
        val_augmentations: The same, of the validation images.
        test_augmentations: The same, of the test images.
        augmentations: Used for each of the three that is not given.
        val_split_mode: Where validation images come from: "from_train" (normals held out of the training part),
            "synthetic" (the same, half of them with a synthetic anomaly), "from_test" (taken away from the test part),
            "same_as_test" or "none".
        val_split_ratio: Fraction of the part that validation is taken from, in (0, 1). None takes a tenth, and of
            a small training part the 19 images that a false-alarm rate of 5 % needs, up to a quarter.
        num_val_normal: In "from_train" and "synthetic": how many training images to hold out for validation; ``None``
            takes `val_split_ratio`.
        seed: Seed of the split, of synthetic anomalies and of generated pictures.
        cache: Keep the training images shrunk and decoded between epochs: "memory" (a RAM disk, for this run) or
            "disk" (for later runs too); ``None`` decodes anew. Other images are always read from their files.
        cache_size: Shorter side of a cached image in pixels; choose it somewhat above the model's ``image_size``.
        cache_dir: Folder of the "disk" cache; ``None`` takes ``anomalib_memmc`` in the user's cache folder.

    Attributes:
        crop: Rectangle to cut out of every image, as fractions (left, top, right, bottom) of its width and height.
            ``None``, the default, keeps all. A subclass whose images need it sets it before :meth:`setup`.
        blank: Rectangle to paint black in every image and normal in every mask, as fractions of what the crop leaves;
            ``None``, the default, for nowhere. Set in the same way.
        normal_data: The normal training images, read from their files; set by :meth:`setup`.
        findings: What ``check_samples`` found of the samples, a sentence each; empty before :meth:`setup`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    crop: Rectangle | None = None
    blank: Rectangle | None = None
    normal_data: MedicalImageDataset

    def __init__(
        self,
        *,
        train_batch_size: int = 32,
        eval_batch_size: int = 32,
        num_workers: int = 8,
        train_augmentations: Transform | None = None,
        val_augmentations: Transform | None = None,
        test_augmentations: Transform | None = None,
        augmentations: Transform | None = None,
        val_split_mode: ValSplitMode | str = ValSplitMode.FROM_TRAIN,
        val_split_ratio: float | None = None,
        num_val_normal: int | None = None,
        seed: int = 0,
        cache: CacheMode | None = None,
        cache_size: int = 256,
        cache_dir: Path | str | None = None,
    ) -> None:
        require_count("train_batch_size", train_batch_size)
        require_count("eval_batch_size", eval_batch_size)
        require_count("num_workers", num_workers, least=0)
        require_count("seed of the data", seed, least=0)
        ratio = DEFAULT_RATIO if val_split_ratio is None else val_split_ratio
        super().__init__(
            train_batch_size=train_batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            train_augmentations=train_augmentations,
            val_augmentations=val_augmentations,
            test_augmentations=test_augmentations,
            augmentations=augmentations,
            val_split_mode=val_split_mode,
            val_split_ratio=ratio,
            test_split_mode=TestSplitMode.FROM_DIR,
            seed=seed,
        )
        if self.val_split_mode == ValSplitMode.FROM_DIR:
            msg = f"{self.name} has no validation folder: use val_split_mode='from_train'."
            raise ValueError(msg)
        if not 0 < ratio < 1:
            msg = f"val_split_ratio must lie between 0 and 1, found {ratio}; for none: val_split_mode='none'."
            raise ValueError(msg)
        if num_val_normal is not None and num_val_normal < 1:
            msg = f"num_val_normal must be at least 1, found {num_val_normal}; for none: val_split_mode='none'."
            raise ValueError(msg)
        self.is_default_ratio = val_split_ratio is None
        self.num_val_normal = num_val_normal
        self.split_seed = seed
        self.cache = ImageCache(cache, cache_size, cache_dir) if cache is not None else None
        self.findings: list[str] = []
        self._parts: DataFrame | None = None
        self._synthetic_samples: DataFrame | None = None

    @abstractmethod
    def _make_samples(self) -> DataFrame:
        """List the images: a table of :func:`~anomalib_memmc.data.make_samples`.

        Its rows "val", if there are any, are held out as they are.
        """

    @property
    def parts(self) -> DataFrame:
        """All samples with the part each is in ("train", "val" or "test"); built once.

        In the modes "from_train" and "synthetic" the held-out normals are "val"; in the others they are "train".
        """
        if self._parts is None:
            samples = self._make_samples()
            self.findings = check_samples(self.name, samples)
            self._parts = self._hold_out(samples)
            counts = self._parts.groupby(["split", "label"]).size()
            logger.info("%s: %s", self.name, ", ".join(f"{a} {b} {n}" for (a, b), n in counts.items()))
        return self._parts

    def _hold_out(self, samples: DataFrame) -> DataFrame:
        """Turn rows into "val" ones, or back into "train" where validation comes from elsewhere."""
        samples = samples.copy()
        given = samples["split"] == Split.VAL.value
        if self.val_split_mode in {ValSplitMode.FROM_TRAIN, ValSplitMode.SYNTHETIC}:
            return samples if given.any() else self._hold_out_of_train(samples)
        samples.loc[given, "split"] = Split.TRAIN.value
        return self._hold_out_of_test(samples) if self.val_split_mode == ValSplitMode.FROM_TEST else samples

    def _hold_out_of_train(self, samples: DataFrame) -> DataFrame:
        """Hold out `num_val_normal` training rows, or the fraction `val_split_ratio`, or enough for a threshold."""
        rows = samples.index[samples["split"] == Split.TRAIN.value]
        least = min(ENOUGH_FOR_A_THRESHOLD, len(rows) // 4) if self.is_default_ratio else 0
        count = self.num_val_normal or max(1, least, round(self.val_split_ratio * len(rows)))
        if count >= len(rows):
            msg = (
                f"{self.name} has {len(rows)} training images and cannot hold {count} of them out for validation. "
                f"Lower num_val_normal or val_split_ratio, or use val_split_mode='none'."
            )
            raise DatasetError(msg)
        return self._hold_out_rows(samples, rows, count)

    def _hold_out_of_test(self, samples: DataFrame) -> DataFrame:
        """Hold out the fraction `val_split_ratio` of the test rows of each label."""
        for label in LABELS:
            rows = samples.index[(samples["split"] == Split.TEST.value) & (samples["label_index"] == label)]
            samples = self._hold_out_rows(samples, rows, round(self.val_split_ratio * len(rows)))
        return samples

    def _hold_out_rows(self, samples: DataFrame, rows: pd.Index, count: int) -> DataFrame:
        """Turn `count` of some rows into "val" ones, whole groups at a time; what is left of a cut group is dropped."""
        held, kept = draw_groups(list(samples.loc[rows, "group"]), count, self.split_seed)
        samples.loc[rows[held], "split"] = Split.VAL.value
        spare = rows.difference(rows[held]).difference(rows[kept])
        return samples.drop(index=spare).reset_index(drop=True)

    def _setup(self, _stage: str | None = None) -> None:
        masks = (self.parts["mask_path"] != "").any()
        self._dataset_task = TaskType.SEGMENTATION if masks else TaskType.CLASSIFICATION
        train = self._rows_of(Split.TRAIN)
        self.train_data = self._dataset(train, self.cache)
        self.normal_data = self._dataset(train[train["label_index"] == LabelName.NORMAL])
        self.test_data = self._dataset(self._rows_of(Split.TEST))

    def _rows_of(self, part: Split) -> DataFrame:
        return self.parts[self.parts["split"] == part.value].reset_index(drop=True)

    def _dataset(self, rows: DataFrame, cache: ImageCache | None = None) -> MedicalImageDataset:
        return MedicalImageDataset(rows, self._dataset_task, self.crop, cache=cache, blank=self.blank)

    def _update_augmentations(self) -> None:
        """Give each dataset its augmentations and the model's resize; the normal images get those of the validation."""
        super()._update_augmentations()
        model_transform = get_nested_attr(self, "trainer.model.pre_processor.transform", None)
        if model_transform:
            self._update_subset_augmentations(self.normal_data, self.val_augmentations, model_transform)
        else:
            self.normal_data.augmentations = self.val_augmentations

    def _create_test_split(self) -> None:
        """The test part is what the subclass listed."""

    def _create_val_split(self) -> None:
        if self.val_split_mode in {ValSplitMode.FROM_TRAIN, ValSplitMode.FROM_TEST}:
            self.val_data = self._dataset(self._rows_of(Split.VAL))
        elif self.val_split_mode == ValSplitMode.SYNTHETIC:
            self.val_data = self._synthetic_validation()
        else:
            super()._create_val_split()

    def _synthetic_validation(self) -> MedicalImageDataset:
        """The held-out normals, half of them with a synthetic anomaly, in a folder removed at the program's end."""
        if self._synthetic_samples is None:
            folder = tempfile.mkdtemp(prefix="anomalib_memmc_")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            normals = self._dataset(self._rows_of(Split.VAL)).samples
            self._synthetic_samples = add_synthetic_anomalies(normals, folder, self.split_seed)
        return MedicalImageDataset(self._synthetic_samples, TaskType.SEGMENTATION, self.crop, blank=self.blank)

    def train_dataloader(self) -> TRAIN_DATALOADERS:
        """Loader of the training images, in a random order; its workers stay from epoch to epoch."""
        return self._loader(self.train_data, self.train_batch_size, RandomSampler(self.train_data), lasting=True)

    def val_dataloader(self) -> EVAL_DATALOADERS:
        """Loader of the validation images, whose workers stay; none in the mode "none"."""
        if self.val_split_mode == ValSplitMode.NONE:
            return []
        return self._loader(self.val_data, self.eval_batch_size, lasting=True)

    def test_dataloader(self) -> EVAL_DATALOADERS:
        """Loader of the test images."""
        return self._loader(self.test_data, self.eval_batch_size)

    def normal_dataloader(self) -> DataLoader:
        """Loader of the normal training images as a validation sees them: what a scorer learns from.

        They have the augmentations of the validation and the model's resize, and come in the order of
        :attr:`normal_data`. They never come from the cache: a cached image is resized twice, which changes its errors.
        The loader does not touch the global random state. Held-out validation images are not among them.

        Returns:
            Loader of batches of `eval_batch_size` items; ``image`` is (B, 3, H, W), float32 in [0, 1], not yet
            pre-processed by the model.
        """
        generator = torch.Generator()  # a loader draws a seed for its workers
        return self._loader(self.normal_data, self.eval_batch_size, generator=generator)

    def _loader(
        self,
        dataset: AnomalibDataset,
        batch_size: int,
        sampler: Sampler | None = None,
        lasting: bool = False,
        generator: torch.Generator | None = None,
    ) -> DataLoader:
        """A loader of batches, pinned where the trainer's device is a CUDA GPU."""
        device = get_nested_attr(self, "trainer.strategy.root_device", None)
        arguments: dict[str, Any] = {
            "batch_size": batch_size,
            "sampler": sampler,
            "collate_fn": self.external_collate_fn or dataset.collate_fn,
            "pin_memory": device is not None and device.type == "cuda",
        }
        if lasting and self.num_workers and hasattr(dataset, "epoch_seed"):
            return lasting_loader(dataset, self.num_workers, **arguments)
        return DataLoader(dataset, num_workers=self.num_workers, generator=generator, **arguments)
