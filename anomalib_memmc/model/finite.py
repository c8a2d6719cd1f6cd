"""Whether weights, losses and scores are numbers: what is not stops the run, and the error says where it is."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

TRAIN_AGAIN = (
    "train again with a lower lr, with --trainer.precision bf16-mixed or 32-true instead of fp16, or with "
    "--trainer.gradient_clip_val 1.0"
)
CHECK_LOSS_EVERY = 50
"""Steps between two looks at the loss on a GPU: each look waits for it."""


class NotFiniteError(RuntimeError):
    """A score, a map, a loss or a weight is NaN or infinite."""


def require_finite_weights(tensors: Mapping[str, Tensor], owner: str) -> None:
    """Refuse weights that are NaN or infinite; they are read from the device once.

    Args:
        tensors: Weights and buffers by name, of any shapes. Integers pass.
        owner: Whose they are, as the error shall say: ``"The model"``.

    Raises:
        NotFiniteError: If a value is not finite, naming the first tensor.
    """
    names = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
    if not names:
        return
    device = tensors[names[0]].device
    finite = torch.stack([tensors[name].detach().isfinite().all().to(device) for name in names]).cpu()
    if finite.all():
        return
    bad = [name for name, is_finite in zip(names, finite.tolist(), strict=True) if not is_finite]
    msg = (
        f"{owner} has weights that are NaN or infinite, in {len(bad)} of {len(names)} tensors, the first of them "
        f"{bad[0]}. Its scores would mean nothing. Take an earlier checkpoint, or {TRAIN_AGAIN}."
    )
    raise NotFiniteError(msg)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a module by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def require_finite_predictions(batch: Any) -> None:
    """Refuse scores and anomaly maps that are NaN or infinite; one look at the device for a batch.

    Args:
        batch: A batch of anomalib with ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W), of which either may be
            missing; ``image_path`` and ``image`` (B, C, H, W), where known, are for the error.

    Raises:
        NotFiniteError: If a value is not finite, naming what and the first image.
    """
    predictions = {"score": getattr(batch, "pred_score", None), "anomaly map": getattr(batch, "anomaly_map", None)}
    finite = {name: _finite_rows(value) for name, value in predictions.items() if isinstance(value, Tensor)}
    if not finite or torch.stack([rows.all() for rows in finite.values()]).all():
        return
    name, rows = next((name, rows.cpu()) for name, rows in finite.items() if not rows.all())
    first = int((~rows).nonzero()[0])
    path = _path(batch, first)
    msg = (
        f"The {name} of {int((~rows).sum())} of {len(rows)} images of a batch is NaN or infinite, the first of {path}. "
    )
    image = getattr(batch, "image", None)
    if isinstance(image, Tensor) and not _finite_rows(image)[first]:
        msg += "The pixels of that image are not finite either: repair the file, or take it out."
    else:
        msg += f"The pixels of that image are finite: take an earlier checkpoint, or {TRAIN_AGAIN}."
    raise NotFiniteError(msg)


def require_finite_loss(loss: Tensor, step: int, epoch: int, lr: float) -> None:
    """Refuse a loss that is NaN or infinite: at every step on the CPU, now and then on a GPU, which need not wait.

    What a GPU's steps in between make of the weights is found at the end of the epoch.

    Args:
        loss: The loss, a scalar.
        step: Steps so far.
        epoch: The epoch.
        lr: The peak learning rate, for the error.

    Raises:
        NotFiniteError: If the loss is not finite.
    """
    if (not loss.is_cpu and step % CHECK_LOSS_EVERY) or torch.isfinite(loss):
        return
    msg = (
        f"The training loss is {loss.item()} at step {step} (epoch {epoch}). "
        f"Lower lr (now {lr}), train with --trainer.precision bf16-mixed or 32-true instead of fp16, "
        "set --trainer.gradient_clip_val 1.0, or look for images with NaN pixels."
    )
    raise NotFiniteError(msg)


def _finite_rows(values: Tensor) -> Tensor:
    """Which images of a batch are all finite, bool (B,)."""
    values = values.detach().as_subclass(Tensor)
    return values.isfinite().flatten(1).all(dim=1) if values.ndim > 1 else values.isfinite()


def _path(batch: Any, index: int) -> str:
    """How an image is called in an error."""
    paths = getattr(batch, "image_path", None)
    return str(paths[index]) if paths else f"number {index} of the batch"
