import numpy as np
import pandas as pd
import pytest
from helpers.tables import prediction_table
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_memmc.metrics import matched_auroc
from anomalib_memmc.reporting.comparisons import compare, judged


@pytest.fixture
def table():
    return prediction_table()


def test_every_comparison_is_on_its_own_images(table):
    rows = {(row.anomalous, row.normal): row for row in compare(judged(table))}
    assert list(rows) == [
        ("all", "all"), ("nih", "all"), ("nih", "nih"), ("cohen", "all"), ("all", "nih"), ("all", "rsna"),
    ]  # fmt: skip
    same_source = table[table["stratum"] == "nih"]
    labels = same_source["gt_label"].astype(int)
    row = rows["nih", "nih"]
    assert (row.num_anomalous, row.num_normal) == (20, 25)
    assert row.auroc == pytest.approx(roc_auc_score(labels, same_source["pred_score"]))
    assert row.average_precision == pytest.approx(average_precision_score(labels, same_source["pred_score"]))


def test_trivial_baselines_take_the_better_direction(table):
    strongest, other = compare(judged(table))[0].trivial
    assert (strongest.column, strongest.auroc, strongest.higher) == ("aspect_ratio", 1.0, False)
    assert 0.5 <= other.auroc < 0.75
    # not known for all images, so not reported
    assert "file_bytes" not in {strongest.column, other.column}


def test_trivial_baselines_come_with_what_is_left_of_the_score(table):
    aspect, other = compare(judged(table))[0].trivial
    labels = table["gt_label"].astype(int)
    assert aspect.separates
    assert aspect.matched.pairs == 0  # no sick image has the shape of a normal one
    assert other.matched == matched_auroc(table["pred_score"], labels, table["mean_intensity"])
    assert not compare(judged(table.assign(mean_intensity=[0, 1] * 35)))[0].trivial[1].separates


def test_judged_has_the_names_of_the_results(table):
    verdict = 1 - table["gt_label"].astype("Int64")  # never taken for the truth
    table = table.assign(image_path="a", group="b", score=2 * table["pred_score"], label=verdict)
    names = ["path", "label", "stratum", "group", "score", "mean_intensity", "file_bytes", "aspect_ratio"]
    assert judged(table).columns.tolist() == names
    assert judged(table)["score"].tolist() == table["score"].tolist()
    assert judged(table)["label"].dtype == int
    assert judged(table)["label"].tolist() == table["gt_label"].dropna().astype(int).tolist()


def test_scores_before_post_processing_are_preferred(table):
    table["score"] = table["pred_score"]
    table["pred_score"] = table["pred_score"].clip(upper=0.2)
    assert compare(judged(table))[0].auroc == compare(judged(table.drop(columns="pred_score")))[0].auroc


def test_unusable_rows_are_left_out(table):
    table.loc[0, "pred_score"] = np.nan
    table.loc[1, "gt_label"] = pd.NA
    assert compare(judged(table))[0].num_normal == 38
    assert compare(judged(table[table["gt_label"] == 0])) == []
    assert compare(judged(table.assign(gt_label=pd.array([pd.NA] * 70, dtype="Int64")))) == []
    assert [row.normal for row in compare(judged(table.assign(stratum="")))] == ["all"]
