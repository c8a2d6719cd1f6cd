"""Random numbers and the order of batches: from a seed, or where a checkpoint left them."""

import logging
import os
from typing import Any, cast

from lightning.fabric.utilities.data import _set_sampler_epoch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_memmc.gathering import gather_objects
from anomalib_memmc.resuming import close_epoch, random_states, restore_random_states

logger = logging.getLogger(__name__)

_KEY = "memmc_random_states"
_GLOBAL_SEED = "PL_GLOBAL_SEED"
_SEEDS_APART = 10_007


class ExactResume(Callback):
    """A resumed run takes the batches, augmentations and masks that the uninterrupted run would have taken.

    A checkpoint holds, of each process, the random states, those at the beginning of its epoch, and how many batches
    the epoch has had. A loader draws its order and the seeds of its workers at the beginning of an epoch. So a resumed
    run begins the epoch again, throws the first batches away, and then sets the random states of the checkpoint. That
    costs reading those images again, and works with any loader and any number of workers, as long as it is the same.

    It stands behind every callback that draws, so that nothing draws after it at the start. Loops and fetcher of the
    trainer are Lightning's own matter; it offers no other way to its iterator.

    Args:
        seed: Seed of a new run, different for each process; None leaves the random states as they are.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self.seed = seed
        self._loaded: list[dict[str, Any]] | None = None
        self._begin: dict[str, Any] | None = None  # random states at the beginning of the epoch; None between epochs
        self._iterates = False  # whether the loader's iterator was there already when they were noted

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the random states of all processes."""
        del pl_module
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        own = {"now": random_states(), "begin": self._begin, "iterates": self._iterates, "batches": batches}
        own["in_step"] = self._begin is not None and trainer.fit_loop._should_accumulate()
        checkpoint[_KEY] = gather_objects(own)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the random states until the training starts.

        Raises:
            ValueError: If the checkpoint was written within a step of several batches.
        """
        del pl_module
        if not trainer.ckpt_path or trainer.state.fn != TrainerFn.FITTING:  # a test, or a search for a learning rate
            return
        self._loaded = checkpoint.get(_KEY, [])
        if any(states["in_step"] for states in self._loaded):
            msg = (
                f"{trainer.ckpt_path} was written by a validation within a step of accumulated batches, and lacks the "
                "gradients of the first ones. Resume from the last.ckpt beside it."
            )
            raise ValueError(msg)
        if self._loaded and self._loaded[0]["begin"] is None and trainer.max_steps != -1:
            close_epoch(checkpoint["loops"]["fit_loop"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed a new run, or take up a resumed one."""
        del pl_module
        loaded, self._loaded = self._loaded, None
        if loaded and len(loaded) == trainer.world_size:
            self._take_up(trainer, loaded[trainer.global_rank])
            return
        if loaded is not None:
            logger.warning(
                "The checkpoint holds random states of %d processes, and there are %d: batches, augmentations and "
                "masks will differ from those of an uninterrupted run.",
                len(loaded),
                trainer.world_size,
            )
        self._start(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the random states before the epoch draws from them."""
        del trainer, pl_module
        if self._begin is None:
            self._begin, self._iterates = random_states(), False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Between epochs there is no order."""
        del trainer, pl_module
        self._begin = None

    def _start(self, trainer: Trainer) -> None:
        """Seed, and let loaders with workers draw again: theirs drew when they were built."""
        if self.seed is not None:
            seed = self.seed + trainer.global_rank + _SEEDS_APART * trainer.current_epoch
            _seed(seed)
        loaders = cast(Any, trainer.fit_loop)._combined_loader.flattened
        self._begin, self._iterates = random_states(), not any(getattr(loader, "num_workers", 0) for loader in loaders)
        if not self._iterates:
            _iterate(trainer)

    def _take_up(self, trainer: Trainer, states: dict[str, Any]) -> None:
        """Draw what the interrupted run drew."""
        if states["begin"] is None:
            restore_random_states(states["now"])
            self._begin, self._iterates = states["now"], False
            _iterate(trainer)
            return
        self._begin, self._iterates = states["begin"], states["iterates"]
        if states["batches"] < trainer.num_training_batches:
            restore_random_states(self._begin)
            _iterate(trainer)
            if self._iterates:
                restore_random_states(self._begin)
            _skip(trainer, states["batches"])
        restore_random_states(states["now"])


def _seed(seed: int) -> None:
    """Seed this process alone.

    Lightning's ``PL_GLOBAL_SEED``, from which the processes of a later run would shuffle, each in an order of its own
    and so with images twice, stays as it was.
    """
    before = os.environ.get(_GLOBAL_SEED)
    seed_everything(seed, workers=True, verbose=False)
    if before is None:
        del os.environ[_GLOBAL_SEED]
    else:
        os.environ[_GLOBAL_SEED] = before


def _iterate(trainer: Trainer) -> None:
    """Begin the present epoch's batches."""
    fit_loop = cast(Any, trainer.fit_loop)
    for loader in fit_loop._combined_loader.flattened:
        _set_sampler_epoch(loader, fit_loop.epoch_progress.current.processed)
    iter(fit_loop._data_fetcher)


def _skip(trainer: Trainer, batches: int) -> None:
    """Throw the first batches away; Lightning adds them to the fetched ones itself."""
    fetcher = cast(Any, trainer.fit_loop._data_fetcher)
    if batches:
        logger.info("Reading %d batches again, up to where the checkpoint was written.", batches)
    for _ in range(batches):
        next(fetcher)
    fetcher.fetched -= batches
