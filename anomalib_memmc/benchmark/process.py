"""Run one job in a process of its own, and note what came of it in the job's folder."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from anomalib_memmc.benchmark.config import Job, class_name
from anomalib_memmc.benchmark.job import CONFIG_FILE, RESULT_FILE
from anomalib_memmc.benchmark.results import FAILED, OK, Row, write_row
from anomalib_memmc.model import lite0

LOG_FILE = "log.txt"
PACKAGES = ("anomalib-memmc", "anomalib", "lightning", "timm", "torch")


class Finished(NamedTuple):
    """A job that has ended, its row, and how long it took in seconds."""

    job: Job
    row: Row
    seconds: float


def run_job(job: Job, weights: Path) -> Row:
    """Run one job in a new process, and write its row into its folder.

    Args:
        job: The job; its folder receives configuration, log, predictions, checkpoint and row.
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
    row = {
        "model": job.model,
        "seed": str(job.seed),
        "status": FAILED if "error" in result else OK,
        **{name: str(value) for name, value in result.items()},
        **provenance(),
        "config_hash": job.config_hash,
        "folder": str(job.folder),
    }
    write_row(job, row)
    return row


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
