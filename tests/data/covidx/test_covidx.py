from __future__ import annotations

import logging
from pathlib import Path

import pytest
from anomalib import TaskType
from helpers.images import TRAIN_LINES

from anomalib_memmc.data import CovidX, DatasetError, DatasetNotFoundError, read_labels


def make(root: Path, **arguments: object) -> CovidX:
    datamodule = CovidX(root, num_workers=0, **arguments)  # type: ignore[arg-type]
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def test_patients_with_a_blank_are_parsed_from_the_right(covidx_root: Path) -> None:
    labels = read_labels(covidx_root / "train_COVIDx8B.txt")
    row = labels[labels["source"] == "sirm"].iloc[0]
    assert (row.patient, row.filename, row.finding, row.label_index) == ("COVID 1", "COVID(1).png", "positive", 1)


def test_only_negatives_train(covidx_root: Path) -> None:
    datamodule = make(covidx_root, num_val_normal=6)
    assert datamodule.name == "CovidX"
    assert datamodule.task == TaskType.CLASSIFICATION
    assert (len(datamodule.train_data), len(datamodule.val_data), len(datamodule.test_data)) == (18, 6, 10)
    assert not datamodule.train_data.has_anomalous
    assert datamodule.test_data.samples["label_index"].sum() == 5
    assert set(datamodule.test_data.samples["stratum"]) == {"negative/rsna", "positive/ricord"}


@pytest.mark.parametrize("mode", ["from_train", "synthetic"])
def test_a_patient_is_in_one_part(covidx_root: Path, mode: str) -> None:
    for seed in range(3):
        datamodule = make(covidx_root, seed=seed, val_split_ratio=0.3, val_split_mode=mode)
        train, val = datamodule.train_data.samples["group"], datamodule.val_data.samples["group"]
        assert len(val) == 7
        assert not set(train) & set(val)


def test_two_workers_deliver_batches(covidx_root: Path) -> None:
    datamodule = CovidX(covidx_root, num_workers=2, train_batch_size=6, eval_batch_size=5)
    datamodule.setup()
    assert next(iter(datamodule.train_dataloader())).image.shape == (6, 3, 40, 48)
    assert len(list(datamodule.test_dataloader())) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("p1 only-three.png negative", r"line 27: expected 'patient-id filename class source'"),
        ("p1 x.png maybe rsna", r"line 27: unknown class 'maybe'.*normal_findings"),
        ("p1 a.png negative rsnap2 b.png negative rsna", r"line 27: .* Are two lines joined\?"),
        ("p1 neg-03.png negative rsna", r"line 27: the file neg-03\.png is already in line 4"),
    ],
)
def test_a_wrong_line_is_named(covidx_root: Path, line: str, message: str) -> None:
    with (covidx_root / "train_COVIDx8B.txt").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(DatasetError, match=rf"train_COVIDx8B\.txt, {message}"):
        make(covidx_root)


def test_blank_lines_and_windows_ends_are_no_trouble(covidx_root: Path) -> None:
    path = covidx_root / "train_COVIDx8B.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(TRAIN_LINES).encode())
    assert len(read_labels(path)) == len(TRAIN_LINES)
    assert read_labels(path)["patient"].iloc[0] == "p0"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("Müller a.png negative rsna\n".encode(encoding))
    assert read_labels(tmp_path / "a.txt")["patient"].tolist() == ["Müller"]
    if encoding == "utf-8-sig":  # two files with a mark each, joined
        (tmp_path / "a.txt").write_bytes(b"".join(f"p {name}.png negative x\n".encode(encoding) for name in "ab"))
        assert read_labels(tmp_path / "a.txt")["patient"].tolist() == ["p", "p"]


@pytest.mark.parametrize(
    ("encoding", "trouble"), [("latin-1", "is not UTF-8"), ("utf-16-le", "holds zero bytes"), ("utf-16-be", "zero")]
)
def test_another_encoding_is_named(tmp_path: Path, encoding: str, trouble: str) -> None:
    name = "Müller" if encoding == "latin-1" else "Muller"
    (tmp_path / "a.txt").write_bytes(f"p a.png negative x\n{name} b.png negative rsna\n".encode(encoding))
    with pytest.raises(DatasetError, match=rf"a\.txt, line [12]: the file .*{trouble}.*Save it in the encoding UTF-8"):
        read_labels(tmp_path / "a.txt")


def test_an_empty_and_a_missing_label_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DatasetError, match=r"empty\.txt is empty"):
        read_labels(tmp_path / "empty.txt")
    with pytest.raises(DatasetError, match="does not exist"):
        read_labels(tmp_path / "absent.txt")


def test_missing_images_stop_the_run(covidx_root: Path) -> None:
    for number in range(7):
        (covidx_root / "train" / f"neg-{number:02d}.png").unlink()
    with pytest.raises(DatasetError, match=r"7 of the 34 images .*train/neg-00\.png.* \.\.\..*missing='skip'"):
        make(covidx_root)


