"""The two attention operators of MemMC-MAE.

``MemoryAttention`` is eq. 1 of the paper, ``MultiLevelCrossAttention`` eq. 2 and 3. Both rest on
``torch.nn.functional.scaled_dot_product_attention``, so that the fused kernels of the device are used.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from anomalib_memmc.arguments import require_choice
from anomalib_memmc.model.layers.gated_levels import Recompute, split_heads, sum_of_levels, zeros_to_sum_in

Gate = Literal["channel", "token", "scalar"]

_FEW_KEYS = 64  # so many or fewer take longer in training by torch's fused kernel than as two products, on a CPU


def _one_by_one(x: Tensor) -> bool:
    """Whether levels take turns: on a CPU. Not in an export, whose loop would be a huge graph."""
    return x.device.type == "cpu" and not torch.compiler.is_exporting()


def _attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Multi-head attention of projected tokens: (B, N, D), (B, K, D), (B, K, D) -> (B, N, D)."""
    attend = _attend_by_products if _products_are_faster(query, key) else functional.scaled_dot_product_attention
    return attend(*(split_heads(x, num_heads) for x in (query, key, value))).transpose(1, 2).flatten(2)


def _products_are_faster(query: Tensor, key: Tensor) -> bool:
    """Whether torch's fused kernel is the slower way: on a CPU in training with few keys, in half precision always."""
    if query.device.type != "cpu" or torch.compiler.is_exporting():
        return False
    in_training = torch.is_grad_enabled() and key.shape[1] <= _FEW_KEYS
    return in_training or query.dtype in (torch.bfloat16, torch.float16)


def _attend_by_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention as two products: (B, heads, N, d), (B, heads, K, d), (B, heads, K, d) -> (B, heads, N, d)."""
    weights = (query @ (key / math.sqrt(key.shape[-1])).mT).softmax(dim=-1)
    return weights.to(value.dtype) @ value  # under autocast the softmax is float32


def recomputed(function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Call a function that draws no random numbers, keep its inputs, and compute the rest again in the backward pass.

    Args:
        function: The function.
        *inputs: Its arguments.

    Returns:
        Its result; gradients are the same.
    """
    return cast(Tensor, checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False))


class MemoryAttention(nn.Module):
    """Self-attention whose keys and values are extended by learnable memory (eq. 1).

    The memory is appended after the key and value projections, before the split into heads. Queries never include
    it, so the number of tokens is unchanged. With ``memory_slots=0`` this is the attention of a plain ViT, with the
    parameter names of timm.

    Initial values (Meshed-Memory Transformer, Cornia et al. 2020): keys have standard deviation
    ``1 / sqrt(dim / num_heads)``, values ``1 / sqrt(memory_slots)``.

    Args:
        dim: Width of the tokens.
        num_heads: Number of heads; must divide ``dim``.
        memory_slots: Number of memory keys and values, 0 for none.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim`` or ``memory_slots`` is negative.
    """

    def __init__(self, dim: int, num_heads: int, memory_slots: int = 0) -> None:
        super().__init__()
        if dim % num_heads:
            msg = f"The width {dim} cannot be split into {num_heads} heads; choose a divisor of the width."
            raise ValueError(msg)
        if memory_slots < 0:
            msg = f"memory_slots must be 0 (off) or positive, got {memory_slots}."
            raise ValueError(msg)
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.memory_key: nn.Parameter | None = None
        self.memory_value: nn.Parameter | None = None
        if memory_slots:
            self.memory_key = nn.Parameter(torch.randn(1, memory_slots, dim) / math.sqrt(dim / num_heads))
            self.memory_value = nn.Parameter(torch.randn(1, memory_slots, dim) / math.sqrt(memory_slots))

    def forward(self, x: Tensor, queries: Tensor | None = None) -> Tensor:
        """Attend from every token, or only from some, to every token and to the memory.

        Args:
            x: Tokens (B, N, D).
            queries: The tokens to attend from (B, Q, D), already normalised; None takes all of ``x``.

        Returns:
            Tokens (B, N, D), or (B, Q, D).
        """
        if queries is None:
            query, key, value = self.qkv(x).chunk(3, dim=-1)
        else:
            weight, bias, dim = self.qkv.weight, self.qkv.bias, x.shape[-1]
            query = functional.linear(queries, weight[:dim], bias[:dim])
            key, value = functional.linear(x, weight[dim:], bias[dim:]).chunk(2, dim=-1)
        if self.memory_key is not None and self.memory_value is not None:
            key = torch.cat([key, self.memory_key.to(key.dtype).expand(x.shape[0], -1, -1)], dim=1)
            value = torch.cat([value, self.memory_value.to(value.dtype).expand(x.shape[0], -1, -1)], dim=1)
        return self.proj(_attend(query, key, value, self.num_heads))


