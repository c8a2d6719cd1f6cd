"""Training with the decoder's levels on a CPU: the sum of eq. 2 with a backward pass written by hand.

Automatic differentiation joins the gradients of all levels from parts, and gives each level's attention new memory.
Here gradients are added up in place, and the levels share buffers that stay in the cache.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Recompute = Literal["nothing", "attention", "gates", "decoder"]

_KEPT = {"nothing": 4, "attention": 2, "gates": 0, "decoder": 2}  # of context, gate, weights and attended tokens

_VALUES = 2**20  # of a tensor (images, N, D): of so many images, the tensors of one level stay in the cache


def sum_of_levels(
    x: Tensor,
    query: Tensor,
    key_value: Tensor,
    gate: tuple[Tensor, Tensor],
    projection: tuple[Tensor, Tensor],
    num_heads: int,
    recompute: Recompute,
) -> Tensor:
    """Sum of ``alpha_l * C_l`` over the levels (eq. 2 and 3), for training on a CPU.

    The backward pass gives the gradients of all arguments, also of frozen ones. It has no gradient itself, and
    ``torch.func`` does not know it.

    Args:
        x: Decoder tokens S (B, N, D).
        query: Their queries (B, N, D).
        key_value: Keys and values of the visible patches of each level (L, B, V, 2 D).
        gate: Weight (L, 2 D, D) and bias (L, 1, D) of the gates; 1 in place of the last D for a gate per token.
        projection: Weight (D, D) and bias (D) of the output projection.
        num_heads: Number of heads.
        recompute: What the backward pass computes again: ``"nothing"``, the attention, or with ``"gates"`` contexts and
            gates as well. ``"decoder"``, with which a block runs twice, is here as ``"attention"``.

    Returns:
        Tokens (B, N, D) in float32 or finer.
    """
    parameters = (value.to(query.dtype) for value in (*gate, *projection))
    inputs = x.to(query.dtype).contiguous(), query, key_value, *parameters
    result: Tensor = _SumOfLevels.apply(*inputs, num_heads, recompute)  # type: ignore[no-untyped-call]
    return result


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, D) -> (B, heads, N, D / heads)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def zeros_to_sum_in(x: Tensor) -> Tensor:
    """Zeros to sum up tensors like ``x`` in, float32 or finer."""
    return torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))


def _groups(x: Tensor) -> Iterator[slice]:
    """Images of a batch (B, N, D), some at a time: as many in each group, but for the last; none of an empty batch."""
    size = math.ceil(len(x) / max(1, math.ceil(x.numel() / _VALUES))) or 1
    return (slice(first, first + size) for first in range(0, len(x), size))


class _Attention:
    """Attention from the tokens of some images to one level at a time.

    Args:
        query: Queries (b, N, D).
        num_visible: Number of visible patches V.
        num_heads: Number of heads.
    """

    def __init__(self, query: Tensor, num_visible: int, num_heads: int) -> None:
        self.num_heads = num_heads
        self.shape = query.shape
        split = split_heads(query, num_heads)
        self.scale = 1 / math.sqrt(split.shape[-1])
        self.query = (split * self.scale).flatten(0, 1)  # (b heads, N, d)
        self.key = query.new_empty(*split.shape[:2], split.shape[-1], num_visible)  # (b, heads, d, V)
        self.value = query.new_empty(*split.shape[:2], num_visible, split.shape[-1])  # (b, heads, V, d)
        self.tokens = torch.empty_like(self.query)
        self.of_visible = torch.empty_like(self.value).flatten(0, 1)
        self.buffers = self.new_buffers()
        self.of_weights = torch.empty_like(self.buffers[0])

    def new_buffers(self) -> tuple[Tensor, Tensor]:
        """Room for the weights (b heads, N, V) and the attended tokens (b, N, D)."""
        rows, tokens, _ = self.query.shape
        return self.query.new_empty(rows, tokens, self.key.shape[-1]), self.query.new_empty(self.shape)

    def take(self, key_value: Tensor) -> None:
        """Take the keys and values of a level (b, V, 2 D)."""
        key, value = (split_heads(part, self.num_heads) for part in key_value.chunk(2, dim=-1))
        self.key.copy_(key.mT)
        self.value.copy_(value)

    def attend(self, weights: Tensor, attended: Tensor) -> None:
        """Attend to the level taken, into buffers."""
        torch.bmm(self.query, self.key.flatten(0, 1), out=weights)
        torch.softmax(weights, dim=-1, out=weights)
        torch.bmm(weights, self.value.flatten(0, 1), out=self.tokens)
        split_heads(attended, self.num_heads).copy_(self.tokens.unflatten(0, (-1, self.num_heads)))

    def backward(self, weights: Tensor, of_attended: Tensor, of_key_value: Tensor, of_query: Tensor) -> None:
        """Write the gradient of a level's keys and values, and add that of ``query`` to ``of_query``."""
        self.tokens.unflatten(0, (-1, self.num_heads)).copy_(split_heads(of_attended, self.num_heads))
        of_key, of_value = (split_heads(part, self.num_heads) for part in of_key_value.chunk(2, dim=-1))
        of_value.copy_(torch.bmm(weights.mT, self.tokens, out=self.of_visible).view_as(of_value))
        of_scores = torch.bmm(self.tokens, self.value.flatten(0, 1).mT, out=self.of_weights)
        torch.ops.aten._softmax_backward_data(of_scores, weights, -1, weights.dtype, grad_input=of_scores)
        of_query.baddbmm_(of_scores, self.key.flatten(0, 1).mT)
        of_key.copy_(torch.bmm(of_scores.mT, self.query, out=self.of_visible).view_as(of_key))

    def write_of_query(self, of_scaled: Tensor, of_query: Tensor) -> None:
        """Write the gradient of the queries (b, N, D), from that of ``query``."""
        torch.mul(of_scaled.unflatten(0, (-1, self.num_heads)), self.scale, out=split_heads(of_query, self.num_heads))


