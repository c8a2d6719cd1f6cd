"""How well scores tell anomalous from normal images: overall, per stratum, and beside trivial baselines."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich.console import Group
from rich.table import Table
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_memmc.reporting.baselines import NAMES


@dataclass(frozen=True)
class Cue:
    """What one trivial baseline reaches on a comparison.

    Attributes:
        column: Its column in the prediction table.
        auroc: max(a, 1 - a) for its AUROC a, in [0.5, 1]: whoever exploits it picks the better direction.
        higher: ``True`` if anomalous images tend to the higher values, ``None`` if to neither.
    """

    column: str
    auroc: float
    higher: bool | None


@dataclass(frozen=True)
class Comparison:
    """One group of anomalous images against one group of normal images.

    Attributes:
        anomalous: Name of the anomalous group.
        normal: Name of the normal group.
        num_anomalous: Number of anomalous images, >= 1.
        num_normal: Number of normal images, >= 1.
        auroc: Area under the ROC curve of the scores, in [0, 1].
        average_precision: Average precision, in [0, 1]; chance is the share of anomalous images.
        cues: The trivial baselines that are known for all these images, strongest first.
    """

    anomalous: str
    normal: str
    num_anomalous: int
    num_normal: int
    auroc: float
    average_precision: float
    cues: tuple[Cue, ...]


def score_column(table: pd.DataFrame) -> str:
    """The column to judge by: the scores before post-processing where known, since clamping makes ties."""
    return "raw_score" if "raw_score" in table.columns else "pred_score"


def compare(table: pd.DataFrame) -> list[Comparison]:
    """All comparisons a prediction table allows.

    First all anomalous against all normal images. With strata: each stratum's anomalous images against all normals
    and, where the stratum has normals of its own, against those; and all anomalous images against each stratum's
    normals where normals come in several strata. Largest strata first.

    Args:
        table: One row an image, with the columns ``gt_label`` (0, 1 or missing), ``pred_score`` or ``raw_score``, and
            where known ``stratum`` and the trivial baselines. Rows without label or finite score are left out.

    Returns:
        The comparisons; none if one of the classes is missing.
    """
    column = score_column(table)
    known = table["gt_label"].notna() & np.isfinite(table[column].astype(float))
    table = table[known]
    is_anomalous = table["gt_label"].astype(int) == 1
    anomalous, normal = table[is_anomalous], table[~is_anomalous]
    if anomalous.empty or normal.empty:
        return []
    pairs = [("all", "all", anomalous, normal)]
    if "stratum" in table.columns:
        strata = [name for name in table["stratum"].value_counts().index if name]
        for name in strata:
            own, normals = anomalous[anomalous["stratum"] == name], normal[normal["stratum"] == name]
            if 0 < len(own) < len(anomalous):
                pairs.append((name, "all", own, normal))
            if len(own) > 0 and 0 < len(normals) < len(normal):
                pairs.append((name, name, own, normals))
        for name in strata:
            normals = normal[normal["stratum"] == name]
            if 0 < len(normals) < len(normal):
                pairs.append(("all", name, anomalous, normals))
    return [_comparison(*pair, column=column) for pair in pairs]


def _comparison(
    anomalous_name: str, normal_name: str, anomalous: pd.DataFrame, normal: pd.DataFrame, *, column: str
) -> Comparison:
    labels = np.repeat([1, 0], [len(anomalous), len(normal)])
    both = pd.concat([anomalous, normal])
    scores = both[column].to_numpy(float)
    cues = []
    for name in NAMES:
        values = both[name].to_numpy(float) if name in both.columns else np.array([np.nan])
        if np.isfinite(values).all():
            auroc = float(roc_auc_score(labels, values))
            cues.append(Cue(name, max(auroc, 1 - auroc), None if auroc == 0.5 else auroc > 0.5))
    return Comparison(
        anomalous=anomalous_name,
        normal=normal_name,
        num_anomalous=len(anomalous),
        num_normal=len(normal),
        auroc=float(roc_auc_score(labels, scores)),
        average_precision=float(average_precision_score(labels, scores)),
        cues=tuple(sorted(cues, key=lambda cue: -cue.auroc)),
    )


def clamped_auroc(table: pd.DataFrame) -> float | None:
    """AUROC of the post-processed scores where post-processing changed it by 0.001 or more, else ``None``."""
    if "raw_score" not in table.columns:
        return None
    overall = [compare(part) for part in (table, table.drop(columns="raw_score"))]
    if not all(overall) or abs(overall[0][0].auroc - overall[1][0].auroc) < 0.001:
        return None
    return overall[1][0].auroc


def render(comparisons: list[Comparison], max_rows: int = 12) -> Group:
    """Set comparisons and trivial baselines as two small tables for a terminal of 80 columns.

    Args:
        comparisons: At least one, the overall one first, as from :func:`compare`.
        max_rows: Most comparisons to show.

    Returns:
        What ``rich`` prints.
    """
    scores = Table(title="Image scores", title_justify="left")
    scores.add_column("anomalous (n)", overflow="fold")
    scores.add_column("normal (n)", overflow="fold")
    scores.add_column("AUROC", justify="right")
    scores.add_column("AP", justify="right")
    scores.add_column("best trivial baseline")
    for row in comparisons[:max_rows]:
        best = f"{row.cues[0].auroc:.3f} {NAMES[row.cues[0].column]}" if row.cues else "-"
        scores.add_row(
            f"{row.anomalous} ({row.num_anomalous})",
            f"{row.normal} ({row.num_normal})",
            f"{row.auroc:.3f}",
            f"{row.average_precision:.3f}",
            best,
        )
    if len(comparisons) > max_rows:
        scores.caption = f"{len(comparisons) - max_rows} more comparisons not shown"
    if not comparisons[0].cues:
        return Group(scores)
    trivial = Table(title="Trivial baselines, all images", title_justify="left")
    trivial.add_column("baseline")
    trivial.add_column("AUROC", justify="right")
    trivial.add_column("anomalous images are")
    for cue in comparisons[0].cues:
        trivial.add_row(
            NAMES[cue.column], f"{cue.auroc:.3f}", {True: "higher", False: "lower", None: "alike"}[cue.higher]
        )
    return Group(scores, trivial)
