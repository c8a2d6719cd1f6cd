"""Several runs in one page: what each reached, and differences where they were tested on the same images."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anomalib_memmc.benchmark.predictions import relative_paths, stack_scores
from anomalib_memmc.metrics.matched import Estimate, paired_difference
from anomalib_memmc.reporting.report import figures, tables, words
from anomalib_memmc.reporting.report.findings import Findings, find
from anomalib_memmc.reporting.report.page import FILE, render, save
from anomalib_memmc.reporting.report.run import Run, load
from anomalib_memmc.reporting.summary import estimate

COMPARISON = "comparison.html"
_CERTAIN = 2
"""Standard errors beyond which a difference is called one."""


def write_comparison(folders: Sequence[Path], output: Path | None = None) -> Path:
    """Write the comparison of several runs.

    Args:
        folders: The runs' folders, at least two; differences are to the first.
        output: The file to write; None takes ``comparison.html`` in the first folder.

    Returns:
        The file written.

    Raises:
        FileNotFoundError: If a folder or its predictions are missing.
        ValueError: If predictions cannot be read, or the same run is given twice.
    """
    runs = dict(zip(names(folders), map(load, folders), strict=True))
    found = {name: find(run) for name, run in runs.items()}
    output = output or folders[0] / COMPARISON
    save(render("comparison.html.j2", content(runs, found)), output)
    return output


def names(folders: Sequence[Path]) -> list[str]:
    """What tells some folders apart: their paths without the parts at both ends that all of them share.

    Raises:
        ValueError: If one is given twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for index, folder in enumerate(resolved):
        if folder in resolved[:index]:
            msg = f"{folders[index]} is the same run as {folders[resolved.index(folder)]}: give each run once."
            raise ValueError(msg)
    shared = os.path.commonpath([folder.parent for folder in resolved])
    parts = [folder.relative_to(shared).parts for folder in resolved]
    while min(map(len, parts)) > 1 and len({own[-1] for own in parts}) == 1:
        parts = [own[:-1] for own in parts]
    return ["/".join(own) for own in parts]


def content(runs: dict[str, Run], found: dict[str, Findings]) -> dict[str, Any]:
    """What the template shows.

    Args:
        runs: Name -> run, the one to compare to first.
        found: Name -> its numbers.
    """
    first, *others = runs
    curves = {name: each.curves for name, each in found.items() if each.curves is not None}
    differences = [(name, *difference(runs[name], runs[first])) for name in others]
    return {
        "title": f"Comparison of {len(runs)} runs",
        "first": first,
        "verdict": [_sentence(name, first, value, why) for name, value, why in differences],
        "cautions": cautions(found),
        "rows": [_row(name, each) for name, each in found.items()],
        "differences": [[name, estimate(value, sign="+"), str(value.pairs)] for name, value, _ in differences if value],
        "roc": figures.roc_overlay(curves) if curves else None,
        "no_curves": {name: words.why_no_curves(runs[name]) for name in runs if name not in curves},
        "localisation": [[name, *row] for name, each in found.items() for row in tables.localisers(each)],
        "reports": {name: words.verdict(runs[name], each) for name, each in found.items()},
        "file": FILE,
    }


def cautions(found: dict[str, Findings]) -> list[str]:
    """What must be said beside the differences: each sentence once, with the names of the runs that it is about.

    Args:
        found: Name of a run -> its numbers.

    Returns:
        The sentences, those of the first run first.
    """
    about: dict[str, list[str]] = {}
    for name, each in found.items():
        for sentence in words.cautions(each):
            about.setdefault(sentence, []).append(name)
    return [f"{'All' if len(own) == len(found) else ', '.join(own)}: {sentence}" for sentence, own in about.items()]


def difference(run: Run, reference: Run) -> tuple[Estimate | None, str]:
    """How much better a run orders the images than another one.

    Args:
        run: A run.
        reference: The run it is compared to.

    Returns:
        The difference of their AUROC, positive where ``run`` is better, or None; and why there is none.
    """
    try:
        images, scores = stack_scores([_named(each) for each in (reference, run)])
    except ValueError:
        return None, "the two were not tested on the same images"
    labels = _named(run).set_index("path")["label"].loc[images["path"]].to_numpy()
    if not (labels == images["label"].to_numpy()).all():
        return None, "the two do not agree on the truth of the images"
    if images["label"].nunique() < 2:
        return None, "there is no AUROC where all images are of one class"
    return paired_difference(scores[1], scores[0], images["label"]), ""


def _named(run: Run) -> pd.DataFrame:
    """Images with truth and score, by paths that do not depend on where the data set lay."""
    return run.judged.assign(path=relative_paths(run.judged["path"], None))


def _sentence(name: str, first: str, value: Estimate | None, why: str) -> str:
    if value is None:
        return f"{name} and {first} cannot be compared image by image, since {why}."
    size = f"AUROC {value.value:+.3f} ± {value.standard_error:.3f}, one standard error over the test images"
    if abs(value.value) <= _CERTAIN * value.standard_error:
        return f"{name} is not shown to differ from {first}: {size}."
    return f"{name} orders the images {'better' if value.value > 0 else 'worse'} than {first}: {size}."


def _row(name: str, found: Findings) -> list[str]:
    """What a run reached."""
    point = found.learnt
    shares = [getattr(point, share) if point else None for share in ("sensitivity", "false_alarm_rate")]
    trivial = found.comparisons[0].trivial if found.comparisons else ()
    return [
        name,
        f"{found.normal} + {found.anomalous}",
        words.number_interval(found.curves.auroc) if found.curves else "none",
        *(words.percent_interval(share) if share else "not known" for share in shares),
        words.percent(found.alarms.rate) if found.alarms else "nothing",
        f"{trivial[0].auroc:.3f}" if trivial else "not measured",
    ]