class _Gates:
    """Contexts and gates of the tokens of some images, one level at a time.

    Args:
        x: Tokens S (b, N, D), or where to add up their gradient.
        parameters: Weight and bias of the gates, weight and bias of the output projection, or their gradients.
    """

    def __init__(self, x: Tensor, parameters: Sequence[Tensor]) -> None:
        self.x = x.flatten(0, 1)
        self.weight, self.bias, self.proj_weight, self.proj_bias = parameters
        self.into_logits, self.into_context = torch.empty_like(self.x), torch.empty_like(self.x)

    def forward(self, attended: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """C_l (b N, D) and alpha_l (b N, D or 1) of what the tokens attended to (b, N, D)."""
        of_self, of_context = self.weight[level].chunk(2)
        context = torch.addmm(self.proj_bias, attended.flatten(0, 1), self.proj_weight.T)
        gate = torch.addmm(self.bias[level], self.x, of_self).addmm_(context, of_context).sigmoid_()
        return context, gate

    def backward(
        self, of_sum: Tensor, context: Tensor, gate: Tensor, attended: Tensor, level: int, gradients: "_Gates"
    ) -> Tensor:
        """Add to the gradients of the tokens and parameters; return that of ``attended`` (b N, D)."""
        of_logits = torch.mul(of_sum, context, out=self.into_logits).sum_to_size(gate.shape)
        torch.ops.aten.sigmoid_backward(of_logits, gate, grad_input=of_logits)
        gradients.bias[level] += of_logits.sum(0)
        for tokens, half in zip((self.x, context), gradients.weight[level].chunk(2), strict=True):
            half.addmm_(tokens.T, of_logits)
        of_self, of_context = self.weight[level].chunk(2)
        gradients.x.addmm_(of_logits, of_self.T)
        into_context = torch.mul(of_sum, gate, out=self.into_context).addmm_(of_logits, of_context.T)
        gradients.proj_bias += into_context.sum(0)
        gradients.proj_weight.addmm_(into_context.T, attended.flatten(0, 1))
        return torch.mm(into_context, self.proj_weight, out=self.into_logits)


class _SumOfLevels(torch.autograd.Function):
    """Arguments are those of :func:`sum_of_levels`, one by one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, query: Tensor, key_value: Tensor, *others: Any) -> Tensor:
        *parameters, num_heads, recompute = others
        fused = zeros_to_sum_in(x)
        kept: list[Tensor] = []
        for images in _groups(x):
            gates = _Gates(x[images], parameters)
            attention = _Attention(query[images], key_value.shape[2], num_heads)
            for level, of_level in enumerate(key_value):
                buffers = attention.new_buffers() if recompute == "nothing" else attention.buffers
                attention.take(of_level[images])
                attention.attend(*buffers)
                context, gate = gates.forward(buffers[1], level)
                fused[images].flatten(0, 1).addcmul_(gate, context)
                kept += [context, gate, *buffers][: _KEPT[recompute]]
        ctx.save_for_backward(x, query, key_value, *parameters, *kept)
        ctx.num_heads, ctx.recompute = num_heads, recompute
        return fused

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_fused: Tensor) -> Any:
        x, query, key_value, *saved = ctx.saved_tensors
        parameters, kept = saved[:4], iter(saved[4:])
        of_query, of_key_value = torch.empty_like(query), torch.empty_like(key_value)
        of_x, of_fused = torch.zeros_like(x), of_fused.to(x.dtype)
        totals = [zeros_to_sum_in(value) for value in parameters]
        whole = x.dtype == totals[0].dtype  # else the sum over the groups would be as coarse as a group's
        for images in _groups(x):
            of_parameters = totals if whole else [torch.zeros_like(value) for value in parameters]
            gates, of_gates = _Gates(x[images], parameters), _Gates(of_x[images], of_parameters)
            attention = _Attention(query[images], key_value.shape[2], ctx.num_heads)
            of_scaled = torch.zeros_like(attention.query)
            for level, of_level in enumerate(key_value):
                attention.take(of_level[images])
                of_this = list(islice(kept, _KEPT[ctx.recompute]))
                weights, attended = of_this[2:] or attention.buffers
                if not of_this[2:]:
                    attention.attend(weights, attended)
                context, gate = of_this[:2] or gates.forward(attended, level)
                of_sum = of_fused[images].flatten(0, 1)
                of_attended = gates.backward(of_sum, context, gate, attended, level, of_gates)
                attention.backward(weights, of_attended.view_as(attended), of_key_value[level, images], of_scaled)
            attention.write_of_query(of_scaled, of_query[images])
            if not whole:
                torch._foreach_add_(totals, of_parameters)
        of_parameters = [total.to(x.dtype) for total in totals]
        return of_x, of_query, of_key_value, *of_parameters, None, None
