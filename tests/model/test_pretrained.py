"""Loading MAE weights: every layout, reports, errors that leave the model as it was."""

import argparse
import re

import pytest
import timm
import torch
from helpers.hugging_face import SIZES, encoder_layers, make_mae
from helpers.models import PLAIN
from safetensors.torch import save_file

from anomalib_memmc.model.finite import NotFiniteError
from anomalib_memmc.model.layers.positions import resize_positions
from anomalib_memmc.model.pretrained import load_mae_weights


@pytest.fixture(scope="module")
def mae():
    return make_mae()


@pytest.fixture
def plain(build):
    """A plain MAE of the sizes of ``mae``, or of others."""

    def make(**overrides):
        return build(**{"image_size": 32, **SIZES, **PLAIN, "seed": 7, **overrides})

    return make


def original_names(mae):
    """The weights of a ViTMAE under the names of the original MAE, from those of transformers 4 or 5."""
    rules = (
        (r"vit\.(layers|encoder\.layer)\.", "blocks."),
        (r"decoder\.decoder_layers\.", "decoder_blocks."),
        (r"attention\.(attention\.query|q_proj)", "attn.0"),
        (r"attention\.(attention\.key|k_proj)", "attn.1"),
        (r"attention\.(attention\.value|v_proj)", "attn.2"),
        (r"attention\.(output\.dense|o_proj)", "attn.proj"),
        (r"(?<=\d\.)intermediate\.dense", "mlp.fc1"),
        (r"(?<=\d\.)output\.dense", "mlp.fc2"),
        (r"layernorm_before", "norm1"),
        (r"layernorm_after", "norm2"),
        (r"vit\.layernorm", "norm"),
        (r"vit\.embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
        (r"vit\.embeddings\.position_embeddings", "pos_embed"),
        (r"vit\.embeddings\.", ""),
        (r"^decoder\.", ""),
    )
    renamed = {}
    for name, tensor in mae.state_dict().items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901
        renamed[name] = tensor.clone()
    for query in [name for name in renamed if ".attn.0." in name]:
        parts = [renamed.pop(query.replace(".attn.0.", f".attn.{part}.")) for part in range(3)]
        renamed[query.replace(".attn.0.", ".attn.qkv.")] = torch.cat(parts)
    return renamed


def published_names(mae):
    """The same under the names of the checkpoints on the Hugging Face hub."""
    state = {}
    for name, tensor in original_names(mae).items():
        stem, dot, kind = name.rpartition(".")
        block = re.fullmatch(r"(decoder_)?blocks\.(\d+)\.(.+)", stem)
        if block:
            layer = f"decoder.decoder_layers.{block[2]}" if block[1] else f"vit.encoder.layer.{block[2]}"
            if block[3] == "attn.qkv":
                for part, values in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    state[f"{layer}.attention.attention.{part}.{kind}"] = values.clone()
                continue
            inner = {
                "norm1": "layernorm_before",
                "norm2": "layernorm_after",
                "attn.proj": "attention.output.dense",
                "mlp.fc1": "intermediate.dense",
                "mlp.fc2": "output.dense",
            }[block[3]]
            state[f"{layer}.{inner}.{kind}"] = tensor
        elif name.startswith("decoder_"):
            state[f"decoder.{name}"] = tensor
        else:
            outer = {
                "cls_token": "vit.embeddings.cls_token",
                "pos_embed": "vit.embeddings.position_embeddings",
                "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
                "norm": "vit.layernorm",
                "mask_token": "decoder.mask_token",
            }
            state[outer[name] if name in outer else f"{outer[stem]}{dot}{kind}"] = tensor
    return state


def encoder_only(state):
    return {name: tensor for name, tensor in state.items() if not name.startswith(("decoder", "mask_token"))}


def without_prefix(state):
    return {name.removeprefix("vit."): tensor for name, tensor in state.items()}


def with_prefix(state):
    return {f"module.{name}": tensor for name, tensor in state.items()}


def assert_same(model, mae, **tolerance):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        theirs = mae(images, noise=torch.rand(2, 16, generator=torch.Generator().manual_seed(3)))
        ours = model.reconstruct(images, theirs.mask.bool()[:, None]).pixels[:, 0]
        torch.testing.assert_close(ours, mae.unpatchify(theirs.logits), **{"atol": 1e-4, "rtol": 0, **tolerance})


def assert_same_encoder(model, mae):
    tokens = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = tokens
        for layer in encoder_layers(mae):
            output = layer(expected)
            expected = output[0] if isinstance(output, tuple) else output
        torch.testing.assert_close(model.network.encoder(tokens)[0], mae.vit.layernorm(expected), atol=1e-4, rtol=0)
        torch.testing.assert_close(model.network.pos_embed, mae.vit.embeddings.position_embeddings.data)
        torch.testing.assert_close(model.network.cls_token.data, mae.vit.embeddings.cls_token.data)
        images = torch.rand(1, 3, 32, 32)
        torch.testing.assert_close(
            model.network.patch_embed(images), mae.vit.embeddings.patch_embeddings.projection(images), atol=1e-5, rtol=0
        )


LAYOUTS = {
    "original": original_names,
    "published": published_names,
    "transformers": lambda mae: mae.state_dict(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ending", ["pth", "pt", "bin", "safetensors"])
def test_whole_autoencoder(plain, mae, tmp_path, layout, ending):
    state = {name: tensor.contiguous() for name, tensor in LAYOUTS[layout](mae).items()}
    path = tmp_path / f"mae.{ending}"
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    model = plain()
    report = load_mae_weights(model, path)
    assert_same(model, mae)
    assert sorted(report.used) == sorted(state)
    assert report.missed == []
    assert report.ignored == []


def test_what_transformers_saves(plain, mae, tmp_path):
    mae.save_pretrained(tmp_path)
    model = plain()
    report = load_mae_weights(model, str(tmp_path / "model.safetensors"))
    assert_same(model, mae)
    assert not report.missed
    assert not report.ignored


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("names", [with_prefix, without_prefix, lambda state: with_prefix(without_prefix(state))])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        lambda state: {"state_dict": {"model": state}, "optimizer": {"state": {}}},
    ],
    ids=["bare", "model", "nested"],
)
def test_wrappers_and_prefixes(plain, mae, tmp_path, layout, names, wrap):
    torch.save(wrap(names(LAYOUTS[layout](mae))), tmp_path / "mae.pth")
    model = plain()
    report = load_mae_weights(model, tmp_path / "mae.pth")
    assert_same(model, mae)
    assert not report.missed
    assert not report.ignored


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("names", [lambda state: state, without_prefix])
def test_encoder_alone(plain, mae, tmp_path, layout, names):
    state = names(encoder_only(LAYOUTS[layout](mae)))
    torch.save(state, tmp_path / "encoder.pth")
    model = plain()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    report = load_mae_weights(model, tmp_path / "encoder.pth")
    assert_same_encoder(model, mae)
    assert sorted(report.used) == sorted(state)
    assert report.missed == [name for name in before if name.startswith("decoder.")]
    assert report.ignored == []
    assert all(torch.equal(model.network.state_dict()[name], before[name]) for name in report.missed)


@torch.no_grad()
def test_timm(plain, tmp_path):
    torch.manual_seed(0)
    vit = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=4, num_classes=10
    ).eval()
    for parameter in vit.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    torch.save(vit.state_dict() | {"fc_norm.weight": torch.ones(32)}, tmp_path / "timm.pth")
    model = plain()
    report = load_mae_weights(model, tmp_path / "timm.pth")
    images = torch.rand(2, 3, 32, 32)
    tokens = model.network.patch_embed(images).flatten(2).transpose(1, 2)
    tokens = torch.cat([model.network.cls_token.expand(2, -1, -1), tokens], dim=1) + model.network.pos_embed
    torch.testing.assert_close(model.network.encoder(tokens)[0], vit.forward_features(images), atol=1e-4, rtol=0)
    assert sorted(report.ignored) == ["fc_norm.weight", "head.bias", "head.weight"]
    assert all(name.startswith("decoder.") for name in report.missed)


