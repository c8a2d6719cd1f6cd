"""Arguments and shapes of the whole model."""

import pytest
import torch
from helpers.models import TINY_MEMMC

from anomalib_memmc import FeatureTarget, MemMCMAE
from anomalib_memmc.model.masking import random_masks
from anomalib_memmc.scoring import FeatureScorer

SIZES = ("dim", "depth", "heads")


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
        ("recompute", "all"),
        ("normalize", "medical"),
        ("memory_slots", -1),
        ("memory_slots", 2.5),
        ("image_size", None),
        ("multi_level", None),
        ("multi_level", ["1"]),
        ("mask_ratio", float("nan")),
        ("mask_ratio", None),
        ("cross_residual", None),
        ("compile", 1),
        *(
            (f"{part}_{size}", value)
            for part in ("encoder", "decoder")
            for size in SIZES
            for value in (0, -4, None, "4")
        ),
        *((f"{part}_heads", 3) for part in ("encoder", "decoder")),
        *((f"{part}_dim", 6) for part in ("encoder", "decoder")),
        *((size, value) for size in ("patch_size", "in_channels") for value in (0, None, True)),
    ],
)
def test_impossible_arguments(build, argument, value):
    with pytest.raises(ValueError, match=argument):
        build(**{argument: value})


@pytest.mark.parametrize("argument", ["lr", "weight_decay", "warmup_epochs"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), None, "0.1", True])
def test_impossible_training(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be a finite number of at least 0"):
        MemMCMAE(**TINY_MEMMC, **{argument: value})


@pytest.mark.parametrize(
    ("argument", "value"),
    [("optimizer", "sgd"), ("lr_scaling", "log"), ("max_epochs", -2), ("picture_every", -1), ("seed", 2**31)],
)
def test_impossible_training_by_name(argument, value):
    with pytest.raises(ValueError, match=argument):
        MemMCMAE(**TINY_MEMMC, **{argument: value})


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize(
    "features",
    [
        {"feature_target": FeatureTarget(layers=["blocks.1"], pre_trained=False)},
        {"scorer": FeatureScorer(layers=["blocks.1"], pre_trained=False)},
    ],
)
def test_features_are_of_grey_or_colour_images(build, channels, features):
    with pytest.raises(ValueError, match=f"in_channels of 1 or 3, got {channels}"):
        build(in_channels=channels, **features)


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
