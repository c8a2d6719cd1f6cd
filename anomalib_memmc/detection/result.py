"""What a model says of one image, in numbers and in one sentence."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anomalib_memmc.metrics.conformal import p_values, percentiles
from anomalib_memmc.model.thresholds import score_threshold

WORDS = {0: "normal", 1: "anomalous"}
"""A verdict, or the ground truth, in words."""
_ALL = 100


@dataclass(frozen=True, eq=False)
class Result:
    """What a model says of one image, and where known what is true.

    Attributes:
        path: The file; empty where there is none.
        score: Score before post-processing, higher = more unusual; None where there was an error.
        threshold: Score above which an image is called anomalous; None where none was learnt.
        label: The verdict, 1 anomalous, 0 normal; None without a threshold.
        percentile: Share of the held-out normal images that score lower, in per cent; None where they are not known.
        p_value: Conformal p-value among them, in (0, 1].
        spread: Standard deviation over the scorer's masks of the mean error of the hidden pixels, in the unit of the
            error map; None where the scorer has no masks.
        seconds: What reading and scoring took; scoring is shared evenly by the images of a batch.
        error: What was wrong with the file; None where nothing was.
        anomaly_map: Map (H, W) of the model's size, post-processed; None where it was not asked for.
        map_threshold: Value of the map above which a pixel is marked; None where none was learnt.
        reconstruction: What the model made of the image (C, H, W), of the model's size, about [0, 1]; None where it was
            not asked for.
        gt_label: The ground truth, 1 anomalous, 0 normal; None where unknown.
        gt_mask: The ground truth's anomalous pixels, bool (H, W), of any size; None where unknown.
    """

    path: str = ""
    score: float | None = None
    threshold: float | None = None
    label: int | None = None
    percentile: float | None = None
    p_value: float | None = None
    spread: float | None = None
    seconds: float = 0.0
    error: str | None = None
    anomaly_map: Tensor | None = None
    map_threshold: float | None = None
    reconstruction: Tensor | None = None
    gt_label: int | None = None
    gt_mask: Tensor | None = None

    def numbers(self) -> "Result":
        """The same without map and reconstruction, which take memory."""
        return replace(self, anomaly_map=None, reconstruction=None)

    @property
    def verdict(self) -> str:
        """The verdict in words: "anomalous: score 3.1, threshold 1.2, more unusual than 99.4 % of normal images"."""
        if self.score is None:
            return f"no verdict: {self.error}" if self.error else "no verdict: there is no score"
        score, threshold = apart(self.score, self.threshold)
        if self.label is None or threshold is None:
            return f"no verdict: score {score}, and no threshold was learnt"
        sentence = f"{WORDS[self.label]}: score {score}, threshold {threshold}"
        if self.percentile is not None:
            share = "all held-out" if self.percentile == _ALL else f"{percent(self.percentile)} % of"
            sentence += f", more unusual than {share} normal images"
        return sentence if self.spread is None else f"{sentence}; spread {digits_of(self.spread, 2)}"


class Verdicts:
    """Compares scores with what a post-processor learnt of normal images.

    Args:
        post_processor: anomalib's, or a subclass of it.
    """

    def __init__(self, post_processor: Any) -> None:
        self.threshold = score_threshold(post_processor)
        self.normals = getattr(post_processor, "normal_scores", torch.empty(0)).double().cpu().numpy()
        known = self.threshold is not None and not bool(post_processor.pixel_threshold.isnan())
        self.map_threshold = float(post_processor.normalized_pixel_threshold) if known else None

    def of(self, score: float) -> dict[str, Any]:
        """Threshold, label, ranks and the map's threshold, as a :class:`Result` takes them.

        Args:
            score: Score before post-processing.
        """
        label = None if self.threshold is None else int(score > self.threshold)
        ranks: dict[str, float] = {}
        if len(self.normals):
            ranks["percentile"] = percentiles([score], self.normals).item()
            ranks["p_value"] = p_values([score], self.normals).item()
        return {"threshold": self.threshold, "label": label, "map_threshold": self.map_threshold, **ranks}


def percent(value: float) -> str:
    """A percentage in words: one decimal, and none at both ends.

    Args:
        value: In [0, 100]; one that is not 100 never reads so.
    """
    return f"{value:.0f}" if value in {0, 100} else f"{min(max(value, 0.1), 99.9):.1f}"


def apart(score: float, threshold: float | None) -> tuple[str, str | None]:
    """Write score and threshold with three digits, or so many that they differ where the numbers do.

    Args:
        score: The score.
        threshold: The threshold, if there is one.
    """
    if threshold is None:
        return digits_of(score), None
    for digits in range(3, 10):
        texts = digits_of(score, digits), digits_of(threshold, digits)
        if score == threshold or texts[0] != texts[1]:
            break
    return texts


def digits_of(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, never as a power of ten."""
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-")
