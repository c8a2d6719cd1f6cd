"""The sentences of a report."""

from typing import Any

from anomalib_memmc.metrics.intervals import Interval
from anomalib_memmc.reporting.baselines import PROPERTIES
from anomalib_memmc.reporting.report.findings import Findings
from anomalib_memmc.reporting.report.run import Run
from anomalib_memmc.reporting.summary import warnings

NBSP = "\N{NO-BREAK SPACE}"
QUESTION = "Do the scores of this model, which was trained on normal images alone, tell anomalous from normal images?"
FEW = 30
"""Images of a class below which its shares are hardly known."""


def percent(share: float) -> str:
    """A share in per cent, with one digit."""
    return f"{100 * share:.1f}{NBSP}%"


def percent_interval(interval: Interval) -> str:
    """A share with its interval, in per cent."""
    return f"{percent(interval.value)} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def number_interval(interval: Interval) -> str:
    """A number in [0, 1] with its interval, three digits each."""
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def verdict(run: Run, found: Findings) -> list[str]:
    """The verdict in three sentences: what was called anomalous, false alarms, and how well the scores order."""
    return [_called(found), _false_alarms(found), _ordering(run, found)]


def _called(found: Findings) -> str:
    if found.called is None:
        return f"None of the {found.images} test images was judged, since no threshold was learnt."
    start = f"{found.called} of {found.images} test images were called anomalous"
    if found.learnt is None:
        return f"{start}; what they truly are is not known."
    point, parts = found.learnt, []
    if point.anomalous:
        parts.append(f"{point.found} of the {point.anomalous} anomalous ones ({_share(point.sensitivity)})")
    if point.normal:
        parts.append(f"{point.alarms} of the {point.normal} normal ones ({_share(point.false_alarm_rate)})")
    return f"{start}: {' and '.join(parts)}."


def _false_alarms(found: Findings) -> str:
    point = found.learnt
    if point is None or not point.normal or point.false_alarm_rate is None:
        return "False alarms were not measured, since no normal image of the test has a verdict."
    measured = f"{percent(point.false_alarm_rate.value)} were measured on the {point.normal} normal test images"
    if found.alarms is None:
        why = "since the threshold was not learnt from normal images alone"
        return f"No false-alarm rate was promised, {why}; {measured}."
    alarms = found.alarms
    return (
        f"The threshold promises false alarms on {percent(alarms.rate)} of normal images (95{NBSP}% interval "
        f"{100 * alarms.low:.1f} to {100 * alarms.high:.1f}, learnt from {alarms.num_normals} held-out normal images "
        f"or patients); {measured}."
    )


def _ordering(run: Run, found: Findings) -> str:
    if found.curves is None:
        return f"There is no AUROC: {why_no_curves(run)}."
    auroc = found.curves.auroc
    sentence = (
        f"An anomalous image scores higher than a normal one in {percent(auroc.value)} of all pairs (AUROC "
        f"{auroc.value:.3f}, 95{NBSP}% interval {auroc.low:.3f} to {auroc.high:.3f}; 0.5 is chance)"
    )
    trivial = found.comparisons[0].trivial
    if not trivial:
        return f"{sentence}; trivial cues were not measured."
    best = f"{PROPERTIES[trivial[0].column]}, takes no model and reaches {trivial[0].auroc:.3f}"
    return f"{sentence}; the best trivial cue, {best}."


def _share(interval: Interval | None) -> str:
    assert interval is not None
    return f"{percent(interval.value)}, 95{NBSP}% interval {100 * interval.low:.1f} to {100 * interval.high:.1f}"


def why_no_curves(run: Run) -> str:
    """Why nothing can be said of how well scores tell the classes apart."""
    labels = run.judged["label"]
    if labels.empty:
        return "no test image has both a ground truth and a finite score"
    return f"it takes images of both classes, and all test images are {'anomalous' if labels.all() else 'normal'}"


def why_no_verdicts(found: Findings) -> str:
    """Why nothing can be said of the learnt threshold."""
    if found.called is None:
        return "none was learnt: the model was never validated, or its post-processor labels nothing"
    return "no image with a verdict has a known truth"


def why_no_rates(run: Run) -> str:
    """Why the promise cannot be compared with what was measured."""
    if not run.thresholds:
        why = "the scores of the held-out normal images are not known"
        return f"{why} ({run.record.missing})" if run.record.missing else why
    if not run.thresholds["normal_images"]:
        return "no scores of held-out normal images were kept: the model was never validated on normal images"
    if not (run.table["gt_label"] == 0).any():
        return "no test image is normal"
    return "the held-out normal images are too few for any of the rates"


def integrity(data: dict[str, Any] | None) -> list[str]:
    """What the check of the samples found; nothing where there was no check."""
    if data is None or data["findings"] is None:
        return []
    found = [f"{finding[0].upper()}{finding[1:]}" for finding in data["findings"]]
    nothing = "Nothing else was found: the test part has both classes, and no mask of an anomalous image is empty."
    return ["No image of the test is in another part too: files were compared byte by byte.", *(found or [nothing])]


def cautions(found: Findings) -> list[str]:
    """What must be said beside the verdict, most important first."""
    said = []
    if found.alarms is not None and found.alarms.beyond_chance:
        said.append(
            "There are more false alarms than chance explains: the normal test images are unlike those that the "
            "threshold was learnt from. Learn it from normal images of the place where it is used."
        )
    if found.curves is not None and found.curves.auroc.low <= 0.5:
        said.append("The interval of the AUROC includes 0.5: these scores may tell nothing at all.")
    if found.comparisons:
        overall = found.comparisons[0]
        if overall.trivial and overall.trivial[0].auroc >= overall.auroc:
            name = PROPERTIES[overall.trivial[0].column]
            reached = f"{overall.trivial[0].auroc:.3f} against {overall.auroc:.3f}"
            said.append(f"A trivial cue tells the classes apart no worse than the model: {name} alone, {reached}.")
        said += [sentence for each in found.comparisons for sentence in warnings(each)]
    said += _of_localisation(found)
    for name, count in (("normal", found.normal), ("anomalous", found.anomalous)):
        if 0 < count < FEW:
            said.append(f"Only {count} test images are {name}, so that their shares are hardly known.")
    if found.unscored:
        said.append(f"{found.unscored} images have no finite score and count nowhere.")
    if found.groups is not None:
        said.append(
            f"The {found.normal + found.anomalous} images are of {found.groups} patients or other groups. Bands and "
            "the interval of the AUROC count groups; intervals of shares count images, and are too narrow."
        )
    return said


def _of_localisation(found: Findings) -> list[str]:
    """What must be said of maps that do not outline better than a glance."""
    own = found.localisation.get("best")
    trivial = {name: found.localisation[name] for name in ("brightness", "centre") if name in found.localisation}
    if own is None or not trivial:
        return []
    name, best = max(trivial.items(), key=lambda pair: pair[1].value)
    if best.value < own.value:
        return []
    cue = {"brightness": "the brightness of the image", "centre": "nearness to the centre"}[name]
    return [f"The maps outline what is anomalous no better than {cue}: IoU {own.value:.3f} against {best.value:.3f}."]


def kind_of(truth: int | None, label: int | None) -> str:
    """What a case is: ``found``, ``missed``, ``alarm`` or ``cleared``; ``open`` where truth or verdict is unknown."""
    if truth is None or label is None:
        return "open"
    return ("alarm" if label else "cleared") if truth == 0 else ("found" if label else "missed")
