"""What the whole model paints where patches are hidden, and the loss."""

import pytest
import torch
from helpers.models import noisy

from anomalib_memmc.model.masking import random_masks


@torch.no_grad()
def test_masks_for_all_and_for_each_image(build, images):
    model = build()
    shared = random_masks(5, 24, 0.5, torch.Generator().manual_seed(0))
    for_all = model.reconstruct(images, shared)
    assert for_all.pixels.shape == for_all.masked_inputs.shape == (3, 5, 3, 32, 48)
    assert for_all.masks.shape == (3, 5, 24)
    each = torch.stack([shared, shared.flip(0), shared.roll(2, 0)])
    for_each = model.reconstruct(images, each)
    torch.testing.assert_close(for_each.pixels[1], for_all.pixels[1].flip(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(for_each.pixels[2], for_all.pixels[2].roll(2, 0), atol=1e-5, rtol=0)
    assert torch.equal(for_each.masks, each)


@torch.no_grad()
def test_masks_of_the_scorer_are_the_default(build, images):
    model = build()
    ours, expected = model.reconstruct(images), model.reconstruct(images, model.scorer.masks)
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


@torch.no_grad()
def test_indices_for_all_images_and_for_each(build, images):
    network = build().network
    visible, hidden = torch.arange(6).view(1, 6), torch.arange(6, 24).view(1, 18)
    for_all = network.predict(images, visible, hidden)
    each = network.predict(images, visible.expand(3, 1, 6), hidden.expand(3, 1, 18))
    assert for_all.shape == (3, 1, 18, 192)
    assert torch.equal(for_all, each)
    with pytest.raises(ValueError, match=r"\(M, V\) or \(B, M, V\), got \(6,\)"):
        network.predict(images, torch.arange(6))


@torch.no_grad()
def test_masked_inputs_show_what_the_model_sees(build, images):
    result = build().reconstruct(images)
    for view in range(4):
        for patch in range(24):
            row, column = divmod(patch, 6)
            box = (..., slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8))
            shown = result.masked_inputs[1, view][box]
            assert torch.equal(shown, torch.full_like(shown, 0.5) if result.masks[1, view, patch] else images[1][box])


@torch.no_grad()
def test_hidden_pixels_are_never_seen(build, images):
    """Whatever is under the mask, the reconstruction is the same; a visible pixel matters."""
    model = noisy(build())
    result = model.reconstruct(images)
    hidden = (result.masked_inputs == 0.5).all(dim=2, keepdim=True)
    assert hidden.float().mean() == pytest.approx(0.75, abs=0.01)
    for view in range(4):
        mask = result.masks[0, view : view + 1]
        other = torch.where(hidden[0, view], torch.rand_like(images[0]), images[0])[None]
        torch.testing.assert_close(
            model.reconstruct(other, mask).pixels[0, 0], result.pixels[0, view], atol=1e-5, rtol=0
        )
        other = torch.where(hidden[0, view], images[0], 1 - images[0])[None]
        assert not torch.allclose(model.reconstruct(other, mask).pixels[0, 0], result.pixels[0, view], atol=1e-3)


@torch.no_grad()
def test_visible_patches_are_as_predicted(build, images):
    """A model that predicts black everywhere gives black everywhere: nothing is pasted."""
    model = build()
    model.network.decoder.pred.weight.zero_()
    model.network.decoder.pred.bias.zero_()
    assert not model.reconstruct(images).pixels.any()


@torch.no_grad()
def test_imagenet_statistics_stay_inside(build, images):
    """Reconstructions are in [0, 1]: what the network calls 0.5 is half a deviation above the mean colour."""
    model = build(normalize="imagenet")
    model.network.decoder.pred.weight.zero_()
    model.network.decoder.pred.bias.fill_(0.5)
    expected = torch.tensor([0.485 + 0.229 / 2, 0.456 + 0.224 / 2, 0.406 + 0.225 / 2])
    expected = expected.view(3, 1, 1).expand(3, 4, 3, 32, 48)
    torch.testing.assert_close(model.reconstruct(images).pixels, expected)
    plain = build()
    plain.load_state_dict(model.state_dict())
    masks = random_masks(3, 24, 0.75, torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(model.loss(images, masks), plain.loss((images - mean) / std, masks))


@pytest.mark.parametrize(
    "masks",
    [
        torch.zeros(2, 23, dtype=torch.bool),
        torch.zeros(4, 2, 24, dtype=torch.bool),
        torch.zeros(24, dtype=torch.bool),
        torch.zeros(2, 24),
        torch.zeros(2, 24, dtype=torch.bool),
        torch.ones(2, 24, dtype=torch.bool),
        torch.arange(24).expand(2, -1) < torch.tensor([[4], [5]]),
    ],
    ids=["patches", "batch", "one mask", "dtype", "none hidden", "all hidden", "unequal"],
)
def test_wrong_masks(build, images, masks):
    with pytest.raises(ValueError, match="mask"):
        build().reconstruct(images, masks)


@torch.no_grad()
def test_loss_is_the_error_of_hidden_pixels(build, images):
    model = noisy(build())
    masks = random_masks(3, 24, 0.75, torch.Generator().manual_seed(0))
    pixels = model.reconstruct(images, masks[:, None]).pixels[:, 0]
    errors = []
    for image in range(3):
        for patch in masks[image].nonzero().flatten().tolist():
            row, column = divmod(patch, 6)
            box = (image, slice(None), slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8))
            errors.append((pixels[box] - images[box]).double().square().mean())
    torch.testing.assert_close(model.loss(images, masks).double(), torch.stack(errors).mean(), atol=1e-6, rtol=1e-5)
