"""Scoring a list of files on many machines, through Ray Data (extra ``cluster``)."""

import io
import logging
import os
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from anomalib_memmc.archive.rows import as_rows
from anomalib_memmc.archive.run import made_with
from anomalib_memmc.archive.verdict import Judge
from anomalib_memmc.checksum import digest
from anomalib_memmc.detection.detector import Detector
from anomalib_memmc.detection.paths import Paths
from anomalib_memmc.ray_cluster import connect, require_ray

CPUS_EACH = 0.5
"""What a worker reserves: half of the machines can be lost, and those that are left have room for its work."""
WORKERS_PER_GPU = 4
"""Workers that share a GPU, so that some read while another scores."""
_BLOCKS = 1000


def score_on_cluster(
    address: str, checkpoint: bytes, rate: float, paths: Paths, batch_size: int, maps: bool
) -> Iterator[pa.Table]:
    """Score files on a cluster, in any order.

    Every machine must have this package, and see the files under the same paths. The checkpoint is sent to it. A
    worker that dies is started again, and its batch is done again: what arrives here arrives once.

    Args:
        address: The cluster's address, as :func:`~anomalib_memmc.ray_cluster.connect` takes it.
        checkpoint: The checkpoint file.
        rate: False-alarm rate of the labels.
        paths: The files.
        batch_size: Images scored at once.
        maps: Also make maps.

    Yields:
        Rows as :func:`~anomalib_memmc.archive.rows.as_rows` makes them.

    Raises:
        RuntimeError: If Ray is not installed, or the work failed on the cluster.
        ConnectionError: If there is no cluster.
    """
    ray = require_ray()
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        connect(ray, address)
        stored = ray.put(checkpoint)  # kept as long as a worker may have to start again
        ray.data.DataContext.get_current().enable_progress_bars = False
        blocks = _blocks(paths, batch_size)
        rows = ray.data.from_arrow(blocks).map_batches(
            Worker,
            batch_size=batch_size,
            batch_format="pyarrow",
            fn_constructor_args=(stored, rate, maps),
            **_resources(ray, len(blocks)),
        )
        yield from rows.iter_batches(batch_size=None, batch_format="pyarrow")
    except ray.exceptions.RayError as error:
        msg = f"The cluster could not finish: {last_error(str(error))}"
        raise RuntimeError(msg) from error
    finally:
        ray.shutdown()


class Worker:
    """Scores batches of paths in a process of the cluster.

    Args:
        checkpoint: Reference of the checkpoint's bytes.
        rate: False-alarm rate of the labels.
        maps: Also make maps.
    """

    def __init__(self, checkpoint: Any, rate: float, maps: bool) -> None:
        data = require_ray().get(checkpoint)
        self.detector = Detector(io.BytesIO(data))
        self.judge = Judge(self.detector.normals, rate)
        self.versions = made_with(digest(data))
        self.maps = maps

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Rows of a batch with the column ``path``, bytes."""
        paths = Paths(os.fsdecode(path.as_py()) for path in batch["path"])
        (results,) = self.detector.results(paths, max(1, len(paths)), maps=self.maps)
        return as_rows(results, self.judge, self.versions)


def last_error(text: str) -> str:
    """The message at the end of a traceback, or all of a text that holds none.

    Args:
        text: What a worker raised, as Ray hands it on.
    """
    *_, last = re.split(r"^(?=[\w.]+(?:Error|Exception): )", text, flags=re.MULTILINE)
    return last.strip()


def _blocks(paths: Paths, batch_size: int) -> list[pa.Table]:
    """The paths, as bytes, in tables of whole batches, not many more of them than a thousand."""
    rows = batch_size * (1 + len(paths) // (_BLOCKS * batch_size))
    parts = [paths[start : start + rows] for start in range(0, len(paths), rows)]
    return [pa.table({"path": pa.array(map(os.fsencode, part), pa.binary())}) for part in parts]


def _resources(ray: Any, blocks: int) -> dict[str, Any]:
    """How many workers, and what each takes: one for each processor, or four for each GPU where there are GPUs."""
    there = ray.cluster_resources()
    gpus, cpus = there.get("GPU", 0), max(1, int(there.get("CPU", 1)))
    count = max(1, min(blocks, int(WORKERS_PER_GPU * gpus) or cpus))
    return {
        "compute": ray.data.ActorPoolStrategy(min_size=1, max_size=count, initial_size=count),
        "num_cpus": CPUS_EACH,
        **({"num_gpus": 1 / WORKERS_PER_GPU} if gpus else {}),
    }
