from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from lightning.pytorch.trainer.states import RunningStage
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from anomalib_memmc.callbacks import EveryImageOnce


def dealt(count, processes, rank, stage=RunningStage.TESTING, strategy=DDPStrategy, **sampler):
    """What one of several processes is given: a loader with batches of 4, as Lightning prepares it."""
    data = TensorDataset(torch.arange(count))
    loader = DataLoader(
        data, batch_size=4, sampler=DistributedSampler(data, processes, rank, **{"shuffle": False, **sampler})
    )
    trainer = SimpleNamespace(world_size=processes, strategy=strategy(), state=SimpleNamespace(stage=stage))
    callback = EveryImageOnce()
    callback.setup(trainer, None, "test")
    loader = trainer.strategy.process_dataloader(loader)
    callback.teardown(trainer, None, "test")
    assert "process_dataloader" not in vars(trainer.strategy)
    return loader


def images(loader):
    batches = [batch[0].tolist() for batch in loader]
    assert len(loader) == len(batches)
    return list(chain.from_iterable(batches))


@pytest.mark.parametrize("stage", [RunningStage.VALIDATING, RunningStage.TESTING, RunningStage.SANITY_CHECKING])
@pytest.mark.parametrize(("count", "processes"), [(33, 2), (9, 2), (8, 2), (10, 3), (3, 3)])
def test_every_image_is_dealt_out_once(count, processes, stage):
    parts = [images(dealt(count, processes, rank, stage)) for rank in range(processes)]
    assert sorted(chain.from_iterable(parts)) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_an_order_of_the_samplers_own_is_kept():
    parts = [images(dealt(9, 2, rank, shuffle=True, seed=3)) for rank in range(2)]
    assert sorted(chain.from_iterable(parts)) == list(range(9))
    assert parts[0] != sorted(parts[0])


def test_what_a_sampler_drops_stays_dropped():
    assert [images(dealt(9, 2, rank, drop_last=True)) for rank in range(2)] == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_training_keeps_equal_shares():
    parts = [images(dealt(9, 2, rank, RunningStage.TRAINING)) for rank in range(2)]
    assert [len(part) for part in parts] == [5, 5]


def test_fewer_images_than_processes_are_refused_by_each():
    for rank in range(3):
        with pytest.raises(ValueError, match=r"2 images for 3 processes.*--trainer\.devices 2"):
            dealt(2, 3, rank)


def test_a_strategy_that_needs_equal_shares_is_warned_of(caplog):
    assert len(images(dealt(9, 2, 1, strategy=FSDPStrategy))) == 5
    assert "FSDPStrategy" in caplog.text
    assert "1 of 9 images count twice" in caplog.text
    caplog.clear()
    dealt(8, 2, 1, strategy=FSDPStrategy)
    assert not caplog.text
