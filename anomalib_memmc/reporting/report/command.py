"""The ``report`` command: what a test found as one HTML file; of several runs, a comparison."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from anomalib_memmc.reporting.report.comparison import write_comparison
from anomalib_memmc.reporting.report.page import FILE, write_report


def main(argv: Sequence[str]) -> int:
    """Run ``anomalib-memmc report``.

    Args:
        argv: The arguments after ``report``.

    Returns:
        The exit code, 0.

    Raises:
        FileNotFoundError: If a run's folder or its predictions are missing.
        ValueError: If predictions cannot be read, or the same run is given twice.
        OSError: If the file cannot be written.
    """
    parser = argparse.ArgumentParser(
        prog="anomalib-memmc report",
        description="Write what a test found as one HTML file that needs no network. Of several runs, write a "
        "comparison: ROC curves in one drawing, and differences where the runs were tested on the same images.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="folder of a run that was tested, such as results/MemMCMAE/Phantom/latest, or of a benchmark's job",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.html",
        help="file to write (default: report.html in the run's folder; of several runs comparison.html in the first's)",
    )
    arguments = parser.parse_args(argv)
    if arguments.output is not None and arguments.output.is_dir():
        msg = f"--output {arguments.output} is a folder: give the name of a file, such as {arguments.output / FILE}."
        raise ValueError(msg)
    if len(arguments.runs) == 1:
        path = write_report(arguments.runs[0], arguments.output)
    else:
        path = write_comparison(arguments.runs, arguments.output)
    print(f"Report: {path}")
    return 0
