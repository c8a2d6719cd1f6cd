"""What a GPU does otherwise than a CPU, for fake tensors on the CPU.

Fake tensors on a GPU need its driver for the backward pass. So stand-ins take the place of the three things that
differ.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from anomalib_memmc.model.layers import attention

_layer_norm = functional.layer_norm


@contextmanager
def like_a_gpu() -> Iterator[None]:
    """Within the context, networks take the memory on fake tensors of the CPU that they take on a GPU.

    - Attention keeps queries, keys, values, the result and a number for each query and head, as fused kernels do, and
      sums the gradient of the queries in float32 (FlashAttention-2, Dao 2023).
    - Under autocast a layer norm is computed in float32, and keeps its input so; on a CPU it is not.
    - The decoder attends to all levels at once; on a CPU to one after the other.
    """
    with ExitStack() as stack:
        stack.enter_context(_replaced(attention, "_attend", _attend))
        stack.enter_context(_replaced(attention, "_one_by_one", lambda _: False))
        stack.enter_context(_replaced(functional, "layer_norm", _float32_layer_norm))
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class _FusedAttention(torch.autograd.Function):
    """The memory of a fused kernel, and no result: (B, N, heads, D / heads), twice (B, K, heads, D / heads)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = query.new_empty(query.shape)
        ctx.save_for_backward(query, key, value, result, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        query, key, value, _, sums = ctx.saved_tensors
        in_passing = torch.empty_like(sums), query.new_empty(query.shape, dtype=torch.float32)
        of_inputs = query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)
        del grads, in_passing
        return of_inputs


def _attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    query, key, value = (x.unflatten(-1, (num_heads, -1)) for x in (query, key, value))
    return _FusedAttention.apply(query, key, value).flatten(2)


def _float32_layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    return _layer_norm(x.float() if torch.is_autocast_enabled("cpu") else x, shape, weight, bias, eps)
