"""Covid-X: chest radiographs without COVID-19 against radiographs with it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pandas import DataFrame

from anomalib_memmc.data.base import MedicalDataModule, make_samples
from anomalib_memmc.data.covidx.labels import read_labels
from anomalib_memmc.data.io import DatasetError, DatasetNotFoundError

logger = logging.getLogger(__name__)

PARTS = ("train", "test")
LABEL_NAMES = ("{part}.txt", "{part}_COVIDx8B.txt", "{part}_COVIDx8A.txt")
NAMED_FILES = 5  # how many missing files a message names
SOURCE = (
    "Covid-X is put together from several public sources, see https://github.com/lindawangg/COVID-Net (COVIDx8B) and "
    "the data set 'COVIDx CXR' on Kaggle; get its images and label files yourself"
)
TREE = "<root>/train/ and <root>/test/ with the images, and label files <root>/train.txt and <root>/test.txt, or others"


class CovidX(MedicalDataModule):
    """Covid-X, or any radiographs with label files in its format.

    With the label files of COVIDx8B the counts are the paper's: 13,794 negatives to train, 200 + 200 to test. Training
    takes the negatives of the training list only.

    In the samples, ``group`` is the patient, who is never in two parts of a split made here. ``stratum`` is
    "class/source" to report results by: in COVIDx8B every test positive comes from one source and every test negative
    from another.

    Args:
        root: Folder with ``train/`` and ``test/``; images may also lie in `root` itself.
        train_labels: Label file of the training part, also relative to `root`. ``None`` looks in `root` for
            ``train.txt``, ``train_COVIDx8B.txt``, ``train_COVIDx8A.txt``, or a single other ``train*.txt``.
        test_labels: The same, of the test part.
        strata_labels: Further label files whose classes are finer, such as the two of COVIDx8A for COVIDx8B: a stratum
            takes its class from there, by file name, where it is listed.
        missing: What to do about listed files that are not on disk: "error" stops, "skip" leaves them out.
            Either way they are counted and the first ones named.
        normal_findings: The classes that count as normal, see :func:`~anomalib_memmc.data.read_labels`.
        **shared: Arguments of every data module, see :class:`~anomalib_memmc.data.MedicalDataModule`.

    Raises:
        DatasetNotFoundError: In ``prepare_data`` and ``setup``, if the images or the label files are not found.
        DatasetError: If a label file is malformed, or files are missing and `missing` is "error".

    Examples:
        >>> from anomalib_memmc.data import CovidX
        >>> datamodule = CovidX(root="./datasets/CovidX", missing="skip")
        >>> datamodule.name
        'CovidX'
    """

    def __init__(
        self,
        root: Path | str = "./datasets/CovidX",
        *,
        train_labels: Path | str | None = None,
        test_labels: Path | str | None = None,
        strata_labels: list[str] | None = None,
        missing: Literal["error", "skip"] = "error",
        normal_findings: list[str] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if missing not in {"error", "skip"}:
            msg = f"missing must be 'error' or 'skip', found {missing!r}."
            raise ValueError(msg)
        self.root = Path(root)
        self.labels = {"train": train_labels, "test": test_labels}
        self.strata_labels = list(strata_labels or [])
        self.missing = missing
        self.normal_findings = normal_findings

    def prepare_data(self) -> None:
        """Check that the data set is there; nothing is downloaded."""
        self._label_files()

    def _label_files(self) -> dict[str, Path]:
        """The label file of each part."""
        if not self.root.is_dir():
            msg = f"No Covid-X under {self.root}: the folder does not exist. Expected {TREE}. {SOURCE}."
            raise DatasetNotFoundError(msg)
        return {part: self._label_file(part) for part in PARTS}

    def _label_file(self, part: str) -> Path:
        """The label file given or found for a part.

        Raises:
            DatasetNotFoundError: If there is none, or several and no telling which.
        """
        given = self.labels[part]
        if given is not None:
            return self._resolve(given)
        named = (self.root / name.format(part=part) for name in LABEL_NAMES)
        found = [path for path in named if path.is_file()] or sorted(self.root.glob(f"{part}*.txt"))
        if not found or (len(found) > 1 and found[0].name not in {name.format(part=part) for name in LABEL_NAMES}):
            contents = ", ".join(sorted(child.name for child in self.root.iterdir())[:8]) or "nothing"
            problem = "Several label files" if found else "No label file"
            msg = (
                f"{problem} for the {part} part of Covid-X under {self.root} "
                f"(it holds {contents}). Give {part}_labels. Expected {TREE}. {SOURCE}."
            )
            raise DatasetNotFoundError(msg)
        return found[0]

    def _resolve(self, path: Path | str) -> Path:
        """A label file as it is, or relative to the root.

        Raises:
            DatasetNotFoundError: If it is in neither place.
        """
        for candidate in (Path(path), self.root / path):
            if candidate.is_file():
                return candidate
        msg = f"The label file {path} is neither there nor under {self.root}."
        raise DatasetNotFoundError(msg)

    def _make_samples(self) -> DataFrame:
        files = self._label_files()
        labels = {part: read_labels(file, self.normal_findings) for part, file in files.items()}
        labels["train"] = labels["train"][labels["train"]["label_index"] == 0]
        _warn_of_shared_patients(labels)
        rows = [row for part in PARTS for row in self._rows(part, labels[part])]
        return make_samples(self._leave_out_missing(rows))

    def _rows(self, part: str, labels: DataFrame) -> list[dict[str, Any]]:
        """A row for each line of a label file; an image that is not on disk has an empty path."""
        places = [folder for folder in (self.root / part, self.root) if folder.is_dir()]
        on_disk = [(folder, set(os.listdir(folder))) for folder in places]
        finer = self._finer_findings()
        return [
            {
                "image_path": next(
                    (str(folder / row.filename) for folder, names in on_disk if row.filename in names), ""
                ),
                "filename": f"{part}/{row.filename}",
                "label_index": row.label_index,
                "split": part,
                "group": row.patient,
                "stratum": f"{finer.get(row.filename, row.finding)}/{row.source}",
            }
            for row in labels.itertuples()
        ]

    def _finer_findings(self) -> dict[str, str]:
        """The finer class of each file that `strata_labels` list."""
        tables = [read_labels(self._resolve(path), normal_findings=()) for path in self.strata_labels]
        if not tables:
            return {}
        joined = pd.concat(tables, ignore_index=True)
        return dict(zip(joined["filename"], joined["finding"], strict=True))

    def _leave_out_missing(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Drop the rows whose image is not on disk, or stop.

        Raises:
            DatasetError: If there are any and `missing` is "error".
        """
        absent = [row["filename"] for row in rows if not row["image_path"]]
        if not absent:
            return rows
        count = f"{len(absent)} of the {len(rows)} images that the label files list are not under {self.root}"
        named = ", ".join(absent[:NAMED_FILES]) + (" ..." if len(absent) > NAMED_FILES else "")
        if self.missing == "error" or len(absent) == len(rows):
            msg = (
                f"{count}: {named}. Expected {TREE}. Complete the images, give the label files that belong to them "
                f"(train_labels, test_labels), or leave missing images out with missing='skip'. {SOURCE}."
            )
            raise DatasetError(msg)
        logger.warning("%s, and are left out: %s", count, named)
        return [row for row in rows if row["image_path"]]


def _warn_of_shared_patients(labels: dict[str, DataFrame]) -> None:
    """Say so if the label files themselves put a patient into both parts."""
    shared = sorted(set(labels["train"]["patient"]) & set(labels["test"]["patient"]))
    if shared:
        logger.warning(
            "%d patients are in the training and in the test list, so the test is not independent; first: %s",
            len(shared),
            ", ".join(shared[:NAMED_FILES]),
        )
