"""What to score: folders, lists, columns of paths and files, as one list of paths."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from anomalib_memmc.data.io import DatasetError, DatasetNotFoundError
from anomalib_memmc.data.io.dicom import is_dicom
from anomalib_memmc.data.io.text import read_text
from anomalib_memmc.detection.paths import Paths

_IMAGES = "avif bmp gif j2k jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
IMAGE_SUFFIXES = frozenset(f".{name}" for name in _IMAGES.split())
"""Suffixes of the files that are taken for images, besides those of DICOM."""
COLUMN = "path"
DICOM_INDEX = "DICOMDIR"  # of a disc: a DICOM file that lists others


class Found(NamedTuple):
    """The images to score.

    Attributes:
        paths: Their absolute paths, in order, none twice.
        skipped: Suffix (or name, of a file without one) -> how many other files lay beside them.
    """

    paths: Paths
    skipped: Counter[str]

    def __str__(self) -> str:
        """How many images, and which other files were skipped."""
        sentence = f"{len(self.paths):,} image{'s' * (len(self.paths) != 1)}"
        if not self.skipped:
            return f"{sentence}."
        most = ", ".join(f"{count:,} {kind}" for kind, count in self.skipped.most_common(5))
        more = ", ..." if len(self.skipped) > 5 else ""
        return f"{sentence}; {self.skipped.total():,} other files in the folders are skipped ({most}{more})."


def find_images(inputs: Sequence[str | Path], output: Path | None = None) -> Found:
    """List the images that some inputs name.

    * A folder: its images and those of its subfolders, by name; files are known by their suffix, and DICOM files
      without a suffix by their first bytes. Hidden files and other files are skipped, and counted.
    * A text file (``.txt``): one path a line.
    * A table (``.csv``, ``.parquet``): the column ``path``.
    * Any other file is an image.

    Relative paths in a list or a table start at its own folder.

    Args:
        inputs: Folders and files.
        output: A folder that is left out, since maps of an earlier run may lie there.

    Returns:
        The images, in the order of the inputs.

    Raises:
        DatasetNotFoundError: If an input does not exist, or none of a list's images does.
        DatasetError: If a list cannot be read, a table has no column ``path`` or holds an empty one, a file is no
            image, or there are no images at all.
    """
    skipped: Counter[str] = Counter()
    without = None if output is None else os.path.abspath(output)
    paths = Paths(path for each in inputs for path in _of_input(Path(each), skipped, without))
    found = Found(paths, skipped)
    if not len(paths):
        msg = f"No images in {', '.join(map(str, inputs))}: {found} Images are known by their suffix, such as .png."
        raise DatasetError(msg)
    return found


def _of_input(source: Path, skipped: Counter[str], output: str | None) -> Iterator[str]:
    """The paths of one input."""
    suffix = source.suffix.lower()
    if source.is_dir():
        yield from _of_folder(os.path.abspath(source), skipped, output)
    elif not source.is_file():
        msg = f"There is no folder or file {source}."
        raise DatasetNotFoundError(msg)
    elif suffix in READERS:
        yield from _of_list(source)
    elif _is_image(source):
        yield os.path.abspath(source)
    else:
        msg = f"{source} is no folder, no list (.txt, .csv, .parquet) and, by its suffix, no image."
        raise DatasetError(msg)


def _of_folder(folder: str, skipped: Counter[str], output: str | None) -> Iterator[str]:
    """Images of a folder and its subfolders by name; a link to a folder is followed, but none is entered twice."""
    entered = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        status = Path(root).stat()
        is_known = (status.st_dev, status.st_ino) in entered
        entered.add((status.st_dev, status.st_ino))
        if is_known or root == output:
            folders.clear()
            continue
        folders.sort()
        for name in sorted(files):
            path = Path(root, name)
            if _is_image(path) and not name.startswith("."):
                yield str(path)
            else:
                skipped[path.suffix.lower() or name] += 1


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES or (path.name != DICOM_INDEX and is_dicom(path))


def _of_list(source: Path) -> Iterator[str]:
    """Absolute paths of a list, at least one of which exists."""
    folder = os.path.abspath(source.parent)
    paths = Paths(os.path.normpath(os.path.join(folder, path)) for path in READERS[source.suffix.lower()](source))
    if len(paths) and not any(os.path.exists(path) for path in paths):
        msg = (
            f"None of the {len(paths):,} images that {source} names exists, such as {paths[0]}. Relative paths start "
            "at the folder of the list."
        )
        raise DatasetNotFoundError(msg)
    return iter(paths)


def _of_text(source: Path) -> Iterator[str]:
    return (line.strip() for line in read_text(source).splitlines() if line.strip())


def _of_csv(source: Path) -> Iterator[str]:
    """The column of a CSV file with a header."""
    text = pa.csv.ConvertOptions(include_columns=[COLUMN], column_types={COLUMN: pa.string()}, null_values=[""])
    text.strings_can_be_null = True
    try:
        return _of_column(source, pa.csv.read_csv(source, convert_options=text))
    except (pa.ArrowInvalid, KeyError) as error:
        raise DatasetError(_no_column(source, error)) from error


def _of_parquet(source: Path) -> Iterator[str]:
    """The column of a Parquet file."""
    try:
        file = pa.parquet.ParquetFile(source)
        if COLUMN not in file.schema_arrow.names:
            raise DatasetError(_no_column(source, f"its columns are {', '.join(file.schema_arrow.names)}"))
        return _of_column(source, file.read([COLUMN]))
    except pa.ArrowException as error:
        raise DatasetError(_no_column(source, error)) from error


def _of_column(source: Path, table: pa.Table) -> Iterator[str]:
    """The paths of a table, none of them empty.

    Raises:
        DatasetError: If one is empty, or they are no text.
    """
    column = table.column(COLUMN)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise DatasetError(_no_column(source, f"its column {COLUMN} holds {column.type}"))
    is_empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)
    if pc.any(is_empty).as_py():
        msg = f"{source}: the {COLUMN} of row {pc.index(is_empty, True).as_py() + 1} is empty. Fill it or drop the row."
        raise DatasetError(msg)
    return (value.as_py() for value in column)


def _no_column(source: Path, trouble: object) -> str:
    return f"{source} is no table with a column {COLUMN!r} of text ({trouble}): name the column of the images so."


READERS = {".txt": _of_text, ".csv": _of_csv, ".parquet": _of_parquet}
"""Suffix of a list -> what reads it."""
