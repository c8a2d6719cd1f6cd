import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.tables import small_table

from anomalib_memmc.benchmark.predictions import Predictions, read, relative_paths, stack_scores

RUNS = Path(__file__).parents[2] / "docs" / "runs"


def test_jobs_share_one_file_and_a_later_run_replaces_its_rows(tmp_path):
    predictions = Predictions(tmp_path)
    predictions.put("A-seed0", small_table([5, 4, 3, 2, 1]))
    predictions.put(
        "B-seed0", small_table([1, 2, 3, 4, 5]).drop(columns=["stratum", "mean_intensity"]).assign(noise=0.5)
    )
    predictions.put("A-seed0", small_table([7, 4, 3, 2, 1]))
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]
    again = Predictions(tmp_path)
    assert len(again.table) == 10
    assert "A-seed0" in again
    assert "A-seed1" not in again
    pd.testing.assert_frame_equal(again.of("A-seed0"), small_table([7, 4, 3, 2, 1]), check_like=True, check_dtype=False)
    assert sorted(again.of("B-seed0").columns) == ["label", "noise", "path", "score"]  # only what is known of it
    assert again.table.columns[0] == "job"


def test_scores_keep_every_bit(tmp_path):
    scores = np.random.default_rng(0).random(5)
    Predictions(tmp_path).put("A-seed0", small_table(scores))
    assert Predictions(tmp_path).of("A-seed0")["score"].tolist() == scores.tolist()


def test_what_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"predictions.parquet has no predictions of A-seed0; .*results.csv"):
        Predictions(tmp_path).of("A-seed0")
    (tmp_path / "predictions.parquet").write_text("no table")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "predictions.parquet")) + " is damaged .* Delete it"):
        Predictions(tmp_path)


def test_a_jobs_table_is_read_without_this_machines_folders(tmp_path):
    root = tmp_path / "data"
    paths = [str(root / "test" / name) for name in ("00000061_012.png", "00000061_015.png", "b.png")]
    table = pd.DataFrame({"image_path": paths, "group": ["00000061", "00000061", paths[2]], "gt_label": [1, 1, 0]})
    table.assign(pred_score=[0.5, 1.0, 0.0], score=[2.0, 3.0, 1.0]).to_csv(tmp_path / "predictions.csv", index=False)
    read_back = read(tmp_path / "predictions.csv", root)
    assert read_back["path"].tolist() == ["test/00000061_012.png", "test/00000061_015.png", "test/b.png"]
    assert read_back["group"].tolist() == ["00000061", "00000061", "test/b.png"]
    assert read_back["score"].tolist() == [2.0, 3.0, 1.0]


def test_paths_are_relative_to_the_root_or_to_what_they_share(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [str(tmp_path / "d" / "test" / name) for name in ("a.png", "b/c.png")]
    assert relative_paths(paths, "./d") == ["test/a.png", "test/b/c.png"]
    assert relative_paths(["d/test/a.png"], tmp_path / "d") == ["test/a.png"]
    assert relative_paths(paths, None) == ["a.png", "b/c.png"]
    assert relative_paths(paths, tmp_path / "elsewhere") == ["a.png", "b/c.png"]
    assert relative_paths(paths[:1], None) == ["a.png"]
    assert relative_paths([], None) == []


def test_scores_are_stacked_image_by_image():
    first, second = small_table([5, 4, 3, 2, 1]), small_table([1, 2, 3, 4, 5]).iloc[::-1]
    images, scores = stack_scores([first, second])
    assert images["path"].tolist() == list("vwxyz")
    assert scores.tolist() == [[5, 4, 3, 2, 1], [1, 2, 3, 4, 5]]
    with pytest.raises(ValueError, match="not tested on the same images: 1 images, such as v"):
        stack_scores([first, second[second["path"] != "v"]])


@pytest.mark.parametrize(
    "folder", sorted(Path("docs/runs").glob("*/predictions.parquet")), ids=lambda path: path.parent.name
)
def test_the_predictions_of_docs_are_complete(folder):
    predictions = Predictions(folder.parent)
    rows = pd.read_csv(folder.with_name("results.csv"))
    assert sorted(predictions.table["job"].unique()) == sorted(rows["model"] + "-seed" + rows["seed"].astype(str))
    assert not predictions.table["path"].str.startswith("/").any()
    assert predictions.table[["label", "score"]].notna().all().all()
