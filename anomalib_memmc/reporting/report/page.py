"""The report as one HTML file that needs no network."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import anomalib_memmc
from anomalib_memmc.detection.result import digits_of
from anomalib_memmc.reporting.report import card, figures, tables, words
from anomalib_memmc.reporting.report.findings import Findings, find
from anomalib_memmc.reporting.report.gallery import KINDS, palette, pictures
from anomalib_memmc.reporting.report.run import Run, load
from anomalib_memmc.resuming.whole_file import replaced

FILE = "report.html"


def write_report(folder: Path, output: Path | None = None) -> Path:
    """Write the report of a run.

    Args:
        folder: The run's folder, with ``predictions.csv``.
        output: The file to write; None takes ``report.html`` in the folder.

    Returns:
        The file written.

    Raises:
        FileNotFoundError: If the folder or its predictions are missing.
        ValueError: If the predictions cannot be read.
    """
    run = load(folder)
    output = output or folder / FILE
    save(render("report.html.j2", content(run, find(run))), output)
    return output


def render(template: str, values: dict[str, Any]) -> str:
    """Fill a template of this package.

    Args:
        template: Its file.
        values: What it names.
    """
    environment = Environment(
        loader=PackageLoader("anomalib_memmc.reporting.report"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = words.number_interval
    written = datetime.now(timezone.utc).strftime("%Y-%m-%d, %H:%M UTC")
    return environment.get_template(template).render(written=written, version=anomalib_memmc.__version__, **values)


def save(text: str, output: Path) -> None:
    """Write a page, whole or not at all."""
    with replaced(output) as part:
        part.write_text(text, encoding="utf-8")


def content(run: Run, found: Findings) -> dict[str, Any]:
    """What the template shows of a run.

    Args:
        run: The run.
        found: Its numbers.
    """
    shown, lost = pictures(run)
    test = run.record.test
    data = test["data"] if test else None
    return {
        "title": f"{test['model']} on {data['name']}" if test and data and data["name"] else "Report of a test",
        "question": words.QUESTION,
        "verdict": words.verdict(run, found),
        "cautions": words.cautions(found),
        "run": run,
        "found": found,
        "missing": run.record.missing,
        "no_curves": words.why_no_curves(run),
        "no_verdicts": words.why_no_verdicts(found),
        "no_rates": words.why_no_rates(run),
        "threshold_words": "" if found.threshold is None else f", threshold {digits_of(found.threshold)}",
        "data": data,
        "parts": tables.parts(data),
        "integrity": words.integrity(data),
        "strata": tables.strata(found),
        "drawings": drawings(run, found),
        "points": tables.points(found),
        "trivial": tables.trivial(found),
        "by_stratum": tables.by_stratum(found),
        "localisers": tables.localisers(found),
        "rates": tables.rates(found, run.thresholds),
        "cases": shown,
        "lost": lost,
        "kinds": {kind: text for kind, text in KINDS.items() if any(case.kind == kind for case in shown)},
        "scale": scale(run),
        "metrics": tables.metrics(test, found),
        "card": card.rows(run),
        "limits": card.LIMITS,
        "settings": card.settings(run),
        "configuration": card.configuration(run.folder),
    }


def drawings(run: Run, found: Findings) -> dict[str, str]:
    """The SVG pictures that can be drawn, by name."""
    drawn, labels = {}, run.judged["label"]
    if found.curves is not None:
        names = {f"specificity {100 * share:.0f} %": point for share, point in found.points.items()}
        learnt = {"learnt threshold": found.learnt} if found.learnt else {}
        drawn["roc"] = figures.roc(found.curves, {**learnt, **names})
        drawn["precision_recall"] = figures.precision_recall(found.curves, float(labels.mean()))
    if len(labels):
        normal, anomalous = (run.judged.loc[labels == label, "score"].to_numpy(float) for label in (0, 1))
        drawn["histogram"] = figures.histogram(normal, anomalous, found.threshold)
    if any(rate.promised for rate in found.rates):
        drawn["rates"] = figures.false_alarms(found.rates, found.normal)
    return drawn


def scale(run: Run) -> dict[str, str]:
    """The colour bar of the maps: its colours as CSS, and what its ends mean."""
    low, high = run.record.test["map_range"] if run.record.test else (0.0, 1.0)
    is_normalised = (low, high) == (0.0, 1.0)
    colours = [f"rgb({red} {green} {blue} / {opacity:.2f})" for red, green, blue, opacity in palette(is_normalised)]
    words_of_ends = ("clear: usual in normal images", "bright: far above the threshold of the map")
    ends = words_of_ends if is_normalised else (f"{low:.3g}", f"{high:.3g}")
    return {"colours": ", ".join(colours[::15]), "low": ends[0], "high": ends[1]}
