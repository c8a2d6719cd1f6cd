"""The ``benchmark`` command: run every job that has not finished yet, in a process of its own, and print one table.

Jobs run here one after the other, on the machines of a Ray cluster (``--ray``), or each where its name is given
(``--job``), as the tasks of a SLURM array are.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from anomalib_memmc.accelerators import require_accelerator
from anomalib_memmc.benchmark.cluster import on_cluster
from anomalib_memmc.benchmark.config import Benchmark, Job, dotlist, load
from anomalib_memmc.benchmark.job import TABLE_FILE, data_root, parse
from anomalib_memmc.benchmark.predictions import Predictions, read
from anomalib_memmc.benchmark.process import LOG_FILE, Finished, run_job
from anomalib_memmc.benchmark.results import OK, RESULTS_FILE, Results, Row, job_name, read_row
from anomalib_memmc.benchmark.tables import matched_table, strata_table, table
from anomalib_memmc.register import register

WEIGHTS_FOLDER = "weights"


def main(argv: Sequence[str]) -> int:
    """Run ``anomalib-memmc benchmark``.

    Args:
        argv: The arguments after ``benchmark``.

    Returns:
        The exit code: 0 if every job has a result, else 1; of ``--job``, whether that one has.

    Raises:
        FileNotFoundError: If the configuration file does not exist.
        ValueError: If the configuration or an override is wrong, checked for every model before the first job runs; if
            there is no job of the name; or if the jobs are to train on a GPU that is not here.
        RuntimeError: If Ray is not installed.
        ConnectionError: If there is no cluster.
    """
    parser = argparse.ArgumentParser(
        prog="anomalib-memmc benchmark",
        description="Train and test several models with several seeds on one data set and print one table.",
        epilog="Any key of the file can be overridden: --seeds '[0,1,2]' --data.init_args.root DIR",
        allow_abbrev=False,
    )
    parser.add_argument("-c", "--config", required=True, help="the benchmark's YAML file")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--ray", metavar="ADDRESS", help="run the jobs on a Ray cluster: its address, auto or local")
    where.add_argument("--list", action="store_true", help="print the names of the jobs, one a line, and run none")
    where.add_argument("--job", metavar="NAME", help="run this job alone, and leave the tables to a later call")
    arguments, overrides = parser.parse_known_args(argv)
    benchmark = load(arguments.config, list(dotlist(overrides)))
    if arguments.list:
        print(*(job.folder.name for job in benchmark.jobs), sep="\n")
        return 0
    if arguments.job is not None:
        return run_alone(benchmark, arguments.job)
    _check(benchmark.jobs)
    if arguments.ray is None:
        for job in benchmark.jobs:
            require_accelerator(job.config.get("trainer", {}).get("accelerator"))
    return run(benchmark, f"anomalib-memmc benchmark {shlex.join(argv)}", arguments.ray)


def run(benchmark: Benchmark, command: str = "", ray: str | None = None) -> int:
    """Run the jobs that have no result yet, print the tables and write them to ``table.md``.

    Args:
        benchmark: The benchmark.
        command: The command line, to be printed above the tables.
        ray: Address of the Ray cluster whose machines run the jobs; None runs them here.

    Returns:
        The exit code: 0 if every job has a result, else 1.
    """
    benchmark.output.mkdir(parents=True, exist_ok=True)
    results, predictions = Results(benchmark.output / RESULTS_FILE), Predictions(benchmark.output)
    rows = {job.folder.name: _earlier(job, results, predictions) for job in benchmark.jobs}
    left = [job for job in benchmark.jobs if rows[job.folder.name] is None]
    if len(left) < len(rows):
        print(f"{len(rows) - len(left)} of {len(rows)} jobs finished before", flush=True)
    weights = benchmark.output / WEIGHTS_FOLDER
    for number, (job, row, seconds) in enumerate(
        _here(left, weights) if ray is None else on_cluster(left, weights, ray)
    ):
        _take(job, row, results, predictions)
        rows[job.folder.name] = row
        print(
            f"[{number + 1}/{len(left)}] {job.model}, seed {job.seed}: {row['status']} after {seconds:.0f} s",
            flush=True,
        )
    results.arrange(benchmark.jobs)
    return report([row for row in rows.values() if row is not None], predictions, command)


def run_alone(benchmark: Benchmark, name: str) -> int:
    """Run one job, unless it has a result, and write its row into its own folder, where no other job writes.

    Args:
        benchmark: The benchmark.
        name: The job's name, ``<model>-seed<k>``.

    Returns:
        The exit code: 0 if the job has a result, else 1.

    Raises:
        ValueError: If there is no such job, or its configuration is wrong.
    """
    job = next((job for job in benchmark.jobs if job.folder.name == name), None)
    if job is None:
        msg = f"The benchmark has no job {name!r}: --list prints the names."
        raise ValueError(msg)
    _check([job])
    row = Results(benchmark.output / RESULTS_FILE).find(job) or read_row(job)
    if row is not None and row["status"] == OK:
        print(f"{name}: finished before")
        return 0
    started = time.perf_counter()
    row = run_job(job, benchmark.output / WEIGHTS_FOLDER)
    print(f"{name}: {row['status']} after {time.perf_counter() - started:.0f} s")
    return _report_failed([row])


def _here(jobs: Sequence[Job], weights: Path) -> Iterator[Finished]:
    """Run jobs on this machine, one after the other."""
    for job in jobs:
        print(f"{job.model}, seed {job.seed}, has started", flush=True)
        started = time.perf_counter()
        row = run_job(job, weights)
        yield Finished(job, row, time.perf_counter() - started)


def _earlier(job: Job, results: Results, predictions: Predictions) -> Row | None:
    """The row of a job that has finished before: in ``results.csv``, or in its folder, where ``--job`` left it."""
    row = results.find(job)
    if row is not None and row["status"] == OK:
        if job.folder.name not in predictions:
            collect(job, predictions)
        return row
    row = read_row(job)
    if row is None or row["status"] != OK or not (job.folder / TABLE_FILE).is_file():
        return None
    _take(job, row, results, predictions)
    return row


def _take(job: Job, row: Row, results: Results, predictions: Predictions) -> None:
    """Take a job's row, and its predictions where it left any, into those of the benchmark."""
    if row["status"] == OK:
        collect(job, predictions)
    results.put(row)


