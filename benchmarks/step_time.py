"""Time of a training step of the small CPU models, as ratios to the plain MAE in float32, all in one run.

    python benchmarks/step_time.py [--rounds 5] [--batch 32]

The variants take turns, so that a change of the machine's speed meets all of them; the median of each is used.
"""

import argparse
import statistics
import time

import torch

from anomalib_memmc import MemMCMAEModel

SMALL = {
    "image_size": 128,
    "in_channels": 1,
    "encoder_dim": 192,
    "encoder_depth": 6,
    "encoder_heads": 6,
    "decoder_dim": 128,
    "decoder_depth": 4,
    "decoder_heads": 4,
}
VARIANTS = {
    "MAE": {"memory_slots": 0, "multi_level": False, "long_skips": False},
    "MAE + memory": {"multi_level": False, "long_skips": False},
    "full, levels 2 4 6": {"multi_level": [2, 4, 6], "cross_residual": True},
    "full, all levels": {"cross_residual": True},
}


def seconds_of_step(model: MemMCMAEModel, images: torch.Tensor, half: bool) -> float:
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = model(images)
    loss.backward()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    images = torch.rand(arguments.batch, 1, 128, 128)
    models = {name: MemMCMAEModel(**SMALL, **changes).train() for name, changes in VARIANTS.items()}
    times: dict[tuple[str, bool], list[float]] = {(name, half): [] for name in models for half in (False, True)}
    for counted in [False] + [True] * arguments.rounds:
        for (name, half), measured in times.items():
            seconds = seconds_of_step(models[name], images, half)
            if counted:
                measured.append(seconds)
    unit = statistics.median(times["MAE", False])
    print(f"{'model':20s} {'float32':>8s} {'bfloat16':>9s}   (1 = {unit:.3f} s, {torch.get_num_threads()} threads)")
    for name in models:
        float32, bfloat16 = (statistics.median(times[name, half]) / unit for half in (False, True))
        print(f"{name:20s} {float32:8.2f} {bfloat16:9.2f}")


if __name__ == "__main__":
    main()
