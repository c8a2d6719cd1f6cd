"""What someone who has an exported model alone must know of it."""

import hashlib
import math
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import anomalib_memmc
from anomalib_memmc.export.input_check import TOLERANCE

_LIBRARIES = ("anomalib", "torch", "onnx", "openvino")
_REFUSAL = ("no score: pred_score is NaN and pred_label true", "an error")
_MEANING = {
    "pred_score": "{score}, one number an image; {anomalous}",
    "pred_label": "verdict, true for anomalous: the score lies above the threshold",
    "anomaly_map": "{score} of each pixel of the resized image; a pixel above {pixel} is in pred_mask",
    "pred_mask": "pixels of the resized image that are called anomalous",
}


def describe(
    model: Any, kind: str, outputs: dict[str, list[int | str]], size: tuple[int, int] | None
) -> dict[str, Any]:
    """Describe an exported MemMCMAE.

    Args:
        model: The model.
        kind: ``torch``, ``onnx`` or ``openvino``.
        outputs: Name -> shape of each output; a text for a size that varies.
        size: Height and width that were fixed for the images; None for any.

    Returns:
        Plain values, as ``metadata.json`` holds them; ``null`` where something is not known.
    """
    post_processor, network = model.post_processor, model.model.network
    normalises = bool(getattr(post_processor, "enable_normalization", False))
    image, pixel = (
        _number(getattr(post_processor, f"normalized_{part}_threshold", None)) for part in ("image", "pixel")
    )
    words = {
        "score": "normalised score" if normalises else "score (not normalised)",
        "anomalous": f"above {_written(image)} the image is called anomalous",
        "pixel": _written(pixel),
    }
    promise, scale = (getattr(post_processor, name, None) for name in ("promise", "scale"))
    return {
        "model": type(model).__name__,
        "format": kind,
        "input": {
            "name": "input",
            "layout": "batch, channels, height, width",
            "type": "float32",
            "channels": list(model.input_channels),
            "channel_order": "grey, or RGB to be averaged" if 1 in model.input_channels else "RGB",
            "range": [0.0, 1.0],
            "outside_the_range": f"{_REFUSAL[kind == 'torch']} (tolerance {TOLERANCE})",
            "size": "any" if size is None else list(size),
            "resized_inside_to": list(network.image_size),
            "resizing": _resizing(model.pre_processor),
        },
        "outputs": {
            name: {"shape": shape, "meaning": _MEANING.get(name, "").format(**words)} for name, shape in outputs.items()
        },
        "threshold": {
            "score": _number(getattr(post_processor, "image_threshold", None)),
            "scale": _number(scale("image")) if normalises and scale else None,
            "pred_score": image,
            "anomaly_map": pixel,
            "promised_false_alarm_rate": _number(None if promise is None else promise[0]),
            "normal_images": None if promise is None or promise[3].isnan() else round(promise[3].item()),
        },
        "scorer": type(model.model.scorer).__name__,
        "versions": {"anomalib-memmc": anomalib_memmc.__version__, **{name: _version(name) for name in _LIBRARIES}},
        "weights_sha256": weights_digest(model),
    }


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 of a model's weights and of all that it has learnt, by name; the same for every file that holds them.

    Args:
        model: The model.
    """
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, torch.Tensor):
            content = value.detach().cpu().contiguous()
            found.update(f"{name} {content.dtype} {tuple(content.shape)}\n".encode())
            found.update(content.reshape(-1).view(torch.uint8).numpy().tobytes() if content.numel() else b"")
    return found.hexdigest()


def _resizing(pre_processor: Any) -> str:
    if getattr(pre_processor, "size", None) is not None:
        return "bilinear with antialiasing; the aspect ratio is not kept"
    return "by the model's own pre-processor" if pre_processor else "none: give images of this size"


def _number(value: Any) -> float | None:
    """A finite number, or None; JSON knows no NaN."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _written(value: float | None) -> str:
    return "the threshold, which was not learnt," if value is None else f"{value:.6g}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
