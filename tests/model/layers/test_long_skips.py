"""Long skips: nothing at step 0, block i to block depth - 1 - i afterwards."""

import pytest
import torch

from anomalib_memmc.model.layers.long_skips import LongSkips


@torch.no_grad()
def test_identity_at_step_0(build, images):
    with_skips, without = build(long_skips=True), build(seed=1, long_skips=False)
    missing = without.load_state_dict(with_skips.state_dict(), strict=False)
    assert not missing.missing_keys
    assert sorted(missing.unexpected_keys) == ["network.decoder.skips.scale", "network.encoder.skips.scale"]
    assert torch.equal(with_skips.reconstruct(images).pixels, without.reconstruct(images).pixels)


@torch.no_grad()
@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_pairs_by_hand(build, depth):
    encoder = build(encoder_depth=depth, long_skips=True, multi_level=False).network.encoder
    assert encoder.skips.scale.shape == (depth // 2,)
    encoder.skips.scale.copy_(torch.linspace(0.3, 0.9, depth // 2))
    a, b = encoder.blocks, [*encoder.skips.scale, None]
    x = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(2))
    if depth == 2:
        y0 = a[0](x)
        y = a[1](y0 + b[0] * y0)
    elif depth == 3:
        y0 = a[0](x)
        y = a[2](a[1](y0) + b[0] * y0)
    elif depth == 4:
        y0 = a[0](x)
        y1 = a[1](y0)
        y = a[3](a[2](y1 + b[1] * y1) + b[0] * y0)
    else:
        y0 = a[0](x)
        y1 = a[1](y0)
        y = a[4](a[3](a[2](y1) + b[1] * y1) + b[0] * y0)
    torch.testing.assert_close(encoder(x)[0], encoder.norm(y))


@torch.no_grad()
def test_decoder_uses_its_own_skips(build, images):
    model = build()
    before = model.reconstruct(images).pixels
    model.network.decoder.skips.scale.fill_(0.5)
    assert not torch.allclose(model.reconstruct(images).pixels, before, atol=1e-3)


@pytest.mark.parametrize(("depth", "enabled"), [(1, True), (6, False)])
def test_no_parameter_where_there_is_no_connection(depth, enabled):
    skips = LongSkips(depth, enabled)
    assert not list(skips.parameters())
    x = torch.ones(1, 2, 3)
    assert skips(depth - 1, x, [x] * (depth - 1)) is x
