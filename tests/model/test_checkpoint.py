"""Which scorer may take what a checkpoint's has learnt: a fusion is compared part by part."""

import pytest
import torch
from helpers.models import TINY_MEMMC

from anomalib_memmc import MemMCMAE
from anomalib_memmc.configurable import build as build_configured
from anomalib_memmc.model.checkpoint import ARGUMENTS, require_same_scorer
from anomalib_memmc.model.finite import NotFiniteError
from anomalib_memmc.scoring import FusedScorer, MahalanobisScorer, Scorer, TokenScorer


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


CONTENTS = {
    "NaN": (
        lambda state, _: state["model.network.encoder.norm.bias"].fill_(torch.nan),
        r"NaN.* model\.network\.encoder\.norm\.bias",
    ),
    "integers": (
        lambda state, _: state.update({"model.network.encoder.norm.bias": torch.zeros(32, dtype=torch.int64)}),
        "encoder.norm.bias .*int64",
    ),
    "text": (lambda state, _: state.update({"model.network.encoder.norm.bias": "text"}), "not a MemMC-MAE checkpoint"),
    "no arguments": (lambda _, checkpoint: checkpoint.pop(ARGUMENTS), "not a MemMC-MAE checkpoint"),
    "a list of arguments": (lambda _, checkpoint: checkpoint.update({ARGUMENTS: [1]}), "memmc_arguments in it holds a"),
    "heads": (lambda _, checkpoint: checkpoint[ARGUMENTS].update(encoder_heads=4), r"encoder_heads=4 \(here 2\)"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_weights_that_are_none_are_refused(case):
    change, message = CONTENTS[case]
    model = MemMCMAE(**TINY_MEMMC, seed=0)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint = {"state_dict": state, "hyper_parameters": dict(model.hparams)}
    model.on_save_checkpoint(checkpoint)
    MemMCMAE(**TINY_MEMMC).on_load_checkpoint(checkpoint)
    change(state, checkpoint)
    with pytest.raises((ValueError, NotFiniteError), match=message):
        MemMCMAE(**TINY_MEMMC).on_load_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([1], "class_path and init_args"),
        ({"class_path": "anomalib_memmc.scoring.TokenScorer", "init_args": [1]}, "class_path and init_args"),
        ({"class_path": ".relative"}, "Cannot import"),
        ({"class_path": "os.system", "init_args": {"command": "true"}}, "is not a Scorer"),
        ({"class_path": "anomalib_memmc.scoring.TokenScorer", "init_args": {"no": 1}}, "cannot be built of"),
    ],
)
def test_scorers_that_are_none(config, message):
    with pytest.raises(ValueError, match=message):
        build_configured(config, Scorer)
