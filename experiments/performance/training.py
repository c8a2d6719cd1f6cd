"""Time and memory of a training step against that of a plain MAE, and what computing parts again costs."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, get_args

from torch import Tensor, nn

from anomalib_memmc.memory.estimate import estimate
from anomalib_memmc.model.layers.attention import Recompute
from anomalib_memmc.model.optimizer import make_optimizer
from experiments.performance.device import DEVICE, bfloat16, in_fresh_process, peak_gib, peak_since
from experiments.performance.device import name as device_name
from experiments.performance.others import hugging_face
from experiments.performance.presets import PLAIN, Preset
from experiments.performance.table import Table
from experiments.performance.timing import Call, Times, multiply_adds, take_turns

RECOMPUTE: tuple[Recompute, ...] = get_args(Recompute)
BASELINE, FOREIGN = "plain MAE, ours", "Hugging Face ViTMAE"
WARM_UP = 2  # steps: until then the memory that a step takes comes from the system, page by page


def training(
    preset: Preset, batch: int, rounds: int, recompute: Sequence[Recompute] = RECOMPUTE
) -> tuple[Table, float]:
    """Time a training step of the full model, whatever it computes again, and of two plain MAEs.

    Args:
        preset: The model.
        batch: Images of a step.
        rounds: Rounds that count.
        recompute: What the full model computes again, a row each.

    Returns:
        The table, and the images a second that the full model takes, in its fastest row.
    """
    changes: dict[str, dict[str, Any] | None] = {f"ours, recompute: {what}": {"recompute": what} for what in recompute}
    own = {name: in_fresh_process(beside_plain, preset, batch, rounds, change) for name, change in changes.items()}
    times = {**own, FOREIGN: in_fresh_process(beside_plain, preset, batch, rounds, None)}
    rows = [
        (name, f"{its.median:.2f}", str(its.over(plain)), *_memory(preset, batch, changes.get(name)))
        for name, (its, plain) in times.items()
    ]
    of_plain = Times(tuple(seconds for _, plain in times.values() for seconds in plain.values))
    rows.insert(len(own), (BASELINE, f"{of_plain.median:.2f}", "1.00", *_memory(preset, batch, PLAIN)))
    arithmetic = multiply_adds_of_a_loss(preset) / multiply_adds_of_a_loss(preset, **PLAIN)
    note = (
        f"Batch {batch} in float32, {device_name()}: forward, backward and AdamW; medians of {rounds} rounds and their "
        f"range. Each takes turns with plain MAE, in a process of their own. The full model's arithmetic is "
        f"{arithmetic:.2f} times plain MAE's, without what is computed again. Peaks are of a process of its own, "
        "without what libraries take; estimated ones are `anomalib-memmc memory`'s."
    )
    header = ("", "s", "of plain MAE", "peak GiB, estimated", "peak GiB, measured")
    fastest = min(its.median for its, _ in own.values())
    return Table(f"Training step, {preset.name} preset", header, rows, note), batch / fastest


def beside_plain(preset: Preset, batch: int, rounds: int, changes: dict[str, Any] | None) -> tuple[Times, Times]:
    """Seconds of a model's step and of plain MAE's, which take turns; no other model is in memory.

    Args:
        preset: The model.
        batch: Images of a step.
        rounds: Rounds that count.
        changes: Arguments of the full model; None times Hugging Face's plain MAE.
    """
    plain, images = preset.model(preset.scorer(), **PLAIN), preset.batch(batch)
    model = hugging_face(plain) if changes is None else preset.model(preset.scorer(), **changes)
    times = take_turns({"own": step(model, images), "plain": step(plain, images)}, rounds, WARM_UP)
    return times["own"], times["plain"]


def step(model: nn.Module, images: Tensor, half: bool = False) -> Call:
    """Forward, backward and AdamW.

    Args:
        model: The model, which is put into training mode.
        images: Images (B, C, H, W).
        half: Whether products are in bfloat16.

    Returns:
        A call that takes a step.
    """
    model.train()
    optimizer = make_optimizer(model, set(), "adamw", lr=1e-4, weight_decay=0.05, precision="32-true")

    def run() -> None:
        optimizer.zero_grad()
        with bfloat16() if half else nullcontext():
            result = model(images)
        (result if isinstance(result, Tensor) else result.loss).backward()
        optimizer.step()

    return run


def multiply_adds_of_a_loss(preset: Preset, **changes: Any) -> int:
    """Multiply-adds of the loss of an image under one mask, forward.

    Args:
        preset: The model.
        changes: Arguments that override the preset's.
    """
    scorer = preset.scorer()
    model, image = preset.model(scorer, **changes), preset.batch(1)
    return multiply_adds(lambda: model.loss(image, scorer.masks[:1]))


def estimated_gib(preset: Preset, batch: int, changes: dict[str, Any], precision: str = "32-true") -> float:
    """What ``anomalib-memmc memory`` says that a step takes at most, in GiB."""
    accelerator = "gpu" if DEVICE.type == "cuda" else "cpu"
    found = estimate(
        {
            "model": {"class_path": "anomalib_memmc.MemMCMAE", "init_args": {**preset.arguments, **changes}},
            "data": {"class_path": "anomalib_memmc.Phantom", "init_args": {"train_batch_size": batch}},
            "trainer": {"accelerator": accelerator, "precision": precision},
        }
    )
    return found.peak_bytes / 2**30


def measured_gib(preset: Preset, batch: int, changes: dict[str, Any]) -> float:
    """The most memory of two steps in this process, in GiB beyond what it had before."""
    before = peak_gib()
    return peak_since(before, step(preset.model(preset.scorer(), **changes), preset.batch(batch)))


def _memory(preset: Preset, batch: int, changes: dict[str, Any] | None) -> tuple[str, str]:
    """Estimated and measured peak in GiB; empty for a model that is not ours."""
    if changes is None:
        return "", ""
    measured = in_fresh_process(measured_gib, preset, batch, changes)
    return f"{estimated_gib(preset, batch, changes):.2f}", f"{measured:.2f}"
