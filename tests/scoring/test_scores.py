"""Maps and scores of the whole model."""

from functools import partial
from typing import get_args

import pytest
import torch
from helpers.models import noisy
from scipy.ndimage import gaussian_filter

from anomalib_memmc.model.layers.attention import Recompute
from anomalib_memmc.model.masking import complementary_masks, random_masks
from anomalib_memmc.scoring import (
    MahalanobisScorer,
    MSSSIMMap,
    ReconstructionScorer,
    SquaredErrorMap,
    StructureMap,
)
from anomalib_memmc.scoring.ms_ssim import ms_ssim_map, structure_map


@torch.no_grad()
@pytest.mark.parametrize(("error_map", "scale"), [("ms_ssim", 1), ("structure", 1), ("structure", 2), ("mse", 1)])
@pytest.mark.parametrize("sampler", ["random", "complementary"])
def test_map_by_hand(build, images, error_map, scale, sampler):
    """Paste the visible patches, compare, keep hidden patches, average per patch over the views that hid it."""
    errors = {"ms_ssim": MSSSIMMap(), "structure": StructureMap(scale), "mse": SquaredErrorMap()}[error_map]
    model = noisy(build(scorer=ReconstructionScorer(errors, num_masks=4, mask_sampler=sampler)))
    scores, views = model.score(images), model.reconstruct(images)
    for image in range(3):
        total, count = torch.zeros(4, 6, 8, 8), torch.zeros(4, 6)
        of_view = []
        for view in range(4):
            pasted = images[image].clone()
            boxes = {}
            for patch in views.masks[image, view].nonzero().flatten().tolist():
                row, column = divmod(patch, 6)
                boxes[row, column] = (slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8))
                box = (slice(None), *boxes[row, column])
                pasted[box] = views.pixels[image, view][box]
            if error_map == "mse":
                error = (pasted.clamp(0, 1) - images[image]).square().mean(dim=0)
            else:
                compare = {"ms_ssim": ms_ssim_map, "structure": partial(structure_map, scale=scale)}[error_map]
                error = compare(pasted[None], images[image : image + 1])[0, 0]
            for (row, column), box in boxes.items():
                total[row, column] += error[box]
                count[row, column] += 1
            of_view.append(torch.stack([error[box] for box in boxes.values()]).mean())
        mean = (total.flatten(2).mean(dim=2) / count)[count > 0].mean()
        for row in range(4):
            for column in range(6):
                ours = scores.anomaly_map[image, 0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
                n = count[row, column]
                expected = total[row, column] / n if n else mean.expand(8, 8)
                torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(scores.score_std[image], torch.stack(of_view).std(correction=0), atol=1e-6, rtol=0)
        assert scores.score_std[image] > 0


@torch.no_grad()
def test_patches_no_view_hides_get_the_mean(build, images):
    model = noisy(build(scorer=ReconstructionScorer(num_masks=2), mask_ratio=0.5))
    always_visible = ~model.scorer.masks.any(dim=0)
    assert 0 < always_visible.sum() < 24
    anomaly_map = model.score(images).anomaly_map
    patches = anomaly_map.unfold(2, 8, 8).unfold(3, 8, 8).reshape(3, 24, 64)
    seen = patches[:, ~always_visible].mean(dim=(1, 2))
    torch.testing.assert_close(patches[:, always_visible], seen[:, None, None].expand(-1, always_visible.sum(), 64))
    torch.testing.assert_close(model.score(images).pred_score, seen)


@torch.no_grad()
def test_score_depends_on_the_image_alone(build):
    """Alone, in a batch of 8 or 27 (scored in groups), in another order: the same numbers."""
    model = noisy(build(scorer=ReconstructionScorer(num_masks=10)))
    images = torch.rand(27, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    together = model.score(images[:8])
    alone = [model.score(image[None]) for image in images[:8]]
    order = torch.tensor([3, 7, 0, 5, 1, 6, 2, 4])
    shuffled, many = model.score(images[:8][order]), model.score(images)
    for field in range(3):
        expected = torch.cat([scores[field] for scores in alone])
        torch.testing.assert_close(together[field], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(shuffled[field], expected[order], atol=1e-5, rtol=0)
        torch.testing.assert_close(many[field][:8], expected, atol=1e-5, rtol=0)
        assert len(many[field]) == 27
    assert together.pred_score.std() > 1e-4


@torch.no_grad()
def test_scoring_is_deterministic_and_draws_nothing(build, images):
    model = build()
    state = torch.get_rng_state()
    first = model(images)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model(images).anomaly_map, first.anomaly_map)
    assert not torch.equal(
        build(scorer=ReconstructionScorer(num_masks=4, mask_seed=1))(images).anomaly_map, first.anomaly_map
    )


@torch.no_grad()
def test_forward_is_score(build, images):
    model = build()
    result, scores = model(images), model.score(images)
    assert torch.equal(result.pred_score, scores.pred_score)
    assert torch.equal(result.anomaly_map, scores.anomaly_map)


@torch.no_grad()
def test_reductions(build, images):
    pixels = build(scorer=ReconstructionScorer(SquaredErrorMap(), num_masks=4)).score(images).anomaly_map.flatten(1)
    expected = {
        "mean": pixels.mean(dim=1),
        "max": pixels.max(dim=1).values,
        "top_k": pixels.sort(dim=1, descending=True).values[:, :153].mean(dim=1),
    }
    for reduction, score in expected.items():
        model = build(scorer=ReconstructionScorer(SquaredErrorMap(), reduction, num_masks=4))
        torch.testing.assert_close(model.score(images).pred_score, score)
    assert (expected["max"] > expected["top_k"]).all()
    assert (expected["top_k"] > expected["mean"]).all()


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_chunks_of_masks_change_nothing(build, images, chunk):
    chunked = build(scorer=ReconstructionScorer(num_masks=4, chunk_size=chunk))
    expected, scores = build().score(images), chunked.score(images)
    for ours, theirs in zip(scores, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "switches",
    [
        {"gate": "channel"},
        {"gate": "token"},
        {"gate": "scalar"},
        {"memory_slots": 0, "multi_level": False, "long_skips": False},
    ],
)
def test_hidden_patches_alone_are_predicted_as_among_all(build, images, switches):
    model = build(**switches)
    masks = random_masks(len(images), 24, 0.75, torch.Generator().manual_seed(1))
    everything = model.reconstruct(images, masks[:, None])
    pixels = masks.unflatten(1, model.network.grid).repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    squares = (everything.pixels[:, 0] - images).square()
    expected = squares[pixels.expand_as(squares)].mean()
    torch.testing.assert_close(model.loss(images, masks), expected)


def test_what_is_computed_again_is_not_kept_and_gradients_are_those_of_evaluation_mode(build, images):
    """In evaluation mode nothing is computed again, and there is no dropout."""
    gradients, kept = [], []
    masks = random_masks(len(images), 24, 0.75, torch.Generator().manual_seed(1))
    for mode, recompute in ((False, "attention"), *((True, what) for what in get_args(Recompute))):
        model = build(recompute=recompute).double().train(mode)
        saved: dict[int, int] = {}  # storages that are kept, each once

        def keep(tensor, saved=saved):
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model.loss(images.double(), masks)
            kept.append(sum(saved.values()))
        loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for others in gradients[1:]:
        for plain, recomputed in zip(gradients[0], others, strict=True):
            torch.testing.assert_close(recomputed, plain, atol=1e-12, rtol=1e-9)
    assert kept[4] < kept[3] < kept[2] < kept[1] < kept[0]


@torch.no_grad()
def test_mahalanobis_takes_its_score_before_the_blur(build, images):
    plain, blurred = (build(scorer=MahalanobisScorer(num_masks=4, blur_sigma=sigma)) for sigma in (0, 2))
    for model in (plain, blurred):
        cells = model.scorer.cells(model.scorer.maps(model.network, images))
        assert cells.shape == (len(images), 8 * 12)  # half a patch of 8 in 32 x 48
        model.scorer.fit(model.network, images.split(2))
    expected, scores = plain.score(images), blurred.score(images)
    torch.testing.assert_close(scores.pred_score, expected.pred_score)
    smooth = gaussian_filter(expected.anomaly_map.double().numpy(), (0, 0, 2, 2), mode="mirror")
    torch.testing.assert_close(scores.anomaly_map, torch.tensor(smooth).float(), rtol=1e-2, atol=1e-3)
    assert not any("kernel" in name for name in blurred.state_dict())


@torch.no_grad()
def test_the_blur_is_in_float32_whatever_the_model(build, images):
    model = build(scorer=ReconstructionScorer(num_masks=4, blur_sigma=2))
    expected = model.score(images).anomaly_map
    with torch.autocast("cpu", torch.bfloat16):
        maps = model.score(images).anomaly_map
    assert maps.dtype == torch.float32
    assert len(maps.unique()) > 0.9 * len(expected.unique())
    assert torch.isfinite(model.bfloat16().score(images.bfloat16()).anomaly_map).all()


@torch.no_grad()
@pytest.mark.parametrize(("cell_size", "cells"), [(None, 8 * 12), (8, 4 * 6), (2, 16 * 24)])
def test_cells_have_the_size_asked_for(build, cell_size, cells):
    scorer = build(scorer=MahalanobisScorer(cell_size=cell_size)).scorer
    assert scorer.cells(torch.rand(3, 1, 32, 48)).shape == (3, cells)


@torch.no_grad()
@pytest.mark.parametrize("error_map", [MSSSIMMap, StructureMap, SquaredErrorMap])
def test_perfect_reconstruction_scores_0(build, error_map):
    model = build(scorer=ReconstructionScorer(error_map(), num_masks=4))
    model.network.decoder.pred.weight.zero_()
    model.network.decoder.pred.bias.fill_(0.25)
    scores = model.score(torch.full((1, 3, 32, 48), 0.25))
    assert not any(field.any() for field in scores)


@torch.no_grad()
def test_bfloat16_scores_are_finite_float32(build, images):
    model = build()
    exact = model.score(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model.score(images)
    for field, expected in zip(scores, exact, strict=True):
        assert field.dtype == torch.float32
        torch.testing.assert_close(field, expected, atol=0.1, rtol=0)


@torch.no_grad()
def test_complementary_masks_of_the_scorer(build):
    model = build(scorer=ReconstructionScorer(mask_sampler="complementary", num_masks=8))
    assert (model.scorer.masks.sum(dim=0) == 6).all()
    assert torch.equal(model.scorer.masks, complementary_masks(8, 24, 0.75, torch.Generator().manual_seed(0)))
