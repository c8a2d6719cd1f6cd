"""Eq. 1 to 3 against transcriptions with explicit loops, in float64."""

import math

import pytest
import torch

from anomalib_memmc.model.layers.attention import MemoryAttention, MultiLevelCrossAttention


def linear(x, layer, part=slice(None)):
    return x @ layer.weight[part].double().T + layer.bias[part].double()


def attention(query, key, value, num_heads):
    """(N, D), (K, D), (K, D) -> (N, D), one head and one token at a time."""
    width = query.shape[1] // num_heads
    result = torch.zeros_like(query)
    for head in range(num_heads):
        channels = slice(head * width, (head + 1) * width)
        for token in range(len(query)):
            logits = [float(query[token, channels] @ k[channels]) / math.sqrt(width) for k in key]
            weights = [math.exp(logit - max(logits)) for logit in logits]
            for weight, v in zip(weights, value, strict=True):
                result[token, channels] += weight / sum(weights) * v[channels]
    return result


def memory_attention(module, x):
    """Eq. 1 for a batch (B, N, D)."""
    dim, rows = x.shape[2], []
    for tokens in x.double():
        query, key, value = (linear(tokens, module.qkv, slice(i * dim, (i + 1) * dim)) for i in range(3))
        if module.memory_key is not None:
            key = torch.cat([key, module.memory_key[0].double()])
            value = torch.cat([value, module.memory_value[0].double()])
        rows.append(linear(attention(query, key, value, module.num_heads), module.proj))
    return torch.stack(rows)


def multi_level(module, x, levels):
    """Eq. 2 and 3 for a batch (B, N, D) and levels (L, B, V, E)."""
    dim, rows = x.shape[2], []
    for image, tokens in enumerate(x.double()):
        total = torch.zeros_like(tokens)
        for level, encoded in enumerate(levels[:, image].double()):
            key = linear(encoded, module.key_value, slice(0, dim))
            value = linear(encoded, module.key_value, slice(dim, 2 * dim))
            context = linear(attention(linear(tokens, module.query), key, value, module.num_heads), module.proj)
            both = torch.cat([tokens, context], dim=1)
            weight, bias = module.gate_weight[level].double(), module.gate_bias[level, 0].double()
            for token in range(len(tokens)):
                source = both.mean(dim=0) if module.gate == "scalar" else both[token]
                alpha = 1 / (1 + torch.exp(-(source @ weight + bias)))
                assert alpha.shape == ((dim,) if module.gate == "channel" else (1,))
                total[token] += alpha * context[token]
        rows.append(total / math.sqrt(len(levels)))
    return torch.stack(rows)


def randomise(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
    return module


@torch.no_grad()
@pytest.mark.parametrize(("slots", "tokens"), [(0, 4), (1, 3), (5, 6), (7, 1)])
def test_equation_1(slots, tokens):
    module = randomise(MemoryAttention(12, 3, slots))
    x = torch.randn(2, tokens, 12, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(module(x).double(), memory_attention(module, x), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("gate", ["channel", "token", "scalar"])
@pytest.mark.parametrize("num_levels", [1, 3])
def test_equations_2_and_3(gate, num_levels):
    module = randomise(MultiLevelCrossAttention(8, 12, 2, num_levels, gate))
    generator = torch.Generator().manual_seed(4)
    x, levels = torch.randn(2, 5, 8, generator=generator), torch.randn(num_levels, 2, 3, 12, generator=generator)
    result = module(x, levels)
    assert result.shape == x.shape
    torch.testing.assert_close(result.double(), multi_level(module, x, levels), atol=1e-5, rtol=0)


@pytest.mark.parametrize("recompute", ["nothing", "attention", "gates", "decoder"])
@pytest.mark.parametrize("gate", ["channel", "token", "scalar"])
def test_gradients_of_equations_2_and_3(gate, recompute):
    module = randomise(MultiLevelCrossAttention(4, 6, 2, 2, gate, recompute)).double().train()
    generator = torch.Generator().manual_seed(4)
    x, levels = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, 4), (2, 2, 3, 6))
    )
    parameters = tuple(parameter.detach().requires_grad_() for parameter in module.parameters())

    def call(x, levels, *values):
        named = dict(zip(dict(module.named_parameters()), values, strict=True))
        return torch.func.functional_call(module, named, (x, levels))

    assert torch.autograd.gradcheck(call, (x, levels, *parameters))


