"""The encoder as a model of timm: its features are those of the network, and what cannot work is refused."""

import pytest
import timm
import torch
from anomalib.models.components.feature_extractors import TimmFeatureExtractor
from helpers.models import TINY_MEMMC, build_model, noisy
from timm.data import resolve_data_config

from anomalib_memmc import MemMCMAE, save_backbone
from anomalib_memmc.backbone import MemMCBackbone

WIDE = {"image_size": (32, 48), "encoder_depth": 3}


@pytest.fixture(params=[{}, {"in_channels": 1, "memory_slots": 0}, {"normalize": "imagenet"}], ids=str)
def model(request):
    return MemMCMAE(**{**TINY_MEMMC, **WIDE, **request.param}).eval()


@pytest.fixture
def folder(model, tmp_path):
    noisy(model.model)
    save_backbone(model, tmp_path / "tiny")
    return tmp_path / "tiny"


def maps(model, images, levels):
    """Patch tokens of levels, counted from 1, as maps (B, E, rows, columns): place by place, the slow way."""
    network = model.model.network
    everything = torch.arange(network.num_patches)[None]
    _, tokens = network.encode(images, everything, levels)
    rows, columns = network.grid
    result = torch.zeros(len(levels), len(images), tokens.shape[-1], rows, columns)
    for place in range(network.num_patches):
        result[..., place // columns, place % columns] = tokens[:, :, place]
    return result


@torch.no_grad()
def test_features_are_the_patch_tokens_of_the_levels(model, folder, images):
    extractor = timm.create_model(f"local-dir:{folder}", pretrained=True, features_only=True, out_indices=[0, 1]).eval()
    for ours, expected in zip(extractor(images), maps(model, images, (1, 2)), strict=True):
        torch.testing.assert_close(ours, expected)
    assert extractor.feature_info.channels() == [32, 32]
    assert len(extractor.model.network.encoder.blocks) == 2  # the third is not computed


@torch.no_grad()
def test_whole_output_and_intermediates(model, folder, images):
    backbone = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    everything = torch.arange(model.model.network.num_patches)[None]
    expected, tokens = model.model.network.encode(images, everything, (3,))
    torch.testing.assert_close(backbone(images), expected)
    output, (last,) = backbone.forward_intermediates(images, indices=1, norm=True, output_fmt="NLC")
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(last, expected[:, 1:])
    assert len(backbone.forward_intermediates(images, intermediates_only=True)) == 3
    torch.testing.assert_close(backbone.forward_intermediates(images, indices=[-1], output_fmt="NLC")[1][0], tokens[0])


@torch.no_grad()
def test_a_folder_named_like_a_vit_takes_anomalibs_other_way(model, tmp_path, images):
    folder = tmp_path / "my-vit"
    noisy(model.model)
    save_backbone(model, folder)
    extractor = TimmFeatureExtractor(f"local-dir:{folder}", ["blocks.1"])
    assert (extractor.patch_size, extractor.num_prefix_tokens, extractor.out_dims) == (8, 0, [32])
    features = extractor(images)["blocks.1"]
    tokens = maps(model, images, (2,))[0]
    expected = model.model.network.encoder.norm(tokens.movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(features, expected)


@torch.no_grad()
def test_export_gives_the_same_numbers(images):
    backbone = noisy(MemMCBackbone(**{**sizes(), "in_channels": 1})).eval()
    exported = torch.export.export(backbone, (images,)).module()
    torch.testing.assert_close(exported(images), backbone(images))


def sizes():
    network = build_model().network
    return {name: network.init_args[name] for name in ("image_size", "patch_size", "encoder_dim", "encoder_heads")}


def test_timm_learns_how_images_are_prepared(model, folder):
    del model
    config = resolve_data_config(model=timm.create_model(f"local-dir:{folder}", pretrained=False))
    assert {key: [*config[key]] for key in ("mean", "std", "input_size")} == {
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "input_size": [3, 32, 48],
    }
    assert config["crop_pct"] == 1


@pytest.mark.parametrize("change", [lambda x: (x - 0.45) / 0.22, lambda x: 255 * x, lambda x: x[..., :32]])
def test_other_images_are_refused_with_the_pre_processor_to_write(images, change):
    backbone = MemMCBackbone(**sizes())
    with pytest.raises(ValueError, match=r"\[0, 1\] of images of 32 x 48, .*ResizePreProcessor.*'size': \[32, 48\]"):
        backbone(change(images))


def test_the_bare_name_has_no_weights():
    with pytest.raises(ValueError, match=r"anomalib-memmc backbone CHECKPOINT FOLDER.*local-dir:FOLDER"):
        timm.create_model("memmc_mae", pretrained=True)
    assert timm.create_model("memmc_mae", encoder_depth=1, encoder_dim=32, encoder_heads=2).num_features == 32


@pytest.mark.parametrize("indices", [[], [3], [-4], 0, 4])
def test_layers_that_do_not_exist(images, indices):
    with pytest.raises(ValueError, match=r"blocks\.0 to blocks\.2"):
        MemMCBackbone(**sizes(), encoder_depth=3).forward_intermediates(images, indices=indices)


def test_there_are_no_prefix_tokens(images):
    with pytest.raises(ValueError, match="return_class_token"):
        MemMCBackbone(**sizes(), encoder_depth=1).forward_intermediates(images, return_prefix_tokens=True)
