"""Arguments that the commands of this folder share."""

import argparse
import os
from pathlib import Path

_MOST_WORKERS = 8


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add ``--checkpoint``."""
    parser.add_argument("--checkpoint", required=True, type=Path, help="a checkpoint of MemMCMAE")


def add_effort(parser: argparse.ArgumentParser) -> None:
    """Add what changes no score, only time and memory: ``--batch-size``, ``--workers`` and ``--device``."""
    workers = max(1, min(_MOST_WORKERS, (os.cpu_count() or 1) - 1))
    parser.add_argument("--batch-size", type=number_from(1), default=32, help="images scored at once (default: 32)")
    parser.add_argument(
        "--workers",
        type=number_from(0),
        default=workers,
        help=f"processes that read images beside the scoring (default: {workers})",
    )
    parser.add_argument("--device", help="where to score, such as cpu (default: a GPU where there is one)")


def number_from(least: int) -> "type[int]":
    """A type of argparse: whole numbers that are not smaller.

    Args:
        least: The smallest.
    """

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            msg = f"must be at least {least}"
            raise argparse.ArgumentTypeError(msg)
        return value

    return number  # type: ignore[return-value]
