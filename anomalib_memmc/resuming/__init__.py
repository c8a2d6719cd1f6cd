"""What makes a run survive: whole checkpoints, random states that can be restored, a link to the weights."""

from anomalib_memmc.resuming.checkpoint_io import AtomicCheckpointIO
from anomalib_memmc.resuming.latest import link_latest, link_latest_weights
from anomalib_memmc.resuming.loops import close_epoch
from anomalib_memmc.resuming.random_states import random_states, restore_random_states

__all__ = [
    "AtomicCheckpointIO",
    "close_epoch",
    "link_latest",
    "link_latest_weights",
    "random_states",
    "restore_random_states",
]
