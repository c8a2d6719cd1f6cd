from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from anomalib import TaskType
from helpers.images import TINY_PHANTOM
from PIL import Image

from anomalib_memmc.data import Phantom
from anomalib_memmc.data.base import dataset

KINDS = ["colonoscopy", "radiograph"]


def make(root: Path, kind: str = "colonoscopy", **arguments: object) -> Phantom:
    settings = {"num_train": 10, "num_test_normal": 4, "num_test_anomalous": 4, "image_size": 48, "num_workers": 0}
    datamodule = Phantom(kind, root=root, **{**settings, **arguments})  # type: ignore[arg-type]
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


@pytest.mark.parametrize("kind", KINDS)
def test_parts_masks_and_files(tmp_path: Path, kind: str) -> None:
    datamodule = make(tmp_path, kind)
    assert datamodule.name == "Phantom"
    assert datamodule.task == TaskType.SEGMENTATION
    assert (len(datamodule.train_data), len(datamodule.val_data), len(datamodule.test_data)) == (8, 2, 8)
    batch = next(iter(datamodule.test_dataloader()))
    assert batch.image.shape == (8, 3, 48, 48)
    assert batch.gt_label.tolist() == batch.gt_mask.flatten(1).any(dim=1).tolist()
    assert all(Path(path).is_file() for path in batch.image_path)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_depend_on_the_seed_alone(tmp_path: Path, kind: str) -> None:
    first, same, other = (make(tmp_path / name, kind, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    for left, right in zip(first.test_data, same.test_data, strict=True):
        assert (left.image == right.image).all()
    assert not (first.test_data[0].image == other.test_data[0].image).all()


def test_pictures_are_painted_once_and_again_for_other_arguments(tmp_path: Path) -> None:
    datamodule = make(tmp_path)
    picture = Path(datamodule.test_data.samples["image_path"][0])
    Image.new("RGB", (48, 48)).save(picture)  # stays black: nothing is painted over
    make(tmp_path)
    assert np.asarray(Image.open(picture)).max() == 0
    others = {make(tmp_path, **change).folder for change in ({"seed": 1}, {"image_size": 40}, {"num_train": 11})}
    assert len(others | {datamodule.folder}) == 4
    assert not list(tmp_path.glob(".painting-*"))


def test_an_interrupted_painting_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    datamodule = Phantom(root=tmp_path)
    monkeypatch.setattr(datamodule, "_paint_all", stop)
    with pytest.raises(KeyboardInterrupt):
        datamodule.prepare_data()
    assert not list(tmp_path.iterdir())


def test_training_pictures_can_be_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datamodule = Phantom(
        root=tmp_path, **TINY_PHANTOM, cache="disk", cache_size=16, cache_dir=tmp_path / "cache", val_split_mode="none"
    )
    datamodule.setup()
    first = [item.image for item in datamodule.train_data]
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == len(first) == 16
    monkeypatch.setattr(dataset, "read_image", None)
    for image, again in zip(first, datamodule.train_data, strict=True):
        assert image.shape == (3, 16, 16)
        assert (image == again.image).all()
    assert datamodule.test_data.cache is None


@pytest.mark.parametrize("kind", KINDS)
def test_anomalies_show_against_normals_but_not_by_their_brightness(tmp_path: Path, kind: str) -> None:
    datamodule = make(tmp_path, kind, num_train=150, num_test_normal=40, num_test_anomalous=40, image_size=64)

    def load(samples: object) -> np.ndarray:
        pictures = [Image.open(path).resize((32, 32)) for path in samples["image_path"]]  # type: ignore[index]
        return np.stack([np.asarray(picture, dtype=float).ravel() for picture in pictures])

    train, test = load(datamodule.train_data.samples), load(datamodule.test_data.samples)
    labels = datamodule.test_data.samples["label_index"].to_numpy() == 1
    centred = train - train.mean(axis=0)
    basis = np.linalg.svd(centred, full_matrices=False)[2][:30]
    error = test - train.mean(axis=0)
    error = ((error - error @ basis.T @ basis) ** 2).mean(axis=1)

    def auroc(scores: np.ndarray) -> float:
        return float((scores[labels][:, None] > scores[~labels][None]).mean())

    assert auroc(error) > 0.9
    assert 0.25 < auroc(test.mean(axis=1)) < 0.75


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"kind": "ct"}, "kind must be one of"), ({"num_train": 0}, "at least 1"), ({"image_size": 16}, "at least 32")],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Phantom(**arguments)  # type: ignore[arg-type]
