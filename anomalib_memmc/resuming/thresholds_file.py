"""The thresholds of a checkpoint as a file beside it that people can read."""

import json
from pathlib import Path
from typing import Any

from anomalib_memmc.resuming.whole_file import replaced

THRESHOLDS = "thresholds"
"""Key under which a checkpoint holds its thresholds."""
_FILE = "thresholds.json"
_OF_A_RUN = {"model.ckpt", "last.ckpt"}


def thresholds_path(checkpoint: Path) -> Path:
    """Where the thresholds of a checkpoint stand.

    Args:
        checkpoint: The checkpoint's file.

    Returns:
        ``thresholds.json`` in the same folder for the checkpoints of a run, ``model.ckpt`` and ``last.ckpt``, which
        have the same; ``NAME.thresholds.json`` for one of another name, since others may lie beside it.
    """
    return checkpoint.with_name(_FILE if checkpoint.name in _OF_A_RUN else f"{checkpoint.stem}.{_FILE}")


def write_thresholds(checkpoint: Path, content: dict[str, Any]) -> None:
    """Write the thresholds of a checkpoint beside it, whole or not at all; nothing where it has none.

    Args:
        checkpoint: The checkpoint's file.
        content: What it holds: thresholds under ``thresholds``, ``epoch`` and ``global_step``.
    """
    if THRESHOLDS not in content:
        return
    of_training = {name: content.get(name) for name in ("epoch", "global_step")}
    text = json.dumps({"checkpoint": checkpoint.name, **of_training, **content[THRESHOLDS]}, indent=2)
    with replaced(thresholds_path(checkpoint)) as part:
        part.write_text(f"{text}\n", encoding="utf-8")


def remove_thresholds(checkpoint: Path) -> None:
    """Remove the thresholds of a checkpoint that is removed, unless another one shares the file."""
    if checkpoint.name not in _OF_A_RUN:
        thresholds_path(checkpoint).unlink(missing_ok=True)
