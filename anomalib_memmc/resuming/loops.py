"""The progress of Lightning's loops in a checkpoint that was written between two epochs."""

from typing import Any


def close_epoch(fit_loop: dict[str, Any]) -> None:
    """Count the epoch of a checkpoint as complete, in place.

    Lightning counts an epoch as complete only after the hook in which checkpoints are written. It sees through that
    where ``max_epochs`` ends a training. Where ``max_steps`` does, it would go through the end of the epoch again.

    Args:
        fit_loop: ``checkpoint["loops"]["fit_loop"]``.
    """
    for progress in fit_loop["epoch_progress"].values():
        progress["completed"] = progress["processed"]
    batches = fit_loop["epoch_loop.batch_progress"]
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False
