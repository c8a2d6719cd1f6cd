"""Masks: counts, seeds, complementary cover."""

import pytest
import torch

from anomalib_memmc.model.masking import (
    complementary_masks,
    num_visible,
    random_indices,
    random_masks,
    seeded_masks,
    visible_indices,
)


@pytest.mark.parametrize("sample", [random_masks, complementary_masks])
@pytest.mark.parametrize(("patches", "ratio", "visible"), [(196, 0.75, 49), (30, 0.75, 7), (10, 0.5, 5), (9, 0.1, 8)])
def test_every_mask_hides_the_same_number(sample, patches, ratio, visible):
    masks = sample(11, patches, ratio, torch.Generator().manual_seed(0))
    assert masks.shape == (11, patches)
    assert masks.dtype == torch.bool
    assert (~masks).sum(dim=1).tolist() == [visible] * 11
    assert num_visible(patches, ratio) == visible


@pytest.mark.parametrize("rounds", [1, 3])
def test_complementary_hides_every_patch_three_times_in_four(rounds):
    masks = complementary_masks(4 * rounds, 64, 0.75, torch.Generator().manual_seed(0))
    assert (masks.view(rounds, 4, 64).sum(dim=1) == 3).all()


def test_incomplete_round_comes_last():
    masks = complementary_masks(10, 64, 0.75, torch.Generator().manual_seed(0))
    assert (masks[:8].view(2, 4, 64).sum(dim=1) == 3).all()
    assert not (~masks[8] & ~masks[9]).any()


def test_complementary_rounds_differ():
    masks = complementary_masks(8, 64, 0.75, torch.Generator().manual_seed(0))
    assert not torch.equal(masks[:4], masks[4:])


def test_random_masks_are_uniform():
    masks = random_masks(4000, 20, 0.75, torch.Generator().manual_seed(0))
    torch.testing.assert_close(masks.float().mean(dim=0), torch.full((20,), 0.75), atol=0.035, rtol=0)
    assert len(masks[:50].unique(dim=0)) > 45


@pytest.mark.parametrize("sampler", ["random", "complementary"])
def test_masks_of_scoring_depend_on_its_seed_alone(sampler):
    first = seeded_masks(10, 196, 0.75, sampler, 3)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(seeded_masks(10, 196, 0.75, sampler, 3), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(seeded_masks(10, 196, 0.75, sampler, 4), first)


def test_training_masks_are_fresh_and_follow_the_global_seed():
    torch.manual_seed(0)
    first, second = random_masks(4, 64, 0.75), random_masks(4, 64, 0.75)
    torch.manual_seed(0)
    assert torch.equal(random_masks(4, 64, 0.75), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("ratio", [-0.5, 0.0, 0.99, 1.0, 1.5])
def test_bad_ratio(ratio, build):
    with pytest.raises(ValueError, match="mask_ratio"):
        num_visible(16, ratio)
    with pytest.raises(ValueError, match="mask_ratio"):
        build(mask_ratio=ratio)


def test_bad_masks_of_scoring():
    with pytest.raises(ValueError, match="num_masks"):
        seeded_masks(0, 16, 0.75, "random", 0)
    with pytest.raises(ValueError, match="mask_sampler"):
        seeded_masks(4, 16, 0.75, "grid", 0)


def test_visible_indices():
    masks = torch.tensor([[[True, False, True, False], [False, True, True, False]]])
    assert visible_indices(masks).tolist() == [[[1, 3], [0, 3]]]
    for wrong in ([[True, False], [False, False]], [[True, True]], [[False, False]]):
        with pytest.raises(ValueError, match="same number"):
            visible_indices(torch.tensor(wrong))


def test_indices_are_those_of_the_masks():
    masks = random_masks(5, 24, 0.75, torch.Generator().manual_seed(0))
    visible, hidden = random_indices(5, 24, 0.75, torch.Generator().manual_seed(0))
    assert torch.equal(visible, visible_indices(masks))
    assert torch.equal(hidden, visible_indices(~masks))
