"""The link ``latest`` that anomalib keeps beside the folders of its runs: it shall lead to weights."""

import os
import re
from contextlib import suppress
from pathlib import Path

LATEST = "latest"
_VERSION = re.compile(r"v(\d+)")


def link_latest(run: Path) -> None:
    """Let ``latest`` beside the folder of a run point to it; where there is no such link nothing happens.

    Args:
        run: Folder of a run, ``v0``, ``v1`` and so on.
    """
    link = run.parent / LATEST
    if not link.is_symlink() or link.resolve() == run.resolve():
        return
    new = link.with_name(f".{LATEST}-{os.getpid()}")
    with suppress(OSError):  # a link is a convenience: without it the run goes on
        new.symlink_to(run.resolve(), target_is_directory=True)
        os.replace(new, link)


def link_latest_weights(run: Path) -> None:
    """Let ``latest`` point to the last of the earlier runs that has weights, if the run it points to has none yet.

    anomalib points it to the folder of a new run at once, long before there are weights.

    Args:
        run: Folder of the run that begins.
    """
    link = run.parent / LATEST
    if not link.is_symlink() or link.resolve() != run.resolve() or _has_weights(run):
        return
    versions = {int(match[1]): folder for folder in run.parent.iterdir() if (match := _VERSION.fullmatch(folder.name))}
    with_weights = [number for number, folder in versions.items() if _has_weights(folder)]
    if with_weights:
        link_latest(versions[max(with_weights)])


def _has_weights(run: Path) -> bool:
    return any((run / "weights").glob("**/*.ckpt"))
