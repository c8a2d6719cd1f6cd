"""Weights of memory and gates against transcriptions with explicit loops, and against cases with a known answer."""

import math

import pytest
import torch
from helpers.models import build_model, noisy

from anomalib_memmc.inspection.passes import look
from anomalib_memmc.inspection.weights import effective_number, gate_means, memory_weights, watch
from anomalib_memmc.model.layers.attention import MemoryAttention, MultiLevelCrossAttention

MASKS = torch.tensor([[1, 1, 0, 1, 0, 1] * 4, [0, 1, 1, 1, 1, 0] * 4], dtype=torch.bool)  # for TINY's 24 patches


class Batches(list):
    """Batches as ``Images`` gives them."""


def softmax(logits):
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return [weight / sum(weights) for weight in weights]


@torch.no_grad()
def test_memory_weights_are_the_slots_part_of_the_softmax():
    attention = noisy(MemoryAttention(12, 3, 5), size=0.5)
    x = torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(3))
    weights = memory_weights(attention, x)
    assert weights.shape == (2, 3, 4, 5)
    for image, tokens in enumerate(x):
        query, key = (
            tokens @ attention.qkv.weight[rows].T + attention.qkv.bias[rows] for rows in (slice(0, 12), slice(12, 24))
        )
        key = torch.cat([key, attention.memory_key[0]])
        for head in range(3):
            channels = slice(4 * head, 4 * head + 4)
            for token in range(4):
                logits = [float(query[token, channels] @ k[channels]) / 2 for k in key]
                torch.testing.assert_close(weights[image, head, token], torch.tensor(softmax(logits)[4:]))


def test_an_attention_without_memory():
    with pytest.raises(ValueError, match="memory_slots above 0"):
        memory_weights(MemoryAttention(12, 3), torch.zeros(1, 2, 12))


@torch.no_grad()
@pytest.mark.parametrize("gate", ["channel", "token", "scalar"])
def test_the_gated_sum_of_the_means_of_constant_gates(gate):
    """With gates that are the same everywhere, the mean is the gate: sigmoid of the bias."""
    cross = noisy(MultiLevelCrossAttention(8, 12, 2, 3, gate), size=0.5)
    cross.gate_weight.zero_()
    cross.gate_bias.copy_(torch.tensor([-1.0, 0.0, 2.0])[:, None, None].expand_as(cross.gate_bias))
    means = gate_means(cross, torch.randn(2, 5, 8), torch.randn(3, 2, 4, 12))
    torch.testing.assert_close(means, torch.tensor([-1.0, 0.0, 2.0]).sigmoid().expand(2, 3))


@torch.no_grad()
@pytest.mark.parametrize("gate", ["channel", "token", "scalar"])
def test_gate_means_are_eq_3_over_all_tokens(gate):
    """Contexts are told from the module's own output with the gates of one level open and the others shut."""
    cross = noisy(MultiLevelCrossAttention(8, 12, 2, 2, gate), size=0.5)
    generator = torch.Generator().manual_seed(4)
    x, levels = torch.randn(1, 5, 8, generator=generator), torch.randn(2, 1, 4, 12, generator=generator)
    means = gate_means(cross, x, levels)
    weight, bias = cross.gate_weight.clone(), cross.gate_bias.clone()
    for level in range(2):
        cross.gate_weight.zero_()
        cross.gate_bias.fill_(-torch.inf)
        cross.gate_bias[level] = torch.inf
        context = cross(x, levels)[0] * math.sqrt(2)
        source = torch.cat([x[0], context], dim=1)
        if gate == "scalar":
            source = source.mean(dim=0, keepdim=True)
        alpha = 1 / (1 + torch.exp(-(source @ weight[level] + bias[level])))
        torch.testing.assert_close(means[0, level], alpha.mean())


def test_effective_number_of_slots():
    weights = torch.tensor([[1.0, 1, 1, 1], [0, 3, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(effective_number(weights), torch.tensor([4.0, 1, 2, 1]))
    halves = torch.tensor([0.5, 0.25, 0.25])
    assert effective_number(halves).item() == pytest.approx(2**1.5)


@torch.no_grad()
def test_even_attention(images):
    """Without logits every token and slot gets the same, and every gate is half open."""
    model = noisy(build_model())
    for block in model.network.encoder.blocks:
        block.attn.qkv.weight.zero_()
        block.attn.qkv.bias.zero_()
    for block in model.network.decoder.blocks:
        block.cross_attn.gate_weight.zero_()
        block.cross_attn.gate_bias.zero_()
    seen = look(model.network, Batches([images]), MASKS)
    assert seen.tokens == 9
    torch.testing.assert_close(seen.slots, torch.full((3, 3, 5), 1 / 14, dtype=torch.float64))
    torch.testing.assert_close(seen.breadths, torch.full((3, 3), 5.0, dtype=torch.float64))
    torch.testing.assert_close(seen.gates, torch.full((3, 3, 3), 0.5, dtype=torch.float64))


@torch.no_grad()
def test_each_image_gets_its_own_numbers(images):
    """Whatever the batches; and the error is that of the training, mask by mask."""
    model = noisy(build_model())
    together = look(model.network, Batches([images]), MASKS)
    alone = [look(model.network, Batches([image[None]]), MASKS) for image in images]
    for field in ("slots", "breadths", "gates", "errors"):
        torch.testing.assert_close(getattr(together, field), torch.cat([getattr(one, field) for one in alone]))
    assert together.slots.std(dim=0).max() > 1e-4
    losses = [model.loss(images[1:2], mask[None]) for mask in MASKS]
    assert together.errors[1].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


@torch.no_grad()
def test_watching_ends_and_the_model_is_left_alone(images):
    model = noisy(build_model())
    before = model.score(images).pred_score
    with watch(model.network) as seen:
        torch.testing.assert_close(model.score(images).pred_score, before)
    count = len(seen.slots[0])
    assert count > 0
    model.score(images)
    assert len(seen.slots[0]) == count


@torch.no_grad()
def test_a_network_without_the_operators(images):
    seen = look(build_model(memory_slots=0, multi_level=False).network, Batches([images]), MASKS)
    assert seen.slots is None
    assert seen.breadths is None
    assert seen.gates is None
    assert seen.errors.shape == (3,)
