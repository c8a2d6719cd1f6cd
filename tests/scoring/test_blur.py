"""The blur of maps, against anomalib's in one piece."""

import pytest
import torch
from anomalib.models.components import GaussianBlur2d

from anomalib_memmc.scoring.blur import MapBlur


@pytest.mark.parametrize("sigma", [1, 4.0, 8])
def test_it_is_anomalibs(sigma):
    maps = torch.rand(3, 1, 40, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(MapBlur(sigma, (40, 64))(maps), GaussianBlur2d(sigma=float(sigma))(maps))


def test_no_checkpoint_holds_its_kernels():
    assert not MapBlur(4, (40, 64)).state_dict()


def test_none_leaves_maps_as_they_are():
    maps = torch.rand(3, 1, 40, 64)
    assert torch.equal(MapBlur(0, (40, 64))(maps), maps)


def test_half_precision():
    maps = torch.rand(3, 1, 40, 64, generator=torch.Generator().manual_seed(0))
    blur = MapBlur(4, (40, 64)).to(torch.bfloat16)
    found = blur(maps)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, MapBlur(4, (40, 64))(maps), rtol=2e-2, atol=2e-2)


def test_more_than_a_quarter_of_the_shorter_side_is_refused():
    with pytest.raises(ValueError, match="below a quarter of the shorter side"):
        MapBlur(10, (40, 64))
