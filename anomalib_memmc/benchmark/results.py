"""The benchmark's results: a CSV file with one row per job, and a table with one row per model."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

import pandas as pd

from anomalib_memmc.benchmark.config import Job
from anomalib_memmc.reporting.baselines import NAMES
from anomalib_memmc.reporting.summary import compare

Row = dict[str, str]
FIRST_COLUMNS = ("model", "seed", "status", "error")
METRIC_PREFIXES = ("image_", "pixel_")
COSTS = {"fit_seconds": "Fit (s)", "test_seconds": "Test (s)", "peak_memory_mb": "Memory (MB)"}
OK = "ok"
FAILED = "failed"


class Results:
    """The rows of ``results.csv``, at most one per model and seed. Every change is written at once, atomically.

    Args:
        path: The CSV file, read if it exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))

    def find(self, job: Job) -> Row | None:
        """Return the row of a job if its configuration is still the same, else ``None``."""
        key = (job.model, str(job.seed), job.config_hash)
        return next((row for row in self.rows if (row["model"], row["seed"], row["config_hash"]) == key), None)

    def put(self, row: Row) -> None:
        """Add a row, in place of an earlier one of the same model and seed, and write the file."""
        key = (row["model"], row["seed"])
        self.rows = [other for other in self.rows if (other["model"], other["seed"]) != key] + [row]
        columns = dict.fromkeys([*FIRST_COLUMNS, *(name for row in self.rows for name in row)])
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)


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
    return _markdown(lines)


def strata_table(predictions: Mapping[str, Sequence[pd.DataFrame]]) -> str:
    """Return the image AUROC of every comparison as a Markdown table: one row a model, then the trivial baselines.

    Args:
        predictions: Model -> the tables that ``PredictionTable`` wrote, one a seed, all of the same test images.

    Returns:
        The table: for all images and each stratum, mean ± sample standard deviation over the seeds, and what mean
        intensity, blur, file size and aspect ratio reach on the same images as the last model is given them, in the
        better direction. Empty without both classes.
    """
    compared = {
        model: [{(pair.anomalous, pair.normal): pair for pair in compare(table)} for table in tables]
        for model, tables in predictions.items()
    }
    pairs = {names: pair for seeds in compared.values() for seed in seeds for names, pair in seed.items()}
    if not pairs:
        return ""
    heads = [
        f"{pair.anomalous} ({pair.num_anomalous}) against {pair.normal} ({pair.num_normal})" for pair in pairs.values()
    ]
    lines = [["Image AUROC", *heads], ["---"] * (len(heads) + 1)]
    for model, seeds in compared.items():
        cells = ([seed[names].auroc for seed in seeds if names in seed] for names in pairs)
        lines.append([model, *(mean_spread(aurocs, 3) for aurocs in cells)])
    for column, printed in NAMES.items():
        cues = [[cue.auroc for cue in pair.cues if cue.column == column] for pair in pairs.values()]
        if any(cues):
            lines.append([f"*{printed}*", *(mean_spread(aurocs, 3) for aurocs in cues)])
    return _markdown(lines)


def mean_spread(values: Sequence[float], digits: int) -> str:
    """Write mean ± sample standard deviation; no spread for one value, a dash for none."""
    if not values:
        return "-"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def _markdown(lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(column: str, texts: Iterable[str]) -> str:
    return mean_spread([float(text) for text in texts if text], 3 if column.startswith(METRIC_PREFIXES) else 0)
