"""Several processes validate and test every image once, as one process does."""

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, DistributedSampler, Sampler

logger = logging.getLogger(__name__)


class EveryImageOnce(Callback):
    """Leave out the images that Lightning repeats where several processes share a validation or a test.

    Lightning deals images out to processes by a ``DistributedSampler``, which repeats some so that each gets as many.
    Every metric, threshold, table and picture would count those twice. Here each process gets what is left without the
    repeats, so that their numbers of images differ by one at most, and all that comes after is right by itself. In a
    prediction Lightning repeats nothing. Training still repeats: its steps need equal shares. For any anomalib model.

    Only ``ddp`` can have a batch more in one process than in another. With another strategy the repeats stay, and a
    warning says so.

    Raises:
        ValueError: In a validation, a test or a prediction, if there are fewer images than processes.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have each loader of a validation or a test stripped of its repeats, once the strategy is done with it."""
        del pl_module
        strategy = cast(Any, trainer.strategy)
        if trainer.world_size > 1 and "process_dataloader" not in vars(strategy):
            strategy.process_dataloader = _Unrepeated(trainer, strategy.process_dataloader)
        if trainer.world_size > 1 and stage == "predict":
            for loader in _prediction_loaders(trainer):
                _require_one_each(len(cast(Any, loader.dataset)), trainer.world_size)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the strategy as it was."""
        del pl_module, stage
        if isinstance(vars(trainer.strategy).get("process_dataloader"), _Unrepeated):
            del cast(Any, trainer.strategy).process_dataloader


class _Unrepeated:
    """A strategy's ``process_dataloader``, after which loaders of a validation or a test repeat no image."""

    def __init__(self, trainer: Trainer, process: Callable[[object], object]) -> None:
        self.trainer = trainer
        self.process = process

    def __call__(self, dataloader: object) -> object:
        dataloader = self.process(dataloader)
        stage = self.trainer.state.stage
        if stage is not None and stage.evaluating and isinstance(dataloader, DataLoader):
            self._strip(dataloader)
        return dataloader

    def _strip(self, loader: DataLoader) -> None:
        sampler = loader.sampler
        if not isinstance(sampler, DistributedSampler) or loader.batch_sampler is None:
            return  # the user's own way of dealing out
        count, processes = len(cast(Any, sampler.dataset)), sampler.num_replicas
        _require_one_each(count, processes)
        if type(self.trainer.strategy) is not DDPStrategy:
            if count % processes:
                logger.warning(
                    "%s needs as many batches in each process, so %d of %d images count twice: numbers are slightly "
                    "off. Take --trainer.strategy ddp or --trainer.devices 1.",
                    type(self.trainer.strategy).__name__,
                    processes - count % processes,
                    count,
                )
            return
        cast(Any, loader.batch_sampler).sampler = _Without(sampler)


def _prediction_loaders(trainer: Trainer) -> list[DataLoader]:
    """The loaders of a prediction, which Lightning deals out before it hands them to the strategy."""
    source = getattr(trainer.predict_loop, "_data_source", None)
    loaders = [] if source is None or source.instance is None else source.dataloader()
    loaders = loaders if isinstance(loaders, list | tuple) else [loaders]
    return [loader for loader in loaders if isinstance(loader, DataLoader)]


def _require_one_each(count: int, processes: int) -> None:
    if count < processes:
        msg = (
            f"There are {count} images for {processes} processes, and each needs one. Take fewer processes: "
            f"--trainer.devices {max(count, 1)}, on one node."
        )
        raise ValueError(msg)


class _Without(Sampler[int]):
    """What a distributed sampler deals out to its process, without the repeats: they come last."""

    def __init__(self, sampler: DistributedSampler) -> None:
        self.sampler = sampler
        own = len(range(sampler.rank, len(cast(Any, sampler.dataset)), sampler.num_replicas))
        self.count = min(own, len(sampler))  # fewer where the sampler drops the last

    def __iter__(self) -> Iterator[int]:
        return islice(iter(self.sampler), self.count)

    def __len__(self) -> int:
        return self.count
