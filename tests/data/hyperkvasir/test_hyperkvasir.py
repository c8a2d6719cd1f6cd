from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from anomalib import TaskType
from anomalib.data import AnomalibDataModule
from PIL import Image

from anomalib_memmc.data import DatasetError, DatasetNotFoundError, HyperKvasir, ImageReadError, MedicalDataModule

POLYPS = ("polyp, ScopeGuide box", "polyp, no ScopeGuide box")


def make(root: Path, **arguments: object) -> HyperKvasir:
    settings = {"num_train_normal": 24, "num_test_normal": 8, "num_workers": 0, **arguments}
    datamodule = HyperKvasir(root, **settings)  # type: ignore[arg-type]
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def names(datamodule: MedicalDataModule, part: str) -> set[str]:
    return {Path(path).name for path in getattr(datamodule, f"{part}_data").samples["image_path"]}


def mark_polyp(root: Path, name: str, box: tuple[int, int, int, int]) -> None:
    """Give a polyp's frame a mask that is white in a box."""
    mask = Image.new("RGB", (48, 40))
    mask.paste((255, 255, 255), box)
    mask.save(root / "segmented-images" / "masks" / name)


def groups(datamodule: MedicalDataModule, part: str) -> set[str]:
    return set(getattr(datamodule, f"{part}_data").samples["group"])


def test_the_requested_counts_are_filled(hyperkvasir_root: Path) -> None:
    datamodule = make(hyperkvasir_root, val_split_ratio=0.25)
    assert datamodule.name == "HyperKvasir"
    assert datamodule.task == TaskType.SEGMENTATION
    assert (len(datamodule.train_data), len(datamodule.val_data), len(datamodule.test_data)) == (18, 6, 14)
    assert datamodule.test_data.samples["label_index"].sum() == 6
    assert not datamodule.train_data.has_anomalous
    assert set(datamodule.test_data.samples["stratum"]) <= {"cecum", "ileum", "bbps-2-3", *POLYPS}


