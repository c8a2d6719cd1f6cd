"""What is said of false alarms."""

import pytest
import torch
from scipy.stats import binom

from anomalib_memmc.metrics.conformal import alarms_by_chance
from anomalib_memmc.reporting.false_alarms import false_alarms

PROMISE = torch.tensor([0.05, 0.02, 0.1, 99.0])


def test_a_kept_promise_is_one_sentence():
    text = str(false_alarms(4, 60, PROMISE))
    assert text.startswith("False alarms: 4 of 60 normal images (6.7%); the threshold promises 5.0%")
    assert "99 normal images" in text
    assert "more than chance" not in text


def test_a_broken_promise_is_said():
    assert "unlike those that the threshold was learnt from" in str(false_alarms(15, 60, PROMISE))


@pytest.mark.parametrize(("normals", "promise"), [(0, PROMISE), (5, None), (5, torch.full((4,), float("nan")))])
def test_nothing_to_compare(normals, promise):
    assert false_alarms(0, normals, promise) is None


def test_with_many_normals_it_is_the_binomial():
    assert alarms_by_chance(9, 60, 0.05, 10**7) == pytest.approx(binom.sf(8, 60, 0.05), rel=1e-3)
    assert alarms_by_chance(9, 60, 0.05, 19) > alarms_by_chance(9, 60, 0.05, 10**7)
    assert alarms_by_chance(0, 60, 0.05, 99) == 1
