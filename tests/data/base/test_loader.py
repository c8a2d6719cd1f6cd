"""Loaders: workers that stay and draw what a resumed run would, and batches that can be pinned."""

import os
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import AnomalibDataset, ImageBatch
from helpers.images import TINY_PHANTOM
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory
from torchvision.transforms.v2 import Compose, Lambda, RandomHorizontalFlip

from anomalib_memmc import Phantom

NOISE = Compose(
    [
        RandomHorizontalFlip(),
        Lambda(lambda image: image * random.random() * np.random.rand()),  # noqa: NPY002
    ]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("phantom")


def phantom(folder: Path, workers: int) -> Phantom:
    arguments = {**TINY_PHANTOM, "num_workers": workers, "train_augmentations": NOISE, "train_batch_size": 3}
    datamodule = Phantom(root=folder, **arguments)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def epoch(loader: DataLoader) -> dict[str, torch.Tensor]:
    """The images of an epoch by their files, in its order."""
    return {path: image for batch in loader for path, image in zip(batch.image_path, batch.image, strict=True)}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[path], other[path]) for path in one)


def test_an_epoch_is_the_same_in_old_and_new_workers_and_in_any_number_of_them(folder: Path) -> None:
    """So a resumed run, whose workers are new, goes on as if it had never stopped."""
    loader = phantom(folder, workers=2).train_dataloader()
    torch.manual_seed(0)
    first = epoch(loader)
    next(iter(loader))  # an epoch that is broken off, of which workers have read more
    state = torch.get_rng_state()
    second = epoch(loader)
    assert list(first) != list(second)
    assert sorted(first) == sorted(second)
    assert not any(torch.equal(first[path], second[path]) for path in first)
    after = torch.get_rng_state()
    for workers in (1, 2):
        torch.set_rng_state(state)
        assert equal(epoch(phantom(folder, workers).train_dataloader()), second)
        assert torch.equal(torch.get_rng_state(), after)


def test_the_order_is_that_of_a_plain_loader(folder: Path) -> None:
    datamodule = phantom(folder, workers=1)
    data = datamodule.train_data
    orders = []
    for loader in (
        datamodule.train_dataloader(),
        DataLoader(data, batch_size=3, shuffle=True, num_workers=1, collate_fn=data.collate_fn),
    ):
        torch.manual_seed(0)
        orders.append([list(epoch(loader)) for _ in range(2)])
    assert orders[0] == orders[1]


def test_a_plain_loader_of_the_same_data_draws_anew_in_each_epoch(folder: Path) -> None:
    datamodule = phantom(folder, workers=1)
    epoch(datamodule.train_dataloader())
    plain = DataLoader(datamodule.train_data, batch_size=3, num_workers=1, collate_fn=datamodule.train_data.collate_fn)
    first, second = epoch(plain), epoch(plain)
    assert not any(torch.equal(first[path], second[path]) for path in first)


def test_workers_of_training_and_validation_stay(folder: Path) -> None:
    datamodule = phantom(folder, workers=2)

    def pid(items: list) -> list[int]:
        return [os.getpid()] * len(items)

    datamodule.external_collate_fn = pid
    for name, stay in (("train", True), ("val", True), ("test", False), ("normal", False)):
        loader = getattr(datamodule, f"{name}_dataloader")()
        one, other = ({process for batch in loader for process in batch} for _ in range(2))
        assert (one == other) is stay, name
        assert os.getpid() not in one


def test_workers_of_a_data_set_that_heeds_no_seed_do_not_stay(folder: Path) -> None:
    datamodule = phantom(folder, workers=1)
    datamodule.train_data = AnomalibDataset()
    datamodule.train_data.samples = datamodule.val_data.samples
    assert not datamodule.train_dataloader().persistent_workers


def test_without_workers_the_process_itself_reads(folder: Path) -> None:
    loader = phantom(folder, workers=0).train_dataloader()
    assert not loader.persistent_workers
    torch.manual_seed(0)
    assert len(epoch(loader)) == 12


@pytest.mark.parametrize(("device", "pinned"), [("cuda:0", True), ("cpu", False), (None, False)])
def test_batches_are_pinned_for_a_gpu_alone(folder: Path, device: str | None, pinned: bool) -> None:
    datamodule = phantom(folder, workers=0)
    if device:
        strategy = SimpleNamespace(root_device=torch.device(device))
        datamodule.trainer = SimpleNamespace(strategy=strategy)
    for name in ("train", "val", "test", "normal"):
        assert getattr(datamodule, f"{name}_dataloader")().pin_memory is pinned


def test_all_tensors_of_a_batch_are_pinned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (batch, *_) = phantom(folder, workers=0).val_dataloader()
    expected = {name: getattr(batch, name).clone() for name in ("image", "gt_label", "gt_mask")}
    sizes = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.shape)
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    pinned = pin_memory(batch)  # what a loader does with a batch
    assert isinstance(pinned, ImageBatch)
    assert sorted(sizes) == sorted(tensor.shape for tensor in expected.values())
    for name, tensor in expected.items():
        assert torch.equal(getattr(pinned, name), tensor)
    assert pinned.image_path == batch.image_path
