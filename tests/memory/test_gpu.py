"""What is imitated of a GPU, beside what PyTorch documents of it."""

import torch
from torch import nn

from anomalib_memmc.memory.gpu import like_a_gpu
from anomalib_memmc.model.layers.attention import MultiLevelCrossAttention


def kept(run):
    """Shapes and types of the distinct tensors that the forward pass keeps."""
    found = {}

    def keep(tensor):
        found[tensor.untyped_storage().data_ptr()] = (tuple(tensor.shape), tensor.dtype)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    return list(found.values()), result


def test_layer_norms_are_float32_under_autocast_only():
    """PyTorch's list of CUDA operators that autocast to float32 has layer_norm; that of the CPU has not."""
    norm, tokens = nn.LayerNorm(8), torch.rand(2, 3, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        with like_a_gpu():
            assert norm(tokens).dtype == torch.float32
        assert norm(tokens).dtype == torch.bfloat16
    with like_a_gpu():
        assert norm.bfloat16()(tokens).dtype == torch.bfloat16


def test_all_levels_share_one_attention_that_keeps_no_weights():
    module = MultiLevelCrossAttention(16, 24, num_heads=2, num_levels=3, recompute="decoder")
    tokens, levels = torch.rand(2, 5, 16), torch.rand(3, 2, 4, 24)
    with like_a_gpu():
        tensors, result = kept(lambda: module(tokens, levels))
        result.sum().backward()
    assert ((3 * 2, 5, 2), torch.float32) in tensors  # one number for each level, image, query and head
    assert not [shape for shape, _ in tensors if shape[-2:] == (5, 4)]
    assert result.shape == tokens.shape
    assert all(parameter.grad.shape == parameter.shape for parameter in module.parameters())


def test_afterwards_all_is_as_before():
    module = MultiLevelCrossAttention(16, 24, num_heads=2, num_levels=3)
    tokens, levels = torch.rand(2, 5, 16), torch.rand(3, 2, 4, 24)
    before = module(tokens, levels)
    with like_a_gpu():
        module(tokens, levels)
    assert torch.equal(module(tokens, levels), before)
