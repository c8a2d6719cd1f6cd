"""Time and memory of a training step against that of a plain MAE, and what computing parts again costs."""

from contextlib import nullcontext
from typing import Any

from torch import Tensor, nn

from anomalib_memmc.memory.estimate import estimate
from anomalib_memmc.model.optimizer import make_optimizer
from experiments.performance.device import DEVICE, bfloat16, in_fresh_process, name, peak_gib, peak_since
from experiments.performance.others import hugging_face
from experiments.performance.presets import PLAIN, Preset
from experiments.performance.table import Table
from experiments.performance.timing import Call, multiply_adds, take_turns

VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours, recompute: gates": {"recompute": "gates"},
    "ours, recompute: decoder": {"recompute": "decoder"},
    "plain MAE, ours": PLAIN,
}
FOREIGN = "Hugging Face ViTMAE"
WARM_UP = 2  # steps: until then the memory that a step takes comes from the system, page by page


def training(preset: Preset, batch: int, rounds: int) -> tuple[Table, float]:
    """Time a training step of the full model, whatever it computes again, and of two plain MAEs.

    Args:
        preset: The model.
        batch: Images of a step.
        rounds: Rounds that count.

    Returns:
        The table, and the images a second that the full model takes.
    """
    images = preset.batch(batch)
    own_models = {variant: preset.model(preset.scorer(), **changes) for variant, changes in VARIANTS.items()}
    models: dict[str, nn.Module] = {**own_models, FOREIGN: hugging_face(own_models["ours"])}
    times = take_turns({variant: step(model, images) for variant, model in models.items()}, rounds, WARM_UP)
    arithmetic = multiply_adds_of_a_loss(preset) / multiply_adds_of_a_loss(preset, **PLAIN)
    del models, own_models  # before memory is measured in other processes
    rows = []
    for variant, own in times.items():
        memory = _memory(preset, batch, VARIANTS[variant]) if variant in VARIANTS else ("", "")
        rows.append((variant, f"{own.median:.2f}", str(own.over(times["plain MAE, ours"])), *memory))
    note = (
        f"Batch {batch} in float32, {name()}: forward, backward and AdamW; medians of {rounds} rounds and their range. "
        f"The full model's arithmetic is {arithmetic:.2f} times plain MAE's, without what is computed again. Peaks are "
        "of a process of its own, without what libraries take; estimated ones are `anomalib-memmc memory`'s."
    )
    header = ("", "s", "of plain MAE", "peak GiB, estimated", "peak GiB, measured")
    return Table(f"Training step, {preset.name} preset", header, rows, note), batch / times["ours"].median


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


def _memory(preset: Preset, batch: int, changes: dict[str, Any]) -> tuple[str, str]:
    measured = in_fresh_process(measured_gib, preset, batch, changes)
    return f"{estimated_gib(preset, batch, changes):.2f}", f"{measured:.2f}"
