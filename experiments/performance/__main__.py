"""Speed and memory, as ratios in one run: what docs/performance.md says.

    python -m experiments.performance --output docs/evidence/performance-tables.md
    python -m experiments.performance --section training sweep --quick

``--output`` adds the tables to a file, below the command that printed them. The variants take turns after a warm-up, so
that a change of the machine's speed meets all of them. Needs the extras ``test`` (Hugging Face ViTMAE, OpenVINO, ONNX
Runtime) and, for the compiled rows, a C++ compiler.
"""

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

from anomalib_memmc.detection.options import number_from
from experiments.performance.inference import inference
from experiments.performance.loader import loader
from experiments.performance.memory import memory
from experiments.performance.parts import parts
from experiments.performance.picture import draw
from experiments.performance.presets import presets
from experiments.performance.sweep import sweep
from experiments.performance.table import Table
from experiments.performance.training import RECOMPUTE, training

PAPER_IMAGES_PER_SECOND = 2000 * 13_794 / (22 * 3600)  # 2000 epochs of Covid-X in 22 hours on one RTX 3090
SECTIONS = ("inference", "parts", "training", "sweep", "memory", "loader")


def main() -> None:
    """Measure the sections that were asked for, print the tables, and write them and the picture."""
    options = _options()
    rounds = options.rounds or (1 if options.quick else 3)
    tables: list[Table] = []
    of_floor, consumed = {}, {"the paper's on an RTX 3090": PAPER_IMAGES_PER_SECOND}

    def report(*new: Table) -> None:
        for table in new:
            print(table, flush=True)
        tables.extend(new)
        gc.collect()

    for preset in presets(options.quick):
        if "inference" in options.section:
            table, of_floor[preset.name] = inference(preset, rounds)
            report(table)
        if "parts" in options.section:
            report(parts(preset, rounds))
        if "training" in options.section:
            table, consumed[f"{preset.name} preset here"] = training(
                preset, options.batch, max(1, rounds - 1), options.recompute
            )
            report(table)
        if "sweep" in options.section:
            report(sweep(preset, options.batches, rounds))
        if "memory" in options.section:
            report(*memory(preset, (1, 2, 4), passes=2 if preset.name == "paper" else None))
    if "loader" in options.section:
        report(*loader(consumed, 8 if options.quick else 32, rounds))
    if options.output:
        with options.output.open("a") as file:
            file.write("\n".join([command(sys.argv[1:]), *map(str, tables), ""]))
    if options.output and of_floor:
        draw(of_floor, options.output.with_name("performance.png"))


def command(arguments: Sequence[str]) -> str:
    """A heading that says what printed the tables below it.

    Args:
        arguments: Those of the command.
    """
    return f"## `{' '.join(['python -m experiments.performance', *arguments])}`\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.performance", description=str(__doc__).splitlines()[0])
    parser.add_argument("--section", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument(
        "--rounds", type=number_from(1), help="rounds that count: 3, or 1 with --quick; a step takes one less"
    )
    parser.add_argument("--batch", type=number_from(1), default=32, help="images of a training step")
    parser.add_argument("--recompute", nargs="+", choices=RECOMPUTE, default=RECOMPUTE, help="rows of a training step")
    parser.add_argument("--batches", type=number_from(1), nargs="+", default=(1, 4, 16), help="batches of the sweep")
    parser.add_argument("--quick", action="store_true", help="the CPU preset only")
    parser.add_argument("--output", type=Path, help="Markdown file the tables are added to; the picture is beside it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
