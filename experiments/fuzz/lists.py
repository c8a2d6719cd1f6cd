"""Label and split files: encodings, line ends, joined and contradictory lines, damaged files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image

from anomalib_memmc.data import CovidX, HyperKvasir
from experiments.fuzz.case import Case
from experiments.fuzz.damage import DAMAGES

FRAMES = 8
Rows = dict[str, tuple[str, ...]]
"""What should be read of each file."""

ENCODINGS = {"utf-8": True, "utf-8-sig": True, "utf-16": True, "utf-32": True, "utf-16-le": False, "latin-1": False}
"""Encoding -> whether it can be told from the file."""


def labels_case(rng: Generator, folder: Path) -> Case:
    """A training list of Covid-X beside its images."""
    rows = {
        f"neg-{number}.png": (str(rng.choice([f"p{number // 2}", f"COVID {number}", f"Müller{number}"])), "train")
        for number in range(FRAMES)
    }
    _frames(folder / "train", rows)
    tests = {"a.png": ("t0", "test"), "b.png": ("t1", "test")}
    _frames(folder / "test", tests, first=FRAMES)
    (folder / "test.txt").write_text("t0 a.png negative rsna\nt1 b.png positive ricord\n")
    lines = [f"{patient} {name} negative rsna" for name, (patient, _) in rows.items()]
    path = folder / "train.txt"
    change, can_be_right = _write_list(rng, path, lines, LABEL_CHANGES)

    def read() -> Rows:
        parts = CovidX(folder, num_workers=0, val_split_mode="none").parts
        return {Path(row.image_path).name: (row.group, row.split) for row in parts.itertuples()}

    return Case(change, read, partial(_judge, {**rows, **tests}, can_be_right, change), (str(folder), "CovidX"))


def split_case(rng: Generator, folder: Path) -> Case:
    """A split file of Hyper-Kvasir beside its frames."""
    tree = folder / "labeled-images/lower-gi-tract/anatomical-landmarks/cecum"
    rows = {f"frame-{number}.png": (("train", "val", "test")[number % 3],) for number in range(FRAMES)}
    _frames(tree, rows)
    polyps = {"polyp-0.png": ("test",), "polyp-1.png": ("test",)}
    _frames(folder / "segmented-images/images", polyps, first=FRAMES)
    _frames(folder / "segmented-images/masks", polyps, first=FRAMES)
    prefix = rng.choice(["", "labeled-images/lower-gi-tract/anatomical-landmarks/", "/other/root/", "C:\\data\\"])
    slash = "\\" if "\\" in prefix else "/"
    lines = [f"{prefix}cecum{slash}{name},{part}" for name, (part,) in rows.items()]
    path = folder / "split.csv"
    change, can_be_right = _write_list(rng, path, lines, SPLIT_CHANGES)

    def read() -> Rows:
        parts = HyperKvasir(folder, split_file=path, num_workers=0).parts
        return {Path(row.image_path).name: (row.split,) for row in parts.itertuples()}

    return Case(change, read, partial(_judge, {**rows, **polyps}, can_be_right, change), (str(folder), "HyperKvasir"))


def _frames(folder: Path, names: Sequence[str] | dict[str, Any], first: int = 0) -> None:
    """Write a tiny picture under each name, each unlike the others."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start=first):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)


def _judge(rows: Rows, can_be_right: bool, change: str, read: Rows) -> bool | None:
    """Whether the rows are right. Lines lost at the end, or other letters in a name, cannot be seen in a list."""
    if read == rows:
        return can_be_right
    if change == "cut off" and read.items() <= rows.items():
        return None
    return None if change in {"flipped bits", "zeros"} else False


Change = tuple[Callable[[Generator, list[str]], list[str]], bool]
"""Changes lines, and whether they can still be read right."""


def _write_list(rng: Generator, path: Path, lines: list[str], changes: dict[str, Change]) -> tuple[str, bool]:
    """Write the lines with a change; what it is, and whether the list can still be read right."""
    kind = rng.random()
    end = str(rng.choice(["\n", "\r\n"]))
    if kind < 0.5:
        change = str(rng.choice(list(changes)))
        edit, can_be_right = changes[change]
        path.write_bytes(end.join([*edit(rng, lines), ""]).encode())
        return change, can_be_right
    text = end.join(lines) + ("" if rng.random() < 0.5 else end)
    if kind < 0.7:
        encoding = str(rng.choice(list(ENCODINGS)))
        path.write_bytes(text.encode(encoding))
        return encoding, ENCODINGS[encoding] or (encoding == "latin-1" and text.isascii())
    damage = str(rng.choice(list(DAMAGES)))
    path.write_bytes(DAMAGES[damage](text.encode(), rng))
    return damage, True


def _joined(rng: Generator, lines: list[str]) -> list[str]:
    place = int(rng.integers(1, len(lines)))
    return [*lines[: place - 1], lines[place - 1] + lines[place], *lines[place + 1 :]]


def _edited(edit: Callable[[str], str], rng: Generator, lines: list[str]) -> list[str]:
    place = int(rng.integers(len(lines)))
    return [*lines[:place], edit(lines[place]), *lines[place + 1 :]]


def _with_blank_lines(rng: Generator, lines: list[str]) -> list[str]:
    return [part for line in lines for part in ([line, ""] if rng.random() < 0.5 else [line])]


def _again_elsewhere(_: Generator, lines: list[str]) -> list[str]:
    """The first frame a second time, by another path and in another part."""
    return [*lines, f"elsewhere/cecum/frame-0.png,{'val' if lines[0].endswith('train') else 'train'}"]


LABEL_CHANGES: dict[str, Change] = {
    "joined lines": (_joined, False),
    "blank lines": (_with_blank_lines, True),
    "tabs": (lambda _, lines: [line.replace(" neg", "\tneg") for line in lines], True),
    "blanks at the ends": (lambda _, lines: [f"  {line}\t " for line in lines], True),
    "a line twice": (lambda _, lines: [*lines, lines[0]], False),
    "an unknown class": (partial(_edited, lambda line: line.replace("negative", "negativ")), False),
    "a missing field": (partial(_edited, lambda line: " ".join(line.split()[-3:])), False),
    "a missing image": (partial(_edited, lambda line: line.replace("neg-", "neg-9")), False),
    "an image elsewhere": (lambda _, lines: [*lines, "t0 ../test/a.png negative rsna"], False),
}
SPLIT_CHANGES: dict[str, Change] = {
    "joined lines": (_joined, False),
    "blank lines": (_with_blank_lines, True),
    "a header": (lambda _, lines: ["path,part", *lines], True),
    "quotes": (lambda _, lines: [f'"{line.split(",")[0]}",{line.split(",")[1]}' for line in lines], True),
    "an open quote": (partial(_edited, lambda line: f'"{line}'), False),
    "a line twice": (lambda _, lines: [*lines, lines[0]], True),
    "a frame in two parts": (_again_elsewhere, False),
    "an unknown part": (partial(_edited, lambda line: f"{line}s"), False),
    "a missing field": (partial(_edited, lambda line: line.split(",")[0]), False),
    "a missing image": (partial(_edited, lambda line: line.replace("frame-", "frame-9")), False),
}
