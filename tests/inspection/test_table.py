"""The table of an inspection: means, standard errors, look-ups."""

import math

import pytest
import torch
from scipy.stats import sem, ttest_ind

from anomalib_memmc.inspection.table import Number, by_class, number, select, to_table


def test_by_class_is_welchs_test():
    generator = torch.Generator().manual_seed(0)
    is_anomalous = torch.arange(30) % 3 == 0
    values = torch.randn(30, generator=generator) + is_anomalous
    table = to_table(by_class("gate", values, is_anomalous, block=2, level=4))
    normal, anomalous = values[~is_anomalous].numpy(), values[is_anomalous].numpy()
    assert list(table["images"]) == ["all", "normal", "anomalous", "anomalous - normal"]
    assert table["value"].tolist() == pytest.approx(
        [values.mean().item(), normal.mean(), anomalous.mean(), anomalous.mean() - normal.mean()], rel=1e-5
    )
    difference = number(table, "gate", images="anomalous - normal", block=2)
    test = ttest_ind(anomalous, normal, equal_var=False)
    assert difference.value / difference.standard_error == pytest.approx(test.statistic, rel=1e-5)
    assert table["standard_error"].tolist()[:3] == pytest.approx([sem(values), sem(normal), sem(anomalous)], rel=1e-5)
    assert set(table["level"]) == {4}


def test_one_image_of_a_class_has_no_standard_error():
    table = to_table(by_class("gate", torch.arange(4.0), torch.tensor([False, False, False, True])))
    difference = number(table, "gate", images="anomalous - normal")
    assert difference.value == 2
    assert math.isnan(difference.standard_error)
    assert not difference.is_clear
    assert table["block"].isna().all()


@pytest.mark.parametrize(("value", "error", "clear"), [(-0.3, 0.1, True), (0.2, 0.1, False), (0, 0, False)])
def test_clear_is_beyond_two_standard_errors(value, error, clear):
    assert Number(value, error).is_clear == clear


def test_looking_up():
    table = to_table(by_class("gate", torch.arange(4.0), torch.arange(4) > 1))
    assert len(select(table, "gate")) == 4
    assert len(select(table, "memory_share")) == 0
    with pytest.raises(ValueError, match="There are 4 numbers of gate"):
        number(table, "gate")
