"""The ``memory`` command: what a training step takes, without a GPU and without taking it."""

import argparse
import json
from collections.abc import Sequence

from anomalib_memmc.benchmark.config import dotlist, override, read_config
from anomalib_memmc.memory.estimate import Estimate, estimate
from anomalib_memmc.register import register

CARDS = (8, 16, 24, 40, 80)
"""Memory of usual cards in GiB."""
USABLE = 5 / 6
"""Share of a card that a step may take by the estimate, 20 of 24 GiB; the rest is for CUDA or the process, and gaps."""
_MIB, _GIB = 2**20, 2**30


def main(argv: Sequence[str]) -> int:
    """Run ``anomalib-memmc memory``.

    Args:
        argv: The arguments after ``memory``.

    Returns:
        The exit code, 0.

    Raises:
        FileNotFoundError: If the configuration does not exist.
        ValueError: If the configuration is wrong, or its model is not MemMCMAE.
    """
    parser = argparse.ArgumentParser(
        prog="anomalib-memmc memory",
        description="Print what a training step takes on a GPU, without one: a step is run on tensors without numbers.",
        epilog="Any key of the configuration can be overridden: --data.init_args.train_batch_size 32. With "
        "--trainer.accelerator cpu the numbers are those of a CPU.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="the preset to train with")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments, overrides = parser.parse_known_args(argv)
    register()
    found = estimate(override(read_config(arguments.config), list(dotlist(overrides))))
    print(json.dumps(as_json(found)) if arguments.json else as_text(found))
    return 0


def as_json(found: Estimate) -> dict[str, object]:
    """Return the numbers, by names that hold their unit."""
    return {
        "parameters": found.parameters,
        "optimizer_gib": round(found.optimizer_bytes / _GIB, 3),
        "saved_mib_per_image": round(found.saved_bytes_per_image / _MIB, 2),
        "micro_batch": found.micro_batch,
        "accumulate": found.accumulate,
        "peak_gib": round(found.peak_bytes / _GIB, 3),
        "largest_micro_batch": largest(found),
    }


def largest(found: Estimate) -> dict[str, int]:
    """Return the most images of a micro-batch for each card, by its GiB."""
    return {str(card): found.largest(USABLE * card * _GIB) for card in CARDS}


def as_text(found: Estimate) -> str:
    """Return the numbers as a table."""
    saved = found.saved_bytes_per_image
    rows = [
        ("parameters", f"{found.parameters / 1e6:.1f} M", found.model_bytes),
        ("gradients", "", found.gradient_bytes),
        ("optimizer state", "", found.optimizer_bytes),
        ("saved activations", f"{saved / _MIB:.1f} MiB an image", saved * found.micro_batch),
        ("peak of a micro-batch", "", found.peak_bytes),
    ]
    lines = [
        f"A step of {found.micro_batch * found.accumulate} images: {found.accumulate} x {found.micro_batch}, "
        f"in {found.precision}, on a {'GPU' if found.on_gpu else 'CPU'}.",
        "",
        *(f"{name:24}{detail:>22}{size / _GIB:8.2f} GiB" for name, detail, size in rows),
        "",
        f"{'memory':24}{'largest micro-batch':>22}",
        *(f"{card + ' GiB':24}{images:22d}" for card, images in largest(found).items()),
        "",
        f"A sixth of the memory is left free, for {'CUDA itself' if found.on_gpu else 'the process'} and for gaps "
        "between tensors.",
    ]
    return "\n".join(lines)
