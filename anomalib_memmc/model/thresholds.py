"""The thresholds of a post-processor as plain numbers, each in the unit of the scores."""

import math
from typing import Any, Literal, cast

import torch
from anomalib.post_processing import PostProcessor

from anomalib_memmc.model.post_processor import NormalQuantilePostProcessor

_PARTS: tuple[Literal["image"], Literal["pixel"]] = ("image", "pixel")
_UNITS = {
    "image_threshold": "a score as in the column 'score', before post-processing; an image whose score is higher is "
    "called anomalous",
    "pixel_threshold": "a value of the anomaly map before post-processing; a pixel whose value is higher is marked",
    "normalised_image_threshold": "the same threshold for the column 'pred_score'",
    "normalised_pixel_threshold": "the same threshold for maps as a test, a prediction or an exported model gives them",
    "promised_false_alarm_rate": "share of new normal images that are called anomalous, if they are like the held-out "
    "ones; null where the threshold was learnt with anomalous images",
    "promised_false_alarm_rate_interval": "ends of its 95 % interval",
    "promised_by": "independent normal images (or patients, or other groups) behind the promise",
    "normal_images": "held-out normal images whose scores the checkpoint keeps, for percentiles",
}
_BEFORE = "every threshold is null before the first validation"


def score_threshold(post_processor: Any) -> float | None:
    """Score, before post-processing, above which a post-processor calls an image anomalous.

    That is its image threshold, moved where ``image_sensitivity`` is not 0.5.

    Args:
        post_processor: anomalib's, or a subclass of it.

    Returns:
        The threshold; None where none was learnt, or the post-processor labels nothing.
    """
    if not isinstance(post_processor, PostProcessor) or not post_processor.enable_thresholding:
        return None
    return _raw(post_processor, "image")


def thresholds_of(post_processor: Any) -> dict[str, Any]:
    """Thresholds, promise and number of normal images, for a file that people read.

    Args:
        post_processor: anomalib's, or a subclass of it; anything else has no thresholds.

    Returns:
        Plain values for JSON, None where something is not known, and under ``units`` what each means.
    """
    is_known = isinstance(post_processor, PostProcessor) and post_processor.enable_thresholding
    raw = (_raw(post_processor, part) if is_known else None for part in _PARTS)
    image, pixel = (None if value is None or not math.isfinite(value) else value for value in raw)
    promise = getattr(post_processor, "promise", torch.full((4,), torch.nan))
    rate, low, high, count = (_finite(value) for value in promise)
    return {
        "image_threshold": image,
        "pixel_threshold": pixel,
        "normalised_image_threshold": None if image is None else _finite(post_processor.normalized_image_threshold),
        "normalised_pixel_threshold": None if pixel is None else _finite(post_processor.normalized_pixel_threshold),
        "promised_false_alarm_rate": rate,
        "promised_false_alarm_rate_interval": None if low is None else [low, high],
        "promised_by": None if count is None else round(count),
        "normal_images": len(getattr(post_processor, "normal_scores", ())),
        "units": {**_UNITS, "null": _BEFORE},
    }


def _raw(post_processor: PostProcessor, part: Literal["image", "pixel"]) -> float | None:
    """The threshold of images or pixels in the unit before normalisation; None where none was learnt."""
    learnt, low, high = (
        cast(torch.Tensor, getattr(post_processor, f"{part}_{end}")) for end in ("threshold", "min", "max")
    )
    if bool(learnt.isnan()):
        return None
    if isinstance(post_processor, NormalQuantilePostProcessor):
        return float(post_processor.raw_threshold(part))
    sensitivity = float(getattr(post_processor, f"{part}_sensitivity"))
    if not post_processor.enable_normalization:  # anomalib then compares raw scores with what is meant for normalised
        return 1 - sensitivity
    return float(learnt + (0.5 - sensitivity) * (high - low))


def _finite(value: torch.Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
