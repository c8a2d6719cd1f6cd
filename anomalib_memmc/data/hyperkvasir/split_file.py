"""A split written down: a CSV of image paths and the part each is in."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from anomalib_memmc.data.io import DatasetError

HEADER = ["path", "part"]
PARTS = ("train", "val", "test")


def write_split(path: str | Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write a split.

    Args:
        path: The CSV file to write; its folder is created.
        rows: Pairs of a relative path with forward slashes and a part ("train", "val", "test").
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(sorted(rows))


def read_split(path: str | Path) -> dict[str, str]:
    """Read a split.

    Args:
        path: CSV with two columns, a relative path and a part, with or without the header ``path,part``.

    Returns:
        Part of each path.

    Raises:
        DatasetError: If the file is missing, or a line is malformed or contradicts another; the line is named.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"The split file {path} does not exist."
        raise DatasetError(msg)
    parts: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        for number, fields in enumerate(csv.reader(file), start=1):
            if not fields or (number == 1 and [field.strip() for field in fields] == HEADER):
                continue
            if len(fields) != 2 or fields[1].strip() not in PARTS:
                msg = f"{path}, line {number}: expected 'path,part' with a part of {PARTS}, found {','.join(fields)!r}."
                raise DatasetError(msg)
            name, part = fields[0].strip(), fields[1].strip()
            if parts.setdefault(name, part) != part:
                msg = f"{path}, line {number}: {name} is already in the part {parts[name]!r}, not {part!r}."
                raise DatasetError(msg)
    return parts


def short_key(path: str | PurePosixPath) -> str:
    """The last folder and the file's name, by which a listed path is found wherever the data set lies."""
    return "/".join(PurePosixPath(str(path).replace("\\", "/")).parts[-2:])
