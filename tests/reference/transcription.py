"""The paper's equations in plain torch, one mask, one level and one operation at a time, on the weights of a model.

What a careful reader of the paper would write: it is the specification that the fast path is tested against
(``tests/model/test_transcription.py``) and what it is timed against (``experiments/performance``).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from anomalib_memmc import MemMCMAEModel
from anomalib_memmc.model.decoder import Decoder
from anomalib_memmc.model.encoder import Encoder
from anomalib_memmc.model.layers.attention import MemoryAttention, MultiLevelCrossAttention
from anomalib_memmc.scoring.ms_ssim import WEIGHTS, num_scales


def attention(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V of every head: (B, N, D), (B, K, D), (B, K, D) -> (B, N, D)."""
    query, key, value = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    logits = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    return (logits.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)


def memory_attention(module: MemoryAttention, x: Tensor) -> Tensor:
    """Eq. 1: the memory is appended to keys and values; (B, N, D) -> (B, N, D)."""
    weights, biases = module.qkv.weight.chunk(3), module.qkv.bias.chunk(3)
    query, key, value = (functional.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))
    if module.memory_key is not None and module.memory_value is not None:
        key = torch.cat([key, module.memory_key.expand(len(x), -1, -1)], dim=1)
        value = torch.cat([value, module.memory_value.expand(len(x), -1, -1)], dim=1)
    return module.proj(attention(query, key, value, module.num_heads))


def multi_level_attention(module: MultiLevelCrossAttention, x: Tensor, levels: list[Tensor]) -> Tensor:
    """Eq. 2 and 3: tokens (B, N, D) and levels, each (B, V, E), -> (B, N, D)."""
    weights, biases = module.key_value.weight.chunk(2), module.key_value.bias.chunk(2)
    fused = torch.zeros_like(x)
    for index, level in enumerate(levels):
        query = module.query(x)
        key, value = (functional.linear(level, weight, bias) for weight, bias in zip(weights, biases, strict=True))
        context = module.proj(attention(query, key, value, module.num_heads))
        both = torch.cat([x, context], dim=-1)
        if module.gate == "scalar":
            both = both.mean(dim=1, keepdim=True)
        alpha = torch.sigmoid(both @ module.gate_weight[index] + module.gate_bias[index])
        fused = fused + alpha * context
    return fused / math.sqrt(len(levels))


