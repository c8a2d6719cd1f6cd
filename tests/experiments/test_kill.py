"""The experiment kills with SIGKILL, and what it resumes has the weights of a run that was left alone."""

import sys

import pytest
import torch

kill = pytest.importorskip("experiments.kill")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_killed_runs_end_with_the_weights_of_a_run_that_was_left_alone(tmp_path, capsys):
    assert kill.main(["--kills", "2", "--folder", str(tmp_path)]) == 0
    assert "2 kills, 2 usable checkpoints, largest difference 0.0." in capsys.readouterr().out
    assert len(list(tmp_path.glob("run-01/MemMCMAE/Phantom/v*"))) >= 3  # two killed, one that ended


def test_any_difference_counts():
    state = {"weight": torch.tensor([1.0, 2.0]), "threshold": torch.tensor(float("nan"))}
    assert kill.largest_difference(state, dict(state)) == 0
    assert kill.largest_difference(state, {**state, "weight": torch.tensor([1.0, 2.5])}) == 0.5
    assert kill.largest_difference(state, {**state, "threshold": torch.tensor(0.0)}) != 0
    assert kill.largest_difference(state, {"weight": state["weight"]}) == float("inf")