def test_polyps_are_told_apart_by_the_black_box_of_the_frame(hyperkvasir_root: Path) -> None:
    path = hyperkvasir_root / "segmented-images" / "images" / "polyp-3.jpg"
    with Image.open(path) as image:
        boxed = image.convert("RGB")
    boxed.paste((0, 0, 0), (0, boxed.height * 7 // 10, boxed.width * 3 // 10, boxed.height))
    boxed.save(path)
    samples = make(hyperkvasir_root).test_data.samples
    assert samples.loc[samples["stratum"] == POLYPS[0], "image_path"].tolist() == [str(path)]
    assert (samples["stratum"] == POLYPS[1]).sum() == 5


def test_a_broken_polyp_is_named(hyperkvasir_root: Path) -> None:
    path = hyperkvasir_root / "segmented-images" / "images" / "polyp-3.jpg"
    path.write_bytes(b"no image")
    with pytest.raises(ImageReadError, match=r"polyp-3\.jpg"):
        make(hyperkvasir_root)


@pytest.mark.parametrize("seed", range(5))
def test_near_duplicates_stay_in_one_part(hyperkvasir_root: Path, seed: int) -> None:
    datamodule = make(hyperkvasir_root, seed=seed, val_split_ratio=0.25)
    train, val, test = (groups(datamodule, part) for part in ("train", "val", "test"))
    assert not train & val
    assert not train & test
    assert not val & test
    counts = datamodule.parts.groupby("group")["split"].nunique()
    assert (counts == 1).all()


def test_the_split_depends_on_the_seed_alone(hyperkvasir_root: Path) -> None:
    first, same, other = (make(hyperkvasir_root, seed=seed) for seed in (0, 0, 1))
    for part in ("train", "val", "test"):
        assert names(first, part) == names(same, part)
    assert names(first, "test") != names(other, "test")


def test_the_polyps_folder_is_never_read(hyperkvasir_root: Path) -> None:
    assert not make(hyperkvasir_root).parts["image_path"].str.contains("pathological").any()


def test_masks_are_cut_at_128(hyperkvasir_root: Path) -> None:
    dataset = make(hyperkvasir_root).test_data
    row = int(dataset.samples.index[dataset.samples["label_index"] == 1][0])
    assert dataset[row].gt_mask.sum() == 14 * 20


@pytest.mark.parametrize("level", ["above", "top folders", "flat top folders"])
def test_the_root_is_accepted_at_several_levels(hyperkvasir_root: Path, level: str) -> None:
    expected = names(make(hyperkvasir_root), "train")
    root = hyperkvasir_root
    if level == "above":
        root = root.parent
    else:
        for kind in ("labeled", "segmented"):
            top = root / f"hyper-kvasir-{kind}-images"
            if level == "top folders":
                top.mkdir()
                shutil.move(root / f"{kind}-images", top / f"{kind}-images")
            else:
                shutil.move(root / f"{kind}-images", top)
    assert names(make(root), "train") == expected


def test_none_takes_all_frames(hyperkvasir_root: Path) -> None:
    both = make(hyperkvasir_root, num_train_normal=None, num_test_normal=None, val_split_mode="none")
    assert len(both.train_data) + len(both.test_data) == 40 + 6
    assert len(both.test_data) == round(40 * 500 / 2100) + 6
    rest = make(hyperkvasir_root, num_train_normal=None, num_test_normal=10, val_split_mode="none")
    assert (len(rest.train_data), len(rest.test_data)) == (30, 16)


def test_a_short_data_set_is_reported_but_runs(hyperkvasir_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(hyperkvasir_root / "labeled-images/lower-gi-tract/anatomical-landmarks/ileum")
    with caplog.at_level(logging.WARNING):
        make(hyperkvasir_root)
    assert "cecum 20 of 1009, ileum 0 of 9, bbps-2-3 18 of 1148, segmented polyps 6 of 1000" in caplog.text


def test_a_split_that_cannot_be_filled_says_what_to_change(hyperkvasir_root: Path) -> None:
    with pytest.raises(DatasetError, match=r"40 normal frames.*1600.*500.*num_train_normal=30 and num_test_normal=10"):
        make(hyperkvasir_root, num_train_normal=1600, num_test_normal=500)


@pytest.mark.parametrize("name", ["num_train_normal", "num_test_normal"])
def test_a_split_of_no_frames_is_no_lack_of_data(hyperkvasir_root: Path, name: str) -> None:
    for count in (0, -1):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got {count}"):
            make(hyperkvasir_root, **{name: count})


@pytest.mark.parametrize("name", ["labeled-images", "segmented-images"])
def test_a_missing_archive_is_told_with_its_source(hyperkvasir_root: Path, name: str) -> None:
    shutil.rmtree(hyperkvasir_root / name)
    with pytest.raises(DatasetNotFoundError, match=rf"No {name} .*it holds .*Expected .*datasets\.simula\.no"):
        HyperKvasir(hyperkvasir_root).prepare_data()


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        HyperKvasir(tmp_path / "absent").prepare_data()
    with pytest.raises(FileNotFoundError, match="the folder is empty"):
        HyperKvasir(tmp_path).prepare_data()


def test_no_polyps_and_polyps_without_mask(hyperkvasir_root: Path) -> None:
    (hyperkvasir_root / "segmented-images/masks/polyp-3.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 segmented polyps have no mask.*polyp-3\.jpg.*masks"):
        make(hyperkvasir_root)
    for path in (hyperkvasir_root / "segmented-images/images").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="nothing to test"):
        make(hyperkvasir_root)


def test_a_split_written_and_read_is_the_same(hyperkvasir_root: Path, tmp_path: Path) -> None:
    drawn = make(hyperkvasir_root, seed=5)
    drawn.write_split(tmp_path / "new" / "split.csv")
    lines = (tmp_path / "new" / "split.csv").read_text().splitlines()
    assert lines[0] == "path,part"
    assert any(line.startswith("labeled-images/lower-gi-tract/anatomical-landmarks/cecum/") for line in lines)
    followed = make(hyperkvasir_root.parent, seed=99, split_file=tmp_path / "new" / "split.csv")
    for part in ("train", "val", "test"):
        assert names(followed, part) == names(drawn, part)
    joined = make(hyperkvasir_root, split_file=str(tmp_path / "new" / "split.csv"), val_split_mode="same_as_test")
    assert names(joined, "train") == names(drawn, "train") | names(drawn, "val")


def test_a_short_split_file_takes_all_polyps(hyperkvasir_root: Path, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("cecum/cecum-10.jpg,train\ncecum/cecum-11.jpg,val\nbbps-2-3/bbps-2-3-01.jpg,test\n")
    datamodule = make(hyperkvasir_root, split_file=tmp_path / "s.csv")
    assert names(datamodule, "train") == {"cecum-10.jpg"}
    assert names(datamodule, "val") == {"cecum-11.jpg"}
    assert len(datamodule.test_data) == 1 + 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,part\ncecum/cecum-10.jpg,learn\n", r"s\.csv, line 2: expected"),
        ("cecum/cecum-10.jpg\n", r"s\.csv, line 1: expected"),
        ("cecum/cecum-10.jpg,train\ncecum/cecum-10.jpg,test\n", r"line 2: .* already in the part 'train'"),
        (
            "a/cecum/cecum-10.jpg,train\n\nb\\cecum\\cecum-10.jpg,test\n",
            r"line 3: .* already .*'train' by line 1, not 'test'",
        ),
        ('"cecum/cecum-10.jpg,train\ncecum/cecum-11.jpg,test\n', r"s\.csv, line 2: unexpected end of data"),
        ("cecum/cecum-10.jpg,traincecum/cecum-11.jpg,test\n", r"s\.csv, line 1: expected"),
        ("cecum/absent.jpg,train\n", r"1 images of the split file .*cecum/absent\.jpg"),
        ("segmented-images/images/polyp-1.jpg,train\n", r"1 polyps outside the test part"),
        ("cecum/cecum-10.jpg,test\n", "no images for the train part"),
    ],
)
def test_a_wrong_split_file_is_refused(hyperkvasir_root: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        make(hyperkvasir_root, split_file=tmp_path / "s.csv")


def test_a_name_that_is_not_utf_8_cannot_be_listed(hyperkvasir_root: Path, tmp_path: Path) -> None:
    path = hyperkvasir_root / "segmented-images" / "images" / "polyp-3.jpg"
    path.rename(path.with_name("polyp-\udcff.jpg"))
    mask = hyperkvasir_root / "segmented-images" / "masks" / "polyp-3.jpg"
    mask.rename(mask.with_name("polyp-\udcff.jpg"))
    datamodule = make(hyperkvasir_root)
    assert len(list(datamodule.test_data)) == 14
    with pytest.raises(DatasetError, match=r"polyp-\\udcff\.jpg' is not UTF-8"):
        datamodule.write_split(tmp_path / "s.csv")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_split_file_with_a_byte_order_mark_is_read(hyperkvasir_root: Path, tmp_path: Path, encoding: str) -> None:
    text = "cecum/cecum-10.jpg,train\ncecum/cecum-11.jpg,val\nbbps-2-3/bbps-2-3-01.jpg,test\n"
    (tmp_path / "s.csv").write_text(text, encoding=encoding)
    assert names(make(hyperkvasir_root, split_file=tmp_path / "s.csv"), "train") == {"cecum-10.jpg"}


def test_a_missing_split_file_is_refused(hyperkvasir_root: Path) -> None:
    with pytest.raises(DatasetError, match=r"absent\.csv does not exist"):
        make(hyperkvasir_root, split_file="absent.csv")


def test_the_crop_is_the_authors_rectangle_and_the_default(hyperkvasir_root: Path) -> None:
    whole, cropped = make(hyperkvasir_root, region="frame").test_data[13], make(hyperkvasir_root).test_data[13]
    top, bottom, left, right = round(40 * 45 / 512), round(40 * 475 / 512), round(48 * 45 / 512), round(48 * 475 / 512)
    assert (cropped.image == whole.image[:, top:bottom, left:right]).all()
    assert (cropped.gt_mask == whole.gt_mask[top:bottom, left:right]).all()


def test_tissue_is_the_crop_with_the_scopeguide_corner_painted_black(hyperkvasir_root: Path) -> None:
    mark_polyp(hyperkvasir_root, "polyp-3.jpg", (5, 15, 30, 35))
    cropped, tissue = (make(hyperkvasir_root, region=region) for region in ("crop", "tissue"))
    for part in ("train_data", "val_data", "test_data"):
        for seen, painted in zip(getattr(cropped, part), getattr(tissue, part), strict=True):
            height, width = seen.image.shape[-2:]
            corner = torch.zeros(height, width, dtype=torch.bool)
            corner[round(height * 84 / 128) :, : round(width * 44 / 128)] = True
            assert (painted.image == seen.image * ~corner).all()
            assert (painted.gt_mask == seen.gt_mask * ~corner).all()
            assert type(painted.image) is type(seen.image)
            assert painted.gt_mask.any() == bool(painted.gt_label)


def test_a_polyp_in_the_corner_keeps_its_label(hyperkvasir_root: Path) -> None:
    mark_polyp(hyperkvasir_root, "polyp-3.jpg", (5, 30, 15, 35))
    items = {Path(item.image_path).name: item for item in make(hyperkvasir_root, region="tissue").test_data}
    assert bool(items["polyp-3.jpg"].gt_label)
    assert not items["polyp-3.jpg"].gt_mask.any()
    (batch,) = make(hyperkvasir_root, region="tissue", eval_batch_size=14).test_dataloader()
    assert batch.gt_label.sum() == 6
    assert batch.gt_mask.flatten(1).any(dim=1).sum() == 5


def test_the_cache_keeps_regions_apart(hyperkvasir_root: Path, tmp_path: Path) -> None:
    expected = {name: make(hyperkvasir_root, region=name).train_data[0].image for name in ("frame", "crop", "tissue")}
    cache = {"cache": "disk", "cache_dir": tmp_path / "cache", "cache_size": 64}
    for _ in range(2):
        for name, image in expected.items():
            cached = make(hyperkvasir_root, region=name, **cache).train_data[0].image
            torch.testing.assert_close(cached, image, rtol=0, atol=0.51 / 255)


def test_an_unknown_region_is_refused(hyperkvasir_root: Path) -> None:
    with pytest.raises(ValueError, match="frame, crop, tissue, got 'box'"):
        make(hyperkvasir_root, region="box")


@pytest.mark.parametrize(
    ("mode", "train", "val", "test"),
    [("none", 24, None, 14), ("same_as_test", 24, 14, 14), ("from_test", 24, 3, 11), ("synthetic", 19, 5, 14)],
)
def test_other_validation_modes(hyperkvasir_root: Path, mode: str, train: int, val: int | None, test: int) -> None:
    datamodule = make(hyperkvasir_root, val_split_mode=mode, val_split_ratio=0.2)
    assert (len(datamodule.train_data), len(datamodule.test_data)) == (train, test)
    if val is None:
        assert list(datamodule.val_dataloader()) == []
    else:
        assert len(datamodule.val_data) == val
        assert next(iter(datamodule.val_dataloader())).gt_mask is not None


def test_synthetic_validation_is_reproducible_and_half_anomalous(hyperkvasir_root: Path) -> None:
    first, second = (make(hyperkvasir_root, val_split_mode="synthetic", num_val_normal=6) for _ in range(2))
    assert first.val_data.samples["label_index"].sum() == 3
    assert not groups(first, "train") & groups(first, "val")
    for left, right in zip(first.val_data, second.val_data, strict=True):
        assert (left.image == right.image).all()
        assert left.gt_label == bool(left.gt_mask.any())


def test_num_val_normal_is_exact(hyperkvasir_root: Path) -> None:
    assert len(make(hyperkvasir_root, num_val_normal=7).val_data) == 7
    with pytest.raises(DatasetError, match="cannot hold 24 of them out"):
        make(hyperkvasir_root, num_val_normal=24)


@pytest.mark.parametrize("arguments", [{"val_split_ratio": 1.0}, {"num_val_normal": 0}, {"val_split_mode": "from_dir"}])
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="val_split_mode"):
        HyperKvasir(**arguments)  # type: ignore[arg-type]


def test_a_config_file_builds_it(hyperkvasir_root: Path, tmp_path: Path) -> None:
    config = tmp_path / "data.yaml"
    config.write_text(
        "class_path: anomalib_memmc.data.HyperKvasir\n"
        "init_args:\n"
        f"  root: {hyperkvasir_root}\n"
        "  num_train_normal: 24\n"
        "  num_test_normal: null\n"
        "  region: tissue\n"
        "  val_split_mode: from_train\n"
        "  num_workers: 0\n"
    )
    datamodule = AnomalibDataModule.from_config(config)
    datamodule.setup()
    assert isinstance(datamodule, HyperKvasir)
    assert len(datamodule.test_data) == 16 + 6


def test_the_real_subset(real_data: Path) -> None:
    datamodule = make(real_data / "hyper-kvasir", num_train_normal=340, num_test_normal=160, num_workers=2)
    assert (len(datamodule.train_data), len(datamodule.val_data), len(datamodule.test_data)) == (306, 34, 420)
    assert not groups(datamodule, "train") & groups(datamodule, "test")
    dataset = datamodule.test_data
    assert dataset.samples["stratum"].value_counts()[list(POLYPS)].tolist() == [200, 60]
    row = int(dataset.samples.index[dataset.samples["stratum"].isin(POLYPS)][0])
    assert dataset[row].gt_mask.shape == dataset[row].image.shape[-2:]
    assert 0 < dataset[row].gt_mask.float().mean() < 0.9