def test_missing_images_are_skipped_on_request(covidx_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (covidx_root / "train" / "neg-00.png").unlink()
    (covidx_root / "train" / "COVID(1).png").unlink()  # positive: not used, so not missed
    with caplog.at_level(logging.WARNING):
        datamodule = make(covidx_root, missing="skip", val_split_mode="none")
    assert len(datamodule.train_data) == 23
    assert "1 of the 34 images" in caplog.text
    assert "train/neg-00.png" in caplog.text


def test_nothing_left_is_an_error_even_when_skipping(covidx_root: Path) -> None:
    for part in ("train", "test"):
        for path in (covidx_root / part).iterdir():
            path.unlink()
    with pytest.raises(DatasetError, match="34 of the 34 images"):
        make(covidx_root, missing="skip")


def test_label_files_are_arguments(covidx_root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "mine.txt"
    (covidx_root / "train_COVIDx8B.txt").rename(elsewhere)
    with pytest.raises(DatasetNotFoundError, match=r"No label file for the train part .*train_labels"):
        CovidX(covidx_root).prepare_data()
    datamodule = make(covidx_root, train_labels=str(elsewhere), test_labels="test_COVIDx8B.txt")
    assert len(datamodule.test_data) == 10
    with pytest.raises(DatasetNotFoundError, match=r"absent\.txt is neither there nor"):
        CovidX(covidx_root, train_labels="absent.txt").prepare_data()


def test_several_unknown_label_files_are_not_guessed(covidx_root: Path) -> None:
    (covidx_root / "train_COVIDx8B.txt").rename(covidx_root / "train_a.txt")
    assert len(make(covidx_root).test_data) == 10
    (covidx_root / "train_b.txt").write_text("p a.png negative rsna\n")
    with pytest.raises(DatasetNotFoundError, match="Several label files for the train part"):
        CovidX(covidx_root).prepare_data()


def test_a_missing_data_set_is_told_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"does not exist\. Expected .*COVID-Net"):
        CovidX(tmp_path / "absent").prepare_data()


def test_images_may_lie_in_the_root(covidx_root: Path) -> None:
    for path in (covidx_root / "test").iterdir():
        path.rename(covidx_root / path.name)
    assert len(make(covidx_root).test_data) == 10


def test_strata_take_the_finer_class(covidx_root: Path) -> None:
    (covidx_root / "fine.txt").write_text("t0 tneg-0.JPG pneumonia rsna\nt1 tneg-1.JPG normal rsna\n")
    strata = make(covidx_root, strata_labels=["fine.txt"]).test_data.samples["stratum"]
    assert strata.value_counts().to_dict() == {
        "positive/ricord": 5,
        "negative/rsna": 3,
        "pneumonia/rsna": 1,
        "normal/rsna": 1,
    }


def test_what_is_normal_can_be_said(covidx_root: Path) -> None:
    path = covidx_root / "test_COVIDx8B.txt"
    path.write_text("a tneg-0.JPG Normal rsna\nb tneg-1.JPG pneumonia rsna\nc tpos-0.jpeg COVID-19 ricord\n")
    assert read_labels(path)["label_index"].tolist() == [0, 0, 1]
    assert read_labels(path, ["normal"])["label_index"].tolist() == [0, 1, 1]


def test_shared_patients_are_told(covidx_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = covidx_root / "test_COVIDx8B.txt"
    path.write_text(path.read_text().replace("t0 ", "p0 "))
    with caplog.at_level(logging.WARNING):
        make(covidx_root)
    assert "1 patients are in the training and in the test list" in caplog.text


def test_a_wrong_word_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="'error' or 'skip'"):
        CovidX(missing="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "normal", "anomalous"),
    [
        ("train_COVIDx8B", 13794, 2158),
        ("test_COVIDx8B", 200, 200),
        ("train_COVIDx8A", 13441, 2158),
        ("test_COVIDx8A", 200, 200),
    ],
)
def test_the_official_lists_have_the_papers_counts(real_data: Path, name: str, normal: int, anomalous: int) -> None:
    labels = read_labels(real_data / "covidx8b-labels" / f"{name}.txt")
    assert labels["label_index"].value_counts().to_dict() == {0: normal, 1: anomalous}
    assert (labels["patient"].str.contains(" ")).sum() == (labels["source"] == "sirm").sum()


def test_the_official_lists_share_no_patient(real_data: Path) -> None:
    train, test = (read_labels(real_data / "covidx8b-labels" / f"{part}_COVIDx8B.txt") for part in ("train", "test"))
    assert not set(train["patient"]) & set(test["patient"])


def test_the_real_subset(real_data: Path) -> None:
    datamodule = make(real_data / "nih-cxr")
    assert (len(datamodule.train_data), len(datamodule.val_data), len(datamodule.test_data)) == (306, 34, 171)
    counts = datamodule.test_data.samples["stratum"].value_counts().to_dict()
    assert counts == {"positive/nih": 62, "negative/nih": 60, "positive/cohen": 49}
    assert not set(datamodule.train_data.samples["group"]) & set(datamodule.val_data.samples["group"])
    assert datamodule.test_data[0].image.shape[0] == 3