@pytest.mark.parametrize("recompute", ["nothing", "attention", "gates"])
def test_gradients_of_images_in_groups(recompute):
    """Training on a CPU takes some images of a large batch at a time; evaluation leaves gradients to torch."""
    module = randomise(MultiLevelCrossAttention(64, 12, 2, 2, "channel", recompute)).double().train()
    generator = torch.Generator().manual_seed(4)
    x, levels, of_result = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((5, 64, 8000), (2, 5, 3, 12), (5, 8000, 64))
    )
    inputs = (x.mT.requires_grad_(), levels.requires_grad_(), *module.parameters())  # tokens of another layout
    found = torch.autograd.grad(module(*inputs[:2]), inputs, of_result)
    expected = torch.autograd.grad(module.eval()(*inputs[:2]), inputs, of_result)
    for own, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(own, reference, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("recompute", ["nothing", "attention", "gates"])
def test_gradients_in_bfloat16_are_near_those_in_float32(recompute):
    module = randomise(MultiLevelCrossAttention(32, 24, 2, 3, "channel", recompute)).train()
    generator = torch.Generator().manual_seed(5)
    x, levels, of_result = (
        torch.randn(*shape, generator=generator) for shape in ((2, 9, 32), (3, 2, 4, 24), (2, 9, 32))
    )
    inputs = (x.requires_grad_(), levels.requires_grad_(), *module.parameters())
    exact = torch.autograd.grad(module(*inputs[:2]), inputs, of_result)
    with torch.autocast("cpu", torch.bfloat16):
        result = module(*inputs[:2])
    rounded = torch.autograd.grad(result, inputs, of_result.to(result.dtype))
    for own, reference in zip(rounded, exact, strict=True):
        assert own.dtype == torch.float32
        assert (own - reference).norm() < 0.05 * reference.norm()


def test_gradients_in_bfloat16_are_no_coarser_for_many_groups(monkeypatch):
    module = randomise(MultiLevelCrossAttention(32, 24, 2, 3)).train()
    generator = torch.Generator().manual_seed(6)
    x, levels = (torch.randn(*shape, generator=generator) for shape in ((64, 9, 32), (3, 64, 4, 24)))

    def gradients():
        return torch.autograd.grad(module(x, levels).float().square().sum(), module.parameters())

    exact, errors = gradients(), []
    for images in (64, 1):
        monkeypatch.setattr("anomalib_memmc.model.layers.gated_levels._VALUES", images * 9 * 32)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = gradients()
        errors.append([float((own - of).norm() / of.norm()) for own, of in zip(rounded, exact, strict=True)])
    for one_group, many_groups in zip(*errors, strict=True):
        assert many_groups < 1.2 * one_group


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("levels", [0, 2, 4])
def test_every_level_has_a_gate(training, levels):
    module = MultiLevelCrossAttention(8, 8, num_heads=2, num_levels=3).train(training)
    with pytest.raises(ValueError, match=f"gates for 3 encoder levels, got {levels}"):
        module(torch.rand(2, 5, 8), torch.rand(levels, 2, 4, 8))


def test_an_empty_batch_has_no_tokens_and_gradients_of_zero():
    module = MultiLevelCrossAttention(8, 8, num_heads=2, num_levels=3).train()
    result = module(torch.rand(0, 5, 8), torch.rand(3, 0, 4, 8))
    assert result.shape == (0, 5, 8)
    result.sum().backward()
    assert all(not parameter.grad.any() for parameter in module.parameters())


@torch.no_grad()
def test_gates_differ_between_levels_and_matter():
    module = randomise(MultiLevelCrossAttention(8, 12, 2, 3))
    generator = torch.Generator().manual_seed(5)
    x, levels = torch.randn(1, 4, 8, generator=generator), torch.randn(3, 1, 3, 12, generator=generator)
    assert not torch.allclose(module(x, levels), module(x, levels.flip(0)), atol=1e-3)


@torch.no_grad()
def test_memory_changes_values_not_the_number_of_tokens(build):
    tokens = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(6))
    encoder = build(memory_slots=9).network.encoder
    result, levels = encoder(tokens, (1, 3))
    assert result.shape == tokens.shape
    assert levels.shape == (2, 2, 6, 32)
    encoder.blocks[0].attn.memory_value.zero_()
    assert not torch.allclose(encoder(tokens)[0], result, atol=1e-3)


