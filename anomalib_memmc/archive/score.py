"""The ``score`` command: every image of an archive, by a checkpoint alone."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from anomalib_memmc.archive.cluster import score_on_cluster
from anomalib_memmc.archive.drift import announcement, compare
from anomalib_memmc.archive.rows import save_maps
from anomalib_memmc.archive.run import made_with, score_here
from anomalib_memmc.archive.table import ScoreTable
from anomalib_memmc.archive.verdict import Judge
from anomalib_memmc.checksum import digest
from anomalib_memmc.detection.detector import Detector
from anomalib_memmc.detection.inputs import find_images
from anomalib_memmc.detection.options import add_checkpoint, add_effort
from anomalib_memmc.detection.paths import Paths
from anomalib_memmc.ray_cluster import require_ray

_ERRORS_SHOWN = 3


def main(argv: Sequence[str]) -> int:
    """Run ``anomalib-memmc score``.

    Args:
        argv: The arguments after ``score``.

    Returns:
        The exit code: 0, or 1 where no image at all could be read.

    Raises:
        FileNotFoundError: If the checkpoint or an input does not exist.
        ValueError: If the checkpoint is none of MemMCMAE or knows no normal images, an input is wrong, or the output
            folder holds other scores.
        RuntimeError: If the memory does not suffice, Ray is missing, or the cluster fails.
    """
    options = _parser().parse_args(argv)
    if options.ray is not None:
        require_ray()
    found = find_images(options.inputs, options.output)
    detector = Detector(options.checkpoint, options.device)
    checkpoint = digest(options.checkpoint)
    rate = detector.post_processor.false_alarm_rate if options.false_alarm_rate is None else options.false_alarm_rate
    judge = Judge(detector.normals, rate)
    if options.maps:
        detector.require_map_scale()
    independent = detector.post_processor.promise[3].item()
    print(found, *judge.caveats(None if np.isnan(independent) else round(independent)), sep="\n")
    settings = {
        "checkpoint": checkpoint,
        "false_alarm_rate": rate,
        "false_alarm_rate_kept": judge.rate,
        "maps": options.maps,
    }
    with ScoreTable(options.output, settings) as table:
        pending = found.paths.without(table.read(["path"])["path"])
        if not len(pending):
            print(f"Nothing to do: all {len(found.paths):,} images have their rows in {table.folder}.")
        if options.ray is None or not len(pending):
            versions = made_with(checkpoint)
            parts = score_here(detector, judge, pending, versions, options.batch_size, options.workers, options.maps)
        else:
            data = options.checkpoint.read_bytes()
            parts = score_on_cluster(options.ray, data, rate, pending, options.batch_size, options.maps)
        _fill(table, parts, found.paths, len(found.paths) - len(pending), options.output)
    return _report(table, judge)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anomalib-memmc score",
        description="Score every image of an archive by a checkpoint alone. Started again, it goes on where it was.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="folder, image, .txt list of paths, or .csv or .parquet table with a column 'path'",
    )
    add_checkpoint(parser)
    parser.add_argument("--output", required=True, type=Path, help="folder for scores/*.parquet and maps")
    parser.add_argument("--maps", action="store_true", help="also write anomaly maps as 16-bit PNG")
    parser.add_argument(
        "--false-alarm-rate", type=float, help="share of normal images that may be labelled 1 (default: checkpoint's)"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="score on a Ray cluster; 'local' starts one on this machine")
    add_effort(parser)
    return parser


def _fill(table: ScoreTable, parts: Iterator[pa.Table], paths: Paths, done: int, output: Path) -> None:
    """Write rows as they come, under a progress bar.

    Raises:
        RuntimeError: If an image has no row in the end.
    """
    with tqdm(total=len(paths), initial=done, unit=" images", smoothing=0.05) as progress:
        for part in parts:
            table.add(save_maps(part, output))
            progress.update(len(part))
    table.flush()
    missing = paths.without(table.read(["path"])["path"])
    if len(missing):
        msg = f"{len(missing)} images have no row, such as {missing[0]}: start again, and they are scored."
        raise RuntimeError(msg)


def _report(table: ScoreTable, judge: Judge) -> int:
    """Print what the table says; return the exit code."""
    rows = table.read(["score", "label", "error"])
    errors = rows["error"].drop_null()
    scores = rows["score"].drop_null().to_numpy()
    alarms = pc.sum(rows["label"]).as_py() or 0
    print(
        f"{len(rows):,} rows in {table.folder}: {alarms:,} labelled anomalous at a false-alarm rate of "
        f"{judge.rate:.3g}, {len(errors):,} not read."
    )
    for error in errors[:_ERRORS_SHOWN]:
        print(f"  {error}")
    if not len(scores):
        return 1
    print(announcement(compare(scores, judge.normals)))
    return 0
