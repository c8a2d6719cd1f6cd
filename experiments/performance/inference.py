"""Time of an image against the floor, which is that of its multiply-adds alone."""

import copy
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor

from anomalib_memmc import MemMCMAEModel
from anomalib_memmc.scoring import MSSSIMMap, SquaredErrorMap
from experiments.performance.device import DEVICE, name
from experiments.performance.floor import PREFIX, bfloat16_is_slow, scoring_floor
from experiments.performance.others import BACKBONE, CORESET, baselines, exports, hugging_face
from experiments.performance.presets import PLAIN, Preset
from experiments.performance.table import Table
from experiments.performance.timing import Call, multiply_adds, take_turns, without_gradients
from tests.reference import transcription

OWN = "ours, the preset's error map"


def inference(preset: Preset, rounds: int) -> tuple[Table, dict[str, float]]:
    """Time all ways to score a batch, by MS-SSIM as in the paper, and once by the preset's own error map.

    Args:
        preset: The model.
        rounds: Rounds that count.

    Returns:
        The table, and each way's time relative to the floor.
    """
    scorer, images = preset.scorer(error_map=MSSSIMMap()), preset.batch(preset.images)
    model, masks = preset.model(scorer), scorer.num_masks
    ours, naive, plain_mae, copies = _arithmetic(preset, images[:1])
    floor = scoring_floor(model.network, scorer, images)
    compiled = preset.model(preset.scorer(error_map=MSSSIMMap()), compile=True)
    calls: dict[str, Call] = {**_ways(model, compiled, images, masks), **baselines(images)}
    shipped = preset.scorer()
    if not isinstance(shipped.error_map, MSSSIMMap):
        with_own_map = preset.model(shipped)
        calls[OWN] = lambda: with_own_map.score(images)
    reason = bfloat16_is_slow(images)
    if not reason:
        half, half_images = copy.deepcopy(model).bfloat16(), images.bfloat16()
        calls["ours, bfloat16"] = lambda: half.score(half_images)
    calls = {way: without_gradients(call) for way, call in calls.items()}
    with tempfile.TemporaryDirectory() as folder:
        if DEVICE.type == "cpu":
            calls |= exports(model, images, Path(folder))
        times = take_turns({**calls, **floor.calls}, rounds)
    rate = floor.rate(times)
    least = ours / rate
    times = {way: own for way, own in times.items() if not way.startswith(PREFIX)}
    rows = [
        (
            way,
            f"{own.median / len(images):.3f}",
            f"{own.best / len(images) / least:.2f}",
            str(own.over(times["ours"])),
        )
        for way, own in sorted(times.items(), key=lambda item: -item[1].median)
    ]
    reached = least * len(images) / times["ours"].best
    rows.append(("floor: the multiply-adds alone", f"{least:.3f}", "1.00", f"{reached:.2f}"))
    plain = times["plain transcription"].over(times["ours"])
    note = (
        f"{len(images)} image(s) of {images.shape[-1]} px and {masks} masks, {name()}, medians of {rounds} rounds and "
        "their range. The floor is of shortest times, and is compared with shortest times. Products at the model's "
        f"sizes run at {rate / 1e9:.1f} G multiply-adds/s at best.\n\nAn image takes "
        f"{ours / 1e9:.1f} G as we compute it, {naive / 1e9:.1f} G as the equations are printed, {plain_mae / 1e9:.1f} "
        f"G of a plain MAE by the same scorer, {copies / 1e9:.1f} G of Hugging Face's {masks} copies. Ours reaches "
        f"{reached:.0%} of the floor and {plain.median:.2f} times the transcription's speed. bfloat16: "
        f"{reason or 'in the table'}. PaDiM and PatchCore: {BACKBONE} at the same image size, a memory bank of "
        f"{CORESET:,} patches."
    )
    table = Table(f"Inference, {preset.name} preset", ("", "s/image", "of the floor", "of ours"), rows, note)
    return table, {way: own.best / len(images) / least for way, own in times.items()}


def _ways(model: MemMCMAEModel, compiled: MemMCMAEModel, images: Tensor, masks: int) -> dict[str, Call]:
    """The model, its transcription, and the plain MAE with as many masks."""
    mae, repeated = hugging_face(model), images.repeat(masks, 1, 1, 1)
    return {
        "plain transcription": lambda: transcription.error_map(model, images),
        "ours": lambda: model.score(images),
        "ours, compiled": lambda: compiled.score(images),
        f"Hugging Face ViTMAE, {masks} passes": lambda: [mae(images) for _ in range(masks)],
        f"Hugging Face ViTMAE, {masks} passes at once": lambda: mae(repeated),
    }


def multiply_adds_of_scoring(preset: Preset, **changes: Any) -> int:
    """Multiply-adds of the network in scoring an image; MS-SSIM blurs by products too, which are no part of it.

    Args:
        preset: The model.
        changes: Arguments that override the preset's.
    """
    model, image = preset.model(preset.scorer(error_map=SquaredErrorMap()), **changes), preset.batch(1)
    return multiply_adds(lambda: model.score(image))


def _arithmetic(preset: Preset, image: Tensor) -> tuple[int, int, int, int]:
    """Multiply-adds of an image (1, C, H, W): as computed, as printed, of a plain MAE, of Hugging Face's copies."""
    scorer = preset.scorer()
    model = preset.model(scorer)
    of_mask = multiply_adds(lambda: transcription.reconstruct_one(model, image, scorer.masks[0]))
    foreign, copies = hugging_face(model), image.repeat(scorer.num_masks, 1, 1, 1)
    return (
        multiply_adds_of_scoring(preset),
        scorer.num_masks * of_mask,
        multiply_adds_of_scoring(preset, **PLAIN),
        multiply_adds(lambda: foreign(copies)),
    )
