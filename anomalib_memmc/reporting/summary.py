"""Comparisons in print: two small tables and, where a score falls to chance among matched images, a sentence."""

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from sklearn.metrics import roc_auc_score

from anomalib_memmc.metrics.matched import Estimate
from anomalib_memmc.reporting.baselines import NAMES, PROPERTIES
from anomalib_memmc.reporting.comparisons import Comparison, TrivialBaseline, judged

ENOUGH_PAIRS = 200
"""Below this number of pairs a matched AUROC stands in brackets."""
DIRECTIONS = {True: "higher", False: "lower", None: "alike"}


def clamped_auroc(table: pd.DataFrame) -> float | None:
    """AUROC of the post-processed scores where post-processing changed it by 0.001 or more.

    Args:
        table: One row an image, as ``PredictionTable`` writes it.

    Returns:
        The AUROC in [0, 1], or ``None`` if it is that of the scores before, if those are not known, or if a class is
        missing.
    """
    if "score" not in table.columns:
        return None
    parts = [judged(part) for part in (table, table.drop(columns="score"))]
    if any(part["label"].nunique() < 2 for part in parts):
        return None
    raw, clamped = (float(roc_auc_score(part["label"], part["score"])) for part in parts)
    return clamped if abs(raw - clamped) >= 0.001 else None


def render(comparisons: list[Comparison], max_rows: int = 12) -> Group:
    """Set comparisons and trivial baselines as two small tables for a terminal of 80 columns.

    Args:
        comparisons: At least one, the overall one first, as from ``compare``.
        max_rows: Most comparisons to show.

    Returns:
        What ``rich`` prints.
    """
    shown = comparisons[:max_rows]
    parts: list[RenderableType] = [_scores(shown, len(comparisons) - len(shown))]
    if comparisons[0].trivial:
        parts.append(_trivial(comparisons[0]))
    return Group(*parts, *(Text(sentence) for row in shown for sentence in warnings(row)))


def warnings(comparison: Comparison) -> list[str]:
    """Say where a score does no better than chance among images alike in a property that by itself separates.

    Args:
        comparison: The comparison. Of a stratum only the strongest trivial baseline counts.

    Returns:
        One sentence for each such property.
    """
    is_overall = (comparison.anomalous, comparison.normal) == ("all", "all")
    trivial = comparison.trivial if is_overall else comparison.trivial[:1]
    sentences = [sentence for baseline in trivial if baseline.separates and (sentence := _warning(baseline))]
    if is_overall:
        return sentences
    return [f"{comparison.anomalous} against {comparison.normal}: {text[0].lower()}{text[1:]}" for text in sentences]


def estimate(value: Estimate, sign: str = "") -> str:
    """Write value ± standard error, in brackets below 200 pairs; a dash without a pair.

    Args:
        value: What to write.
        sign: ``"+"`` writes the sign of a positive value too, as of a difference.

    Returns:
        The text, with three digits.
    """
    if value.pairs == 0:
        return "-"
    text = f"{value.value:{sign}.3f} ± {value.standard_error:.3f}"
    return text if value.pairs >= ENOUGH_PAIRS else f"[{text}]"


def _warning(baseline: TrivialBaseline) -> str:
    """A sentence where the matched AUROC is at most two standard errors above chance, else nothing."""
    matched, name = baseline.matched, PROPERTIES[baseline.column]
    if matched.pairs == 0:
        return f"No sick image is like a well one in {name}, so this score may be that and nothing else."
    if matched.value - 2 * matched.standard_error > 0.5:
        return ""
    numbers = f"(matched AUROC {estimate(matched)}, {matched.pairs} pairs)"
    if matched.pairs < ENOUGH_PAIRS:
        return f"Too few sick and well images are of equal {name} to know whether this score sees more {numbers}."
    return f"Among images of equal {name} this score does not tell sick from well {numbers}."


def _scores(comparisons: list[Comparison], num_hidden: int) -> Table:
    table = Table(title="Image scores", title_justify="left")
    table.add_column("anomalous (n)", overflow="fold")
    table.add_column("normal (n)", overflow="fold")
    table.add_column("AUROC", justify="right")
    table.add_column("AP", justify="right")
    table.add_column("best trivial baseline")
    for row in comparisons:
        table.add_row(
            f"{row.anomalous} ({row.num_anomalous})",
            f"{row.normal} ({row.num_normal})",
            f"{row.auroc:.3f}",
            f"{row.average_precision:.3f}",
            f"{row.trivial[0].auroc:.3f} {NAMES[row.trivial[0].column]}" if row.trivial else "-",
        )
    if num_hidden:
        table.caption = f"{num_hidden} more comparisons not shown"
    return table


def _trivial(overall: Comparison) -> Table:
    table = Table(title="Trivial baselines, all images", title_justify="left")
    table.add_column("baseline", no_wrap=True)
    table.add_column("AUROC", justify="right")
    table.add_column("anomalous images are")
    table.add_column("matched AUROC of the scores", justify="right", min_width=len("[0.536 ± 0.076]"))
    table.add_column("pairs", justify="right")
    for baseline in overall.trivial:
        matched = [estimate(baseline.matched), str(baseline.matched.pairs)] if baseline.separates else ["-", "-"]
        table.add_row(NAMES[baseline.column], f"{baseline.auroc:.3f}", DIRECTIONS[baseline.higher], *matched)
    if any(baseline.separates and baseline.matched.pairs < ENOUGH_PAIRS for baseline in overall.trivial):
        table.caption = f"in brackets: fewer than {ENOUGH_PAIRS} pairs of images alike in the baseline"
    return table
