"""Results as rows of the table, and maps as files beside it."""

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from anomalib_memmc.archive.table import SCHEMA
from anomalib_memmc.archive.verdict import Judge
from anomalib_memmc.data.io.text import printable
from anomalib_memmc.detection.result import Result

MAPS = "maps"
PNG = "png"
"""Column of the maps' files as bytes, until they are saved."""
WHITE = 65_535


def as_rows(results: Sequence[Result], judge: Judge, versions: str) -> pa.Table:
    """Make rows of results.

    Args:
        results: The results.
        judge: Compares their scores with those of normal images.
        versions: What they were made with.

    Returns:
        A table of :data:`~anomalib_memmc.archive.table.SCHEMA`, and a column ``png`` with the maps as files.
    """
    is_scored = np.array([result.score is not None for result in results])
    verdict = judge([result.score for result in results if result.score is not None])
    columns = {
        "path": [printable(result.path) for result in results],
        "score": [result.score for result in results],
        **{name: _spread_out(values, is_scored) for name, values in verdict._asdict().items()},
        "spread": [result.spread for result in results],
        "seconds": [result.seconds for result in results],
        "map": [None if result.anomaly_map is None else map_name(result.path) for result in results],
        "error": [None if result.error is None else printable(result.error) for result in results],
        "versions": [versions] * len(results),
        PNG: [None if result.anomaly_map is None else as_png(result.anomaly_map) for result in results],
    }
    return pa.table(columns, schema=SCHEMA.append(pa.field(PNG, pa.binary())))


def save_maps(rows: pa.Table, folder: Path) -> pa.Table:
    """Save the maps of rows, and drop them from the table.

    Args:
        rows: What :func:`as_rows` gives.
        folder: Where the column ``map`` starts.

    Returns:
        The table of :data:`~anomalib_memmc.archive.table.SCHEMA`.
    """
    for name, png in zip(rows["map"], rows[PNG], strict=True):
        if name.is_valid:
            path = folder / name.as_py()
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            temporary.write_bytes(png.as_py())
            temporary.replace(path)
    return rows.select(SCHEMA.names)


def map_name(path: str) -> str:
    """Name of an image's map, the same in every run: ``maps/4f/4f0c....png``."""
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    return f"{MAPS}/{digest[:2]}/{digest}.png"


def as_png(anomaly_map: Tensor) -> bytes:
    """A map (H, W) in [0, 1] as a 16-bit grey PNG: 0 is 0, and 1 is 65535."""
    levels = (anomaly_map.double().clamp(0, 1) * WHITE).round().to(torch.int32).numpy().astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, format="PNG")
    return file.getvalue()


def _spread_out(values: np.ndarray, is_scored: np.ndarray) -> list[float | int | None]:
    """Values of the scored results, with None at the others."""
    rest = iter(values.tolist())
    return [next(rest) if scored else None for scored in is_scored]
