"""Sine-cosine positions and their resizing."""

import math

import pytest
import torch

from anomalib_memmc.model.layers.positions import resize_positions, sincos_positions


def test_formula():
    """Column first, then row; sines, then cosines, as MAE's weights have them."""
    table = sincos_positions(12, (2, 3))
    assert table.shape == (1, 7, 12)
    assert not table[0, 0].any()
    for row in range(2):
        for column in range(3):
            expected = []
            for position in (column, row):
                angles = [position / 10000 ** (2 * i / 6) for i in range(3)]
                expected += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            torch.testing.assert_close(table[0, 1 + row * 3 + column], torch.tensor(expected), atol=1e-6, rtol=0)


def test_width_must_be_a_multiple_of_4():
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_positions(6, (2, 2))


@pytest.mark.parametrize("grid", [(4, 4), (6, 9), (3, 2)])
def test_resizing_keeps_the_class_row_and_the_axes(grid):
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    source = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    source = torch.cat([torch.tensor([[7.0, -7.0]]), source])[None]
    resized = resize_positions(source, (4, 4), grid)
    assert resized.shape == (1, 1 + grid[0] * grid[1], 2)
    assert torch.equal(resized[:, 0], source[:, 0])
    table = resized[0, 1:].view(*grid, 2)
    assert (table[1:, :, 0] > table[:-1, :, 0]).all()
    assert (table[:, 1:, 1] > table[:, :-1, 1]).all()
    torch.testing.assert_close(table[:, 0, 0], table[:, -1, 0])
    if grid == (4, 4):
        torch.testing.assert_close(resized, source)
