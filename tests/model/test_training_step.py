"""The loss of the whole model in training: gradients, masks, learning."""

import pytest
import torch

VARIANTS = [
    {},
    {"gate": "token", "cross_residual": True},
    {"gate": "scalar", "multi_level": [2]},
    {"memory_slots": 0, "multi_level": False},
    {"long_skips": False, "encoder_depth": 4, "decoder_depth": 1},
]


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_every_parameter_is_trained(build, images, arguments, autocast):
    model = build(**arguments).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # the skips start at zero
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = model(images)
        assert loss.shape == ()
        assert loss.dtype == torch.float32
        loss.backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_training_draws_a_mask_for_each_image_and_step(build, images):
    model = build().train()
    same = images[:1].expand(3, -1, -1, -1)
    seen = []
    hook = model.network.decoder.register_forward_hook(lambda _module, args, _out: seen.append(args[2]))
    torch.manual_seed(0)
    losses = [model(same).item() for _ in range(2)]
    hook.remove()
    assert losses[0] != losses[1]
    assert not torch.equal(seen[0][0], seen[0][1])
    assert not torch.equal(seen[0], seen[1])
    torch.manual_seed(0)
    assert model(same).item() == losses[0]


def test_it_learns(build, images):
    model = build().train()
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    target = images[:1].round(decimals=0) * 0.2 + 0.4
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model(target.expand(4, -1, -1, -1))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
