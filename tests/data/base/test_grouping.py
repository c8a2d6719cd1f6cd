from __future__ import annotations

import pytest

from anomalib_memmc.data import DatasetError
from anomalib_memmc.data.base.grouping import draw_groups

GROUPS = [f"g{number // 4}" for number in range(40)] + [f"single-{number}" for number in range(10)]


@pytest.mark.parametrize("count", [0, 1, 3, 7, 25, 50])
def test_a_draw_is_exact_and_parts_no_group(count: int) -> None:
    drawn, rest = draw_groups(GROUPS, count, seed=3)
    assert len(drawn) == count
    assert len(set(drawn) | set(rest)) == len(drawn) + len(rest) == 50
    assert not {GROUPS[index] for index in drawn} & {GROUPS[index] for index in rest}


def test_a_draw_depends_on_the_seed_alone() -> None:
    assert draw_groups(GROUPS, 20, seed=1) == draw_groups(GROUPS, 20, seed=1)
    assert draw_groups(GROUPS, 20, seed=1) != draw_groups(GROUPS, 20, seed=2)


def test_a_group_is_cut_only_if_nothing_else_fits_and_its_rest_is_dropped() -> None:
    groups = ["a"] * 5 + ["b"] * 5
    drawn, rest = draw_groups(groups, 7, seed=0)
    assert len(drawn) == 7
    assert rest == []


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(DatasetError, match="51 images out of 50"):
        draw_groups(GROUPS, 51, seed=0)
