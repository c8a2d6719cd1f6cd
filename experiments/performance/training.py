"""Time of a training step against that of a plain MAE, and what computing parts again costs."""

from typing import Any

import torch
from torch import Tensor, nn

from experiments.performance.others import hugging_face
from experiments.performance.presets import PLAIN, Preset
from experiments.performance.table import Table
from experiments.performance.timing import Call, multiply_adds, take_turns


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
    ours = preset.model(preset.scorer())
    models: dict[str, nn.Module] = {
        "ours": ours,
        "ours, recompute: gates": preset.model(preset.scorer(), recompute="gates"),
        "ours, recompute: decoder": preset.model(preset.scorer(), recompute="decoder"),
        "plain MAE, ours": preset.model(preset.scorer(), **PLAIN),
        "Hugging Face ViTMAE": hugging_face(ours),
    }
    arithmetic = multiply_adds_of_a_loss(preset) / multiply_adds_of_a_loss(preset, **PLAIN)
    seconds = take_turns({name: _step(model, images) for name, model in models.items()}, rounds)
    unit = seconds["plain MAE, ours"]
    rows = [(name, f"{value:.2f}", f"{value / unit:.2f}") for name, value in seconds.items()]
    note = (
        f"Batch {batch}, {torch.get_num_threads()} threads, forward, backward and AdamW. The full model's arithmetic "
        f"is {arithmetic:.2f} times plain MAE's, without what is computed again."
    )
    return Table(f"Training step, {preset.name} preset", ("", "s", "of plain MAE"), rows, note), batch / seconds["ours"]


def _step(model: nn.Module, images: Tensor) -> Call:
    """Forward, backward and AdamW."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def run() -> None:
        optimizer.zero_grad()
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
