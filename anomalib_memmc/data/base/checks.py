"""What would make the numbers of a test wrong or meaningless, told before the run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anomalib.data.utils import LabelName, Split
from pandas import DataFrame

from anomalib_memmc.data.io import DatasetError, read_mask

logger = logging.getLogger(__name__)

BLOCK = 4096  # bytes from the middle of a file, which tell files of one size apart


def check_samples(name: str, samples: DataFrame) -> list[str]:
    """Look for parts that are empty or share images, for a class that is missing, and for masks without anomaly.

    Args:
        name: The data set's name, for the messages.
        samples: Table of :func:`~anomalib_memmc.data.make_samples`.

    Returns:
        What was found and does not stop a run, a sentence each; it is logged as warnings too.

    Raises:
        DatasetError: If the training or the test part is empty, or an image of the test part is in another part too.
        ImageReadError: If a mask cannot be read.
    """
    _check_parts(name, samples)
    _check_no_image_twice(name, samples)
    found = [*_missing_class(samples), *_empty_masks(samples)]
    for finding in found:
        logger.warning("%s: %s", name, finding)
    return found


def _check_parts(name: str, samples: DataFrame) -> None:
    for part in (Split.TRAIN, Split.TEST):
        if not (samples["split"] == part.value).any():
            msg = f"{name} found no images for the {part.value} part. Check the folders and the arguments."
            raise DatasetError(msg)


def _check_no_image_twice(name: str, samples: DataFrame) -> None:
    tested = samples["split"] == Split.TEST.value
    pairs = _same_files(samples.loc[~tested, "image_path"], samples.loc[tested, "image_path"])
    if pairs:
        other, test = pairs[0]
        msg = (
            f"{name}: {len(pairs)} images of the test part are in another part too, first: {test} is the same file as "
            f"{other}. Take such images out of one of the parts: a test on them says nothing."
        )
        raise DatasetError(msg)


def _same_files(first: Iterable[str], second: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of a file of each list with the same bytes. Few files are read whole: those alike in size and middle."""
    ours: dict[str, tuple] = dict.fromkeys(first, ())
    theirs: dict[str, tuple] = dict.fromkeys(second, ())
    for measure in (_size, _middle, _digest):
        ours, theirs = ({path: (*key, measure(path)) for path, key in files.items()} for files in (ours, theirs))
        shared = {key for key in set(ours.values()) & set(theirs.values()) if key[0]}
        ours, theirs = ({path: key for path, key in files.items() if key in shared} for files in (ours, theirs))
    twin_of = {key: path for path, key in ours.items()}
    return [(twin_of[key], path) for path, key in theirs.items()]


def _size(path: str) -> int:
    """Bytes of a file; 0 if it is missing."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _middle(path: str) -> bytes:
    with Path(path).open("rb") as file:
        file.seek(_size(path) // 2)
        return file.read(BLOCK)


def _digest(path: str) -> bytes:
    return hashlib.sha256(Path(path).read_bytes()).digest()


def _missing_class(samples: DataFrame) -> list[str]:
    labels = set(samples.loc[samples["split"] == Split.TEST.value, "label_index"])
    if len(labels) != 1:
        return []
    kind = "normal" if labels == {LabelName.NORMAL} else "anomalous"
    return [f"the test part holds only {kind} images. AUROC, F1 and IoU take both kinds: an AUROC of 0 means nothing."]


def _empty_masks(samples: DataFrame) -> list[str]:
    rows = samples[(samples["label_index"] != LabelName.NORMAL) & (samples["mask_path"] != "")]

    def is_empty(mask_path: str, image_path: str) -> bool:
        return not read_mask(mask_path, image_path=image_path).any()

    with ThreadPoolExecutor() as threads:
        empty = list(threads.map(is_empty, rows["mask_path"], rows["image_path"]))
    if not any(empty):
        return []
    first = rows["mask_path"].to_numpy()[empty][0]
    return [
        f"the masks of {sum(empty)} of {len(empty)} anomalous images are empty, so that all their pixels count as "
        f"normal; first: {first}"
    ]
