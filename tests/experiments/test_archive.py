"""The archive of docs/archive.md at two hundred images, with every claim of its table."""

import sys

import pytest

from experiments.archive import DAMAGED, KILLS, experiment, table


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_every_image_has_one_row_after_three_kills(tmp_path):
    outcome = experiment(200, tmp_path)
    assert outcome.kills == KILLS
    assert (outcome.rows, outcome.lost, outcome.twice) == (200, 0, 0)
    assert (outcome.damaged, outcome.errors, outcome.wrong_errors) == (DAMAGED, DAMAGED, 0)
    assert outcome.difference < 1e-5
    assert abs(outcome.growth) < 200
    assert "| 200, 50 |" in table(outcome)
