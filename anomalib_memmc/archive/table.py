"""The table of scores: Parquet files that are written whole, each image in one of them."""

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("score", pa.float64()),
        ("percentile", pa.float64()),
        ("p_value", pa.float64()),
        ("label", pa.int8()),
        ("spread", pa.float64()),
        ("seconds", pa.float64()),
        ("map", pa.string()),
        ("error", pa.string()),
        ("versions", pa.string()),
    ]
)
_LONGEST = 12  # characters, as the table has them of a digest
FOLDER, SETTINGS = "scores", "settings.json"
PART_ROWS, PART_SECONDS = 1000, 30.0
"""A part is written at so many rows, or after so long: what a kill can cost."""


class ScoreTable:
    """A table in a folder, to which rows are added part by part.

    A part is written under a hidden name, and gets its own only when it is whole and on the disk. So a kill loses the
    rows of the part in progress and spoils none. A number that another process has taken meanwhile ends the run.

    Args:
        folder: Where the table lies: ``scores/*.parquet`` and ``settings.json``.
        settings: What the rows depend on, plain values; those of a table that is there must be equal.
        part_rows: Rows of a part; None takes :data:`PART_ROWS`.

    Raises:
        ValueError: If the folder is a file, or the table was made with other settings, or is damaged.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], part_rows: int | None = None) -> None:
        if folder.exists() and not folder.is_dir():
            msg = f"--output takes a folder, and {folder} is a file: choose another."
            raise ValueError(msg)
        self.folder = folder / FOLDER
        self.part_rows = PART_ROWS if part_rows is None else part_rows
        self._require_settings(folder / SETTINGS, settings)
        self.folder.mkdir(parents=True, exist_ok=True)
        for unfinished in self.folder.glob(".*.tmp"):
            unfinished.unlink(missing_ok=True)
        names = [path.stem.removeprefix("part-") for path in self._parts()]
        self._number = 1 + max((int(name) for name in names if name.isdigit()), default=-1)
        self._rows: list[pa.Table] = []
        self._since = time.monotonic()

    def __enter__(self) -> "ScoreTable":
        """Start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the rows of the part in progress, also where the run was interrupted."""
        self.flush()

    def read(self, columns: list[str]) -> pa.Table:
        """Some columns of the rows that are written.

        Raises:
            ValueError: If a part is damaged.
        """
        tables = []
        for path in self._parts():
            try:
                tables.append(pq.read_table(path, columns=columns, partitioning=None))
            except (pa.ArrowException, OSError) as error:
                msg = f"{path} is damaged ({error}). Delete it and start again: its images are scored anew."
                raise ValueError(msg) from error
        return pa.concat_tables([pa.schema([SCHEMA.field(name) for name in columns]).empty_table(), *tables])

    def add(self, rows: pa.Table) -> None:
        """Add rows of :data:`SCHEMA`; they are written when the part is full or it has been long."""
        self._rows.append(rows)
        is_full = sum(map(len, self._rows)) >= self.part_rows
        if is_full or time.monotonic() - self._since > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows of the part in progress.

        Raises:
            ValueError: If another process writes into the folder.
        """
        rows, self._rows, self._since = self._rows, [], time.monotonic()
        if not rows:
            return
        path = self.folder / f"part-{self._number:06d}.parquet"
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            pq.write_table(pa.concat_tables(rows), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        try:
            _name(temporary, path)
        except (FileExistsError, FileNotFoundError) as error:
            msg = f"Another process writes its scores into {self.folder}: let one of them finish, then start again."
            raise ValueError(msg) from error
        finally:
            temporary.unlink(missing_ok=True)
        self._number += 1

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _require_settings(self, path: Path, settings: dict[str, Any]) -> None:
        """Note the settings of a new table, and refuse others for one that is there."""
        if path.is_file():
            differing = _differences(path, settings)
            if differing:
                msg = f"{path.parent} holds scores of other settings ({differing}): choose another output folder."
                raise ValueError(msg)
            return
        if self._parts():
            msg = f"{path.parent} holds scores without a {SETTINGS}: choose another output folder."
            raise ValueError(msg)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(settings) + "\n", encoding="utf-8")
        temporary.replace(path)


def _differences(path: Path, settings: dict[str, Any]) -> str:
    """How the settings of a file differ from others; empty where they do not."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        names = [name for name, value in settings.items() if there[name] != value]
    except (ValueError, KeyError, TypeError) as error:
        return f"{path} cannot be read: {error!r}"
    return ", ".join(f"{name} was {_short(there[name])}, now {_short(settings[name])}" for name in names)


def _name(temporary: Path, path: Path) -> None:
    """Give a finished file its name, unless that is taken.

    Raises:
        FileExistsError: If it is taken.
    """
    try:
        os.link(temporary, path)  # unlike a renaming it does not replace
    except FileExistsError:
        raise
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)


def _short(value: Any) -> Any:
    """A value for a message; of a long one, such as a digest, the beginning."""
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
