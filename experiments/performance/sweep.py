"""Images a second, memory, and the share of the device's measured matrix rate, against the batch."""

from collections.abc import Sequence

import torch

from anomalib_memmc import MaskedAutoencoder
from anomalib_memmc.scoring import MaskedScorer
from experiments.performance.consumption import PASSES
from experiments.performance.device import (
    DEVICE,
    attention_kernel,
    bfloat16,
    in_fresh_process,
    name,
    peak_gib,
    peak_since,
)
from experiments.performance.floor import Floor, bfloat16_is_slow
from experiments.performance.inference import multiply_adds_of_scoring
from experiments.performance.presets import Preset
from experiments.performance.table import Table
from experiments.performance.timing import Call, take_turns
from experiments.performance.training import estimated_gib, multiply_adds_of_a_loss, step


def sweep(preset: Preset, batches: Sequence[int], rounds: int) -> Table:
    """Train and score in growing batches, in bfloat16 where the device has it; each batch in a fresh process.

    Args:
        preset: The model.
        batches: Images of the batches; of those that do not fit on a GPU the first has a row that says so.
        rounds: Rounds that count.

    Returns:
        The table.
    """
    half = not bfloat16_is_slow(torch.empty(0, device=DEVICE))
    rows = []
    for batch in batches:
        trained = in_fresh_process(_train, preset, batch, half, rounds)
        scored = in_fresh_process(_score, preset, batch, half, rounds)
        rows.append((str(batch), *trained, *scored))
        if "out of memory" in (trained[0], scored[0]):
            break
    note = (
        f"{name()}, {'bfloat16' if half else 'float32'} autocast, medians of {rounds} rounds. Training: forward, "
        "backward and AdamW. Share: of the multiply-adds a second of the model's own products alone, in the same "
        f"process.{_kernels(preset, half) if DEVICE.type == 'cuda' else ''}"
    )
    header = ("images", "trained/s", "share", "peak GiB", "estimated", "scored/s", "share", "peak GiB")
    return Table(f"Against the batch, {preset.name} preset", header, rows, note)


def _kernels(preset: Preset, half: bool) -> str:
    """What computes the decoder's attention on a GPU; on a CPU it is now two products, now torch's kernel."""
    scorer = preset.scorer()
    network = preset.model(scorer).network
    heads, width = network.init_args["decoder_heads"], network.init_args["decoder_dim"]
    dtype = torch.bfloat16 if half else torch.float32
    tokens, visible = network.num_patches + 1, scorer.visible.shape[1]
    itself, levels = (attention_kernel(heads, tokens, keys, width, dtype) for keys in (tokens, visible))
    return f" Attention of the decoder: {itself}; to the levels: {levels}, all levels at once."


def _train(preset: Preset, batch: int, half: bool, rounds: int) -> tuple[str, ...]:
    try:
        before = peak_gib()
        scorer = preset.scorer()
        model = preset.model(scorer)
        call = step(model, preset.batch(batch), half)
        peak = peak_since(before, call)
        seconds, rate = _timed(model.network, scorer, call, batch, half, rounds)
    except torch.OutOfMemoryError:
        return "out of memory", "", "", ""
    share = PASSES * multiply_adds_of_a_loss(preset) * batch / seconds / rate
    estimated = estimated_gib(preset, batch, {}, "bf16-mixed" if half else "32-true")
    return f"{batch / seconds:.1f}", f"{share:.0%}", f"{peak:.2f}", f"{estimated:.2f}"


def _score(preset: Preset, batch: int, half: bool, rounds: int) -> tuple[str, ...]:
    try:
        before = peak_gib()
        scorer = preset.scorer()
        model, images = preset.model(scorer), preset.batch(batch)

        def call() -> object:
            with torch.inference_mode(), bfloat16(half):
                return model.score(images)

        peak = peak_since(before, call)
        seconds, rate = _timed(model.network, scorer, call, batch * scorer.num_masks, half, rounds)
    except torch.OutOfMemoryError:
        return "out of memory", "", ""
    arithmetic = multiply_adds_of_scoring(preset)
    return f"{batch / seconds:.1f}", f"{arithmetic * batch / seconds / rate:.0%}", f"{peak:.2f}"


def _timed(
    network: MaskedAutoencoder, scorer: MaskedScorer, call: Call, views: int, half: bool, rounds: int
) -> tuple[float, float]:
    """Median seconds of a call of so many masked views, and multiply-adds a second of the products alone."""
    like = torch.empty(0, dtype=torch.bfloat16 if half else torch.float32, device=DEVICE)
    floor = Floor(network, scorer.visible.shape[1], min(views, scorer.views_at_once(network)), like)
    times = take_turns({"call": call, **floor.calls}, rounds)
    return times["call"].median, floor.rate(times)
