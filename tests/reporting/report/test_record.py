import json

import numpy as np
import pytest
from helpers.reports import TRAINING, cases, facts, predictions, save_run
from PIL import Image

from anomalib_memmc.reporting.report.record import LARGEST_SIDE, read, write_test, write_training


@pytest.fixture
def run(tmp_path):
    return save_run(tmp_path / "v0")


def test_what_was_written_is_read(run):
    record = read(run)
    assert record.missing == ""
    assert record.training["steps"] == 600
    assert record.test["metrics"] == {"image_AUROC": 0.9, "image_F1Score": None}
    assert len(record.test["localisation"]["brightness"]) == 30
    case, kept = record.cases[0], {each.path: each for each in cases(predictions())}
    values = np.asarray(Image.open(record.folder / case["map"]))
    np.testing.assert_allclose(values, kept[case["path"]].anomaly_map.astype(float) * 255, atol=0.51)
    files = {path.name for path in record.folder.iterdir()}
    assert files == {each[kind] for each in record.cases for kind in ("image", "map", "mask") if kind in each}


def test_the_file_is_shown_at_its_own_resolution_where_it_is_to_be_had(tmp_path):
    run, kept = save_run(tmp_path, record=False), cases(predictions())[:2]
    original = np.repeat(np.arange(400)[None, :, None] * 255 // 400, 200, axis=0).repeat(3, axis=2).astype(np.uint8)
    write_test(run, facts(), None, kept, None, lambda case: original if case is kept[0] else None)
    record = read(run)
    sizes = [Image.open(record.folder / case["image"]).size for case in record.cases]
    assert sizes == [(LARGEST_SIDE, LARGEST_SIDE // 2), (32, 32)]
    assert Image.open(record.folder / record.cases[0]["image"]).mode == "L"  # all its channels are equal


def test_maps_that_are_not_normalised_keep_their_scale(tmp_path):
    run, kept = save_run(tmp_path, record=False), cases(predictions())[:2]
    kept[0].anomaly_map, kept[1].anomaly_map = np.full((4, 4), 3, np.float16), np.full((4, 4), -1, np.float16)
    write_test(run, facts(), None, kept, None, lambda case: None)
    record = read(run)
    assert record.test["map_range"] == [-1, 3]
    assert [np.asarray(Image.open(record.folder / case["map"])).max() for case in record.cases] == [255, 0]


def test_facts_of_another_test_are_not_taken(run):
    predictions(seed=5).to_csv(run / "predictions.csv", index=False)
    record = read(run)
    assert record.test is None
    assert not record.cases
    assert "belongs to another predictions.csv" in record.missing


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}'])
def test_damaged_facts_are_said_to_be(run, content):
    (run / "report" / "test.json").write_text(content)
    assert "test.json is damaged" in read(run).missing


def test_facts_of_the_training_stand_alone(tmp_path):
    run = save_run(tmp_path, record=False)
    write_training(run, TRAINING)
    record = read(run)
    assert record.training == json.loads(json.dumps(TRAINING))
    assert "test.json is missing" in record.missing


def test_a_second_test_replaces_the_first(run):
    write_test(run, facts(), None, cases(predictions())[:3], None, lambda case: None)
    assert {path.name[:3] for path in (run / "report" / "cases").iterdir()} == {"000", "001", "002"}
    assert read(run).training is None
