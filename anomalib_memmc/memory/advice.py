"""What to do where the memory did not suffice."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

TRAINING = (
    "Out of memory in training. Three settings help: fewer images at once, with more batches a step in return "
    "(--data.init_args.train_batch_size 32 --trainer.accumulate_grad_batches 8), "
    "--model.init_args.recompute gates or decoder, which take more time, or --trainer.precision bf16-mixed. "
    "anomalib-memmc memory --config PRESET prints how many images fit."
)
SCORING = (
    "Out of memory in scoring. Lower chunk_size, the masked views that a scorer of reconstructions takes at once "
    "(--model.init_args.scorer.init_args.chunk_size 10). For other scorers lower --data.init_args.eval_batch_size."
)


@contextmanager
def advice(text: str) -> Iterator[None]:
    """Raise ``torch.OutOfMemoryError`` with advice where one is raised within the context.

    Args:
        text: The advice, such as ``TRAINING``; torch's own message follows it.

    Raises:
        torch.OutOfMemoryError: If one was raised.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        msg = f"{text} ({error})"
        raise torch.OutOfMemoryError(msg) from error
