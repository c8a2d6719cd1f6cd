"""A split written down: a CSV of image paths and the part each is in."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from anomalib_memmc.data.io import DatasetError
from anomalib_memmc.data.io.text import read_text

HEADER = ["path", "part"]
PARTS = ("train", "val", "test")


def write_split(path: str | Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write a split.

    Args:
        path: The CSV file to write; its folder is created.
        rows: Pairs of a relative path with forward slashes and a part ("train", "val", "test").

    Raises:
        DatasetError: If the name of a file is not UTF-8, so that no text file can hold it.
    """
    path, rows = Path(path), sorted(rows)
    for name, _ in rows:
        if name != name.encode(errors="replace").decode():
            msg = f"The name of {name!a} is not UTF-8, so {path} cannot hold it: rename the file."
            raise DatasetError(msg)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows)


def read_split(path: str | Path) -> dict[str, str]:
    """Read a split.

    Args:
        path: CSV with two columns, a relative path and a part, with or without the header ``path,part``; UTF-8 or with
            a byte order mark.

    Returns:
        Part of each frame, by its :func:`short_key`.

    Raises:
        DatasetError: If the file is missing or in another encoding, or a line is malformed or contradicts another, also
            by another path to the same frame; the lines are named.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"The split file {path} does not exist."
        raise DatasetError(msg)
    parts: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, fields in _records(path):
        if not fields or (number == 1 and [field.strip() for field in fields] == HEADER):
            continue
        if len(fields) != 2 or fields[1].strip() not in PARTS:
            msg = f"{path}, line {number}: expected 'path,part' with a part of {PARTS}, found {','.join(fields)!r}."
            raise DatasetError(msg)
        name, part = short_key(fields[0].strip()), fields[1].strip()
        first = lines.setdefault(name, number)
        if parts.setdefault(name, part) != part:
            msg = f"{path}, line {number}: {name} is already in the part {parts[name]!r} by line {first}, not {part!r}."
            raise DatasetError(msg)
    return parts


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of a line and its fields.

    Raises:
        DatasetError: If the CSV is malformed.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for fields in reader:
            yield reader.line_num, fields
    except csv.Error as error:
        msg = f"{path}, line {reader.line_num}: {error}. Expected 'path,part' on each line."
        raise DatasetError(msg) from error


def short_key(path: str | PurePosixPath) -> str:
    """The last folder and the file's name, by which a listed path is found wherever the data set lies."""
    return "/".join(PurePosixPath(str(path).replace("\\", "/")).parts[-2:])
