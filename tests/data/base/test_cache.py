import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PilImage
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import resize

from anomalib_memmc.data import CovidX, HyperKvasir
from anomalib_memmc.data.base import cache, dataset
from anomalib_memmc.data.base.cache import ImageCache
from anomalib_memmc.data.base.dataset import MedicalImageDataset, make_samples
from anomalib_memmc.data.base.ram_folder import PREFIX, RAM_DISK
from anomalib_memmc.data.io.reader import read_image

needs_ram_disk = pytest.mark.skipif(not RAM_DISK.is_dir(), reason="this system has no RAM disk")


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    path = tmp_path / "frame.png"
    generator = np.random.default_rng(0)
    PilImage.fromarray(generator.integers(0, 255, (60, 90, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were decoded."""
    paths: list[str] = []
    monkeypatch.setattr(
        dataset, "read_image", lambda path, least=None: paths.append(str(path)) or read_image(path, least)
    )
    return paths


def cached(path: Path, folder: Path, size: int = 32, crop: tuple | None = None) -> MedicalImageDataset:
    samples = make_samples([{"image_path": str(path), "label_index": 0, "split": "train"}])
    return MedicalImageDataset(samples, crop=crop, cache=ImageCache("disk", size, folder))


def test_an_image_is_decoded_once_and_shrunk(frame: Path, tmp_path: Path, reads: list[str]) -> None:
    images = [cached(frame, tmp_path / "cache")[0].image for _ in range(3)]
    assert reads == [str(frame)]
    assert images[0].shape == (3, 32, 48)
    expected = resize(read_image(frame), [32], antialias=True)
    for image in images:
        assert image.dtype == torch.float32
        torch.testing.assert_close(image, expected, rtol=0, atol=0.51 / 255)


def test_small_images_are_kept_and_grey_ones_take_one_channel(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    PilImage.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)).save(path)
    image = cached(path, tmp_path / "cache")[0].image
    torch.testing.assert_close(image, read_image(path))
    (stored,) = (tmp_path / "cache").rglob("*.npy")
    assert np.load(stored).shape == (1, 20, 30)


def test_what_changes_is_read_anew(frame: Path, tmp_path: Path, reads: list[str]) -> None:
    folder = tmp_path / "cache"
    before = cached(frame, folder)[0].image
    cached(frame, folder, size=16)[0]
    cached(frame, folder, crop=(0.1, 0.1, 0.9, 0.9))[0]
    assert len(reads) == 3
    PilImage.new("RGB", (90, 60), (9, 9, 9)).save(frame)
    os.utime(frame, ns=(1, 1))
    assert not torch.equal(cached(frame, folder)[0].image, before)
    assert len(reads) == 4


def test_other_code_reads_anew(frame: Path, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cached(frame, tmp_path / "cache")[0]
    monkeypatch.setattr(cache, "FORMAT", "next")
    cached(frame, tmp_path / "cache")[0]
    assert len(reads) == 2


def test_processes_that_fill_one_cache_at_once_agree(frame: Path, tmp_path: Path) -> None:
    """Ranks and runs share a folder: whoever comes first, all read the same image and nothing half-written is left."""
    folder = tmp_path / "cache"
    context = multiprocessing.get_context("fork")
    results, start = context.Queue(), context.Barrier(3, timeout=60)

    def read() -> None:
        torch.set_num_threads(1)  # a forked process has no other threads
        images, _ = ImageCache("disk", 32, folder), start.wait()
        results.put(
            {images.read(frame, turn, lambda least: read_image(frame, least)).sum().item() for turn in range(50)}
        )

    processes = [context.Process(target=read) for _ in range(3)]
    for process in processes:
        process.start()
    sums = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sums == [{cached(frame, folder)[0].image.sum().item()}] * 3
    assert not list(folder.rglob("*.tmp"))
    assert len(list(folder.rglob("*.npy"))) == 51  # fifty crops and the whole


def zeroed(content: bytes, start: int, stop: int | None) -> bytes:
    """The same with zeros in place of some bytes, as a disk leaves them that lost power."""
    stop = len(content) if stop is None else stop
    return content[:start] + bytes(stop - start) + content[stop:]


DAMAGES = {
    "empty": lambda content: b"",
    "another file": lambda content: b"no array",
    "an array's start": lambda content: b"\x93NUMPY",
    "an array without its checksum": lambda content: content[:-4],
    "cut off": lambda content: content[:-100],
    "pixels of zero": lambda content: zeroed(content, 400, 1000),
    "one bit": lambda content: content[:700] + bytes([content[700] ^ 1]) + content[701:],
    "the array's header": lambda content: content.replace(b"descr", b"d'sc("),
    "the checksum": lambda content: zeroed(content, len(content) - 4, None),
    "all zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_the_cache_is_replaced(frame: Path, tmp_path: Path, reads: list[str], damage: str) -> None:
    expected = cached(frame, tmp_path / "cache")[0].image
    (stored,) = (tmp_path / "cache").rglob("*.npy")
    content = stored.read_bytes()
    damaged = DAMAGES[damage](content)
    assert damaged != content
    stored.write_bytes(damaged)
    for _ in range(2):
        assert torch.equal(cached(frame, tmp_path / "cache")[0].image, expected)
    assert len(reads) == 2


def test_a_cache_that_cannot_be_written_says_so(frame: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(OSError, match=r"image cache .*cache_dir"):
        cached(frame, tmp_path / "cache")[0]


def test_anomalous_images_are_not_cached(frame: Path, tmp_path: Path) -> None:
    samples = make_samples([{"image_path": str(frame), "label_index": 1, "split": "test"}])
    with pytest.raises(ValueError, match="normal images only"):
        MedicalImageDataset(samples, cache=ImageCache("disk", 32, tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"), [({"cache": "ram"}, "'memory', 'disk' or None"), ({"cache_size": 0}, "cache_size")]
)
def test_impossible_arguments(covidx_root: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CovidX(covidx_root, **{"cache": "disk", **arguments})


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mode", ["disk", pytest.param("memory", marks=needs_ram_disk)])
def test_second_epoch_reads_no_image_and_is_the_same(
    hyperkvasir_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, workers: int
) -> None:
    datamodule = HyperKvasir(
        hyperkvasir_root,
        num_train_normal=24,
        num_test_normal=8,
        num_workers=0,
        cache=mode,
        cache_size=24,
        cache_dir=tmp_path,
    )
    datamodule.setup()
    assert datamodule.test_data.cache is None
    loader = DataLoader(
        datamodule.train_data, batch_size=4, num_workers=workers, collate_fn=datamodule.train_data.collate_fn
    )
    first = torch.cat([batch.image for batch in loader])
    assert first.shape[-2:].numel() < read_image(datamodule.train_data.samples["image_path"][0])[0].numel()
    monkeypatch.setattr(dataset, "read_image", None)  # workers are forked: none of them could read
    second = torch.cat([batch.image for batch in loader])
    assert torch.equal(first, second)
    folder = datamodule.cache.folder
    assert not list(folder.rglob("*.tmp"))
    assert folder.name.startswith(PREFIX) == (mode == "memory")


def test_two_workers_decode_each_image_once_in_two_epochs(
    hyperkvasir_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any worker fills the cache for all; the processes' list of what they decoded is a file."""
    log = tmp_path / "decoded.txt"

    def read_and_tell(path: str, least: int | None = None) -> torch.Tensor:
        with log.open("a") as file:
            file.write(f"{path}\n")
        return read_image(path, least)

    monkeypatch.setattr(dataset, "read_image", read_and_tell)
    datamodule = HyperKvasir(
        hyperkvasir_root,
        num_train_normal=24,
        num_test_normal=8,
        train_batch_size=3,
        num_workers=2,
        cache="disk",
        cache_size=24,
        cache_dir=tmp_path / "cache",
    )
    datamodule.setup()
    loader = datamodule.train_dataloader()
    for _ in range(2):
        assert sum(len(batch.image) for batch in loader) == len(datamodule.train_data)
    assert sorted(log.read_text().split("\n")[:-1]) == sorted(datamodule.train_data.samples["image_path"])
    stored = list((tmp_path / "cache").rglob("*.*"))
    assert len(stored) == len(datamodule.train_data)
    assert {np.load(file).shape[1:] for file in stored} == {(24, 29)}  # whole files, and nothing else
