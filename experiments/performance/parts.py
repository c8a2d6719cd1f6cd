"""Where the time of scoring goes: each part's share, and how near it comes to the mean rate of all products alone."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import torch
from timm.layers import Mlp
from torch import nn

from anomalib_memmc import MemMCMAEModel
from anomalib_memmc.model.layers.attention import MemoryAttention, MultiLevelCrossAttention
from anomalib_memmc.scoring.error_maps import ErrorMap
from experiments.performance.device import DEVICE, name
from experiments.performance.floor import scoring_floor
from experiments.performance.presets import Preset
from experiments.performance.table import Table
from experiments.performance.timing import Call, counting, take_turns, without_gradients

ERROR_MAP, REST = "error map", "rest: patches in and out, masks, pasting, mean of the maps"
KINDS: dict[type[nn.Module], str] = {
    MemoryAttention: "self-attention",
    MultiLevelCrossAttention: "attention to the levels, with gates",
    Mlp: "MLP",
    nn.LayerNorm: "layer norms",
    ErrorMap: ERROR_MAP,
}
Meter = Callable[[], float]


def parts(preset: Preset, rounds: int) -> Table:
    """Time the parts of scoring a batch by the preset's own error map, against the floor.

    Args:
        preset: The model.
        rounds: Rounds that count.

    Returns:
        The table.
    """
    scorer, images = preset.scorer(), preset.batch(preset.images)
    model = preset.model(scorer)
    floor = scoring_floor(model.network, scorer, images)
    with counting() as counter:
        arithmetic = advances(model, lambda: model.score(images), lambda: counter.get_total_flops() / 2)
    arithmetic[ERROR_MAP] = 0  # its blurs are products too, but none of the network's
    seconds: list[dict[str, float]] = []
    score = without_gradients(lambda: seconds.append(advances(model, lambda: model.score(images), _clock)))
    rate = floor.rate(take_turns({"score": score, **floor.calls}, rounds))
    shares = {part: statistics.median(of[part] / sum(of.values()) for of in seconds[-rounds:]) for part in seconds[-1]}
    best = {part: min(of[part] for of in seconds[-rounds:]) for part in shares}
    whole = sum(arithmetic.values())
    rows = []
    for part, share in sorted(shares.items(), key=lambda item: -item[1]):
        multiply_adds = arithmetic[part]
        of_floor = (f"{multiply_adds / whole:.0%}", f"{multiply_adds / rate / best[part]:.0%}")
        rows.append((part, f"{share:.1%}", *(of_floor if multiply_adds else ("-", "-"))))
    note = (
        f"{len(images)} image(s) of {images.shape[-1]} px and {scorer.num_masks} masks, the preset's error map, "
        f"{name()}, medians of {rounds} rounds. Products at the model's sizes run at {rate / 1e9:.1f} G "
        "multiply-adds/s at best."
    )
    header = ("", "of the time", "of the multiply-adds", "reached of the floor")
    return Table(f"Parts of scoring, {preset.name} preset", header, rows, note)


def advances(model: MemMCMAEModel, call: Call, meter: Meter) -> dict[str, float]:
    """How far a meter advances in each part of a model while a call runs.

    Args:
        model: The model that is called.
        call: The call.
        meter: Tells how much there was so far, of seconds or of multiply-adds.

    Returns:
        Advance by part; what is in none is the rest.
    """
    spent: dict[str, float] = defaultdict(float)
    hooks = [
        hook
        for module_name, module in model.named_modules()
        if (part := _part(module_name, module))
        for hook in (
            module.register_forward_pre_hook(lambda *_, part=part: spent.update({part: spent[part] - meter()})),
            module.register_forward_hook(lambda *_, part=part: spent.update({part: spent[part] + meter()})),
        )
    ]
    start = meter()
    try:
        call()
        whole = meter() - start
    finally:
        for hook in hooks:
            hook.remove()
    return {**spent, REST: whole - sum(spent.values())}


def _part(module_name: str, module: nn.Module) -> str:
    """What a module counts as; empty where it is in the rest."""
    kind = next((kind for of, kind in KINDS.items() if isinstance(module, of)), "")
    side = next((side for side in ("encoder", "decoder") if f"{side}.blocks" in module_name), "")
    return f"{side}: {kind}" if side and kind in ("self-attention", "MLP") else kind


def _clock() -> float:
    """Seconds, after all that a GPU was given is done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
