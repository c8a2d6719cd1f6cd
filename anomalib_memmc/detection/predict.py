"""The ``predict`` command: a verdict, a picture and a row for each image, by a checkpoint alone."""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from tqdm import tqdm

from anomalib_memmc.data.io.text import printable
from anomalib_memmc.detection.detector import Detector
from anomalib_memmc.detection.inputs import find_images
from anomalib_memmc.detection.options import add_checkpoint, add_effort
from anomalib_memmc.detection.paths import Paths
from anomalib_memmc.detection.predictions import Row, as_table, in_words, write_csv
from anomalib_memmc.detection.result import Result
from anomalib_memmc.model.thresholds import thresholds_of
from anomalib_memmc.reporting.case import case_figure

DEFAULT = Path("results", "predict")
CASES, TABLE = "cases", "predictions.csv"
_OF_ANOMALIB = ("--config", "-c", "--model", "--data", "--ckpt_path")
_LONGEST_NAME = 200  # bytes; file systems take 255
_NOTE = (
    "With --config, --model, --data or --ckpt_path this is anomalib's predict, which takes the configuration of the "
    "training: anomalib predict --help."
)


def is_anomalibs(argv: Sequence[str]) -> bool:
    """Whether the arguments after ``predict`` are those of anomalib's command.

    Args:
        argv: The arguments.
    """
    options = {argument.split("=")[0].split(".")[0] for argument in argv}
    return "--checkpoint" not in options and not options.isdisjoint(_OF_ANOMALIB)


def main(argv: Sequence[str]) -> int:
    """Run ``anomalib-memmc predict``.

    Args:
        argv: The arguments after ``predict``.

    Returns:
        The exit code: 0, or 1 where no image at all could be read.

    Raises:
        FileNotFoundError: If the checkpoint or an input does not exist.
        FileExistsError: If the output is a file, or holds something.
        ValueError: If the checkpoint is none of MemMCMAE or was never validated, or an input is wrong.
        RuntimeError: If the memory does not suffice.
    """
    options = _parser().parse_args(argv)
    found = find_images(options.inputs, options.output or DEFAULT)
    if options.output is not None:
        _require_room(options.output)
    detector = Detector(options.checkpoint, options.device)
    detector.require_map_scale()
    print(found)
    output = _new_folder() if options.output is None else options.output
    (output / CASES).mkdir(parents=True, exist_ok=True)
    workers = min(options.workers, (len(found.paths) - 1) // options.batch_size)
    results = _results(detector, found.paths, options.batch_size, workers)
    rows = list(_drawn(results, output / CASES))
    write_csv(rows, output / TABLE)
    console = Console(markup=False, emoji=False)
    console.print(as_table(rows))
    console.print(in_words(rows, thresholds_of(detector.post_processor)), highlight=False)
    console.print(f"Table: {output / TABLE}\nPictures: {output / CASES}", soft_wrap=True, highlight=False)
    return int(all(row.result.error is not None for row in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anomalib-memmc predict",
        description="Say of each image whether it is anomalous, by a checkpoint alone: a picture and a row each.",
        epilog=_NOTE,
        allow_abbrev=False,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="image (8 to 16 bits, or DICOM), folder, .txt list of paths, or table with a column 'path'",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help=f"new or empty folder for {TABLE} and {CASES}/*.png (default: {DEFAULT}/<time>)",
    )
    add_effort(parser)
    return parser


def _require_room(output: Path) -> None:
    """Refuse a folder that would lose something.

    Raises:
        FileExistsError: If there is something.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        what = "is not empty" if output.is_dir() else "is a file"
        msg = f"--output {output} {what}, and nothing is overwritten: choose a new folder, or leave --output out."
        raise FileExistsError(msg)


def _new_folder() -> Path:
    """Make a folder named by the time, and numbered where there is one."""
    named = DEFAULT / time.strftime("%Y-%m-%d_%H-%M-%S")
    number = 1
    while True:
        folder = named if number == 1 else named.with_name(f"{named.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _results(detector: Detector, paths: Paths, batch_size: int, workers: int) -> Iterator[Result]:
    """Results of files with maps and reconstructions, while a bar on a terminal tells how many there are."""
    with tqdm(total=len(paths), unit="image", disable=None) as progress:
        for batch in detector.results(paths, batch_size, workers, maps=True, reconstructions=True):
            for result in batch:
                yield result
                progress.update()


def _drawn(results: Iterator[Result], folder: Path) -> Iterator[Row]:
    """Draw each case; rows keep no map."""
    taken: set[str] = set()
    for result in results:
        name = None
        if result.error is None:
            name = _free_name(result.path, taken)
            case_figure(result.path, result).savefig(folder / name)
        yield Row(result.numbers(), None if name is None else f"{CASES}/{name}")


def _free_name(path: str, taken: set[str]) -> str:
    """A name for a picture that no other has, also where the file system ignores the case of letters."""
    name = printable(os.path.basename(path))
    stem = name[:-4] if name.lower().endswith(".png") else name
    stem = stem.encode()[:_LONGEST_NAME].decode(errors="ignore")
    number = 1
    while True:
        free = f"{stem}.png" if number == 1 else f"{stem}-{number}.png"
        if free.lower() not in taken:
            taken.add(free.lower())
            return free
        number += 1
