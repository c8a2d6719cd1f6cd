"""The benchmark's results: ``results.csv``, one row per job."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

from anomalib_memmc.benchmark.config import Job

Row = dict[str, str]
FIRST_COLUMNS = ("model", "seed", "status", "error")
RESULTS_FILE = "results.csv"
ROW_FILE = "row.json"
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
        """Add a row, or put it in the place of an earlier one of the same model and seed, and write the file."""
        key = (row["model"], row["seed"])
        places = [index for index, other in enumerate(self.rows) if (other["model"], other["seed"]) == key]
        for index in places[:1] or [len(self.rows)]:
            self.rows[index : index + 1] = [row]
        self._write()

    def arrange(self, jobs: Sequence[Job]) -> None:
        """Bring the rows into the order of the jobs, whatever the order they ended in; rows of other jobs follow."""
        order = {(job.model, str(job.seed)): index for index, job in enumerate(jobs)}
        self.rows.sort(key=lambda row: order.get((row["model"], row["seed"]), len(order)))
        if self.rows:
            self._write()

    def _write(self) -> None:
        columns = dict.fromkeys([*FIRST_COLUMNS, *(name for row in self.rows for name in row)])
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)


def write_row(job: Job, row: Row) -> None:
    """Write a job's row into the job's own folder, atomically, where no other job writes.

    Args:
        job: The job.
        row: Its row of ``results.csv``.
    """
    temporary = job.folder / f"{ROW_FILE}.tmp"
    temporary.write_text(json.dumps(row, indent=2), encoding="utf-8")
    temporary.replace(job.folder / ROW_FILE)


def read_row(job: Job) -> Row | None:
    """Read the row that a job left in its folder, if its configuration is still the same.

    Args:
        job: The job.

    Returns:
        The row; ``None`` where there is none, or that of another configuration.
    """
    path = job.folder / ROW_FILE
    if not path.is_file():
        return None
    row: Row = json.loads(path.read_text(encoding="utf-8"))
    return row if row.get("config_hash") == job.config_hash else None


def finished(folder: Path) -> dict[str, list[Row]]:
    """Read the finished jobs of a benchmark, model by model in the order of ``results.csv``.

    Args:
        folder: The benchmark's output folder.

    Returns:
        Model -> the rows of its jobs.

    Raises:
        FileNotFoundError: If the folder holds no ``results.csv``.
        ValueError: If no job has finished.
    """
    path = folder / RESULTS_FILE
    if not path.is_file():
        msg = f"{path} does not exist; give the output folder of a benchmark."
        raise FileNotFoundError(msg)
    rows: dict[str, list[Row]] = {}
    for row in Results(path).rows:
        if row["status"] == OK:
            rows.setdefault(row["model"], []).append(row)
    if not rows:
        msg = f"{path}: no job has finished."
        raise ValueError(msg)
    return rows


def job_name(row: Row) -> str:
    """Name of a row's job and of its folder, ``<model>-seed<k>``."""
    return f"{row['model']}-seed{row['seed']}"
