"""The numbers of a report, from a run."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from anomalib_memmc.metrics.conformal import Kept, kept
from anomalib_memmc.metrics.intervals import Discrimination, Interval, discrimination, mean_interval
from anomalib_memmc.metrics.operating_points import OperatingPoint, at_specificity, of_verdicts
from anomalib_memmc.reporting.comparisons import Comparison, compare
from anomalib_memmc.reporting.false_alarms import FalseAlarms
from anomalib_memmc.reporting.report.run import Run, unscored

SPECIFICITIES = (0.9, 0.95)
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""False-alarm rates at which the promise is compared with what was measured."""
MAPS = ("learnt", "best", "brightness", "centre")
"""Maps whose IoU a test measures, see ``Localisation``."""


@dataclass(frozen=True)
class Stratum:
    """The images of a stratum.

    Attributes:
        name: Its name.
        normal: Normal images.
        anomalous: Anomalous images.
        point: What was called anomalous among those with a verdict; None without a threshold.
    """

    name: str
    normal: int
    anomalous: int
    point: OperatingPoint | None


@dataclass(frozen=True)
class Findings:
    """What a test found.

    Attributes:
        images: Test images.
        normal: Those known to be normal.
        anomalous: Those known to be anomalous.
        unscored: Those whose score is not finite, which count nowhere.
        called: Images called anomalous; None where no threshold was learnt.
        threshold: The learnt threshold; None where there is none.
        learnt: The operating point of the learnt threshold; None without one, or without a ground truth.
        points: Asked specificity -> the operating point that has it; empty unless there are both classes.
        curves: ROC and precision-recall with intervals; None unless there are both classes.
        comparisons: As ``compare`` returns them; empty unless there are both classes.
        alarms: False alarms beside the promise; None without a promise or without normal images.
        rates: False alarms at several rates; empty without p-values of normal images.
        strata: By name; empty where there are none.
        localisation: Map -> mean IoU over the anomalous images with a mask; empty without masks.
        masked: Anomalous images with a mask.
        groups: Patients or other groups of the images; None where each image stands alone.
    """

    images: int
    normal: int
    anomalous: int
    unscored: int
    called: int | None
    threshold: float | None
    learnt: OperatingPoint | None
    points: dict[float, OperatingPoint]
    curves: Discrimination | None
    comparisons: list[Comparison]
    alarms: FalseAlarms | None
    rates: list[Kept]
    strata: list[Stratum]
    localisation: dict[str, Interval]
    masked: int
    groups: int | None


def find(run: Run) -> Findings:
    """Compute what a report says of a run.

    Args:
        run: The run.
    """
    table, judged, verdicts = run.table, run.judged, run.verdicts
    truth = verdicts[verdicts["gt_label"].notna()]
    learnt = _point(truth, run.threshold) if len(truth) else None
    grouped = judged["group"].replace("", pd.NA).dropna() if "group" in judged else pd.Series(dtype=str)
    groups = judged["group"] if "group" in judged and len(grouped) == len(judged) else None
    has_both = judged["label"].nunique() == 2
    measured = (run.record.test and run.record.test["localisation"]) or {}
    return Findings(
        images=len(table),
        normal=int((table["gt_label"] == 0).sum()),
        anomalous=int((table["gt_label"] == 1).sum()),
        unscored=unscored(run),
        called=int(verdicts["label"].sum()) if len(verdicts) else None,
        threshold=run.threshold,
        learnt=learnt,
        points={each: at_specificity(judged["score"], judged["label"], each) for each in SPECIFICITIES}
        if has_both
        else {},
        curves=discrimination(judged["score"], judged["label"], groups) if has_both else None,
        comparisons=compare(judged),
        alarms=_alarms(learnt, run.thresholds),
        rates=_rates(table, run.thresholds),
        strata=_strata(table, verdicts),
        localisation={name: mean_interval(measured[name]) for name in MAPS if measured.get(name)},
        masked=len(measured.get("best", [])),
        groups=None if groups is None else groups.nunique(),
    )


def _point(rows: pd.DataFrame, threshold: float | None) -> OperatingPoint:
    return of_verdicts(rows["gt_label"], rows["label"], float("nan") if threshold is None else threshold)


def _alarms(learnt: OperatingPoint | None, thresholds: dict[str, Any] | None) -> FalseAlarms | None:
    if learnt is None or not learnt.normal or not thresholds or thresholds["promised_false_alarm_rate"] is None:
        return None
    low, high = thresholds["promised_false_alarm_rate_interval"]
    rate, count = thresholds["promised_false_alarm_rate"], thresholds["promised_by"]
    return FalseAlarms(learnt.alarms, learnt.normal, rate, low, high, count)


def _rates(table: pd.DataFrame, thresholds: dict[str, Any] | None) -> list[Kept]:
    if "p_value" not in table or not thresholds or not thresholds["normal_images"]:
        return []
    normals = table.loc[(table["gt_label"] == 0) & table["p_value"].notna(), "p_value"]
    return [kept(normals, rate, thresholds["normal_images"]) for rate in RATES] if len(normals) else []


def _strata(table: pd.DataFrame, verdicts: pd.DataFrame) -> list[Stratum]:
    if "stratum" not in table:
        return []
    found = []
    for name in sorted(filter(None, table["stratum"].unique())):
        own = table[table["stratum"] == name]
        truth = own[own.index.isin(verdicts.index) & own["gt_label"].notna()]
        normal, anomalous = (int((own["gt_label"] == label).sum()) for label in (0, 1))
        point = _point(truth, None) if len(truth) else None
        found.append(Stratum(name, normal, anomalous, point))
    return found
