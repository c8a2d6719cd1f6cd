"""Hyper-Kvasir: colonoscopy frames without finding against segmented polyps."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal, get_args

from pandas import DataFrame

from anomalib_memmc.arguments import require_count
from anomalib_memmc.data.base import MedicalDataModule, make_samples
from anomalib_memmc.data.base.grouping import draw_groups
from anomalib_memmc.data.hyperkvasir.duplicates import CENTRE, near_duplicate_groups
from anomalib_memmc.data.hyperkvasir.scopeguide import CORNER, has_scopeguide_box
from anomalib_memmc.data.hyperkvasir.split_file import read_split, short_key, write_split
from anomalib_memmc.data.hyperkvasir.tree import (
    LABELED,
    NORMAL_CLASSES,
    SEGMENTED,
    HyperKvasirTree,
    find_tree,
)
from anomalib_memmc.data.io import DatasetError

logger = logging.getLogger(__name__)

PAPER_TRAIN, PAPER_TEST = 1600, 500
Region = Literal["frame", "crop", "tissue"]


class HyperKvasir(MedicalDataModule):
    """Hyper-Kvasir with the counts of the paper: 1,600 normal frames to train, 500 and the 1,000 polyps to test.

    Normal are the classes cecum, ileum and bbps-2-3 (2,166 frames, of which the paper uses 2,100). The list of
    its split is not published. Here the split is drawn with `seed` and keeps near-duplicate frames of one video
    together (not in the paper); :meth:`write_split` and `split_file` write and read it. Anomalous are the segmented
    polyps. The folder ``polyps`` holds the same pictures again and is never read. A mask's pixel is anomalous from 128
    of 255 on.

    In the samples, ``group`` is the cluster of near-duplicates. ``stratum`` is the class; for polyps it also tells
    whether the frame shows the black ScopeGuide box, as most normal frames do.

    Args:
        root: Folder that holds ``labeled-images`` and ``segmented-images`` (or the archives' top folders).
        num_train_normal: Normal frames to train with, *including* those held out for validation (the paper's 1,600
            with the default ``val_split_mode`` are 1,440 + 160). ``None``: all that the test part leaves.
        num_test_normal: Normal frames to test with. ``None``: all that the training part leaves. With both ``None``
            all frames are divided in the paper's proportion.
        split_file: CSV ``path,part`` with a part of train, val or test that replaces the drawn split and its counts.
            Paths are matched by class folder and file name. Frames that it does not list are not used; if it lists
            no polyp, all are tested.
        region: What of a frame is used, in image and mask. Normal frames and polyps differ apart from the tissue, by
            black corners, overlays and the ScopeGuide box, so that a score may tell them apart without seeing any.
            "crop" cuts off the border as the authors do, (45, 45, 475, 475) of 512 pixels. "tissue" also paints the
            corner where the box may lie black in *every* frame, whether it has a box or not (not in the paper); mask
            pixels there become normal. "frame" keeps the whole frame. A polyp that lies wholly in what is taken away
            keeps its label, with an empty mask: it counts for images, not for IoU.
        **shared: Arguments of every data module, see :class:`~anomalib_memmc.data.MedicalDataModule`.

    Raises:
        DatasetNotFoundError: In ``prepare_data`` and ``setup``, if the data set is not under `root`.
        DatasetError: If it does not fill the requested split.
        ValueError: If there is no such `region`.

    Examples:
        >>> from anomalib_memmc.data import HyperKvasir
        >>> datamodule = HyperKvasir(root="./datasets/HyperKvasir", train_batch_size=64)
        >>> datamodule.name
        'HyperKvasir'
    """

    def __init__(
        self,
        root: Path | str = "./datasets/HyperKvasir",
        *,
        num_train_normal: int | None = PAPER_TRAIN,
        num_test_normal: int | None = PAPER_TEST,
        split_file: Path | str | None = None,
        region: Region = "crop",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if region not in get_args(Region):
            msg = f"region must be one of {', '.join(get_args(Region))}, got {region!r}."
            raise ValueError(msg)
        for name, asked in (("num_train_normal", num_train_normal), ("num_test_normal", num_test_normal)):
            if asked is not None:
                require_count(name, asked)
        self.region = region
        self.crop = None if region == "frame" else CENTRE
        self.blank = CORNER if region == "tissue" else None
        self.root = Path(root)
        self.num_train_normal = num_train_normal
        self.num_test_normal = num_test_normal
        self.split_file = Path(split_file) if split_file is not None else None

    def prepare_data(self) -> None:
        """Check that the data set is there; nothing is downloaded."""
        find_tree(self.root)

    def write_split(self, path: Path | str) -> None:
        """Write the split in force, with its validation part, to a CSV that `split_file` takes.

        Args:
            path: The file to write.
        """
        write_split(path, ((_listed_path(row), row.split) for row in self.parts.itertuples()))

    def _make_samples(self) -> DataFrame:
        tree = find_tree(self.root)
        log = logger.info if tree.complete else logger.warning
        log("Hyper-Kvasir under %s, found of the official count: %s.", self.root, tree.report())
        normals = _normal_rows(tree)
        polyps = [_polyp_row(image, mask) for image, mask in tree.polyps]
        if not polyps:
            msg = (
                f"Hyper-Kvasir under {self.root} has no segmented polyps, so there is nothing to test: {tree.report()}."
            )
            raise DatasetError(msg)
        if self.split_file is not None:
            return make_samples(_follow_split_file([*normals, *polyps], self.split_file))
        return make_samples([*self._draw(normals, tree), *polyps])

    def _draw(self, normals: list[dict[str, Any]], tree: HyperKvasirTree) -> list[dict[str, Any]]:
        """Put the normal frames into train and test; the rest is left out."""
        train, test = self._counts(len(normals), tree)
        groups = [row["group"] for row in normals]
        tested, rest = draw_groups(groups, test, self.split_seed)
        if train > len(rest):
            msg = (
                f"Hyper-Kvasir under {self.root}: with near-duplicates kept in one part, {len(rest)} frames remain for "
                f"the {train} of num_train_normal. Lower num_train_normal or num_test_normal by a few."
            )
            raise DatasetError(msg)
        trained, _ = draw_groups([groups[index] for index in rest], train, self.split_seed + 1)
        rows = [{**normals[index], "split": "test"} for index in tested]
        return rows + [{**normals[rest[index]], "split": "train"} for index in trained]

    def _counts(self, found: int, tree: HyperKvasirTree) -> tuple[int, int]:
        """How many normal frames go to train and to test.

        Raises:
            DatasetError: If there are not so many.
        """
        train, test = self.num_train_normal, self.num_test_normal
        if train is None and test is None:
            test = round(found * PAPER_TEST / (PAPER_TRAIN + PAPER_TEST))
        train = found - (test or 0) if train is None else train
        test = found - train if test is None else test
        if train < 1 or test < 1 or train + test > found:
            fit = round(found * PAPER_TRAIN / (PAPER_TRAIN + PAPER_TEST))
            msg = (
                f"Hyper-Kvasir under {self.root} has {found} normal frames, but num_train_normal="
                f"{self.num_train_normal} and num_test_normal={self.num_test_normal} were asked for. Found of the "
                f"official count: {tree.report()}. Complete the data set, or set for instance num_train_normal={fit} "
                f"and num_test_normal={found - fit}, or None for both."
            )
            raise DatasetError(msg)
        return train, test


def _normal_rows(tree: HyperKvasirTree) -> list[dict[str, Any]]:
    paths = [(name, path) for name, files in tree.normals.items() for path in files]
    groups = near_duplicate_groups([path for _, path in paths])
    return [
        {"image_path": str(path), "label_index": 0, "stratum": name, "group": group}
        for (name, path), group in zip(paths, groups, strict=True)
    ]


def _polyp_row(image: Path, mask: Path) -> dict[str, Any]:
    return {
        "image_path": str(image),
        "mask_path": str(mask),
        "label_index": 1,
        "stratum": f"polyp, {'' if has_scopeguide_box(image) else 'no '}ScopeGuide box",
        "group": image.name,
        "split": "test",
    }


def _listed_path(row: Any) -> str:
    """The path by which a split file names an image: as in the official archives, wherever the root lies."""
    name = Path(row.image_path).name
    if row.label_index:
        return f"{SEGMENTED}/images/{name}"
    return f"{LABELED}/{NORMAL_CLASSES[row.stratum]}/{name}"


def _follow_split_file(rows: list[dict[str, Any]], split_file: Path) -> list[dict[str, Any]]:
    """Put the images where a split file says.

    Raises:
        DatasetError: If it lists images that are not there, or trains with polyps.
    """
    parts = read_split(split_file)
    by_key = {short_key(Path(row["image_path"]).as_posix()): row for row in rows}
    unknown = [key for key in parts if key not in by_key]
    if unknown:
        msg = f"{len(unknown)} images of the split file {split_file} are not in the data set, first: {unknown[:3]}."
        raise DatasetError(msg)
    listed = [{**by_key[key], "split": part} for key, part in parts.items()]
    anomalous = [row for row in listed if row["label_index"]]
    wrong = [row["image_path"] for row in anomalous if row["split"] != "test"]
    if wrong:
        msg = f"The split file {split_file} puts {len(wrong)} polyps outside the test part, first: {wrong[0]}."
        raise DatasetError(msg)
    return listed if anomalous else listed + [row for row in rows if row["label_index"]]
