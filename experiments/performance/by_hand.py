"""What a backward pass written by hand would gain the attention to the levels on a CPU, where they take turns.

    python -m experiments.performance.by_hand --batch 8 --rounds 7

The gradients of all levels are added up in place, and those of the gates' weights are written where they belong, so
that nothing is joined from parts. Prints its time against the package's, and the largest difference of a gradient.
"""

import argparse
import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from anomalib_memmc.model.layers.attention import MultiLevelCrossAttention
from experiments.performance.timing import take_turns

DIM, ENCODER_DIM, HEADS, LEVELS, TOKENS, VISIBLE = 512, 768, 16, 12, 197, 49  # the paper's preset


def attend(query: Tensor, key_value: Tensor) -> Tensor:
    """Attention of the heads, by products as in the package: (B, N, D), (B, V, 2 D) -> (B, N, D)."""
    q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (query, *key_value.chunk(2, dim=-1)))
    weights = (q @ (k / math.sqrt(k.shape[-1])).mT).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


class GatedLevels(torch.autograd.Function):
    """Sum of alpha_l * C_l over the levels; keeps contexts and gates, and computes the attention again."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, query: Tensor, key_value: Tensor, gate: Tensor, bias: Tensor, *proj: Tensor
    ) -> Any:
        """Arguments as in ``MultiLevelCrossAttention``; ``proj`` is weight and bias of the output projection."""
        flat, fused, kept = x.flatten(0, 1), torch.zeros_like(x), []
        for level in range(len(key_value)):
            context = torch.addmm(proj[1], attend(query, key_value[level]).flatten(0, 1), proj[0].T)
            alpha = torch.addmm(bias[level], flat, gate[level, :DIM]).addmm_(context, gate[level, DIM:]).sigmoid_()
            fused.flatten(0, 1).addcmul_(alpha, context)
            kept += [context, alpha]
        ctx.save_for_backward(x, query, key_value, gate, proj[0], *kept)
        return fused

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Any:
        """Gradients in the order of the arguments."""
        x, query, key_value, gate, weight, *kept = ctx.saved_tensors  # type: ignore[attr-defined]
        flat, of_fused = x.flatten(0, 1), gradients[0].flatten(0, 1)
        of_x, of_query, of_key_value = torch.zeros_like(flat), torch.zeros_like(query), torch.empty_like(key_value)
        of_gate, of_bias = torch.empty_like(gate), x.new_empty(len(key_value), 1, DIM)
        of_weight, of_proj_bias = torch.zeros_like(weight), x.new_zeros(DIM)
        for level, (context, alpha) in enumerate(zip(kept[::2], kept[1::2], strict=True)):
            with torch.enable_grad():
                inputs = query.detach().requires_grad_(), key_value[level].detach().requires_grad_()
                attended = attend(*inputs)
            of_logits = torch.ops.aten.sigmoid_backward(of_fused * context, alpha)
            of_bias[level, 0] = of_logits.sum(0)
            torch.mm(flat.T, of_logits, out=of_gate[level, :DIM])
            torch.mm(context.T, of_logits, out=of_gate[level, DIM:])
            of_x.addmm_(of_logits, gate[level, :DIM].T)
            of_context = (of_fused * alpha).addmm_(of_logits, gate[level, DIM:].T)
            of_proj_bias += of_context.sum(0)
            of_weight.addmm_(of_context.T, attended.detach().flatten(0, 1))
            own, of_key_value[level] = torch.autograd.grad(attended, inputs, (of_context @ weight).view_as(x))
            of_query += own
        return of_x.view_as(x), of_query, of_key_value, of_gate, of_bias, of_weight, of_proj_bias


def by_hand(module: MultiLevelCrossAttention, x: Tensor, levels: Tensor) -> Tensor:
    """What the module computes, by ``GatedLevels``."""
    gates, proj = (module.gate_weight, module.gate_bias), (module.proj.weight, module.proj.bias)
    fused: Tensor = GatedLevels.apply(x, module.query(x), module.key_value(levels), *gates, *proj)  # type: ignore[no-untyped-call]
    return fused / math.sqrt(len(levels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    module = MultiLevelCrossAttention(DIM, ENCODER_DIM, HEADS, LEVELS).train()
    x = torch.randn(options.batch, TOKENS, DIM, requires_grad=True)
    levels = torch.randn(LEVELS, options.batch, VISIBLE, ENCODER_DIM, requires_grad=True)
    wanted, upstream = [x, levels, *module.parameters()], torch.randn(options.batch, TOKENS, DIM)
    calls = {
        "package": lambda: torch.autograd.grad(module(x, levels), wanted, upstream),
        "by hand": lambda: torch.autograd.grad(by_hand(module, x, levels), wanted, upstream),
    }
    pairs = zip(calls["package"](), calls["by hand"](), strict=True)
    largest = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
    times = take_turns(calls, options.rounds)
    print(f"batch {options.batch}: by hand takes {times['by hand'].over(times['package'])} of the package's time;")
    print(f"a gradient differs by at most {largest:.1e} of its largest value")


if __name__ == "__main__":
    main()
