"""The tables of a report, each a list of rows of texts."""

import math
import re
from typing import Any

from anomalib_memmc.detection.result import digits_of
from anomalib_memmc.metrics.conformal import fewest_normals
from anomalib_memmc.metrics.intervals import Interval
from anomalib_memmc.metrics.operating_points import OperatingPoint
from anomalib_memmc.reporting.baselines import NAMES, PROPERTIES
from anomalib_memmc.reporting.report.findings import Findings
from anomalib_memmc.reporting.report.words import NBSP, number_interval, percent, percent_interval
from anomalib_memmc.reporting.summary import DIRECTIONS, estimate

PART_NAMES = {"train": "training", "val": "validation", "test": "test"}
LOCALISERS = {
    "learnt": ("the model's map", "the learnt one"),
    "best": ("the model's map", "best for these images"),
    "brightness": ("brightness of the image", "best for these images"),
    "centre": ("nearness to the centre", "best for these images"),
}
OPTIONAL = {"masks": "with a mask", "groups": "patients or groups"}
UNDEFINED = {"anomalous": "AUROC|AUPR|F1|IoU", "normal": "image_AU"}
"""Class that a test may lack -> the metrics that are then not defined."""
NONE = "no such images"
_FAR = 0.1  # from 0.5: a cue that may matter, though so few images cannot tell


def parts(data: dict[str, Any] | None) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the images of each part, by class; with masks and groups where there are any."""
    rows = data["parts"] if data else []
    heads = {"part": "part", "normal": "normal", "anomalous": "anomalous"}
    heads |= {name: text for name, text in OPTIONAL.items() if any(row[name] for row in rows)}

    def cell(name: str, value: Any) -> str:
        if name == "part":
            return PART_NAMES.get(value, value)
        return "not grouped" if value is None else f"{value:,}"

    return list(heads.values()), [[cell(name, row[name]) for name in heads] for row in rows]


def strata(found: Findings) -> list[list[str]]:
    """How many normal and anomalous images of each stratum of the test were called anomalous."""
    rows = []
    for each in found.strata:
        point = each.point
        alarms = _share(point.alarms, each.normal, point.false_alarm_rate) if point else f"{each.normal}, not judged"
        hits = _share(point.found, each.anomalous, point.sensitivity) if point else f"{each.anomalous}, not judged"
        rows.append([each.name, alarms, hits])
    return rows


def points(found: Findings) -> list[list[str]]:
    """Operating points."""
    learnt = [_point("what was learnt", found.learnt)] if found.learnt else []
    return [*learnt, *(_point(f"specificity {100 * share:.0f}{NBSP}%", point) for share, point in found.points.items())]


def trivial(found: Findings) -> list[list[str]]:
    """Trivial baselines, and what is left of the score without them."""
    rows = found.comparisons[0].trivial if found.comparisons else ()
    return [
        [
            _cue(each.column),
            f"{each.auroc:.3f}",
            DIRECTIONS[each.higher],
            estimate(each.matched) if each.separates else _why_not_matched(each.auroc),
            str(each.matched.pairs) if each.separates else "",
        ]
        for each in rows
    ]


def by_stratum(found: Findings) -> list[list[str]]:
    """AUROC of every comparison that the strata allow."""
    return [
        [
            f"{each.anomalous} ({each.num_anomalous})",
            f"{each.normal} ({each.num_normal})",
            f"{each.auroc:.3f}",
            f"{each.average_precision:.3f}",
            f"{each.trivial[0].auroc:.3f} {PROPERTIES[each.trivial[0].column]}" if each.trivial else "not measured",
        ]
        for each in found.comparisons
    ]


def localisers(found: Findings) -> list[list[str]]:
    """IoU of the model's maps beside trivial ones."""
    return [[*LOCALISERS[name], number_interval(value)] for name, value in found.localisation.items()]


def rates(found: Findings, thresholds: dict[str, Any] | None) -> list[list[str]]:
    """False alarms at several rates."""
    rows = []
    for each in found.rates:
        row = [percent(each.asked), f"takes {fewest_normals(each.asked)} held-out images", "", ""]
        if each.promised and thresholds:
            measured = f"{each.alarms} of {found.normal} ({percent(each.alarms / found.normal)})"
            row[1:] = [percent(each.promised), measured, f"{each.low} to {each.high}"]
        rows.append(row)
    return rows


def metrics(test: dict[str, Any] | None, found: Findings) -> list[list[str]]:
    """All metrics that the test logged; what takes both classes is not told of one, where anomalib's are often 0."""
    undefined = next((names for missing, names in UNDEFINED.items() if not getattr(found, missing)), "^$")

    def words(name: str, value: float | None) -> str:
        return "not defined here" if value is None or re.search(undefined, name) else f"{value:.4f}"

    return [[name, words(name, value)] for name, value in (test["metrics"] if test else {}).items()]


def _why_not_matched(auroc: float) -> str:
    """Why the score is not compared among images that are alike in a cue."""
    return "too few images to tell" if abs(auroc - 0.5) > _FAR else "not needed"


def _cue(column: str) -> str:
    """What a trivial baseline is, and how it is measured."""
    name, measure = PROPERTIES[column], NAMES[column]
    return name if measure.startswith(name) else f"{name} ({measure})"


def _point(name: str, point: OperatingPoint) -> list[str]:
    return [
        name,
        "not known" if math.isnan(point.threshold) else digits_of(point.threshold),
        _share(point.found, point.anomalous, point.sensitivity),
        _share(point.normal - point.alarms, point.normal, point.specificity),
    ]


def _share(count: int, total: int, share: Interval | None) -> str:
    return f"{count} of {total}: {percent_interval(share)}" if share else NONE
