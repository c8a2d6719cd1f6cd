"""How well scores tell anomalous from normal images: overall, per stratum, and beside trivial baselines."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_memmc.metrics.matched import Estimate, matched_auroc
from anomalib_memmc.reporting.baselines import NAMES

COLUMNS = ("path", "label", "stratum", "group", "score", *NAMES)


@dataclass(frozen=True)
class TrivialBaseline:
    """What a property of the picture alone reaches on a comparison, and what is left of the score without it.

    Attributes:
        column: Its column in the prediction table.
        auroc: max(a, 1 - a) for its AUROC a, in [0.5, 1]: whoever exploits it picks the better direction.
        higher: ``True`` if anomalous images tend to the higher values, ``None`` if to neither.
        separates: Whether its AUROC is above chance by more than two standard errors.
        matched: The scores' AUROC among images alike in it.
    """

    column: str
    auroc: float
    higher: bool | None
    separates: bool
    matched: Estimate


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
        trivial: The trivial baselines that are known for all these images, strongest first.
    """

    anomalous: str
    normal: str
    num_anomalous: int
    num_normal: int
    auroc: float
    average_precision: float
    trivial: tuple[TrivialBaseline, ...]


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """What counts of a prediction table, under the names of the results.

    Args:
        table: One row an image, as ``PredictionTable`` writes it: ``gt_label`` (0, 1 or missing), ``score`` or
            ``pred_score``, and where known ``image_path``, ``stratum``, ``group`` and the trivial baselines.

    Returns:
        The rows with a ground truth and a finite score; columns ``label`` (the ground truth, 0 or 1), ``score``, and
        where known ``path``, ``stratum``, ``group`` and the trivial baselines. The score is the one before
        post-processing where known, since clamping makes ties. The verdict, ``label`` of the file, is left out.
    """
    score = "score" if "score" in table.columns else "pred_score"
    table = table.drop(columns="label", errors="ignore")
    table = table[table["gt_label"].notna() & np.isfinite(table[score].astype(float))]
    table = table.rename(columns={"image_path": "path", "gt_label": "label", score: "score"})
    return table[[name for name in COLUMNS if name in table.columns]].astype({"label": int}).reset_index(drop=True)


def compare(table: pd.DataFrame) -> list[Comparison]:
    """All comparisons a prediction table allows.

    Args:
        table: One row an image, as :func:`judged` returns it.

    Returns:
        The comparisons of :func:`comparable_parts`, in its order.
    """
    return [_comparison(names, part) for names, part in comparable_parts(table).items()]


def comparable_parts(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The groups of images that a prediction table allows to compare.

    First all anomalous against all normal images. With strata: each stratum's anomalous images against all normals
    and, where the stratum has normals of its own, against those; and all anomalous images against each stratum's
    normals where normals come in several strata. Largest strata first.

    Args:
        table: One row an image, as :func:`judged` returns it.

    Returns:
        (Name of the anomalous group, name of the normal group) -> their rows, anomalous first; none if one of the
        classes is missing.
    """
    anomalous, normal = table[table["label"] == 1], table[table["label"] == 0]
    if anomalous.empty or normal.empty:
        return {}
    parts = [("all", anomalous, "all", normal), *_strata(anomalous, normal, table)]
    return {(first, second): pd.concat([rows, others]) for first, rows, second, others in parts}


def _strata(
    anomalous: pd.DataFrame, normal: pd.DataFrame, table: pd.DataFrame
) -> Iterator[tuple[str, pd.DataFrame, str, pd.DataFrame]]:
    """Comparisons of a part of the anomalous or of the normal images."""
    if "stratum" not in table.columns:
        return
    strata = [name for name in table["stratum"].value_counts().index if name]
    normals = {name: normal[normal["stratum"] == name] for name in strata}
    normals = {name: rows for name, rows in normals.items() if 0 < len(rows) < len(normal)}
    for name in strata:
        own = anomalous[anomalous["stratum"] == name]
        if 0 < len(own) < len(anomalous):
            yield name, own, "all", normal
        if len(own) > 0 and name in normals:
            yield name, own, name, normals[name]
    for name, rows in normals.items():
        yield "all", anomalous, name, rows


def _comparison(names: tuple[str, str], part: pd.DataFrame) -> Comparison:
    labels, scores = part["label"].to_numpy(int), part["score"].to_numpy(float)
    trivial = []
    for column in NAMES:
        if column in part.columns and np.isfinite(values := part[column].to_numpy(float)).all():
            trivial.append(_trivial(column, values, labels, scores))
    num_anomalous = int(labels.sum())
    return Comparison(
        *names,
        num_anomalous=num_anomalous,
        num_normal=len(labels) - num_anomalous,
        auroc=float(roc_auc_score(labels, scores)),
        average_precision=float(average_precision_score(labels, scores)),
        trivial=tuple(sorted(trivial, key=lambda baseline: -baseline.auroc)),
    )


def _trivial(column: str, values: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> TrivialBaseline:
    auroc = float(roc_auc_score(labels, values))
    num_anomalous, num_normal = labels.sum(), len(labels) - labels.sum()
    chance = np.sqrt(
        (len(labels) + 1) / (12 * num_anomalous * num_normal)
    )  # of a value that tells nothing: Mann, Whitney
    return TrivialBaseline(
        column=column,
        auroc=max(auroc, 1 - auroc),
        higher=None if auroc == 0.5 else auroc > 0.5,
        separates=bool(abs(auroc - 0.5) > 2 * chance),
        matched=matched_auroc(scores, labels, values),
    )
