"""A run as its folder tells it: predictions, and what the test kept for the report."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomalib_memmc.benchmark.predictions import TEXT, relative_paths
from anomalib_memmc.reporting.comparisons import judged
from anomalib_memmc.reporting.report.record import PREDICTIONS, Record, read
from anomalib_memmc.resuming.thresholds_file import thresholds_path

NUMBERS = ("gt_label", "score", "threshold", "label", "percentile", "p_value", "spread", "pred_score")


@dataclass(frozen=True)
class Run:
    """A tested run.

    Attributes:
        folder: Its folder.
        table: ``predictions.csv`` with the column ``name``, the image's path below the folder that all images share.
        judged: The images that have a ground truth and a score, as ``judged`` of the comparisons returns them.
        record: What the test kept for the report.
        thresholds: As in ``thresholds.json``: of the test, or of the checkpoint with the threshold of the table; None
            where they are not known.
    """

    folder: Path
    table: pd.DataFrame
    judged: pd.DataFrame
    record: Record
    thresholds: dict[str, Any] | None

    @property
    def threshold(self) -> float | None:
        """The score above which an image was called anomalous; None where none was learnt."""
        known = self.table["threshold"].dropna() if "threshold" in self.table else pd.Series(dtype=float)
        return float(known.iloc[0]) if len(known) else None

    @property
    def verdicts(self) -> pd.DataFrame:
        """The images that have a verdict; empty where no threshold was learnt."""
        return self.table[self.table["label"].notna()] if "label" in self.table else self.table.iloc[:0]


def load(folder: Path) -> Run:
    """Read a run.

    Args:
        folder: A run's folder, or that of a benchmark's job, with ``predictions.csv``.

    Raises:
        FileNotFoundError: If the folder or its predictions are missing.
        ValueError: If the predictions cannot be read.
    """
    path = folder / PREDICTIONS
    if not folder.is_dir():
        msg = f"There is no folder {folder}. Give the folder of a run, such as results/MemMCMAE/Phantom/latest."
        raise FileNotFoundError(msg)
    if not path.is_file():
        msg = f"{folder} has no {PREDICTIONS}: give the folder of a run that was tested, or test it first."
        raise FileNotFoundError(msg)
    table = _read(path)
    record = read(folder)
    return Run(folder, table, judged(table), record, _thresholds(folder, table, record))


def _read(path: Path) -> pd.DataFrame:
    """Predictions with numbers where numbers belong."""
    try:
        table = pd.read_csv(path, dtype=TEXT)
        for column in table.columns.intersection(NUMBERS):
            table[column] = pd.to_numeric(table[column])
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        msg = f"{path} cannot be read ({' '.join(str(error).split())}): test again."
        raise ValueError(msg) from error
    missing = [name for name in ("image_path", "gt_label", "pred_score") if name not in table.columns]
    if "raw_score" in table.columns or missing:
        lacks = f" and lacks {', '.join(missing)}" if missing else ""
        msg = f"{path} was not written by a test of this version{lacks}: test again."
        raise ValueError(msg)
    if table.empty:
        msg = f"{path} holds no image: test again."
        raise ValueError(msg)
    table["image_path"] = table["image_path"].fillna("")
    for column in ("stratum", "group"):
        if column in table:
            table[column] = table[column].fillna("")
    known = table["image_path"] != ""
    table["name"] = "unnamed"
    table.loc[known, "name"] = relative_paths(table.loc[known, "image_path"], None)
    if "score" not in table:
        table["score"] = table["pred_score"]
    return table


def _thresholds(folder: Path, table: pd.DataFrame, record: Record) -> dict[str, Any] | None:
    """Those of the test, else those beside the checkpoint, if the table's threshold is theirs."""
    if record.test is not None:
        return record.test["thresholds"]
    path = thresholds_path(folder / "weights" / "lightning" / "model.ckpt")
    if not path.is_file() or "threshold" not in table or table["threshold"].isna().all():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    known = found.get("image_threshold")
    same = known is not None and math.isclose(known, table["threshold"].iloc[0], rel_tol=1e-6)
    return found if same else None


def unscored(run: Run) -> int:
    """Images whose score is not finite, which count nowhere."""
    return int((~np.isfinite(run.table["score"].astype(float))).sum())
