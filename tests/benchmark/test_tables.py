from helpers.tables import large_table, small_table

from anomalib_memmc.benchmark.tables import matched_table, strata_table, table
from anomalib_memmc.metrics import matched_auroc


def test_strata_table_has_models_over_seeds_and_trivial_baselines():
    text = strata_table({"A": [small_table([5, 4, 3, 2, 1]), small_table([5, 4, 1, 2, 3])]})
    head, _, model, trivial = text.splitlines()
    assert head == "| Image AUROC | all (3) against all (2) | a (2) against all (2) | b (1) against all (2) |"
    assert model == "| A | 0.833 ± 0.236 | 1.000 ± 0.000 | 0.500 ± 0.707 |"
    assert trivial == "| *mean intensity* | 1.000 | 1.000 | 1.000 |"


def test_strata_table_needs_both_classes():
    assert strata_table({"A": [small_table([5, 4, 3, 2, 1]).iloc[:3]]}) == ""
    assert strata_table({}) == ""


def test_table_of_one_seed_has_no_spread():
    row = {"model": "A", "seed": "0", "status": "ok", "image_AUROC": "0.51234", "fit_seconds": "2.4"}
    assert table([row]).splitlines()[-1] == "| A | 1 | 0.512 | 2 | - | - |"


def test_matched_table_has_the_baselines_that_separate():
    tables = {"A": [large_table(1), large_table(2)], "B": [large_table(3, shift=3)]}
    head, _, row = matched_table(tables).splitlines()
    assert head == "| Matched AUROC | alike in | A | B |"
    scores, images = [one["score"] for one in tables["A"]], tables["A"][0]
    mean = matched_auroc(scores, images["label"], images["file_bytes"])
    assert row.startswith("| all (60) against all (40) | file size in bytes (0.9")
    assert f"| [{mean.value:.3f} ± {mean.standard_error:.3f}] ({mean.pairs}) |" in row


def test_matched_table_is_empty_where_nothing_separates():
    assert matched_table({}) == ""
    assert matched_table({"A": [large_table(1).drop(columns="file_bytes")]}) == ""
    assert matched_table({"A": [large_table(1)[:40]]}) == ""  # one class
