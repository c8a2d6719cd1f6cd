import numpy as np
import pandas as pd
import pytest
from helpers.tables import prediction_table
from rich.console import Console
from sklearn.metrics import roc_auc_score

from anomalib_memmc.metrics import Estimate
from anomalib_memmc.reporting.comparisons import compare, judged
from anomalib_memmc.reporting.summary import clamped_auroc, estimate, render, warnings


@pytest.fixture
def table():
    return prediction_table()


def printed(table, **options):
    console = Console(width=80, record=True)
    console.print(render(compare(judged(table)), **options))
    return console.export_text()


def test_lost_order_is_reported(table):
    table["score"] = table["pred_score"]
    assert clamped_auroc(table) is None
    table["pred_score"] = table["pred_score"].clip(upper=0.2)
    assert clamped_auroc(table) == pytest.approx(roc_auc_score(table["gt_label"].astype(int), table["pred_score"]))
    assert clamped_auroc(table[table["gt_label"] == 0]) is None


def test_tables_fit_a_narrow_terminal(table):
    table["stratum"] = [f"a rather long stratum {name}" for name in table["stratum"]]
    console = Console(width=80, record=True)
    console.print(render(compare(judged(table)), max_rows=4))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert f"{compare(judged(table))[0].auroc:.3f}" in text
    assert "2 more comparisons not shown" in text
    assert "width / height" in text


def noise_detector(count=200, strength=1.0):
    """A score that is the file's size and nothing else, on sick images that are larger; two sources."""
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], count)
    size = generator.normal(size=2 * count) + strength * labels
    stratum = np.where(labels == 0, "", np.where(np.arange(2 * count) % 2 == 0, "a", "b"))
    return pd.DataFrame(
        {
            "gt_label": labels,
            "pred_score": size + 0.01 * generator.normal(size=2 * count),
            "stratum": stratum,
            "file_bytes": size,
            "aspect_ratio": 1.0,
        }
    )


def test_matched_auroc_stands_beside_the_baselines_that_separate():
    text = printed(noise_detector())
    matched = compare(judged(noise_detector()))[0].trivial[0].matched
    assert f"{matched.value:.3f} ± {matched.standard_error:.3f}" in text
    assert str(matched.pairs) in text
    size, aspect = (
        next(line for line in text.splitlines() if line.startswith(f"│ {name}"))
        for name in ("file size in bytes", "width / height of file")
    )
    assert "higher" in size
    assert aspect.count("-") == 2
    assert max(map(len, text.splitlines())) <= 80


def test_a_sentence_says_where_a_score_falls_to_chance():
    overall, first, second = compare(judged(noise_detector()))
    (sentence,) = warnings(overall)
    matched = overall.trivial[0].matched
    assert sentence == (
        "Among images of equal file size this score does not tell sick from well "
        f"(matched AUROC {matched.value:.3f} ± {matched.standard_error:.3f}, {matched.pairs} pairs)."
    )
    assert warnings(first)[0].startswith("a against all: among images of equal file size")
    assert warnings(second)[0].startswith("b against all: among")
    text = " ".join(printed(noise_detector()).split())
    assert sentence in text


def test_no_sentence_where_the_score_sees_more_than_the_baseline():
    table = noise_detector()
    table["pred_score"] += 3 * table["gt_label"]
    assert warnings(compare(judged(table))[0]) == []
    unrelated = noise_detector(strength=0.0)
    assert warnings(compare(judged(unrelated))[0]) == []  # the baseline does not separate


def test_with_no_or_few_pairs_that_is_said(table):
    assert warnings(compare(judged(table))[0]) == [
        "No sick image is like a well one in width / height, so this score may be that and nothing else.",
        "Too few sick and well images are of equal mean intensity to know whether this score sees more "
        "(matched AUROC [0.692 ± 0.104], 91 pairs).",
    ]


def test_few_pairs_stand_in_brackets():
    assert estimate(Estimate(0.536, 248, 0.0759)) == "0.536 ± 0.076"
    assert estimate(Estimate(0.536, 199, 0.0759)) == "[0.536 ± 0.076]"
    assert estimate(Estimate(0.087, 3720, 0.0272), sign="+") == "+0.087 ± 0.027"
    assert estimate(Estimate(float("nan"), 0, float("nan"))) == "-"
    text = printed(noise_detector(count=20))
    assert "in brackets: fewer than 200 pairs" in " ".join(text.split())
