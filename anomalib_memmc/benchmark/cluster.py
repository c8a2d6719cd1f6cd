"""Run jobs on the machines of a Ray cluster (extra ``cluster``)."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anomalib_memmc.benchmark.config import Job
from anomalib_memmc.benchmark.job import CONFIG_FILE, TABLE_FILE, parse
from anomalib_memmc.benchmark.process import LOG_FILE, Finished, run_job
from anomalib_memmc.benchmark.results import FAILED, ROW_FILE, Row
from anomalib_memmc.ray_cluster import connect, require_ray
from anomalib_memmc.register import register

RETRIES = 3
"""How often a job is started again whose machine or process was lost. A job that failed by itself is not."""
FILES = (CONFIG_FILE, LOG_FILE, TABLE_FILE, ROW_FILE)
"""What comes back from a job's folder, wherever that was; the weights stay where they were trained."""


def on_cluster(jobs: Sequence[Job], weights: Path, address: str) -> Iterator[Finished]:
    """Run jobs on a cluster, as many at once as it has CPUs and GPUs for.

    Each job runs in a process of its own in the same working directory as here, so every machine needs the package, and
    the data under the same path. Folders that machines share are used as they are; otherwise the row, predictions and
    log of a job are written here when it ends.

    Args:
        jobs: The jobs.
        weights: Folder for the weights of the EfficientNet-Lite0 backbone.
        address: Where the cluster is, as :func:`~anomalib_memmc.ray_cluster.connect` takes it.

    Yields:
        The jobs in the order in which they end; one whose machines were lost too often has a row that says so.

    Raises:
        RuntimeError: If Ray is not installed.
        ConnectionError: If there is no cluster at the address.
        ValueError: If it has not the GPUs that a job asks for.
    """
    if not jobs:
        return
    ray = require_ray()
    connect(ray, address)
    try:
        largest = _largest_node(ray.nodes())
        sizes = [resources(job, largest) for job in jobs]
        remote = ray.remote(max_retries=RETRIES)(_work)
        waiting = {
            remote.options(name=job.folder.name, num_cpus=cpus, num_gpus=gpus).remote(
                vars(job), weights, os.getcwd()
            ): job
            for job, (cpus, gpus) in zip(jobs, sizes, strict=True)
        }
        while waiting:
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            yield _finished(ray, done, waiting.pop(done))
    finally:
        ray.shutdown()


def resources(job: Job, largest: Mapping[str, float]) -> tuple[int, int]:
    """The CPUs and GPUs that a job takes.

    Args:
        job: The job.
        largest: The largest machine's ``CPU`` and ``GPU``; more CPUs than that are not asked for, since the job would
            wait for ever.

    Returns:
        One CPU and those of its data loader's workers; the trainer's devices where it trains on GPUs, or by
        ``accelerator: auto`` where the cluster has some, else 0.

    Raises:
        ValueError: If no machine has so many GPUs.
    """
    register()
    _, parsed = parse(job.config)
    trainer = job.config.get("trainer", {})
    accelerator, devices = str(trainer.get("accelerator", "auto")), trainer.get("devices", "auto")
    available = int(largest.get("GPU", 0))
    gpus = 0
    if accelerator in {"gpu", "cuda"} or (accelerator == "auto" and available):
        gpus = max(1, devices) if isinstance(devices, int) else max(1, len(devices)) if isinstance(devices, list) else 1
    if gpus > available:
        msg = f"{job.folder.name} asks for {gpus} GPU(s), and no machine of the cluster has more than {available}."
        raise ValueError(msg)
    workers = int(parsed.data.init_args.get("num_workers") or 0)
    return max(1, min(1 + workers, int(largest.get("CPU", 1)))), gpus


def _work(fields: dict[str, Any], weights: Path, directory: str) -> tuple[Row, dict[str, bytes], float]:
    """Run the job of these fields on a machine of the cluster: its row, its files by name, and how long it took."""
    job = Job(**fields)
    Path(directory).mkdir(parents=True, exist_ok=True)
    os.chdir(directory)
    started = time.perf_counter()
    row = run_job(job, weights)
    files = {name: (job.folder / name).read_bytes() for name in FILES if (job.folder / name).is_file()}
    return row, files, time.perf_counter() - started


def _finished(ray: Any, done: Any, job: Job) -> Finished:
    """Take what a job sent, into its folder here."""
    try:
        row, files, seconds = ray.get(done)
    except ray.exceptions.RayError as error:
        reason = f"The cluster lost the job {1 + RETRIES} times, or could not start it: {error}"
        row = {"model": job.model, "seed": str(job.seed), "status": FAILED, "error": reason}
        return Finished(job, {**row, "config_hash": job.config_hash, "folder": str(job.folder)}, float("nan"))
    job.folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = job.folder / name
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)
    return Finished(job, row, seconds)


def _largest_node(nodes: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The most CPUs, and the most GPUs, of any machine."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    return {kind: max((node.get(kind, 0) for node in alive), default=0) for kind in ("CPU", "GPU")}
