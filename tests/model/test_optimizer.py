"""The optimizer that training takes."""

import pytest
import torch
from torch import nn

from anomalib_memmc.model.optimizer import make_optimizer


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_it_is_fused_unless_lightning_must_clip_scaled_gradients(precision):
    optimizer = make_optimizer(nn.Linear(3, 2), {"bias"}, "adamw", 1e-3, 0.05, precision)
    # Lightning refuses to clip the gradients of an optimizer that unscales them itself
    assert getattr(optimizer, "_step_supports_amp_scaling", False) == (precision != "16-mixed")


@pytest.mark.parametrize(("name", "reference"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_its_steps_are_those_of_the_plain_one(name, reference):
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    optimizers = [
        make_optimizer(ours, {"bias"}, name, 1e-2, 0.1, "32-true"),
        reference(
            [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}],
            lr=1e-2,
            betas=(0.9, 0.95),
        ),
    ]
    for _ in range(5):
        images = torch.rand(4, 3)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), atol=1e-6, rtol=1e-5)
