"""The ``benchmark`` command: run every job that has not finished yet, in a process of its own, and print one table."""

import argparse
import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from anomalib_memmc.benchmark.config import Benchmark, Job, class_name, dotlist, load
from anomalib_memmc.benchmark.job import CONFIG_FILE, RESULT_FILE, TABLE_FILE, data_root, parse
from anomalib_memmc.benchmark.predictions import Predictions, read
from anomalib_memmc.benchmark.results import FAILED, OK, RESULTS_FILE, Results, Row, job_name
from anomalib_memmc.benchmark.tables import matched_table, strata_table, table
from anomalib_memmc.model import lite0
from anomalib_memmc.register import register

LOG_FILE = "log.txt"
PACKAGES = ("anomalib-memmc", "anomalib", "lightning", "timm", "torch")


def main(argv: Sequence[str]) -> int:
    """Run ``anomalib-memmc benchmark``.

    Args:
        argv: The arguments after ``benchmark``.

    Returns:
        The exit code: 0 if every job has a result, else 1.

    Raises:
        FileNotFoundError: If the configuration file does not exist.
        ValueError: If the configuration or an override is wrong; checked for every model before the first job runs.
    """
    parser = argparse.ArgumentParser(
        prog="anomalib-memmc benchmark",
        description="Train and test several models with several seeds on one data set and print one table.",
        epilog="Any key of the file can be overridden: --seeds '[0,1,2]' --data.init_args.root DIR",
        allow_abbrev=False,
    )
    parser.add_argument("-c", "--config", required=True, help="the benchmark's YAML file")
    arguments, overrides = parser.parse_known_args(argv)
    benchmark = load(arguments.config, list(dotlist(overrides)))
    _check(benchmark)
    return run(benchmark, f"anomalib-memmc benchmark {shlex.join(argv)}")


def run(benchmark: Benchmark, command: str = "") -> int:
    """Run the jobs that have no result yet, print the tables and write them to ``table.md``.

    Args:
        benchmark: The benchmark.
        command: The command line, to be printed above the tables.

    Returns:
        The exit code: 0 if every job has a result, else 1.
    """
    benchmark.output.mkdir(parents=True, exist_ok=True)
    results, predictions = Results(benchmark.output / RESULTS_FILE), Predictions(benchmark.output)
    rows = []
    for number, job in enumerate(benchmark.jobs, start=1):
        print(f"[{number}/{len(benchmark.jobs)}] {job.model}, seed {job.seed}: ", end="", flush=True)
        row = results.find(job)
        if row is not None and row["status"] == OK:
            if job.folder.name not in predictions:
                collect(job, predictions)
            print("finished before")
        else:
            started = time.perf_counter()
            row = run_job(job, benchmark.output / "weights")
            if row["status"] == OK:
                collect(job, predictions)
            results.put(row)
            print(f"{row['status']} after {time.perf_counter() - started:.0f} s")
        rows.append(row)
    return report(rows, predictions, command)


def run_job(job: Job, weights: Path) -> Row:
    """Run one job in a new process.

    Args:
        job: The job; its folder receives configuration, log, predictions and checkpoint.
        weights: Folder for the weights of the EfficientNet-Lite0 backbone.

    Returns:
        The job's row of ``results.csv``.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / CONFIG_FILE).write_text(json.dumps({"seed": job.seed, "config": job.config}, indent=2))
    outcome = job.folder / RESULT_FILE
    outcome.unlink(missing_ok=True)
    log = job.folder / LOG_FILE
    exit_code = start(job.folder, _environment(job, weights), log)
    result = json.loads(outcome.read_text()) if outcome.is_file() else {}
    if exit_code != 0 and "error" not in result:
        last_lines = "\n".join(log.read_text(encoding="utf-8").splitlines()[-10:])
        result["error"] = f"The process ended with exit code {exit_code}.\n{last_lines}"
    return {
        "model": job.model,
        "seed": str(job.seed),
        "status": FAILED if "error" in result else OK,
        **{name: str(value) for name, value in result.items()},
        **provenance(),
        "config_hash": job.config_hash,
        "folder": str(job.folder),
    }


def collect(job: Job, predictions: Predictions) -> None:
    """Take a job's predictions, where it left any, into those of the benchmark.

    Args:
        job: The job.
        predictions: The benchmark's predictions.
    """
    path = job.folder / TABLE_FILE
    if path.is_file():
        predictions.put(job.folder.name, read(path, data_root(job.config)))


def start(folder: Path, environment: dict[str, str], log: Path) -> int:
    """Run a folder's job in a new process and wait for it.

    Args:
        folder: Folder with the job's ``job.json``.
        environment: Environment variables of the process.
        log: File that receives the process's output.

    Returns:
        The process's exit code, negative if a signal ended it.
    """
    command = [sys.executable, "-m", "anomalib_memmc.benchmark.job", str(folder)]
    with log.open("w", encoding="utf-8") as file:
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False).returncode


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


def provenance() -> Row:
    """Return the versions of the packages that matter, and the git commit of this package's code if it has one."""
    return {"commit": _commit(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    code = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        try:
            return subprocess.run(
                ["git", "-C", str(code), *arguments, "--", "."], capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return ""

    commit = git("log", "-1", "--format=%h")
    return f"{commit}-modified" if commit and git("status", "--porcelain") else commit


def _environment(job: Job, weights: Path) -> dict[str, str]:
    environment = dict(os.environ)
    model = job.config["model"]
    if class_name(model) == "Patchcore":
        # Without it glibc's heap fragments while PatchCore samples its coreset on the CPU, up to 24 GB.
        environment.setdefault("MALLOC_MMAP_THRESHOLD_", "1000000")
    if lite0.is_backbone_of(model) and lite0.is_installed():
        environment |= lite0.environment(weights)
    return environment


def _check(benchmark: Benchmark) -> None:
    register()
    for job in {job.model: job for job in benchmark.jobs}.values():
        try:
            parse(job.config)
        except ValueError as error:
            msg = f"model {job.model}: {error}"
            raise ValueError(msg) from error