def encode(encoder: Encoder, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Class token and visible patches (B, 1 + V, E) -> the normalised output and the output of every block."""
    outputs: list[Tensor] = []
    for index, block in enumerate(encoder.blocks):
        x = _with_skip(encoder, index, x, outputs)
        x = x + memory_attention(block.attn, block.norm1(x))
        x = x + block.mlp(block.norm2(x))
        outputs.append(x)
    return encoder.norm(x), outputs


def decode(decoder: Decoder, encoded: Tensor, levels: list[Tensor], visible: Tensor) -> Tensor:
    """The encoder's output (B, 1 + V, E), its levels (B, V, E) and visible indices (V,) -> patches (B, N, P)."""
    x = decoder.embed(encoded)
    tokens = decoder.mask_token.repeat(len(x), decoder.pos_embed.shape[1], 1)
    tokens[:, 0] = x[:, 0]
    tokens[:, 1 + visible] = x[:, 1:]
    x = tokens + decoder.pos_embed
    levels = [norm(level) for norm, level in zip(decoder.level_norms, levels, strict=True)]
    outputs: list[Tensor] = []
    for index, block in enumerate(decoder.blocks):
        x = _with_skip(decoder, index, x, outputs)
        x = x + memory_attention(block.attn, block.norm1(x))
        if levels:
            fused = multi_level_attention(block.cross_attn, block.norm_cross(x), levels)
            x = x + fused if block.cross_residual else fused
        x = x + block.mlp(block.norm2(x))
        outputs.append(x)
    return decoder.pred(decoder.norm(x))[:, 1:]


def reconstruct(model: MemMCMAEModel, images: Tensor) -> Tensor:
    """Reconstructions of images (B, C, H, W) under the masks of the model's scorer: (B, M, C, H, W), nothing pasted."""
    return torch.stack([reconstruct_one(model, images, mask) for mask in model.scorer.masks], dim=1)


def reconstruct_one(model: MemMCMAEModel, images: Tensor, mask: Tensor) -> Tensor:
    """Reconstructions (B, C, H, W) of images under one mask (N,), True = hidden."""
    network = model.network
    size, (rows, columns), channels = network.patch_size, network.grid, network.in_channels
    visible = (~mask).nonzero().flatten()
    tokens = network.patch_embed((images - network.pixel_mean) / network.pixel_std).flatten(2).transpose(1, 2)
    tokens = (tokens + network.pos_embed[:, 1:])[:, visible]
    cls_token = (network.cls_token + network.pos_embed[:, :1]).expand(len(images), -1, -1)
    encoded, outputs = encode(network.encoder, torch.cat([cls_token, tokens], dim=1))
    levels = [outputs[level - 1][:, 1:] for level in network.levels]
    patches = decode(network.decoder, encoded, levels, visible).view(-1, rows, columns, size, size, channels)
    pixels = patches.permute(0, 5, 1, 3, 2, 4).reshape(-1, channels, rows * size, columns * size)
    return pixels * network.pixel_std + network.pixel_mean


def error_map(model: MemMCMAEModel, images: Tensor) -> Tensor:
    """MS-SSIM errors of the hidden pixels, averaged over the masks that hide them: (B, C, H, W) -> (B, 1, H, W).

    For masks that hide every patch at least once.
    """
    total, count = torch.zeros_like(images[:, :1]), torch.zeros_like(images[:1, :1])
    for mask in model.scorer.masks:
        hidden = mask.view(1, 1, *model.network.grid)
        hidden = hidden.repeat_interleave(model.network.patch_size, 2).repeat_interleave(model.network.patch_size, 3)
        pasted = torch.where(hidden, reconstruct_one(model, images, mask), images)
        total += torch.where(hidden, ms_ssim_errors(pasted.clamp(0, 1), images), 0)
        count += hidden
    return total / count


def ms_ssim_errors(x: Tensor, y: Tensor) -> Tensor:
    """1 - MS-SSIM at every pixel of images (B, C, H, W): the usual depthwise convolutions; -> (B, 1, H, W)."""
    shape, channels = x.shape[-2:], x.shape[1]
    scales = num_scales(*shape)
    offsets = torch.arange(11, dtype=x.dtype) - 5
    taps = torch.exp(-offsets.square() / (2 * 1.5**2))
    taps = (taps / taps.sum()).expand(channels, 1, -1)

    def blur(image: Tensor) -> Tensor:
        image = functional.pad(image, (5, 5, 5, 5), mode="reflect")
        image = functional.conv2d(image, taps[:, :, :, None], groups=channels)
        return functional.conv2d(image, taps[:, :, None, :], groups=channels)

    similarity = torch.ones_like(x)
    for scale in range(scales):
        mean_x, mean_y = blur(x), blur(y)
        covariance = blur(x * y) - mean_x * mean_y
        variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
        term = (2 * covariance + 0.03**2) / (variances + 0.03**2)
        if scale == scales - 1:
            term = term * (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        stretched = functional.interpolate(term.clamp(min=1e-3), scale_factor=2**scale, mode="bilinear")
        weight = WEIGHTS[scale] * sum(WEIGHTS) / sum(WEIGHTS[:scales])
        similarity = similarity * stretched[..., -shape[0] :, -shape[1] :] ** weight
        padding = (x.shape[-2] % 2, x.shape[-1] % 2)
        x, y = (functional.avg_pool2d(image, kernel_size=2, padding=padding) for image in (x, y))
    return 1 - similarity.mean(dim=1, keepdim=True)


def _with_skip(module: Encoder | Decoder, index: int, x: Tensor, outputs: list[Tensor]) -> Tensor:
    """The output of block i, scaled, added to the input of block ``depth - 1 - i``."""
    source = len(module.blocks) - 1 - index
    if module.skips.scale is None or source >= index:
        return x
    return x + module.skips.scale[source] * outputs[source]
