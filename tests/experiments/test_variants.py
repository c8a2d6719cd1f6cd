"""The variants of the study on a small model: what each is said to do, it does."""

from types import SimpleNamespace

import pytest
import torch
from torchvision import tv_tensors

from anomalib_memmc import MemMCMAE, MemMCMAEModel
from anomalib_memmc.scoring import MahalanobisScorer, SquaredErrorMap, StructureMap
from experiments.block_masks import block_masks
from experiments.equal_tone import RandomTone
from experiments.iterative import IterativeScorer, worst_patches
from experiments.log_variance import LogVarianceMemMCMAE, LogVarianceScorer
from experiments.memorised import error
from experiments.other_errors import ways

TINY = {
    "image_size": 32,
    "patch_size": 4,
    "in_channels": 1,
    "encoder_dim": 16,
    "encoder_depth": 2,
    "encoder_heads": 2,
    "decoder_dim": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "memory_slots": 2,
}
MASKS = {"num_masks": 4, "mask_sampler": "complementary"}


@pytest.mark.parametrize(("grid", "ratio", "visible"), [((8, 8), 0.75, 16), ((7, 9), 0.8, 12), ((8, 8), 0.9, 6)])
def test_blocks_hide_the_asked_number_of_patches_and_at_most_one_block_is_cut(grid, ratio, visible):
    torch.manual_seed(0)
    masks = block_masks(50, grid, ratio)
    assert masks.shape == (50, grid[0] * grid[1])
    assert ((~masks).sum(dim=1) == visible).all()
    maps = masks.unflatten(1, grid).float()
    padded = torch.nn.functional.pad(maps, (0, grid[1] % 2, 0, grid[0] % 2), mode="replicate")
    blocks = padded.unfold(1, 2, 2).unfold(2, 2, 2).flatten(3).mean(dim=3)
    assert (((blocks > 0) & (blocks < 1)).sum(dim=(1, 2)) <= 1).all()


@torch.no_grad()
def test_iterative_errors_replace_those_of_the_worst_patches_alone():
    torch.manual_seed(0)
    images = torch.rand(3, 1, 32, 32)
    plain, iterative = (
        MahalanobisScorer(SquaredErrorMap(), **MASKS),
        IterativeScorer(1, error_map=SquaredErrorMap(), **MASKS),
    )
    torch.manual_seed(1)
    model = MemMCMAEModel(scorer=plain, **TINY).eval()
    first = plain.maps(model.network, images)
    model.set_scorer(iterative)
    second = iterative.maps(model.network, images)
    hidden = worst_patches(first, 4, 48)
    assert (hidden.sum(dim=1) == 48).all()
    of_patch = torch.nn.functional.avg_pool2d(first, 4).flatten(1)
    assert (of_patch.masked_fill(~hidden, 9).amin(1) >= of_patch.masked_fill(hidden, 0).amax(1)).all()
    pixels = model.network.mask_pixels(hidden[:, None])[:, 0]
    torch.testing.assert_close(second[~pixels], first[~pixels])
    filled = model.reconstruct(images, hidden[:, None]).pixels[:, 0]
    torch.testing.assert_close(second[pixels], (filled.clamp(0, 1) - images).square()[pixels])


@torch.no_grad()
def test_errors_relative_to_a_constant_variance_are_squared_errors_over_it():
    torch.manual_seed(0)
    images = torch.rand(2, 1, 32, 32)
    module = LogVarianceMemMCMAE(scorer=LogVarianceScorer(error_map=SquaredErrorMap(), **MASKS), seed=0, **TINY).eval()
    network = module.model.network
    network.decoder.pred.bias[network.pixel_values :] = 1.5
    relative = module.model.scorer.maps(network, images)
    reconstructed = module.model.reconstruct(images).pixels
    squared = (reconstructed - images[:, None]).square()
    pixels = network.mask_pixels(module.model.scorer.masks[None]).float()
    expected = (squared * pixels).sum(dim=1) / pixels.sum(dim=1) * torch.tensor(-1.5).exp()
    torch.testing.assert_close(relative, expected)


def test_every_way_keeps_the_masks_and_the_map_of_the_job():
    own = MahalanobisScorer(StructureMap(1), 4, relative=True, **MASKS)
    found = ways(own.config(), predicts_variance=True)
    assert list(found) == ["own", "relative to the predicted variance", "1 more round(s)", "2 more round(s)"]
    for scorer in found.values():
        kept = {name: scorer.config()["init_args"][name] for name in own.config()["init_args"]}
        assert kept == own.config()["init_args"]


def test_tone_by_chance_changes_images_within_bounds_and_no_mask():
    torch.manual_seed(0)
    image, mask = tv_tensors.Image(torch.full((3, 64, 64), 0.5)), tv_tensors.Mask(torch.ones(64, 64, dtype=torch.uint8))
    noise, tone = [], []
    for _ in range(200):
        changed, same = RandomTone()(image, mask)
        assert torch.equal(same, mask)
        assert torch.equal(changed[0], changed[2])
        noise.append(changed[0].std().item())
        tone.append(changed.mean().item())
    assert 0.02 < sum(noise) / 200 < 0.03
    assert max(noise) < 0.053
    assert (0.5**1.5) - 0.01 < min(tone) < 0.4 < 0.6 < max(tone) < 0.5 ** (1 / 1.5) + 0.01


def test_error_by_heart_is_the_mean_loss_of_every_image_under_every_mask():
    torch.manual_seed(0)
    module = MemMCMAE(scorer=MahalanobisScorer(SquaredErrorMap(), **MASKS), seed=0, **TINY).eval()
    images = [SimpleNamespace(image=torch.rand(1, 32, 32)) for _ in range(3)]
    masks = module.model.scorer.masks
    with torch.no_grad():
        single = [module.model.loss(item.image[None], mask[None]).item() for item in images for mask in masks]
    assert error(module, images) == pytest.approx(sum(single) / 12, rel=1e-5)
