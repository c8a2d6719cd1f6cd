import subprocess
import sys
from pathlib import Path

import pytest

from experiments.study import study

REPO = Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, "-m", "experiments.study", *arguments]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_study_runs_from_the_root_of_the_repository():
    done = run("docs/runs/errors-nih-cxr", "--reference", "MAE", "--stratum", "positive/nih")
    assert done.returncode == 0
    head, _, *rows = done.stdout.splitlines()
    assert head == "| model | seeds | half A | half B | all | to MAE | fit (s) |"
    assert rows[-1] == "| MemMC-MAE | 2 | 0.690 | 0.789 | 0.735 | +0.087 ± 0.027 | 694 |"
    missing = run("docs/runs/nowhere")
    assert missing.returncode == 1
    assert "nowhere/results.csv does not exist" in missing.stderr
    assert "Traceback" not in missing.stderr


@pytest.mark.parametrize(
    ("reference", "differences"),
    [
        ("MAE", ["+0.000 ± 0.042", "-0.042 ± 0.051", "+0.000 ± 0.000", "+0.045 ± 0.018", "+0.087 ± 0.027"]),
        ("MAE+memory", ["-0.045 ± 0.042", "-0.087 ± 0.048", "-0.045 ± 0.018", "+0.000 ± 0.000", "+0.042 ± 0.028"]),
    ],
)
def test_differences_are_those_of_docs_results(reference, differences):
    rows = study(REPO / "docs/runs/errors-nih-cxr", reference, "positive/nih").splitlines()[2:]
    assert [row.split("|")[6].strip() for row in rows] == differences


def test_an_unknown_reference_is_named():
    with pytest.raises(ValueError, match="no finished job of 'X'; there are PaDiM"):
        study(REPO / "docs/runs/errors-nih-cxr", "X")
