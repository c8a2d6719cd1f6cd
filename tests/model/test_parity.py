"""Without memory, levels and skips the model is a plain MAE: Hugging Face's, to float tolerance."""

import pytest
import torch
from helpers.hugging_face import SIZES, make_mae, widen
from helpers.models import PLAIN

from anomalib_memmc.model.pretrained import load_mae_weights


@torch.no_grad()
@pytest.mark.parametrize("side", [32, 48])
def test_logits_and_loss(build, tmp_path, side):
    mae = make_mae(side)
    torch.save(mae.state_dict(), tmp_path / "mae.pth")
    model = build(image_size=side, **SIZES, **PLAIN, seed=5)
    report = load_mae_weights(model, tmp_path / "mae.pth")
    assert not report.missed
    assert not report.ignored

    images = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(2))
    theirs = mae(images, noise=torch.rand(4, model.network.num_patches, generator=torch.Generator().manual_seed(3)))
    masks = theirs.mask.bool()
    torch.testing.assert_close(model.loss(images, masks), theirs.loss, atol=1e-4, rtol=0)
    ours = model.reconstruct(images, masks[:, None])
    torch.testing.assert_close(ours.pixels[:, 0], mae.unpatchify(theirs.logits), atol=1e-4, rtol=0)
    assert theirs.logits.std() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("grid", [(3, 5), (6, 4)])
def test_images_that_are_not_square(build, tmp_path, grid):
    mae = make_mae()
    widen(mae, *grid)
    torch.save(mae.state_dict(), tmp_path / "mae.pth")
    size, num_patches = (8 * grid[0], 8 * grid[1]), grid[0] * grid[1]
    model = build(image_size=size, **SIZES, **PLAIN, seed=5)
    assert not load_mae_weights(model, tmp_path / "mae.pth").missed

    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2))
    latent = mae.vit(images, noise=torch.rand(2, num_patches, generator=torch.Generator().manual_seed(3)))
    logits = mae.decoder(latent.last_hidden_state, latent.ids_restore).logits
    pixels = model.reconstruct(images, latent.mask.bool()[:, None]).pixels[:, 0]
    for row in range(grid[0]):
        for column in range(grid[1]):
            patch = pixels[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            expected = logits[:, row * grid[1] + column].view(2, 8, 8, 3).permute(0, 3, 1, 2)
            torch.testing.assert_close(patch, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_every_part_changes_the_numbers(build, images):
    """The parts are not merely accepted: each switch gives another function."""
    results = [
        build(**arguments).reconstruct(images).pixels
        for arguments in (PLAIN, {**PLAIN, "memory_slots": 5}, {**PLAIN, "multi_level": True})
    ]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(results[first], results[second], atol=1e-2)
