"""The fuzzer finds nothing, and finds what a reader that is wrong, breaks or hangs does."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from anomalib_memmc import MemMCMAE
from anomalib_memmc.data import ImageReadError
from experiments.fuzz import archives, checkpoints, configurations, weights
from experiments.fuzz.__main__ import KINDS, case_names, fuzz, table
from experiments.fuzz.case import Case, Outcome, outcome_of


def test_a_hundred_damaged_and_unusual_files_are_read_right_or_refused_clearly(tmp_path):
    results = fuzz(case_names(100), seed=0, folder=tmp_path)
    bad = [result for result in results if result.outcome.is_bad]
    assert not bad, bad[0]
    counts = [result.outcome for result in results]
    assert counts.count(Outcome.RIGHT) >= 25
    assert counts.count(Outcome.CLEAR_ERROR) >= 30
    assert {result.name.split(":")[0] for result in results} >= KINDS.keys() - {"dicom"}


def test_what_is_wrong_with_a_built_model_is_seen():
    """The judges do not ask the code that they judge: each finds a value that is not the one asked for."""
    key = configurations.KEYS["model.init_args.encoder_depth"]
    built = SimpleNamespace(model=MemMCMAE(**configurations.SIZES))
    assert configurations._is_right(key, 2, built)
    assert not configurations._is_right(key, 3, built)
    assert not configurations._is_right(key, True, built)
    shown = checkpoints._shown(built.model)
    state = dict(built.model.state_dict())
    assert checkpoints._is_right({"state_dict": state}, shown)
    assert not checkpoints._is_right({"state_dict": state}, {**shown, "heads": torch.tensor([4, 2])})
    name = "model.network.encoder.norm.bias"
    assert not checkpoints._is_right({"state_dict": {**state, name: state[name] + 1}}, shown)
    network = built.model.model.network.state_dict()
    assert not weights._is_right({"encoder.norm.bias": torch.ones(32)}, True, (network, set()))


def test_code_that_is_run_is_seen(tmp_path):
    torch.save({"extra": archives.Code()}, tmp_path / "code.pth")
    with pytest.raises(AssertionError, match="was run"):
        archives.unrun(lambda: torch.load(tmp_path / "code.pth", weights_only=False))


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_depends_on_its_name_and_the_seed_alone(tmp_path, kind):
    if kind == "dicom":
        pytest.importorskip("pydicom")
    first, again = (fuzz([f"{kind}:3", f"{kind}:4"], 5, tmp_path / name) for name in "ab")
    assert [result.change for result in first] == [result.change for result in again]
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("read", "judge", "expected"),
    [
        (lambda: 1, lambda value: value == 1, Outcome.RIGHT),
        (lambda: 2, lambda value: value == 1, Outcome.WRONG),
        (lambda: 2, lambda _: None, Outcome.UNJUDGED),
        (lambda: fail(ImageReadError("a.png is cut off")), bool, Outcome.CLEAR_ERROR),
        (lambda: fail(ImageReadError("it is cut off")), bool, Outcome.OTHER_ERROR),
        (lambda: fail(KeyError("a.png")), bool, Outcome.OTHER_ERROR),
        (lambda: time.sleep(5), bool, Outcome.HANG),
    ],
)
def test_outcomes(read, judge, expected):
    assert outcome_of(Case("none", read, judge, ("a.png",)), limit=0.2)[0] == expected


def test_the_table_counts(tmp_path):
    lines = table(fuzz(["image:0", "mask:0", "mask:1"], 0, tmp_path)).splitlines()
    assert lines[0].startswith("|  | read right |")
    sums = [np.array(line.split("|")[2:-1], dtype=int).sum() for line in lines[2:]]
    assert sums == [1, 2, 3]
