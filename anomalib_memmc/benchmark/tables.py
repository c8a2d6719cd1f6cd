"""The benchmark's results as Markdown tables, one row a model."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev

import numpy as np
import pandas as pd

from anomalib_memmc.benchmark.predictions import stack_scores
from anomalib_memmc.benchmark.results import FAILED, OK, Row
from anomalib_memmc.metrics.matched import matched_auroc
from anomalib_memmc.reporting.baselines import NAMES
from anomalib_memmc.reporting.comparisons import Comparison, comparable_parts, compare
from anomalib_memmc.reporting.summary import estimate

WIDTH = 100
"""Characters of a line that a table has at most, as far as that can be."""
METRIC_PREFIXES = ("image_", "pixel_")
COSTS = {"fit_seconds": "Fit (s)", "test_seconds": "Test (s)", "peak_memory_mb": "Memory (MB)"}


def table(rows: Sequence[Row]) -> str:
    """Return the results as a Markdown table with one row per model.

    Args:
        rows: One row per job.

    Returns:
        The table: every image and pixel metric and the costs, as mean ± sample standard deviation over the finished
        seeds, and how many seeds finished.
    """
    names = dict.fromkeys(name for row in rows for name, value in row.items() if value)
    metrics = [name for prefix in METRIC_PREFIXES for name in names if name.startswith(prefix)]
    columns = {name: name.replace("_", " ") for name in metrics} | COSTS
    lines = [["Model", "Seeds", *columns.values()], ["---"] * (len(columns) + 2)]
    for model in dict.fromkeys(row["model"] for row in rows):
        jobs = [row for row in rows if row["model"] == model]
        finished = [row for row in jobs if row["status"] == OK]
        failed = len(jobs) - len(finished)
        seeds = f"{len(finished)}" + (f" ({failed} {FAILED})" if failed else "")
        lines.append([model, seeds, *(_cell(name, (row.get(name, "") for row in finished)) for name in columns)])
    return fitted(lines)


def strata_table(predictions: Mapping[str, Sequence[pd.DataFrame]]) -> str:
    """Return the image AUROC of every comparison as a Markdown table: one row a model, then the trivial baselines.

    Args:
        predictions: Model -> its predictions, one table a seed, all of the same test images.

    Returns:
        The table: for all images and each stratum, mean ± sample standard deviation over the seeds, and what the
        trivial baselines reach on the same images as the last model is given them, in the better direction. Empty
        without both classes.
    """
    compared = {
        model: [{(pair.anomalous, pair.normal): pair for pair in compare(table)} for table in tables]
        for model, tables in predictions.items()
    }
    pairs = {names: pair for seeds in compared.values() for seed in seeds for names, pair in seed.items()}
    if not pairs:
        return ""
    lines = [["Image AUROC", *map(_head, pairs.values())], ["---"] * (len(pairs) + 1)]
    for model, seeds in compared.items():
        cells = [[seed[names].auroc for seed in seeds if names in seed] for names in pairs]
        lines.append([model, *(mean_spread(aurocs, 3) for aurocs in cells)])
    for column, printed in NAMES.items():
        cells = [[row.auroc for row in pair.trivial if row.column == column] for pair in pairs.values()]
        if any(cells):
            lines.append([f"*{printed}*", *(mean_spread(aurocs, 3) for aurocs in cells)])
    return fitted(lines)


def matched_table(predictions: Mapping[str, Sequence[pd.DataFrame]]) -> str:
    """Return the AUROC among images alike in each trivial baseline that by itself separates, as Markdown tables.

    Args:
        predictions: As for :func:`strata_table`.

    Returns:
        A table for each comparison: one row a baseline, with its own AUROC; in each model's column the matched AUROC
        (mean over the seeds) ± the standard error over the images, and the number of pairs, in brackets below 200
        pairs. Empty if no baseline separates.

    Raises:
        ValueError: If the seeds of a model were not tested on the same images.
    """
    if not predictions:
        return ""
    stacked = {model: stack_scores(tables) for model, tables in predictions.items()}
    *_, (last, _) = stacked.values()
    tables = []
    for pair in compare(last):
        lines = [["alike in", *predictions], ["---"] * (len(predictions) + 1)]
        for row in pair.trivial:
            if row.separates:
                cells = [_matched(*table, (pair.anomalous, pair.normal), row.column) for table in stacked.values()]
                lines.append([f"{NAMES[row.column]} ({row.auroc:.3f})", *cells])
        if len(lines) > 2:
            tables.append(f"Matched AUROC, {_head(pair)}:\n\n{fitted(lines)}")
    return "\n\n".join(tables)


def mean_spread(values: Sequence[float], digits: int) -> str:
    """Write mean ± sample standard deviation; no spread for one value, a dash for none."""
    if not values:
        return "-"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def _head(pair: Comparison) -> str:
    return f"{pair.anomalous} ({pair.num_anomalous}) against {pair.normal} ({pair.num_normal})"


def _matched(table: pd.DataFrame, scores: np.ndarray, names: tuple[str, str], column: str) -> str:
    """A model's matched AUROC on one comparison; scores (S, N) are those of the table's rows."""
    part = comparable_parts(table).get(names)
    if part is None or column not in part.columns or part[column].isna().any():
        return "-"
    matched = matched_auroc(scores[:, part.index], part["label"], part[column])
    return f"{estimate(matched)} ({matched.pairs})"


def markdown(lines: Iterable[Sequence[str]]) -> str:
    """Join the cells of a Markdown table; the second line is the rule below the head."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fitted(lines: Iterable[Sequence[str]], width: int = WIDTH) -> str:
    """A Markdown table whose columns are straight; where it would be too wide, several below each other.

    Args:
        lines: The cells, line by line; the second line is the rule below the head. The first column stands at the left
            of each table.
        width: Most characters of a line, as far as the first and one more column fit into it.
    """
    first, *rest = [_column(cells) for cells in zip(*lines, strict=True)]
    tables = [[first]]
    for column in rest:
        if len(tables[-1]) > 1 and _width([*tables[-1], column]) > width:
            tables.append([first])
        tables[-1].append(column)
    return "\n\n".join(markdown(zip(*columns, strict=True)) for columns in tables)


def _column(cells: Sequence[str]) -> list[str]:
    """The cells of a column, as wide as its widest."""
    width = max(map(len, cells))
    head, rule, *rows = cells
    return [head.ljust(width), rule[:1] * width, *(cell.ljust(width) for cell in rows)]


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(len(column[0]) + 3 for column in columns) + 1


def _cell(column: str, texts: Iterable[str]) -> str:
    return mean_spread([float(text) for text in texts if text], 3 if column.startswith(METRIC_PREFIXES) else 0)
