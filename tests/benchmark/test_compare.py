from pathlib import Path

import pytest
from helpers.tables import large_table, small_table

from anomalib_memmc.benchmark.predictions import Predictions
from anomalib_memmc.cli import main
from anomalib_memmc.metrics import matched_auroc, paired_difference

RUNS = Path(__file__).parents[2] / "docs" / "runs"


@pytest.fixture
def folder(tmp_path):
    """Two seeds of A, one of B, and one of C on other images."""
    rows = ["A,0,ok", "A,1,ok", "B,0,ok", "C,0,ok", "D,0,failed"]
    (tmp_path / "results.csv").write_text("\n".join(["model,seed,status", *rows]) + "\n")
    predictions = Predictions(tmp_path)
    predictions.put("A-seed0", large_table(1, shift=1))
    predictions.put("A-seed1", large_table(2, shift=1).iloc[::-1])
    predictions.put("B-seed0", large_table(3))
    predictions.put("C-seed0", small_table([5, 4, 3, 2, 1]))
    return tmp_path


def test_differences_stand_with_their_errors(folder, capsys):
    assert main(["compare", str(folder), "A", "B"]) == 0
    head, _, names, _, auroc, size, aspect = capsys.readouterr().out.splitlines()
    assert head == "A (2 seeds) to B (1 seed): 60 anomalous images against 40 normal ones"
    assert names == "|  | A | B | difference | pairs |"
    first, second = [large_table(seed, shift=1)["score"] for seed in (1, 2)], large_table(3)
    labels, nuisance = second["label"], second["file_bytes"]
    difference = paired_difference(first, second["score"], labels)
    assert f"{difference.value:+.3f} ± {difference.standard_error:.3f} | 2400 |" in auroc
    assert f"| {matched_auroc(first, labels, None).value:.3f} ± " in auroc
    difference = paired_difference(first, second["score"], labels, nuisance)
    assert size.startswith("| matched AUROC, file size in bytes |")
    assert f"[{difference.value:+.3f} ± {difference.standard_error:.3f}] | {difference.pairs} |" in size
    assert aspect.split("|")[2:] == auroc.split("|")[2:]  # all alike


def test_one_stratum_against_all_normal_images(capsys):
    assert main(["compare", str(RUNS / "errors-nih-cxr"), "MemMC-MAE", "MAE", "--stratum", "positive/nih"]) == 0
    printed = capsys.readouterr().out
    assert "62 anomalous images of positive/nih against 60 normal ones" in printed
    assert "| AUROC | 0.735 ± 0.046 | 0.648 ± 0.048 | +0.087 ± 0.027 | 3720 |" in printed
    assert "| +0.022 ± 0.056 | 248 |" in printed


@pytest.mark.parametrize(
    ("model", "auroc"), [("MemMC-MAE", 0.536), ("MAE", 0.552), ("MAE+memory", 0.585), ("PaDiM", 0.645)]
)
def test_matched_auroc_of_the_published_runs(model, auroc):
    table = Predictions(RUNS / "errors-nih-cxr").of(f"{model}-seed0")
    table = table[(table["label"] == 0) | (table["stratum"] == "positive/nih")]
    result = matched_auroc(table["score"], table["label"], table["file_bytes"])
    assert (round(result.value, 3), result.pairs) == (auroc, 248)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["A", "E"], "no finished job of 'E'; there are A, B, C"),
        (["D", "A"], "no finished job of 'D'"),
        (["A", "C"], "not tested on the same images"),
        (["C", "C", "--stratum", "c"], "No anomalous image is of stratum 'c'; the strata are: a, b"),
        (["A", "B", "--stratum", "c"], "the strata are: none"),
    ],
)
def test_mistakes_are_named(folder, capsys, arguments, message):
    assert main(["compare", str(folder), *arguments]) == 1
    assert message in capsys.readouterr().err