class MultiLevelCrossAttention(nn.Module):
    """Gated cross-attention from decoder tokens to several encoder levels (eq. 2 and 3).

    For each level ``l``: ``C_l = attention(W_Q S, W_K X_l, W_V X_l)``; the projections carry no level index and are
    shared by the levels. The gate is ``alpha_l = sigmoid(W_l [S, C_l] + b_l)`` with weights of its own per level, and
    the result is ``sum_l alpha_l * C_l / sqrt(L)``. As printed, eq. 3 is circular; this reading is
    the Meshed-Memory Transformer's.

    One projection gives the keys and values of all levels. On a GPU all levels then share one attention call, with the
    levels in the batch, and one batched product for each half of the gates. On a CPU the levels take turns, which is
    faster, because the tensors of one level stay in the cache; and training has a backward pass written by hand
    (:func:`~anomalib_memmc.model.layers.gated_levels.sum_of_levels`), unless it is compiled or a gate is ``"scalar"``.

    What attention would keep for the backward pass is computed there again, by default: of each level only the context
    and the gate are kept. That is little arithmetic with few visible patches, in products too small for a CPU's full
    rate.

    Args:
        dim: Width of the decoder tokens.
        context_dim: Width of the encoder tokens.
        num_heads: Number of heads; must divide ``dim``.
        num_levels: Number of encoder levels L.
        gate: What a gate value covers: ``"channel"`` one value per token and channel, ``"token"`` one per token,
            ``"scalar"`` one per image (from the mean over the tokens).
        recompute: What training computes again in the backward pass: ``"nothing"``; ``"attention"``; with ``"gates"``
            contexts and gates as well; with ``"decoder"`` the whole block is, which is not done here.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim``, or ``gate`` or ``recompute`` is unknown.
    """

    def __init__(
        self,
        dim: int,
        context_dim: int,
        num_heads: int,
        num_levels: int,
        gate: Gate = "channel",
        recompute: Recompute = "attention",
    ) -> None:
        super().__init__()
        if dim % num_heads:
            msg = f"The width {dim} cannot be split into {num_heads} heads; choose a divisor of the width."
            raise ValueError(msg)
        require_choice("gate", gate, get_args(Gate))
        require_choice("recompute", recompute, get_args(Recompute))
        self.num_heads = num_heads
        self.gate = gate
        self.recompute: Recompute = recompute
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(context_dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        gate_dim = dim if gate == "channel" else 1
        self.gate_weight = nn.Parameter(torch.empty(num_levels, 2 * dim, gate_dim))
        self.gate_bias = nn.Parameter(torch.zeros(num_levels, 1, gate_dim))
        bound = math.sqrt(6 / (2 * dim + gate_dim))  # Xavier, as in the Meshed-Memory Transformer
        nn.init.uniform_(self.gate_weight, -bound, bound)

    def forward(self, x: Tensor, levels: Tensor) -> Tensor:
        """Attend from the decoder tokens to every level and fuse the results.

        Args:
            x: Decoder tokens S (B, N, D).
            levels: Encoder tokens X_l of the visible patches (L, B, V, E).

        Returns:
            Fused tokens (B, N, D).

        Raises:
            ValueError: If there are not as many levels as gates.
        """
        if len(levels) != len(self.gate_weight):
            msg = f"The decoder has gates for {len(self.gate_weight)} encoder levels, got {len(levels)}."
            raise ValueError(msg)
        query, key_value = self.query(x), self.key_value(levels)
        x = x.to(query.dtype)  # once, not for every level: under autocast layer norms may give float32
        add_up = self._add_up_by_hand if self._trains_on_a_cpu(x) else self._add_up
        return (add_up(x, query, key_value) / math.sqrt(len(levels))).to(query.dtype)

    def _trains_on_a_cpu(self, x: Tensor) -> bool:
        """Whether the backward pass written by hand is used, which knows no gate of a whole image."""
        plain = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        return plain and _one_by_one(x) and self.training and self.gate != "scalar"

    def _add_up_by_hand(self, x: Tensor, query: Tensor, key_value: Tensor) -> Tensor:
        gate, projection = (self.gate_weight, self.gate_bias), (self.proj.weight, self.proj.bias)
        return sum_of_levels(x, query, key_value, gate, projection, self.num_heads, self.recompute)

    def _add_up(self, x: Tensor, query: Tensor, key_value: Tensor) -> Tensor:
        """Sum of alpha_l * C_l over all levels (B, N, D)."""
        at_once = 1 if _one_by_one(x) else len(key_value)
        of_self, of_context = self.gate_weight.chunk(2, dim=1)
        fused = zeros_to_sum_in(x)
        # split, not slices: the gradient of each slice would be as large as the whole
        groups = (part.split(at_once) for part in (key_value, of_self, of_context, self.gate_bias))
        for group in zip(*groups, strict=True):
            if self.training and self.recompute == "gates":
                fused += recomputed(self._sum_levels, x, query, *group)
            else:
                fused = self._add_levels(fused, x, query, *group)
        return fused

    def _sum_levels(self, x: Tensor, query: Tensor, key_value: Tensor, *gate: Tensor) -> Tensor:
        """Sum of alpha_l * C_l over some levels (B, N, D)."""
        return self._add_levels(zeros_to_sum_in(x), x, query, key_value, *gate)

    def _add_levels(self, fused: Tensor, x: Tensor, query: Tensor, key_value: Tensor, *gate: Tensor) -> Tensor:
        """Add alpha_l * C_l of some levels to ``fused`` (B, N, D), in place."""
        if self.training and self.recompute == "attention":
            contexts = recomputed(self._contexts, query, key_value)
        else:
            contexts = self._contexts(query, key_value)
        for alpha, context in zip(self._gates(x, contexts, *gate), contexts, strict=True):
            fused.addcmul_(alpha, context)
        return fused

    def _contexts(self, query: Tensor, key_value: Tensor) -> Tensor:
        """C_l of some levels: (B, N, D), (l, B, V, 2 D) -> (l, B, N, D)."""
        num_levels, batch = key_value.shape[:2]
        key, value = key_value.flatten(0, 1).chunk(2, dim=-1)
        query = query.expand(num_levels, -1, -1, -1).flatten(0, 1)
        return self.proj(_attend(query, key, value, self.num_heads)).unflatten(0, (num_levels, batch))

    def _gates(self, x: Tensor, contexts: Tensor, of_self: Tensor, of_context: Tensor, bias: Tensor) -> Tensor:
        """sigmoid(W_l [S, C_l] + b_l) of some levels: (B, N, D), (l, B, N, D) -> (l, B, N or 1, D or 1)."""
        if self.gate == "scalar":
            x, contexts = x.mean(dim=1, keepdim=True), contexts.mean(dim=2, keepdim=True)
        num_levels, batch, tokens = contexts.shape[:3]
        logits = torch.baddbmm(bias, x.flatten(0, 1).expand(num_levels, -1, -1), of_self)
        logits.baddbmm_(contexts.flatten(1, 2), of_context.to(contexts.dtype))  # autocast leaves in-place calls alone
        return logits.sigmoid_().unflatten(1, (batch, tokens))
