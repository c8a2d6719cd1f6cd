from helpers.tables import large_table, small_table

from anomalib_memmc.benchmark.tables import fitted, matched_table, strata_table, table
from anomalib_memmc.metrics import matched_auroc


def cells(text):
    """Cells of a Markdown table, line by line."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_a_wide_table_becomes_several_that_fit_a_terminal():
    head = ["Model", *(f"metric {index}" for index in range(12))]
    rows = [[name, *(f"{index}.000 ± 0.{len(name)}" for index in range(12))] for name in ("A", "a longer name")]
    text = fitted([head, ["---"] * 13, *rows])
    tables = [cells(part) for part in text.split("\n\n")]
    assert len(tables) > 1
    assert max(map(len, text.splitlines())) <= 100
    assert {len(set(map(len, part.splitlines()))) for part in text.split("\n\n")} == {1}  # straight columns
    assert all([line[0] for line in part][2:] == ["A", "a longer name"] for part in tables)
    for index, line in ((0, head), (2, rows[0]), (3, rows[1])):
        assert [cell for part in tables for cell in part[index][1:]] == line[1:]


def test_a_table_that_fits_is_one_and_a_column_that_does_not_stands_alone():
    assert len(fitted([["a", "b"], ["---"] * 2, ["1", "2"]]).split("\n\n")) == 1
    assert len(fitted([["a", "b" * 120, "c"], ["---"] * 3, ["1", "2", "3"]]).split("\n\n")) == 2


def test_strata_table_has_models_over_seeds_and_trivial_baselines():
    text = strata_table({"A": [small_table([5, 4, 3, 2, 1]), small_table([5, 4, 1, 2, 3])]})
    head, _, model, trivial = cells(text)
    assert head == ["Image AUROC", "all (3) against all (2)", "a (2) against all (2)", "b (1) against all (2)"]
    assert model == ["A", "0.833 ± 0.236", "1.000 ± 0.000", "0.500 ± 0.707"]
    assert trivial == ["*mean intensity*", "1.000", "1.000", "1.000"]


def test_strata_table_needs_both_classes():
    assert strata_table({"A": [small_table([5, 4, 3, 2, 1]).iloc[:3]]}) == ""
    assert strata_table({}) == ""


def test_table_of_one_seed_has_no_spread():
    row = {"model": "A", "seed": "0", "status": "ok", "image_AUROC": "0.51234", "fit_seconds": "2.4"}
    assert cells(table([row]))[-1] == ["A", "1", "0.512", "2", "-", "-"]


def test_matched_table_has_the_baselines_that_separate():
    tables = {"A": [large_table(1), large_table(2)], "B": [large_table(3, shift=3)]}
    title, _, head, _, row = matched_table(tables).splitlines()
    assert title == "Matched AUROC, all (60) against all (40):"
    assert cells(head) == [["alike in", "A", "B"]]
    scores, images = [one["score"] for one in tables["A"]], tables["A"][0]
    mean = matched_auroc(scores, images["label"], images["file_bytes"])
    assert row.startswith("| file size in bytes (0.9")
    assert f"| [{mean.value:.3f} ± {mean.standard_error:.3f}] ({mean.pairs}) |" in row


def test_matched_table_is_empty_where_nothing_separates():
    assert matched_table({}) == ""
    assert matched_table({"A": [large_table(1).drop(columns="file_bytes")]}) == ""
    assert matched_table({"A": [large_table(1)[:40]]}) == ""  # one class
