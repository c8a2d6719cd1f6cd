import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_memmc.reporting.summary import clamped_auroc, compare, render


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "gt_label": pd.array([0] * 40 + [1] * 30, dtype="Int64"),
            "pred_score": rng.random(70),
            "stratum": ["nih"] * 25 + ["rsna"] * 15 + ["nih"] * 20 + ["cohen"] * 10,
            "mean_intensity": rng.random(70),
            "aspect_ratio": np.repeat([1.2, 1.0], [40, 30]),
            "file_bytes": [np.nan, *range(69)],
        }
    )
    table.loc[40:, "pred_score"] += 0.3
    return table


def test_every_comparison_is_on_its_own_images(table):
    rows = {(row.anomalous, row.normal): row for row in compare(table)}
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
    strongest, other = compare(table)[0].cues
    assert (strongest.column, strongest.auroc, strongest.higher) == ("aspect_ratio", 1.0, False)
    assert 0.5 <= other.auroc < 0.75
    # not known for all images, so not reported
    assert "file_bytes" not in {strongest.column, other.column}


def test_raw_scores_are_preferred_and_lost_order_is_reported(table):
    table["raw_score"] = table["pred_score"]
    assert clamped_auroc(table) is None
    table["pred_score"] = table["pred_score"].clip(upper=0.2)
    assert compare(table)[0].auroc == compare(table.drop(columns="pred_score"))[0].auroc
    assert clamped_auroc(table) == pytest.approx(roc_auc_score(table["gt_label"].astype(int), table["pred_score"]))


def test_unusable_rows_are_left_out(table):
    table.loc[0, "pred_score"] = np.nan
    table.loc[1, "gt_label"] = pd.NA
    assert compare(table)[0].num_normal == 38
    assert compare(table[table["gt_label"] == 0]) == []
    assert compare(table.assign(gt_label=pd.array([pd.NA] * 70, dtype="Int64"))) == []
    assert [row.normal for row in compare(table.assign(stratum=""))] == ["all"]


def test_tables_fit_a_narrow_terminal(table):
    table["stratum"] = [f"a rather long stratum {name}" for name in table["stratum"]]
    console = Console(width=80, record=True)
    console.print(render(compare(table), max_rows=4))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert f"{compare(table)[0].auroc:.3f}" in text
    assert "2 more comparisons not shown" in text
    assert "width / height" in text
