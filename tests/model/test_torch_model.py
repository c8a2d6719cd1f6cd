"""The whole model: geometry, reconstruction, scores, training, export."""

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.export import Dim

from anomalib_memmc.model.masking import complementary_masks, random_masks
from anomalib_memmc.model.ms_ssim import ms_ssim_map, structure_map


def noisy(model, seed=0, size=0.05):
    """Move every parameter, so that nothing stays at an initial zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return model


# --- arguments and shapes ---


@pytest.mark.parametrize("size", [(33, 48), (32, 47), 20, (0, 8), (32,), (8, 8, 8)])
def test_impossible_image_size(build, size):
    with pytest.raises(ValueError, match="image_size"):
        build(image_size=size)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("multi_level", []),
        ("multi_level", [0]),
        ("multi_level", [4]),
        ("multi_level", [1, 1]),
        ("gate", "row"),
        ("mask_sampler", "grid"),
        ("num_masks", 0),
        ("normalize", "medical"),
        ("error_map", "l1"),
        ("score_reduction", "median"),
        ("blur_sigma", 8),
        ("mask_chunk_size", 0),
        ("blur_sigma", -1),
        ("cell_size", 5),
        ("cell_size", 0),
        ("memory_slots", -1),
    ],
)
def test_impossible_arguments(build, argument, value):
    with pytest.raises(ValueError, match=argument):
        build(**{argument: value})


def test_imagenet_statistics_need_colour(build):
    with pytest.raises(ValueError, match="in_channels"):
        build(normalize="imagenet", in_channels=1)


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (2, 1, 32, 48), (3, 32, 48), (2, 4, 32, 48)])
def test_wrong_images(build, shape):
    model = build()
    with pytest.raises(ValueError, match=r"\(batch, 3, 32, 48\)"):
        model(torch.rand(shape))
    with pytest.raises(ValueError, match=r"\(batch, 3, 32, 48\)"):
        model.train()(torch.rand(shape))


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 3])
def test_output(build, channels):
    model = build(in_channels=channels)
    result = model(torch.rand(2, channels, 32, 48))
    assert result.pred_score.shape == (2,)
    assert result.anomaly_map.shape == (2, 1, 32, 48)
    assert result.anomaly_map.std() > 0


@torch.no_grad()
def test_grey_model_takes_colour(build, images):
    model = build(in_channels=1)
    grey = images.mean(dim=1, keepdim=True)
    for ours, expected in zip(model.score(images), model.score(grey), strict=True):
        torch.testing.assert_close(ours, expected)
    assert torch.equal(model.reconstruct(images).pixels, model.reconstruct(grey).pixels)
    masks = random_masks(3, 24, 0.75)
    assert torch.equal(model.loss(images, masks), model.loss(grey, masks))
    with pytest.raises(ValueError, match="batch, 1"):
        build(in_channels=1)(torch.rand(1, 2, 32, 48))


# --- reconstruction ---


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
def test_bank_is_the_default(build, images):
    model = build()
    ours, expected = model.reconstruct(images), model.reconstruct(images, model.bank)
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


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
    model.decoder.pred.weight.zero_()
    model.decoder.pred.bias.zero_()
    assert not model.reconstruct(images).pixels.any()


@torch.no_grad()
def test_imagenet_statistics_stay_inside(build, images):
    """Reconstructions are in [0, 1]: what the network calls 0.5 is half a deviation above the mean colour."""
    model = build(normalize="imagenet")
    model.decoder.pred.weight.zero_()
    model.decoder.pred.bias.fill_(0.5)
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


# --- scores ---


@torch.no_grad()
@pytest.mark.parametrize("error_map", ["ms_ssim", "structure", "mse"])
@pytest.mark.parametrize("sampler", ["random", "complementary"])
def test_map_by_hand(build, images, error_map, sampler):
    """Paste the visible patches, compare, keep hidden patches, average per patch over the views that hid it."""
    model = noisy(build(error_map=error_map, mask_sampler=sampler))
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
                compare = {"ms_ssim": ms_ssim_map, "structure": structure_map}[error_map]
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
    model = noisy(build(num_masks=2, mask_ratio=0.5))
    always_visible = ~model.bank.any(dim=0)
    assert 0 < always_visible.sum() < 24
    anomaly_map = model.score(images).anomaly_map
    patches = anomaly_map.unfold(2, 8, 8).unfold(3, 8, 8).reshape(3, 24, 64)
    seen = patches[:, ~always_visible].mean(dim=(1, 2))
    torch.testing.assert_close(patches[:, always_visible], seen[:, None, None].expand(-1, always_visible.sum(), 64))
    torch.testing.assert_close(model.score(images).pred_score, seen)


@torch.no_grad()
def test_score_depends_on_the_image_alone(build):
    """Alone, in a batch of 8 or 27 (scored in groups), in another order: the same numbers."""
    model = noisy(build(num_masks=10))
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
    assert not torch.equal(build(mask_seed=1)(images).anomaly_map, first.anomaly_map)


@torch.no_grad()
def test_forward_is_score(build, images):
    model = build()
    result, scores = model(images), model.score(images)
    assert torch.equal(result.pred_score, scores.pred_score)
    assert torch.equal(result.anomaly_map, scores.anomaly_map)


@torch.no_grad()
def test_reductions(build, images):
    pixels = build(error_map="mse").score(images).anomaly_map.flatten(1)
    expected = {
        "mean": pixels.mean(dim=1),
        "max": pixels.max(dim=1).values,
        "top_k": pixels.sort(dim=1, descending=True).values[:, :153].mean(dim=1),
    }
    for reduction, score in expected.items():
        torch.testing.assert_close(build(error_map="mse", score_reduction=reduction).score(images).pred_score, score)
    assert (expected["max"] > expected["top_k"]).all()
    assert (expected["top_k"] > expected["mean"]).all()


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_chunks_of_masks_change_nothing(build, images, chunk):
    expected, scores = build().score(images), build(mask_chunk_size=chunk).score(images)
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
    masks = random_masks(len(images), model.bank.shape[1], 0.75, torch.Generator().manual_seed(1))
    everything = model.reconstruct(images, masks[:, None])
    pixels = masks.unflatten(1, model.grid).repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    squares = (everything.pixels[:, 0] - images).square()
    expected = squares[pixels.expand_as(squares)].mean()
    torch.testing.assert_close(model.loss(images, masks), expected)


def test_checkpointing_keeps_less_and_gives_the_same_gradients(build, images):
    gradients, kept = [], []
    masks = random_masks(len(images), 24, 0.75, torch.Generator().manual_seed(1))
    for checkpoint_decoder in (False, True):
        model = build(checkpoint_decoder=checkpoint_decoder).train()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, to=saved: to.append(x.numel()) or x, lambda x: x):
            model.loss(images, masks).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        kept.append(sum(saved))
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)
    assert kept[1] < kept[0]


@torch.no_grad()
def test_mahalanobis_takes_its_score_before_the_blur(build, images):
    plain, blurred = build(score_reduction="mahalanobis"), build(score_reduction="mahalanobis", blur_sigma=2)
    for model in (plain, blurred):
        cells = model.error_cells(images)
        assert cells.shape == (len(images), 8 * 12)  # half a patch of 8 in 32 x 48
        model.normal_errors.fit(cells)
    expected, scores = plain.score(images), blurred.score(images)
    torch.testing.assert_close(scores.pred_score, expected.pred_score)
    smooth = gaussian_filter(expected.anomaly_map.double().numpy(), (0, 0, 2, 2), mode="mirror")
    torch.testing.assert_close(scores.anomaly_map, torch.tensor(smooth).float(), rtol=1e-2, atol=1e-3)
    assert not any("kernel" in name for name in blurred.state_dict())


@torch.no_grad()
def test_the_blur_is_in_float32_whatever_the_model(build, images):
    model = build(blur_sigma=2)
    expected = model.score(images).anomaly_map
    with torch.autocast("cpu", torch.bfloat16):
        maps = model.score(images).anomaly_map
    assert maps.dtype == torch.float32
    assert len(maps.unique()) > 0.9 * len(expected.unique())
    assert torch.isfinite(model.bfloat16().score(images.bfloat16()).anomaly_map).all()


@torch.no_grad()
@pytest.mark.parametrize(("cell_size", "cells"), [(None, 8 * 12), (8, 4 * 6), (2, 16 * 24)])
def test_cells_have_the_size_asked_for(build, images, cell_size, cells):
    model = build(score_reduction="mahalanobis", cell_size=cell_size)
    assert model.error_cells(images).shape == (len(images), cells)


def test_other_scores_have_no_cells(build, images):
    with pytest.raises(ValueError, match="mahalanobis"):
        build().error_cells(images)


@torch.no_grad()
@pytest.mark.parametrize("error_map", ["ms_ssim", "structure", "mse"])
def test_perfect_reconstruction_scores_0(build, error_map):
    model = build(error_map=error_map)
    model.decoder.pred.weight.zero_()
    model.decoder.pred.bias.fill_(0.25)
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


# --- training ---

VARIANTS = [
    {},
    {"gate": "token", "cross_residual": True},
    {"gate": "scalar", "multi_level": [2]},
    {"memory_slots": 0, "multi_level": False},
    {"long_skips": False, "encoder_depth": 4, "decoder_depth": 1},
]


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_every_parameter_is_trained(build, images, arguments, autocast):
    model = build(**arguments).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # the skips start at zero
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = model(images)
        assert loss.shape == ()
        assert loss.dtype == torch.float32
        loss.backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_training_draws_a_mask_for_each_image_and_step(build, images):
    model = build().train()
    same = images[:1].expand(3, -1, -1, -1)
    seen = []
    hook = model.decoder.register_forward_hook(lambda _module, args, _out: seen.append(args[2]))
    torch.manual_seed(0)
    losses = [model(same).item() for _ in range(2)]
    hook.remove()
    assert losses[0] != losses[1]
    assert not torch.equal(seen[0][0], seen[0][1])
    assert not torch.equal(seen[0], seen[1])
    torch.manual_seed(0)
    assert model(same).item() == losses[0]


def test_it_learns(build, images):
    model = build().train()
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    target = images[:1].round(decimals=0) * 0.2 + 0.4
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model(target.expand(4, -1, -1, -1))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


# --- state and export ---


@torch.no_grad()
def test_state_round_trip(build, images):
    model, other = noisy(build()), build(seed=9)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images).anomaly_map, model(images).anomaly_map)
    assert not {"bank", "bank_visible", "pixel_mean"} & set(model.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("arguments", [{}, {"in_channels": 1, "gate": "token", "error_map": "mse"}], ids=str)
def test_export_gives_the_same_numbers(build, arguments):
    model = noisy(build(**arguments))
    images = torch.rand(3, arguments.get("in_channels", 3), 32, 48, generator=torch.Generator().manual_seed(1))
    program = torch.export.export(model, (images[:2],), dynamic_shapes=({0: Dim("batch", min=1, max=64)},))
    exported = program.module()
    for batch in (1, 3):
        ours, theirs = model(images[:batch]), exported(images[:batch])
        torch.testing.assert_close(theirs.pred_score, ours.pred_score, atol=1e-5, rtol=0)
        torch.testing.assert_close(theirs.anomaly_map, ours.anomaly_map, atol=1e-5, rtol=0)


COMPILED = [
    {},
    {"gate": "scalar", "checkpoint_decoder": True},
    {"mask_chunk_size": 2, "score_reduction": "mahalanobis", "blur_sigma": 1.0, "in_channels": 1},
]


@pytest.mark.parametrize("arguments", COMPILED, ids=str)
def test_compilation_breaks_no_graph(build, images, arguments):
    """Loss, its random masks and scores are one graph each (``fullgraph`` raises otherwise) and the same numbers."""
    model = build(**arguments)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    model.train()
    losses = []
    for run in (model, compiled):
        torch.manual_seed(0)
        losses.append(run(images))
    torch.testing.assert_close(losses[1], losses[0])
    model.eval()
    with torch.no_grad():
        expected, result = model(images), compiled(images)
    torch.testing.assert_close(result.pred_score, expected.pred_score)
    torch.testing.assert_close(result.anomaly_map, expected.anomaly_map)


def test_compile_wraps_every_block_and_renames_nothing(build, monkeypatch):
    calls = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **kwargs: calls.append((type(self).__name__, kwargs)))
    model = build(compile=True)
    assert calls == [("EncoderBlock", {"fullgraph": True})] * 3 + [("DecoderBlock", {"fullgraph": True})] * 3
    assert list(model.state_dict()) == list(build().state_dict())


@torch.no_grad()
def test_complementary_bank_of_the_model(build):
    model = build(mask_sampler="complementary", num_masks=8)
    assert (model.bank.sum(dim=0) == 6).all()
    assert torch.equal(model.bank, complementary_masks(8, 24, 0.75, torch.Generator().manual_seed(0)))
