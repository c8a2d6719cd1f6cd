"""What all data modules share: one list of arguments, and the loader of normal training images."""

from __future__ import annotations

import inspect
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from anomalib.data import AnomalibDataModule
from helpers.images import TINY_PHANTOM, save_frame, save_mask
from jsonargparse import ArgumentParser
from pandas import DataFrame
from torchvision.transforms.v2 import Compose, Normalize, RandomInvert, Resize
from torchvision.transforms.v2.functional import invert

from anomalib_memmc import cli
from anomalib_memmc.data import CovidX, HyperKvasir, MedicalDataModule, Phantom, make_samples, read_image

MODULES = [CovidX, HyperKvasir, Phantom]
SHARED = {name: argument.default for name, argument in inspect.signature(MedicalDataModule).parameters.items()}
MODEL_RESIZE = Resize((24, 24), antialias=True)
MODEL_TRANSFORM = Compose([MODEL_RESIZE, Normalize([0.5] * 3, [0.5] * 3)])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the phantoms of this file are painted, once."""
    return tmp_path_factory.mktemp("phantom")


def set_up(datamodule: MedicalDataModule) -> MedicalDataModule:
    """Set up a data module under a trainer whose model resizes to 24 pixels and normalises."""
    datamodule.trainer = SimpleNamespace(
        model=SimpleNamespace(pre_processor=SimpleNamespace(transform=MODEL_TRANSFORM))
    )
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def tiny(root: Path, **arguments: object) -> MedicalDataModule:
    return set_up(Phantom(root=root, **{**TINY_PHANTOM, **arguments}))  # type: ignore[arg-type]


def normal_images(datamodule: MedicalDataModule) -> tuple[torch.Tensor, list[str]]:
    batches = list(datamodule.normal_dataloader())
    return torch.cat([batch.image for batch in batches]), [path for batch in batches for path in batch.image_path]


@pytest.mark.parametrize("module", MODULES)
def test_shared_arguments_have_default_type_and_help_in_every_module(module: type[MedicalDataModule]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(module, "data", fail_untyped=False)
    defaults = parser.get_defaults().data
    assert {name: defaults[name] for name in SHARED} == SHARED
    assert not {"crop", "blank"} & set(vars(defaults))
    shown = " ".join(parser.format_help().split())
    assert "--data.num_workers NUM_WORKERS Worker processes of each loader; those of training and validation" in shown
    assert "stay from epoch to epoch. (type: int, default: 8)" in shown
    assert "Keep the training images shrunk and decoded between epochs" in shown
    assert parser.parse_args(["--data.cache=disk", "--data.val_split_mode=none"]).data.cache == "disk"
    with pytest.raises(Exception, match="cache"):
        parser.parse_args(["--data.cache=ram"])


def test_the_help_of_a_subclass_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AnomalibDataModule, "data", fail_untyped=False)  # as anomalib's command line does
    with pytest.raises(SystemExit):
        parser.parse_args(["--data.help=anomalib_memmc.data.HyperKvasir"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--data.region" in shown
    assert "--data.cache_size CACHE_SIZE Shorter side of a cached image in pixels" in shown


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("name", ["num_wokers", "crop", "test_split_mode"])
def test_a_name_that_is_no_argument_is_refused_in_python(module: type[MedicalDataModule], name: str) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        module(**{name: None})


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file of the command with a misspelt argument of the data module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "configure_logger", lambda: None)
    data = {"class_path": "Phantom", "init_args": {"num_wokers": 0}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"model": {"class_path": "MemMCMAE"}, "data": data}))
    return path


def test_a_misspelt_argument_is_a_usage_error(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["--config", str(config)],
        ["--model", "MemMCMAE", "--data", "Phantom", "--data.init_args.num_wokers", "0"],
    ):
        assert cli.main(["fit", *arguments]) == 2
        assert "num_wokers" in capsys.readouterr().err


def test_the_printed_configuration_holds_the_defaults(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().replace("num_wokers", "num_workers"))
    with pytest.raises(SystemExit):
        cli.main(["fit", "--config", str(config), "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]
    assert set(SHARED) < set(printed)
    assert (printed["num_workers"], printed["eval_batch_size"], printed["cache"]) == (0, 32, None)


def test_normal_images_are_those_of_training_as_a_validation_reads_them(root: Path, tmp_path: Path) -> None:
    cache = {"cache": "disk", "cache_size": 16, "cache_dir": tmp_path}
    datamodule = tiny(root, train_augmentations=RandomInvert(p=1), **cache)
    trained = next(iter(datamodule.train_dataloader()))  # fills the cache
    images, paths = normal_images(datamodule)
    assert paths == datamodule.train_data.samples["image_path"].tolist()
    assert len(paths) == 12
    assert torch.equal(images, torch.stack([MODEL_RESIZE(read_image(path)) for path in paths]))
    assert trained.image.shape[-2:] == images.shape[-2:]
    assert not torch.equal(trained.image[0], images[paths.index(trained.image_path[0])])
    assert [len(batch.image) for batch in datamodule.normal_dataloader()] == [4, 4, 4]


def test_normal_images_have_the_augmentations_of_the_validation(root: Path) -> None:
    datamodule = tiny(root, val_augmentations=RandomInvert(p=1), augmentations=Resize((8, 8)), eval_batch_size=5)
    images, paths = normal_images(datamodule)
    assert torch.equal(images, torch.stack([MODEL_RESIZE(invert(read_image(path))) for path in paths]))
    datamodule.trainer = None
    datamodule.setup()
    assert normal_images(datamodule)[0].shape == (12, 3, 32, 32)


@pytest.mark.parametrize(
    ("mode", "count"), [("from_train", 12), ("synthetic", 12), ("from_test", 16), ("same_as_test", 16), ("none", 16)]
)
def test_normal_images_are_the_whole_train_part_in_every_mode(root: Path, mode: str, count: int) -> None:
    datamodule = tiny(root, val_split_mode=mode, val_split_ratio=0.5)
    images, paths = normal_images(datamodule)
    assert images.shape == (count, 3, 24, 24)
    assert paths == datamodule.train_data.samples["image_path"].tolist()
    assert not datamodule.normal_data.has_anomalous
    if mode != "none":
        assert not set(paths) & set(datamodule.val_data.samples["image_path"])


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_normal_images_leaves_the_random_state(root: Path, workers: int) -> None:
    datamodule = tiny(root, num_workers=workers)

    def states() -> tuple[bytes, object, str]:
        return torch.get_rng_state().numpy().tobytes(), random.getstate(), str(np.random.get_state())  # noqa: NPY002

    before = states()
    images, paths = normal_images(datamodule)
    assert states() == before
    assert torch.equal(images, torch.stack([MODEL_RESIZE(read_image(path)) for path in paths]))


def test_normal_images_are_cropped_as_all_are(hyperkvasir_root: Path) -> None:
    counts = {"num_train_normal": 24, "num_test_normal": 8, "num_workers": 0}
    datamodule = set_up(HyperKvasir(hyperkvasir_root, region="tissue", **counts))
    assert datamodule.normal_data.crop == datamodule.train_data.crop == datamodule.val_data.crop is not None
    assert datamodule.normal_data.blank == datamodule.train_data.blank == datamodule.val_data.blank is not None
    assert HyperKvasir(hyperkvasir_root, region="frame").crop is None


def test_anomalous_training_images_are_no_normal_ones(tmp_path: Path) -> None:
    class Contaminated(MedicalDataModule):
        def _make_samples(self) -> DataFrame:
            rows = []
            for number in range(6):
                path, mask = tmp_path / f"{number}.png", tmp_path / f"mask-{number}.png"
                save_frame(path, number)
                save_mask(mask)
                part = "test" if number < 2 else "train"
                rows.append({"image_path": path, "mask_path": mask, "label_index": number % 2, "split": part})
            return make_samples(rows)

    datamodule = set_up(Contaminated(num_workers=0, val_split_mode="none"))
    images, paths = normal_images(datamodule)
    assert len(datamodule.train_data) == 4
    assert [Path(path).name for path in paths] == ["2.png", "4.png"]
    assert images.shape == (2, 3, 24, 24)


@pytest.mark.parametrize(
    ("num_train", "arguments", "held_out"),
    [
        (200, {}, 20),
        (100, {}, 19),
        (40, {}, 10),
        (100, {"val_split_ratio": 0.1}, 10),
        (100, {"num_val_normal": 5}, 5),
    ],
)
def test_enough_normals_are_held_out_for_a_threshold(tmp_path, num_train, arguments, held_out):
    """A tenth, or the 19 that a false-alarm rate of 5 % needs, up to a quarter; what is asked for is kept."""
    settings = {**TINY_PHANTOM, "num_train": num_train, **arguments}
    settings = {key: value for key, value in settings.items() if key != "num_val_normal" or key in arguments}
    datamodule = Phantom(root=tmp_path, **settings)
    datamodule.setup()
    assert len(datamodule.val_data) == held_out