@torch.no_grad()
def test_full_model_starts_from_them(plain, mae, tmp_path):
    """Memory, cross-attention and skips keep their values and are named; all else comes from the file."""
    torch.save(original_names(mae), tmp_path / "mae.pth")
    model = plain(memory_slots=5, multi_level=True, long_skips=True)
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    report = load_mae_weights(model, tmp_path / "mae.pth")
    own = re.compile(r".*(memory_key|memory_value|norm_cross|cross_attn|level_norms|skips).*")
    assert report.missed == [name for name in before if own.fullmatch(name)]
    assert all(torch.equal(model.network.state_dict()[name], before[name]) for name in report.missed)
    fresh = plain()
    load_mae_weights(fresh, tmp_path / "mae.pth")
    for name, tensor in fresh.network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], tensor), name


@pytest.mark.parametrize("size", [(32, 48), (64, 64), (24, 16), (16, 64)])
def test_positions_are_resized(plain, mae, tmp_path, size):
    """Also where the grid has as many patches but another shape, as 2 x 8 for 4 x 4."""
    torch.save(original_names(mae), tmp_path / "mae.pth")
    model = plain(image_size=size)
    report = load_mae_weights(model, tmp_path / "mae.pth")
    for ours, theirs in (
        (model.network.pos_embed, mae.vit.embeddings.position_embeddings),
        (model.network.decoder.pos_embed, mae.decoder.decoder_pos_embed),
    ):
        torch.testing.assert_close(ours, resize_positions(theirs.data, (4, 4), (size[0] // 8, size[1] // 8)))
        assert torch.equal(ours[:, 0], theirs[:, 0])
    assert not report.missed


def test_positions_of_the_same_grid_need_not_be_square(plain, mae, tmp_path):
    state = original_names(mae) | {"pos_embed": torch.randn(1, 25, 32), "decoder_pos_embed": torch.randn(1, 25, 16)}
    torch.save(state, tmp_path / "mae.pth")
    model = plain(image_size=(32, 48))
    load_mae_weights(model, tmp_path / "mae.pth")
    assert torch.equal(model.network.pos_embed, state["pos_embed"])


def test_half_precision_weights_become_those_of_the_model(plain, mae, tmp_path):
    torch.save({name: tensor.half() for name, tensor in original_names(mae).items()}, tmp_path / "mae.pth")
    model = plain()
    load_mae_weights(model, tmp_path / "mae.pth")
    assert {tensor.dtype for tensor in model.network.state_dict().values()} == {torch.float32}
    assert_same(model, mae, atol=0.02)
    load_mae_weights(plain(image_size=64), tmp_path / "mae.pth")


@pytest.mark.parametrize(
    "overrides", [{"decoder_dim": 24, "decoder_heads": 2}, {"decoder_depth": 1}, {"decoder_depth": 4}]
)
def test_decoder_that_does_not_fit_is_ignored_whole(plain, mae, tmp_path, overrides):
    state = original_names(mae)
    torch.save(state, tmp_path / "mae.pth")
    model = plain(**overrides)
    report = load_mae_weights(model, tmp_path / "mae.pth")
    assert_same_encoder(model, mae)
    assert sorted(report.ignored) == sorted(set(state) - set(encoder_only(state)))
    assert report.missed == [name for name in model.network.state_dict() if name.startswith("decoder.")]


def test_summary(plain, mae, tmp_path):
    torch.save(original_names(mae) | {"head.weight": torch.zeros(2, 32)}, tmp_path / "mae.pth")
    summary = load_mae_weights(plain(memory_slots=5), tmp_path / "mae.pth").summary()
    assert "\n" not in summary
    for part in (
        "74 tensors",
        "6 of the model",
        "encoder.blocks.*.attn.memory_key (3)",
        "1 of the checkpoint",
        "head.weight",
    ):
        assert part in summary


# --- errors, after which nothing has changed ---


def damaged(**changes):
    def change(mae):
        state = original_names(mae) | {name.replace("__", "."): tensor for name, tensor in changes.items()}
        return {name: tensor for name, tensor in state.items() if tensor is not None}

    return change


def _in_itself():
    content = {}
    content["model"] = content
    return content


ERRORS = {
    "depth of the model": (original_names, {"encoder_depth": 2}, "encoder_depth=3 .*has 2"),
    "depth of the file": (original_names, {"encoder_depth": 4}, "encoder_depth=3 .*has 4"),
    "width": (original_names, {"encoder_dim": 64}, "encoder_dim=32 .*has 64"),
    "patch": (original_names, {"patch_size": 16}, "patch_size=8 .*has 16"),
    "channels": (original_names, {"in_channels": 1}, "in_channels=3 .*has 1"),
    "published": (published_names, {"encoder_dim": 64}, "encoder_dim=32 .*has 64"),
    "mlp": (damaged(blocks__1__mlp__fc1__bias=torch.zeros(64)), {}, r"blocks\.1\.mlp\.fc1\.bias.*64.*128"),
    "positions": (damaged(pos_embed=torch.zeros(1, 16, 32)), {}, "15 patches"),
    "decoder positions": (damaged(decoder_pos_embed=torch.zeros(1, 16, 16)), {}, "15 patches"),
    "position shape": (damaged(pos_embed=torch.zeros(17, 32)), {}, r"\(17, 32\)"),
    "position width": (damaged(pos_embed=torch.zeros(1, 17, 16)), {}, r"pos_embed"),
    "strangers": (lambda mae: {"layer1.0.conv1.weight": torch.zeros(3, 3)}, {}, "no MAE encoder"),
    "decoder alone": (lambda mae: {"decoder_embed.weight": torch.zeros(16, 32)}, {}, "no MAE encoder"),
    "empty": (lambda mae: {}, {}, "no MAE encoder"),
    "NaN": (damaged(blocks__1__mlp__fc1__bias=torch.full((128,), torch.nan)), {}, "fc1.bias holds NaN"),
    "infinite decoder": (damaged(decoder_pred__bias=torch.full((192,), torch.inf)), {}, "decoder_pred.bias holds NaN"),
    "integers": (damaged(norm__bias=torch.zeros(32, dtype=torch.int64)), {}, "no weights under norm.bias.*int64"),
    "part missing": (damaged(blocks__1__mlp__fc1__bias=None), {}, r"not whole.*blocks\.1\.mlp\.fc1\.bias"),
    "in itself": (lambda mae: _in_itself(), {}, "in itself"),
    "a list": (lambda mae: [1, 2], {}, "list"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_change_nothing(plain, mae, tmp_path, case):
    make, overrides, message = ERRORS[case]
    torch.save(make(mae), tmp_path / "wrong.pth")
    model = plain(**overrides)
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    with pytest.raises((ValueError, NotFiniteError), match=message) as error:
        load_mae_weights(model, tmp_path / "wrong.pth")
    assert "wrong.pth" in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())


def test_no_such_file(plain, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth"):
        load_mae_weights(plain(), tmp_path / "nothing.pth")


def test_directory(plain, tmp_path):
    with pytest.raises(ValueError, match="directory"):
        load_mae_weights(plain(), tmp_path)


class Surprise:
    """Something that only an unsafe load would run."""

    def __reduce__(self):
        return print, ("loaded",)


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04 cut off"])
def test_unreadable_file(plain, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        load_mae_weights(plain(), tmp_path / name)


def test_code_in_a_checkpoint_is_not_run(plain, tmp_path, capsys):
    torch.save({"model": {}, "extra": Surprise()}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match=r"code\.pth holds more than weights and plain values: builtins\.print"):
        load_mae_weights(plain(), tmp_path / "code.pth")
    assert "loaded" not in capsys.readouterr().out
