"""Peak memory of scoring, each batch in a fresh process."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from experiments.performance.device import in_fresh_process, peak_gib
from experiments.performance.presets import Preset
from experiments.performance.table import Table

LARGE_BATCH = 200
CHUNK = 5  # masked views at once where the masks vary


def memory(preset: Preset, counts: Sequence[int], passes: int | None) -> list[Table]:
    """Time and peak memory against the batch, and against the masks at a fixed chunk.

    Args:
        preset: The model.
        counts: Images of the batches, besides the large one.
        passes: Passes after which the large batch is left; None runs it to its end.

    Returns:
        Two tables.
    """
    _, idle = _in_fresh_process(preset, 1, passes=0)
    rows = []
    for images in counts:
        seconds, peak = _in_fresh_process(preset, images)
        rows.append((str(images), f"{seconds:.2f}", f"{seconds / images:.3f}", f"{peak:.2f}"))
    seconds, peak = _in_fresh_process(preset, LARGE_BATCH, passes)
    if passes is None:
        rows.append((str(LARGE_BATCH), f"{seconds:.2f}", f"{seconds / LARGE_BATCH:.3f}", f"{peak:.2f}"))
    else:
        rows.append((f"{LARGE_BATCH}, its first {passes} passes", "", "", f"{peak:.2f}"))
    title = f"Memory against the batch, {preset.name} preset"
    note = f"Scoring, each row in a fresh process; {idle:.2f} GiB are taken before it starts, by libraries and weights."
    of_batch = Table(title, ("images", "s", "s/image", "peak GiB"), rows, note)
    rows = []
    for masks in (5, 10, 20):
        seconds, peak = _in_fresh_process(preset, preset.images, num_masks=masks, chunk_size=CHUNK)
        rows.append((str(masks), f"{seconds:.2f}", f"{seconds / masks:.3f}", f"{peak:.2f}"))
    note = f"{preset.images} image(s), chunk_size {CHUNK}."
    title = f"Memory against the masks, {preset.name} preset"
    return [of_batch, Table(title, ("masks", "s", "s/mask", "peak GiB"), rows, note)]


def probe(preset: Preset, images: int, passes: int | None, scoring: dict[str, Any]) -> tuple[float, float]:
    """Score a batch in this process.

    Args:
        preset: The model.
        images: Images of the batch.
        passes: Passes of the network after which to leave; None runs to the end.
        scoring: Arguments of the scorer that override the preset's.

    Returns:
        Seconds, and the process's peak memory in GiB.
    """
    model, batch, done = preset.model(preset.scorer(**scoring)), preset.batch(images), []

    def count(*_: object) -> None:
        done.append(1)
        if passes is not None and len(done) > passes:
            raise _Enough

    start = time.perf_counter()
    hook = model.network.encoder.register_forward_pre_hook(count)
    try:
        with torch.inference_mode():
            model.score(batch)
    except _Enough:
        pass
    hook.remove()
    return time.perf_counter() - start, peak_gib()


class _Enough(Exception):  # noqa: N818
    """Raised to leave a long batch early."""


def _in_fresh_process(preset: Preset, images: int, passes: int | None = None, **scoring: Any) -> tuple[float, float]:
    seconds, peak = in_fresh_process(probe, preset, images, passes, scoring)
    return seconds, peak