def collect(job: Job, predictions: Predictions) -> None:
    """Take a job's predictions, where it left any, into those of the benchmark.

    Args:
        job: The job.
        predictions: The benchmark's predictions.
    """
    path = job.folder / TABLE_FILE
    if path.is_file():
        predictions.put(job.folder.name, read(path, data_root(job.config)))


def report(rows: Sequence[Row], predictions: Predictions, command: str = "") -> int:
    """Print the tables and what failed, and write the tables to ``table.md`` beside the predictions.

    Args:
        rows: One row per job.
        predictions: The predictions of these jobs, as far as they finished.
        command: The command line.

    Returns:
        The exit code: 0 if every job has a result, else 1.
    """
    commits = dict.fromkeys(row["commit"] for row in rows if row.get("commit"))
    origin = ", ".join([*([f"`{command}`"] if command else []), *(f"commit {commit}" for commit in commits)])
    by_model = _by_model(rows, predictions)
    parts = (origin, table(rows), strata_table(by_model), matched_table(by_model))
    text = "\n\n".join(part for part in parts if part)
    output = predictions.path.parent
    (output / "table.md").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\n\nResults: {output}")
    return _report_failed(rows)


def _report_failed(rows: Sequence[Row]) -> int:
    """Say on stderr what failed; 1 if anything did."""
    failed = [row for row in rows if row["status"] != OK]
    for row in failed:
        log = Path(row["folder"]) / LOG_FILE
        print(f"\n{row['model']}, seed {row['seed']}, failed: {row['error']}\n(log: {log})", file=sys.stderr)
    return 1 if failed else 0


def _by_model(rows: Sequence[Row], predictions: Predictions) -> dict[str, list[pd.DataFrame]]:
    """Predictions of every finished job, model by model."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for row in rows:
        if row["status"] == OK and job_name(row) in predictions:
            tables.setdefault(row["model"], []).append(predictions.of(job_name(row)))
    return tables


def _check(jobs: Sequence[Job]) -> None:
    """Refuse a configuration that no job can be built of."""
    register()
    for job in {job.model: job for job in jobs}.values():
        try:
            parse(job.config)
        except ValueError as error:
            msg = f"model {job.model}: {error}"
            raise ValueError(msg) from error