@torch.no_grad()
def test_memory_is_initialised_by_its_own_rule_in_the_whole_model(build):
    """Std 1 / sqrt(d_head) and 1 / sqrt(slots), as in the Meshed-Memory Transformer after its scaling; no later
    initialisation may undo it.
    """
    model = build(encoder_dim=256, encoder_heads=4, encoder_depth=4, memory_slots=40)
    keys = torch.stack([block.attn.memory_key for block in model.network.encoder.blocks])
    values = torch.stack([block.attn.memory_value for block in model.network.encoder.blocks])
    assert keys.shape == values.shape == (4, 1, 40, 256)
    assert keys.std().item() == pytest.approx(1 / math.sqrt(64), rel=0.02)
    assert values.std().item() == pytest.approx(1 / math.sqrt(40), rel=0.02)
    assert abs(keys.mean().item()) < 0.005
    assert abs(values.mean().item()) < 0.005


def test_no_weight_decay_names(build):
    model = build()
    excluded = model.no_weight_decay()
    for name, parameter in model.named_parameters():
        leaf = name.rsplit(".", 1)[-1]
        expected = (
            leaf in ("memory_key", "memory_value", "cls_token", "mask_token", "gate_bias", "bias", "scale")
            or "norm" in name
        )
        assert (name in excluded) == expected, name
        assert expected or parameter.ndim >= 2
    assert excluded <= {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MemoryAttention(10, 3), "10.*3 heads"),
        (lambda: MemoryAttention(12, 3, -1), "memory_slots"),
        (lambda: MultiLevelCrossAttention(10, 12, 3, 2), "10.*3 heads"),
        (lambda: MultiLevelCrossAttention(12, 12, 3, 2, "row"), "gate"),
        (lambda: MultiLevelCrossAttention(12, 12, 3, 2, recompute="everything"), "recompute"),
    ],
)
def test_impossible_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@torch.no_grad()
@pytest.mark.parametrize("cross_residual", [False, True])
def test_decoder_block_and_levels(build, cross_residual):
    """The decoder attends to the normalised outputs of exactly the levels asked for, without the class token."""
    model = build(multi_level=[3, 1], cross_residual=cross_residual)
    randomise(model.network.decoder)
    tokens = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(7))
    outputs = []
    hooks = [b.register_forward_hook(lambda _m, _i, out: outputs.append(out)) for b in model.network.encoder.blocks]
    _, levels = model.network.encoder(tokens, model.network.levels)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(levels, torch.stack([outputs[2][:, 1:], outputs[0][:, 1:]]))

    block = model.network.decoder.blocks[1]
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(8))
    normed = torch.nn.functional.layer_norm
    s = x.double() + memory_attention(block.attn, normed(x, (16,), block.norm1.weight, block.norm1.bias, 1e-6))
    query = normed(s.float(), (16,), block.norm_cross.weight, block.norm_cross.bias, 1e-6)
    fused = multi_level(block.cross_attn, query, levels)
    z = s + fused if cross_residual else fused
    hidden = linear(normed(z, (16,), block.norm2.weight.double(), block.norm2.bias.double(), 1e-6), block.mlp.fc1)
    expected = z + linear(torch.nn.functional.gelu(hidden), block.mlp.fc2)
    torch.testing.assert_close(block(x, levels).double(), expected, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_every_decoder_block_gets_the_normalised_levels(build):
    decoder = randomise(build(multi_level=[1, 3]).network.decoder)
    generator = torch.Generator().manual_seed(9)
    encoded, levels = torch.randn(2, 7, 32, generator=generator), torch.randn(2, 2, 6, 32, generator=generator)
    seen = []
    for block in decoder.blocks:
        block.cross_attn.register_forward_hook(lambda _module, args, _out: seen.append(args[1]))
    decoder(encoded, levels, torch.arange(6).expand(2, -1))
    deviation = (levels - levels.mean(dim=-1, keepdim=True)) / levels.std(dim=-1, keepdim=True, correction=0)
    weight, bias = (
        torch.stack([getattr(norm, kind) for norm in decoder.level_norms])[:, None, None] for kind in ("weight", "bias")
    )
    assert len(seen) == 3
    for given in seen:
        torch.testing.assert_close(given, deviation * weight + bias, atol=1e-4, rtol=0)
