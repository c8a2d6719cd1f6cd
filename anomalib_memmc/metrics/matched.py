"""AUROC among images that are alike in a property of the picture, and differences between models (not in the paper).

All of it is one number: a mean over pairs of an anomalous and a normal image. The mean over all pairs is the AUROC, the
mean over pairs alike in a nuisance the matched AUROC, and the mean difference between two models' orders the paired
difference. Its standard error is a bootstrap's over the images, drawn class by class.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from anomalib_memmc.arguments import require_positive

RESAMPLES = 500
BLOCK = 4_000_000
"""Pairs held in memory at once."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over pairs of an anomalous and a normal image.

    Attributes:
        value: In [0, 1] for an AUROC, in [-1, 1] for a difference; NaN without a pair.
        pairs: Number of pairs it is taken over.
        standard_error: Standard deviation of the value over resampled images; NaN without a pair.
    """

    value: float
    pairs: int
    standard_error: float


def matched_auroc(
    scores: ArrayLike, labels: ArrayLike, nuisance: ArrayLike | None, caliper: float = 0.05, seed: int = 0
) -> Estimate:
    """AUROC among pairs of images that are alike in a nuisance (not in the paper).

    The share of pairs (anomalous, normal) in which the anomalous image has the higher score, ties counting half, among
    the pairs whose ranks in the nuisance differ by less than ``caliper`` times the number of images. Images with the
    same value share a rank. Where disease itself changes the nuisance this adjusts too much, so that it stands beside
    the AUROC, not in its place.

    The bootstrap draws images of each class with replacement; ranks and the pairs that count as alike stay those of the
    whole sample.

    Args:
        scores: One score an image, shape (N,), higher = more anomalous; or (S, N) for S seeds of one model, whose mean
            is taken.
        labels: 1 for anomalous, 0 for normal, shape (N,).
        nuisance: Property of each image, shape (N,), any unit. ``None`` takes all pairs: the AUROC.
        caliper: Largest difference of ranks, as a share of the images, > 0.
        seed: Seed of the bootstrap.

    Returns:
        Value in [0, 1], number of pairs, standard error.

    Raises:
        ValueError: If lengths differ, a value is not finite, a label is neither 0 nor 1, a class is missing, or
            ``caliper`` is not above 0.

    Examples:
        >>> matched_auroc([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1], nuisance=[1, 2, 1, 2], caliper=0.3).value
        1.0
        >>> matched_auroc([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1], nuisance=None).value
        0.75
    """
    is_anomalous = _classes(labels)
    orders = [_seeds("scores", scores, is_anomalous)]
    return _estimate(orders, is_anomalous, _ranks(nuisance, is_anomalous, caliper), seed)


def paired_difference(
    scores: ArrayLike,
    reference: ArrayLike,
    labels: ArrayLike,
    nuisance: ArrayLike | None = None,
    caliper: float = 0.05,
    seed: int = 0,
) -> Estimate:
    """Difference of two models' (matched) AUROC on the same images (not in the paper).

    Both models are judged on the same pairs and the same resampled images, so that what makes an image hard for both
    cancels in the standard error. What another seed of the training would change comes on top of it.

    Args:
        scores: Scores of one model, shape (N,) or, for its seeds, (S, N); the mean over the seeds counts.
        reference: Scores of the model it is compared to, shape (N,) or (S', N), of the same images.
        labels: 1 for anomalous, 0 for normal, shape (N,).
        nuisance: Property of each image, shape (N,), for the difference of matched AUROC. ``None``: of AUROC.
        caliper: As for :func:`matched_auroc`.
        seed: Seed of the bootstrap.

    Returns:
        Value in [-1, 1], above 0 where ``scores`` order better; number of pairs; standard error.

    Raises:
        ValueError: As for :func:`matched_auroc`.

    Examples:
        >>> paired_difference([0.1, 0.3, 0.2, 0.9], [0.1, 0.2, 0.3, 0.9], [0, 0, 1, 1]).value
        -0.25
    """
    is_anomalous = _classes(labels)
    orders = [_seeds("scores", scores, is_anomalous), _seeds("reference", reference, is_anomalous)]
    return _estimate(orders, is_anomalous, _ranks(nuisance, is_anomalous, caliper), seed)


def _estimate(
    models: list[Array], is_anomalous: NDArray[np.bool_], ranks: tuple[Array, float] | None, seed: int
) -> Estimate:
    """Mean over alike pairs of the first model's right orders, less those of the second where there is one.

    Args:
        models: Scores (S, N) of one or two models.
        is_anomalous: (N,).
        ranks: Ranks (N,) in the nuisance and the difference below which two are alike; ``None``: all pairs.
        seed: Seed of the bootstrap.
    """
    normal, anomalous = np.flatnonzero(~is_anomalous), np.flatnonzero(is_anomalous)
    normal_counts, anomalous_counts = _resampled(len(normal), len(anomalous), seed)
    pairs, right = 0, 0.0
    resampled_pairs, resampled_right = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    step = max(1, BLOCK // len(normal))
    for start in range(0, len(anomalous), step):
        rows = anomalous[start : start + step]
        weights = anomalous_counts[:, start : start + step]
        alike = np.ones((len(rows), len(normal)))
        if ranks is not None:
            alike = (np.abs(ranks[0][rows, None] - ranks[0][normal]) < ranks[1]).astype(float)
        order = _right_orders(models[0], rows, normal)
        for reference in models[1:]:
            order -= _right_orders(reference, rows, normal)
        order *= alike
        pairs += int(alike.sum())
        right += float(order.sum())
        resampled_pairs += ((weights @ alike) * normal_counts).sum(axis=1)
        resampled_right += ((weights @ order) * normal_counts).sum(axis=1)
    if pairs == 0:
        return Estimate(float("nan"), 0, float("nan"))
    with_pairs = resampled_pairs > 0
    spread = np.std(resampled_right[with_pairs] / resampled_pairs[with_pairs])
    return Estimate(right / pairs, pairs, float(spread))


def _right_orders(scores: Array, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Array:
    """1 where the row's image has the higher score, 1/2 for a tie, else 0; mean over the seeds (S, N): (R, C)."""
    signs = [np.sign(seed[rows, None] - seed[columns]) for seed in scores]
    return 0.5 + 0.5 * np.mean(signs, axis=0)


@lru_cache(maxsize=16)
def _resampled(num_normal: int, num_anomalous: int, seed: int) -> tuple[Array, Array]:
    """How often each normal (RESAMPLES, n) and each anomalous image (RESAMPLES, m) is drawn, class by class."""
    generator = np.random.default_rng(seed)
    counts = tuple(np.empty((RESAMPLES, number)) for number in (num_normal, num_anomalous))
    for draw in range(RESAMPLES):
        for of_class in counts:
            number = of_class.shape[1]
            of_class[draw] = np.bincount(generator.integers(0, number, number), minlength=number)
    for of_class in counts:
        of_class.setflags(write=False)  # shared by every caller
    return counts[0], counts[1]


def _classes(labels: ArrayLike) -> NDArray[np.bool_]:
    values = np.asarray(labels)
    if values.ndim != 1:
        msg = f"labels must have shape (N,), got {values.shape}."
        raise ValueError(msg)
    if len(unknown := values[~np.isin(values, (0, 1))]) > 0:
        msg = f"labels must be 0 (normal) or 1 (anomalous), got {unknown[0]!r}: leave out images without a label."
        raise ValueError(msg)
    is_anomalous = values.astype(bool)
    if is_anomalous.all() or not is_anomalous.any():
        missing = "normal (label 0)" if is_anomalous.any() else "anomalous (label 1)"
        msg = f"An AUROC needs both classes: none of the {len(values)} images is {missing}."
        raise ValueError(msg)
    return is_anomalous


def _seeds(name: str, values: ArrayLike, is_anomalous: NDArray[np.bool_]) -> Array:
    """Values as (S, N), checked."""
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if rows.ndim != 2 or rows.shape[1] != len(is_anomalous) or len(rows) == 0:
        msg = f"{name} must hold one value for each of the {len(is_anomalous)} labels, got shape {np.shape(values)}."
        raise ValueError(msg)
    if not np.isfinite(rows).all():
        msg = f"{name} must be finite, but {(~np.isfinite(rows)).sum()} of {rows.size} values are not: leave them out."
        raise ValueError(msg)
    return rows


def _ranks(nuisance: ArrayLike | None, is_anomalous: NDArray[np.bool_], caliper: float) -> tuple[Array, float] | None:
    """Ranks in the nuisance, and the difference below which two images are alike."""
    require_positive("caliper", caliper)
    if nuisance is None:
        return None
    (values,) = _seeds("nuisance", np.ravel(nuisance), is_anomalous)
    # Ranks are multiples of a half, so that rounding only undoes 0.05 * 140 = 7.000000000000001.
    return rankdata(values), float(f"{caliper * len(values):.12g}")
