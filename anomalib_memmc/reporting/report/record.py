"""What a test leaves in its run's folder for the report: facts as JSON, and the pictures of its cases.

``report/training.json`` and ``report/test.json`` are facts; ``report/cases/`` has for each case the image as JPEG, the
anomaly map and the ground truth as grey PNG. ``test.json`` names the predictions that it belongs to by their checksum.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomalib_memmc.reporting.report.cases import Case
from anomalib_memmc.reporting.report.collector import Localisation
from anomalib_memmc.resuming.whole_file import replaced

FOLDER = "report"
TRAINING, TEST, CASES = "training.json", "test.json", "cases"
PREDICTIONS = "predictions.csv"
LARGEST_SIDE = 256
"""Longer side of a kept image, in pixels."""
LARGEST_MAP = 128
"""Longer side of a kept map: maps are smooth."""
QUALITY = 85

Source = Callable[[Case], NDArray[np.uint8] | None]
"""Gives a case's image (H, W, 3) as its file has it; None where that is not to be had."""


@dataclass(frozen=True)
class Record:
    """What is known of a run besides its predictions.

    Attributes:
        test: Facts of the test; None where they are missing.
        training: Facts of the training; None where they are missing.
        cases: One mapping a case: ``path`` of the image, files ``image``, ``map`` and ``mask``, ``iou``.
        missing: Why ``test`` is None.
        folder: Where the files of the cases are.
    """

    test: dict[str, Any] | None
    training: dict[str, Any] | None
    cases: list[dict[str, Any]]
    missing: str
    folder: Path


def write_training(run: Path, facts: dict[str, Any]) -> None:
    """Write the facts of a training into the run's folder."""
    (run / FOLDER).mkdir(parents=True, exist_ok=True)
    _write_json(run / FOLDER / TRAINING, facts)


def read_training(run: Path) -> dict[str, Any] | None:
    """The facts of a run's training, where there are some."""
    path = run / FOLDER / TRAINING
    return (_read_json(path) or None) if path.is_file() else None


def write_test(
    run: Path,
    facts: dict[str, Any],
    training: dict[str, Any] | None,
    cases: list[Case],
    localisation: Localisation | None,
    source: Source,
) -> None:
    """Write what a report needs of a test into the run's folder, in place of what an earlier test left.

    Args:
        run: The run's folder, which holds the test's predictions.
        facts: Facts of the test.
        training: Facts of the training behind the tested weights; None where they are not known.
        cases: What to show.
        localisation: IoU of the anomalous images; None without masks.
        source: Where the images come from; else they are shown as the model was given them.

    Raises:
        FileNotFoundError: If the test left no predictions.
    """
    folder = run / FOLDER
    (folder / TEST).unlink(missing_ok=True)  # never facts beside pictures of another test
    shutil.rmtree(folder / CASES, ignore_errors=True)
    (folder / CASES).mkdir(parents=True)
    low, high = _range([case.anomaly_map for case in cases if case.anomaly_map is not None])
    rows = []
    for number, case in enumerate(cases):
        original = source(case)
        row: dict[str, Any] = {"path": case.path, "iou": case.iou, "image": f"{number:03d}.jpg"}
        _shrunk(case.image if original is None else original, LARGEST_SIDE).save(
            folder / CASES / row["image"], quality=QUALITY, optimize=True
        )
        if case.anomaly_map is not None:
            row["map"] = f"{number:03d}-map.png"
            values = (case.anomaly_map.astype(np.float64) - low) / (high - low)
            _shrunk((values.clip(0, 1) * 255).round().astype(np.uint8), LARGEST_MAP).save(folder / CASES / row["map"])
        if case.mask is not None and case.mask.any():
            row["mask"] = f"{number:03d}-mask.png"
            Image.fromarray(case.mask.astype(np.uint8) * 255).save(folder / CASES / row["mask"], optimize=True)
        rows.append(row)
    content = {
        **facts,
        "predictions": _checksum(run / PREDICTIONS),
        "training": training,
        "localisation": None if localisation is None else localisation._asdict(),
        "map_range": [low, high],
        "cases": rows,
    }
    _write_json(folder / TEST, content)


def read(run: Path) -> Record:
    """Read what a test left in a run's folder.

    Args:
        run: The run's folder, with the test's predictions.

    Returns:
        What is known; what the folder's predictions do not belong to is not.
    """
    folder, path = run / FOLDER, run / FOLDER / TEST
    if not path.is_file():
        why = f"{FOLDER}/{TEST} is missing: the test was run by an earlier version, or it could not be kept. Test again"
        return Record(None, read_training(run), [], why, folder / CASES)
    test = _read_json(path)
    if "predictions" not in test:
        return Record(None, read_training(run), [], f"{FOLDER}/{TEST} is damaged. Test again", folder / CASES)
    if test["predictions"] != _checksum(run / PREDICTIONS):
        why = f"{FOLDER}/{TEST} belongs to another {PREDICTIONS} than the one in the folder. Test again"
        return Record(None, read_training(run), [], why, folder / CASES)
    return Record(test, test["training"], test["cases"], "", folder / CASES)


def _range(maps: list[NDArray[np.float16]]) -> tuple[float, float]:
    """Ends of the scale of some maps: 0 and 1 where they lie within, else their extremes."""
    if not maps:
        return 0.0, 1.0
    low, high = (float(end([end(each) for each in maps])) for end in (np.min, np.max))
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1


def _shrunk(pixels: NDArray[np.uint8], largest: int) -> Image.Image:
    """A picture (H, W) or (H, W, 3) with its longer side at most ``largest``; grey where its channels are equal."""
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    return picture


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that no reader ever finds half of it; what is not finite becomes null."""
    with replaced(path) as part:
        part.write_text(json.dumps(_finite(content), indent=1, default=str) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    """What a file holds; nothing where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _finite(value: Any) -> Any:
    """Values as JSON has them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
