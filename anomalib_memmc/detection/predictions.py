"""The results of ``predict``: a table as a file, a short one for the terminal, and a summary in words."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from rich.table import Table

from anomalib_memmc.data.io.text import printable
from anomalib_memmc.detection.result import WORDS, Result, apart, digits_of, percent
from anomalib_memmc.resuming.whole_file import replaced

COLUMNS = ("score", "threshold", "label", "percentile", "p_value", "spread")
_MOST_ROWS, _MOST_ERRORS = 20, 3


class Row(NamedTuple):
    """One image.

    Attributes:
        result: What was said of it, without map and reconstruction.
        case: Its picture, relative to the folder of the table; None where it could not be read.
    """

    result: Result
    case: str | None


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write a row an image, in order: ``image_path``, the numbers of the verdict, ``error`` and ``case``.

    Args:
        rows: The images.
        path: The file, written whole or not at all.
    """
    columns = {
        "image_path": [printable(row.result.path) for row in rows],
        **{name: [getattr(row.result, name) for row in rows] for name in COLUMNS},
        "error": [None if row.result.error is None else printable(row.result.error) for row in rows],
        "case": [row.case for row in rows],
    }
    table = pd.DataFrame(columns).astype({"label": "Int64"})
    with replaced(path) as part:
        table.to_csv(part, index=False)


def as_table(rows: Sequence[Row]) -> Table:
    """A short table for a terminal: of many images the most unusual ones.

    Args:
        rows: The images, at least one.
    """
    shown = list(rows)
    if len(rows) > _MOST_ROWS:
        shown = sorted(rows, key=lambda row: -float("inf") if row.result.score is None else row.result.score)
        shown = shown[::-1][:_MOST_ROWS]
    table = Table(
        title=None if len(shown) == len(rows) else f"The {len(shown)} highest scores of {len(rows):,} images",
        title_justify="left",
    )
    table.add_column("image", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("percentile", justify="right", no_wrap=True)
    for row in shown:
        result = row.result
        table.add_row(
            _short(result.path),
            "not read" if result.error is not None else WORDS.get(result.label, "-"),  # type: ignore[arg-type]
            "" if result.score is None else apart(result.score, result.threshold)[0],
            "" if result.percentile is None else percent(result.percentile),
        )
    return table


def _short(path: str) -> str:
    """A path below the present folder, and of any other its last folder and name."""
    relative = Path(os.path.relpath(path))
    return printable(Path("...", *relative.parts[-2:]) if relative.parts[0] == ".." else relative)


def in_words(rows: Sequence[Row], thresholds: dict[str, Any]) -> str:
    """How many images were called what, by which threshold, and what could not be read.

    Args:
        rows: The images.
        thresholds: Those of the checkpoint, as :func:`~anomalib_memmc.model.thresholds.thresholds_of` gives them.
    """
    errors = [row.result.error for row in rows if row.result.error is not None]
    labels = Counter(row.result.label for row in rows if row.result.error is None)
    threshold, rate = thresholds["image_threshold"], thresholds["promised_false_alarm_rate"]
    if threshold is None:
        lines = ["The checkpoint has no threshold, so there are scores and no verdicts."]
    else:
        promise = "" if rate is None else f", which promises {rate:.1%} false alarms among normal images"
        lines = [
            f"Called anomalous: {labels[1]:,} of {labels.total():,} images. The threshold is {digits_of(threshold)}"
            f"{promise}."
        ]
    if errors:
        lines += [f"Not read: {len(errors):,}.", *(f"  {printable(error)}" for error in errors[:_MOST_ERRORS])]
    return "\n".join(lines)
