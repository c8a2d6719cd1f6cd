"""Time of an image against the floor, which is that of its multiply-adds alone."""

import copy
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from anomalib_memmc import MemMCMAEModel
from anomalib_memmc.scoring import MSSSIMMap, SquaredErrorMap
from experiments.performance.others import BACKBONE, CORESET, baselines, exports, hugging_face
from experiments.performance.presets import Preset
from experiments.performance.table import Table
from experiments.performance.timing import (
    Call,
    Products,
    bfloat16_is_slow,
    multiply_adds,
    take_turns,
    without_gradients,
)
from tests.reference import transcription


def inference(preset: Preset, rounds: int) -> tuple[Table, dict[str, float]]:
    """Time all ways to score a batch, by MS-SSIM as in the paper.

    Args:
        preset: The model.
        rounds: Rounds that count.

    Returns:
        The table, and each way's time relative to the floor.
    """
    scorer, images = preset.scorer(error_map=MSSSIMMap()), preset.batch(preset.images)
    model, masks = preset.model(scorer), scorer.num_masks
    ours, naive = _arithmetic(preset, images[:1])
    views = min(masks * len(images), scorer.views_at_once(model.network))
    products = Products(model.network, scorer.visible.shape[1], views)
    compiled = preset.model(preset.scorer(error_map=MSSSIMMap()), compile=True)
    calls: dict[str, Call] = {
        "products alone": products,
        **_ways(model, compiled, images, masks),
        **baselines(images),
    }
    reason = bfloat16_is_slow()
    if not reason:
        half, half_images = copy.deepcopy(model).bfloat16(), images.bfloat16()
        calls["ours, bfloat16"] = lambda: half.score(half_images)
    calls = {name: without_gradients(call) for name, call in calls.items()}
    with tempfile.TemporaryDirectory() as folder:
        calls |= exports(model, images, Path(folder))
        seconds = {name: value / len(images) for name, value in take_turns(calls, rounds).items()}
    rate = products.multiply_adds / (seconds.pop("products alone") * len(images))
    floor = ours / rate
    rows = [
        (name, f"{value:.3f}", f"{value / floor:.2f}", f"{value / seconds['ours']:.2f}")
        for name, value in sorted(seconds.items(), key=lambda item: -item[1])
    ]
    rows.append(("floor: the multiply-adds alone", f"{floor:.3f}", "1.00", f"{floor / seconds['ours']:.2f}"))
    plain_ratio = seconds["plain transcription"] / seconds["ours"]
    note = (
        f"{len(images)} image(s) of {images.shape[-1]} px and {masks} masks, {torch.get_num_threads()} threads. "
        f"Products at the model's sizes run at {rate / 1e9:.1f} G multiply-adds/s. An image takes {ours / 1e9:.1f} G "
        f"as we compute it, {naive / 1e9:.1f} G as the equations are printed. Ours reaches "
        f"{floor / seconds['ours']:.0%} of the floor and {plain_ratio:.2f} times the transcription's speed. bfloat16: "
        f"{reason or 'in the table'}. PaDiM and PatchCore: {BACKBONE} at the same image size, a memory bank of "
        f"{CORESET:,} patches."
    )
    table = Table(f"Inference, {preset.name} preset", ("", "s/image", "of the floor", "of ours"), rows, note)
    return table, {name: value / floor for name, value in seconds.items()}


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


def _arithmetic(preset: Preset, image: Tensor) -> tuple[int, int]:
    """Multiply-adds of an image (1, C, H, W): as computed, and as the equations are printed."""
    scorer = preset.scorer(error_map=SquaredErrorMap())  # MS-SSIM blurs by products, which are no part of the network
    model = preset.model(scorer)
    of_mask = multiply_adds(lambda: transcription.reconstruct_one(model, image, scorer.masks[0]))
    return multiply_adds(lambda: model.score(image)), scorer.num_masks * of_mask
