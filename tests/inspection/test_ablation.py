"""Parts switched off, against models that are built without them."""

import copy
import math

import pytest
import torch
from helpers.models import build_model, noisy
from torch.nn import functional

from anomalib_memmc.inspection.ablation import levels_off, memory_off, parts_off, slots_alike
from anomalib_memmc.model.layers.attention import MultiLevelCrossAttention


def scores(model, images):
    with torch.no_grad():
        return model.score(images).pred_score


def test_what_can_be_switched_off():
    names = list(parts_off(build_model().network))
    levels = ["level 1", "level 2", "level 3", "all levels but 3"]
    assert names == ["nothing", "memory", "differences of slots", *levels]
    assert list(parts_off(build_model(multi_level=[3, 1]).network))[3:] == ["level 3", "level 1"]
    assert list(parts_off(build_model(memory_slots=0).network))[1:] == levels
    assert list(parts_off(build_model(memory_slots=0, multi_level=False).network)) == ["nothing"]


def test_memory_off_is_a_model_without_memory(images):
    model = noisy(build_model())
    plain = build_model(memory_slots=0)
    plain.load_state_dict(model.state_dict(), strict=False)
    before = scores(model, images)
    with memory_off(model.network):
        torch.testing.assert_close(scores(model, images), scores(plain, images))
    torch.testing.assert_close(scores(model, images), before)
    assert not torch.allclose(scores(plain, images), before, rtol=1e-4)


@torch.no_grad()
def test_memory_off_is_a_mask_of_the_slots():
    """The softmax with the slots' logits at minus infinity."""
    network = noisy(build_model(), size=0.3).network
    attention = network.encoder.blocks[0].attn
    x = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(3))
    query, key, value = attention.qkv(x).chunk(3, dim=-1)
    key = torch.cat([key, attention.memory_key.expand(2, -1, -1)], dim=1)
    value = torch.cat([value, attention.memory_value.expand(2, -1, -1)], dim=1)
    query, key, value = (each.unflatten(-1, (4, 8)).transpose(1, 2) for each in (query, key, value))
    logits = query @ key.transpose(2, 3) / math.sqrt(8)
    logits[..., 7:] = -torch.inf
    expected = attention.proj((logits.softmax(dim=-1) @ value).transpose(1, 2).flatten(2))
    with memory_off(network):
        torch.testing.assert_close(attention(x), expected)


@torch.no_grad()
@pytest.mark.parametrize("gate", ["channel", "token", "scalar"])
def test_a_level_off_leaves_the_sum_of_the_others(gate):
    network = noisy(build_model(gate=gate), size=0.3).network
    cross = network.decoder.blocks[1].cross_attn
    generator = torch.Generator().manual_seed(4)
    x, levels = torch.randn(2, 6, 16, generator=generator), torch.randn(3, 2, 5, 32, generator=generator)
    others = MultiLevelCrossAttention(16, 32, 2, 2, gate)
    kept = {name: value[[0, 2]] if name.startswith("gate") else value for name, value in cross.state_dict().items()}
    others.load_state_dict(kept)
    expected = others(x, levels[[0, 2]]) * math.sqrt(2 / 3)
    with levels_off(network, [2]):
        torch.testing.assert_close(cross(x, levels), expected)


def test_all_levels_off_is_a_decoder_without_cross_attention(images):
    model = noisy(build_model(cross_residual=True))
    silent = copy.deepcopy(model)
    for block in silent.network.decoder.blocks:
        block.cross_attn.register_forward_hook(lambda _module, _inputs, output: torch.zeros_like(output))
    before = scores(model, images)
    with levels_off(model.network, [1, 2, 3]):
        torch.testing.assert_close(scores(model, images), scores(silent, images))
    torch.testing.assert_close(scores(model, images), before)


@torch.no_grad()
def test_alike_slots_are_one_slot(images):
    """Every query reads the same vector, whatever the keys."""
    model = noisy(build_model(), size=0.3)
    attention = model.network.encoder.blocks[1].attn
    before = {name: value.clone() for name, value in model.state_dict().items()}
    means = attention.memory_key.mean(dim=1), attention.memory_value.mean(dim=1)
    with slots_alike(model.network):
        for slot in range(5):
            torch.testing.assert_close(attention.memory_key[:, slot], means[0])
            torch.testing.assert_close(attention.memory_value[:, slot], means[1])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    single = noisy(build_model(memory_slots=1))
    expected = scores(single, images)
    with slots_alike(single.network):
        torch.testing.assert_close(scores(single, images), expected)


def test_an_error_within_puts_everything_back():
    model = noisy(build_model())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for switched in parts_off(model.network).values():
        with pytest.raises(KeyError), switched():
            raise KeyError
    assert list(model.state_dict()) == list(before)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_level_that_the_decoder_does_not_see():
    with (
        pytest.raises(ValueError, match=r"the levels \[1, 3\], not to \[2\]"),
        levels_off(build_model(multi_level=[1, 3]).network, [2]),
    ):
        pass


def test_a_closed_gate_is_exactly_zero():
    assert functional.sigmoid(torch.tensor(-torch.inf)).item() == 0
