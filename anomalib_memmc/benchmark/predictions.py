"""The predictions of a benchmark: those of all its jobs in one file, ``predictions.parquet`` beside ``results.csv``."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomalib_memmc.reporting.comparisons import judged

PREDICTIONS_FILE = "predictions.parquet"
TEXT = {"image_path": str, "stratum": str, "group": str}
"""Columns of a job's ``predictions.csv`` that are text even where they look like numbers, as patients do."""


class Predictions:
    """The predictions of a benchmark's jobs. Every change is written at once, atomically.

    The file has one row per job and image with the columns ``job`` (``<model>-seed<k>``), ``path`` (relative to the
    data set's folder), ``label`` (0 or 1), ``score``, and where known ``stratum``, ``group`` and the trivial baselines.

    Args:
        folder: The benchmark's output folder.

    Raises:
        ValueError: If the file is there but cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / PREDICTIONS_FILE
        self.table = pd.DataFrame({"job": pd.Series(dtype=str)})
        if self.path.is_file():
            try:
                self.table = pd.read_parquet(self.path)
            except (OSError, ValueError) as error:
                msg = f"{self.path} is damaged ({error}). Delete it: a benchmark writes it anew from its jobs' folders."
                raise ValueError(msg) from error

    def __contains__(self, job: str) -> bool:
        """Whether there are predictions of a job."""
        return bool((self.table["job"] == job).any())

    def of(self, job: str) -> pd.DataFrame:
        """Predictions of one job: all columns but ``job``, as far as they are known for it.

        Raises:
            FileNotFoundError: If there are none.
        """
        if job not in self:
            msg = (
                f"{self.path} has no predictions of {job}; run the benchmark again, or delete the job's row in "
                f"{self.path.with_name('results.csv')}."
            )
            raise FileNotFoundError(msg)
        own = self.table[self.table["job"] == job].drop(columns="job")
        return own.dropna(axis=1, how="all").reset_index(drop=True)

    def put(self, job: str, table: pd.DataFrame) -> None:
        """Add a job's predictions, in place of earlier ones, and write the file.

        Args:
            job: The job's name.
            table: Its predictions, as :func:`read` returns them.
        """
        table = table.assign(job=job)
        others = self.table[self.table["job"] != job]
        table = pd.concat([others, table], ignore_index=True) if len(others) > 0 else table
        self.table = table[["job", *table.columns.drop("job")]]
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            self.table.to_parquet(file, index=False, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)


def read(path: Path, root: Path | None = None) -> pd.DataFrame:
    """Read what counts of a job's ``predictions.csv``.

    Args:
        path: The file.
        root: Folder of the data set, to which paths become relative.

    Returns:
        The table of ``judged``; ``path`` and groups that are paths name no folder of this machine.
    """
    table = judged(pd.read_csv(path, dtype=TEXT))
    short = dict(zip(table["path"], relative_paths(table["path"], root), strict=True))
    table["path"] = table["path"].map(short)
    if "group" in table.columns:
        table["group"] = [short.get(group, group) for group in table["group"]]
    return table


def relative_paths(paths: Iterable[str], root: str | Path | None) -> list[str]:
    """Make paths relative to a data set's folder, or where one lies elsewhere, to the folder that they share.

    Args:
        paths: Paths of images.
        root: The data set's folder, where it has one.

    Returns:
        The relative paths, with forward slashes.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    folder = Path(os.path.abspath(root)) if root is not None else None
    if absolute and (folder is None or not all(path.is_relative_to(folder) for path in absolute)):
        folder = Path(os.path.commonpath([path.parent for path in absolute]))
    return [path.relative_to(folder).as_posix() for path in absolute] if folder is not None else []


def stack_scores(tables: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Put the scores of several jobs on the same images side by side.

    Args:
        tables: The jobs' predictions, at least one.

    Returns:
        The first job's table, its index 0 to N - 1, and all scores (S, N) in the order of its rows.

    Raises:
        ValueError: If the jobs were not tested on the same images.
    """
    first = tables[0].reset_index(drop=True)
    for table in tables[1:]:
        if differing := sorted({*first["path"]} ^ {*table["path"]}):
            msg = (
                f"The jobs were not tested on the same images: {len(differing)} images, such as {differing[0]}, are in "
                "the predictions of one and not of another. Run them on the same data."
            )
            raise ValueError(msg)
    scores = [table.set_index("path")["score"].loc[first["path"]].to_numpy(np.float64) for table in tables]
    return first, np.stack(scores)
