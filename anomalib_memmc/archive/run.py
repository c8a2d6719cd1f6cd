"""Scoring a list of files on this machine, and what a row tells of its making."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import pyarrow as pa

import anomalib_memmc
from anomalib_memmc.archive.rows import as_rows
from anomalib_memmc.archive.verdict import Judge
from anomalib_memmc.detection.detector import Detector
from anomalib_memmc.detection.paths import Paths

_LIBRARIES = ("anomalib", "torch")


def score_here(
    detector: Detector, judge: Judge, paths: Paths, versions: str, batch_size: int, workers: int, maps: bool
) -> Iterator[pa.Table]:
    """Score files in order.

    Args:
        detector: The checkpoint.
        judge: Compares scores with those of its normal images.
        paths: The files.
        versions: What a row tells of its making.
        batch_size: Images scored at once.
        workers: Processes that read beside the scoring.
        maps: Also make maps.

    Yields:
        Rows as :func:`~anomalib_memmc.archive.rows.as_rows` makes them, a batch at a time.
    """
    for results in detector.results(paths, batch_size, workers, maps):
        yield as_rows(results, judge, versions)


def made_with(checkpoint: str) -> str:
    """Versions of this process's libraries, and the checkpoint.

    Args:
        checkpoint: Its digest.
    """
    return ", ".join(
        [
            f"anomalib-memmc {anomalib_memmc.__version__}",
            *(f"{name} {_version(name)}" for name in _LIBRARIES),
            f"checkpoint {checkpoint[:12]}",
        ]
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # imported from a folder
        return "unknown"
