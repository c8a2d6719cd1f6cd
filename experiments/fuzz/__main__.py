"""Give damaged and unusual input to what reads it, and count what comes of it.

    python -m experiments.fuzz --cases 100 --seed 0

Every case starts from a small valid file: an image, a mask, a DICOM radiograph, a label or a split file, a
configuration, a checkpoint, weights of an MAE. It is changed in a way that keeps its meaning (another format, depth or
encoding), that takes it away (a joined line, NaN), or at random (flipped bits, a cut). Good is a case that reads as the
file means, or whose error is one that the command line prints as one message, and names the file or the key. ``other
error``, ``silently wrong`` and ``hang`` are listed below the table, and the command fails. A change that cannot be seen
in the file, such as another pixel of a BMP, is not judged.

``--only image:17`` runs one case again, and ``--keep FOLDER`` keeps the files.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.fuzz.case import Kind, Outcome, outcome_of
from experiments.fuzz.checkpoints import checkpoint_case
from experiments.fuzz.configurations import configuration_case
from experiments.fuzz.dicom import dicom_case
from experiments.fuzz.lists import labels_case, split_case
from experiments.fuzz.pictures import image_case, mask_case
from experiments.fuzz.weights import weights_case

KINDS: dict[str, Kind] = {
    "image": image_case,
    "mask": mask_case,
    "dicom": dicom_case,
    "labels": labels_case,
    "split": split_case,
    "configuration": configuration_case,
    "checkpoint": checkpoint_case,
    "weights": weights_case,
}
"""A further kind of input is a function and a line here."""
NEEDS = {"dicom": "pydicom"}
LIMIT = 10.0


@dataclass(frozen=True)
class Result:
    """What came of a case, and how to name it."""

    name: str
    change: str
    outcome: Outcome
    text: str


def fuzz(names: Iterable[str], seed: int, folder: Path, limit: float = LIMIT) -> list[Result]:
    """Run cases.

    Args:
        names: ``KIND:NUMBER`` of each case; a case depends on its name and the seed alone.
        seed: Seed of all cases.
        folder: Folder for their files.
        limit: Seconds of the processor that a case may take.

    Returns:
        The results, in the order of `names`.
    """
    results = []
    for name in names:
        kind, number = name.split(":")
        place = folder / f"{kind}-{number}"
        place.mkdir(parents=True)
        case = KINDS[kind](np.random.default_rng((seed, *kind.encode(), int(number))), place)
        results.append(Result(name, case.change, *outcome_of(case, limit)))
    return results


def case_names(count: int) -> list[str]:
    """The names of so many cases, dealt in turn to the kinds whose packages are there."""
    kinds = [kind for kind in KINDS if kind not in NEEDS or importlib.util.find_spec(NEEDS[kind])]
    return [f"{kinds[number % len(kinds)]}:{number // len(kinds)}" for number in range(count)]


def table(results: list[Result]) -> str:
    """A Markdown table: one row a kind, one column an outcome."""
    counts = Counter((result.name.split(":")[0], result.outcome) for result in results)
    lines = [["", *(outcome.value for outcome in Outcome)], ["---", *["---:"] * len(Outcome)]]
    for kind in dict.fromkeys(kind for kind, _ in counts):
        lines.append([kind, *(str(counts[kind, outcome]) for outcome in Outcome)])
    lines.append(["all", *(str(sum(counts[kind, outcome] for kind in KINDS)) for outcome in Outcome)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of the processor that a case may take")
    parser.add_argument("--only", nargs="+", metavar="KIND:NUMBER")
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        names = arguments.only or case_names(arguments.cases)
        results = fuzz(names, arguments.seed, arguments.keep or Path(folder), arguments.limit)
    print(table(results))
    bad = [result for result in results if result.outcome.is_bad]
    for result in bad:
        print(f"\n{result.name} ({result.change}): {result.outcome.value}\n{result.text}")
    if arguments.only:
        print(*(f"\n{result.name} ({result.change}): {result.text}" for result in results if result not in bad))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
