"""Which scorer may take what a checkpoint's has learnt: a fusion is compared part by part."""

import pytest

from anomalib_memmc.model.checkpoint import ARGUMENTS, require_same_scorer
from anomalib_memmc.scoring import FusedScorer, MahalanobisScorer, TokenScorer


def fused(weights=None, extra=(), top=0.1, **masks):
    return FusedScorer([MahalanobisScorer(num_masks=4, **masks), TokenScorer(levels=[1], top=top), *extra], weights)


@pytest.fixture
def checkpoint():
    return {ARGUMENTS: {"scorer": fused().config(), "mask_ratio": 0.75}}


def test_what_changes_no_score_may_differ_within_a_fusion(build, checkpoint, caplog):
    require_same_scorer(checkpoint, build(scorer=fused(chunk_size=2)), 0.75)
    assert not caplog.text


def test_weights_may_differ_with_a_warning(build, checkpoint, caplog):
    require_same_scorer(checkpoint, build(scorer=fused([1, 2])), 0.75)
    assert "weights=None (here [1, 2])" in caplog.text


@pytest.mark.parametrize(
    ("scorer", "named"),
    [
        (fused(mask_seed=1), r"scorers\.0\.mask_seed=0 \(here 1\)"),
        (fused(top=0.5), r"scorers\.1\.top=0\.1 \(here 0\.5\)"),
        (fused(extra=[TokenScorer(levels=[1])]), "scorers="),
    ],
)
def test_what_was_learnt_otherwise_is_refused_by_name(build, checkpoint, scorer, named):
    with pytest.raises(ValueError, match=named):
        require_same_scorer(checkpoint, build(scorer=scorer), 0.75)
