"""The cases of a report as the page shows them: image, map in colour, outline of the ground truth, and words."""

import base64
import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image

from anomalib_memmc.detection.result import Result
from anomalib_memmc.reporting.case import COLOURS
from anomalib_memmc.reporting.report.run import Run
from anomalib_memmc.reporting.report.words import kind_of

CLEAR, FULL = 0.25, 0.5
"""A normalised map is clear up to what is usual in normal images, and at its full colour from the threshold on."""
KINDS = {
    "found": "Anomalous, and called so",
    "missed": "Anomalous, but called normal (missed)",
    "alarm": "Normal, but called anomalous (false alarm)",
    "cleared": "Normal, and called so",
    "open": "Not judged, or the truth is not known",
}
"""Kind of a case -> what it is, where it was compared with the truth."""


@dataclass(frozen=True)
class Picture:
    """A case as the page shows it.

    Attributes:
        name: Name of its file.
        kind: One of ``KINDS``.
        verdict: The verdict in words.
        truth: The ground truth in words.
        image: Address of the image within the page.
        map: Address of its coloured map; None where there is none.
        outline: Path of the ground truth's outline in the units of ``view``; None where nothing is marked.
        view: Width and height of the ground truth, in pixels.
        width: Width of the image in pixels.
        height: Its height.
        score: The score.
        gap: How far it is from the threshold.
        iou: Of the predicted mask, in words; None where it is not known.
    """

    name: str
    kind: str
    verdict: str
    truth: str
    image: str
    map: str | None
    outline: str | None
    view: tuple[int, int]
    width: int
    height: int
    score: float
    gap: float
    iou: str | None


def pictures(run: Run) -> tuple[list[Picture], int]:
    """The cases that the test kept, highest scores first.

    Args:
        run: The run.

    Returns:
        The cases, and how many of those kept cannot be shown, since their files are missing.
    """
    rows = run.table.drop_duplicates("image_path").set_index("image_path")
    is_normalised = run.record.test is not None and run.record.test["map_range"] == [0.0, 1.0]
    shown, lost = [], 0
    for case in run.record.cases:
        try:
            shown.append(_picture(run.record.folder, case, rows.loc[case["path"]], run.threshold, is_normalised))
        except (OSError, KeyError):
            lost += 1
    return sorted(shown, key=lambda picture: (-picture.score, picture.name)), lost


def palette(is_normalised: bool) -> list[tuple[int, int, int, float]]:
    """Colour and opacity of the 256 values of a map."""
    values = np.arange(256) / 255
    opacity = ((values - CLEAR) / (FULL - CLEAR)).clip(0, 1) if is_normalised else values
    colours = (255 * np.asarray(mpl.colormaps[COLOURS](np.arange(256)))).round().astype(int)
    return [(int(r), int(g), int(b), float(a)) for (r, g, b, _), a in zip(colours, opacity, strict=True)]


def _picture(folder: Path, case: dict[str, Any], row: Any, threshold: float | None, is_normalised: bool) -> Picture:
    label, truth = (None if np.isnan(value) else int(value) for value in (_number(row, "label"), row["gt_label"]))
    score = float(row["score"])
    with Image.open(folder / case["image"]) as image:
        width, height = image.size
    outline, view = None, (1, 1)
    if "mask" in case:
        with Image.open(folder / case["mask"]) as picture:
            mask = np.asarray(picture) > 127
        outline, view = outline_of(mask), (mask.shape[1], mask.shape[0])
    return Picture(
        name=row["name"],
        kind=kind_of(truth, label),
        verdict=Result(score=score, threshold=threshold, label=label, **_known(row)).verdict,
        truth={0: "normal", 1: "anomalous", None: "not known"}[truth],
        image=_address("jpeg", (folder / case["image"]).read_bytes()),
        map=_coloured(folder / case["map"], is_normalised) if "map" in case else None,
        outline=outline,
        view=view,
        width=width,
        height=height,
        score=score,
        gap=abs(score - threshold) if threshold is not None else math.inf,
        iou=None if case["iou"] is None else f"{case['iou']:.2f}",
    )


def outline_of(mask: NDArray[np.bool_]) -> str:
    """The outline of a mask (H, W) as the path of an SVG picture, one unit a pixel."""
    padded = np.pad(mask.astype(float), 1)
    lines: Any = contour_generator(z=padded).lines(0.5)
    parts = ["M" + "L".join(f"{x - 0.5:.1f} {y - 0.5:.1f}" for x, y in line) + "Z" for line in lines]
    return "".join(parts)


def _coloured(path: Path, is_normalised: bool) -> str:
    """A grey map as a coloured picture that is clear where nothing is unusual."""
    with Image.open(path) as grey:
        indices = np.asarray(grey.convert("L"))
    picture = Image.fromarray(indices).convert("P")
    colours = palette(is_normalised)
    picture.putpalette([part for colour in colours for part in colour[:3]])
    buffer = BytesIO()
    picture.save(buffer, "png", transparency=bytes(round(255 * colour[3]) for colour in colours), optimize=True)
    return _address("png", buffer.getvalue())


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _known(row: Any) -> dict[str, Any]:
    """Percentile and spread, as far as they are known."""
    return {name: value for name in ("percentile", "spread") if not np.isnan(value := _number(row, name))}


def _number(row: Any, column: str) -> float:
    value = row.get(column, math.nan)
    return math.nan if value is None or np.isnan(value) else float(value)
