"""Maps from places, with and without zeros beyond the frame, and the numbers that judge them."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from experiments.outlines import Places, best_threshold, distances, mean_iou, means, nearest, pixel_auroc, without_rim

GRID = (6, 6)


def test_zeros_beyond_the_frame_lower_the_means_at_its_rim_alone():
    values = torch.ones(1, 36, 2)
    padded, alone = (means(values, GRID, each).unflatten(1, GRID)[0, :, :, 0] for each in (True, False))
    assert torch.equal(alone, torch.ones(GRID))
    assert torch.equal(padded[1:-1, 1:-1], torch.ones(4, 4))
    assert padded[0, 0].item() == pytest.approx(4 / 9)
    assert padded[0, 2].item() == pytest.approx(6 / 9)


def test_the_nearest_is_that_of_any_place():
    known = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
    new = torch.tensor([[[3.0, 4.0], [0.0, 2.0]], [[3.0, 5.0], [0.0, 0.0]]])
    assert torch.allclose(nearest(known, new), torch.tensor([[0.0, 2.0], [1.0, 0.0]]), atol=1e-6)


def test_every_way_finds_the_place_that_differs():
    generator = torch.Generator().manual_seed(0)
    normal, tested = (Places(*torch.randn(2, images, 36, 3, generator=generator).unbind()) for images in (200, 4))
    for values in tested:
        values[:, 14] += 30
    for name, found in distances(normal, tested, GRID).items():
        assert found.shape == (4, 36), name
        if "means" not in name:
            assert (found.argmax(dim=1) == 14).all(), name
        else:
            rows, columns = found.argmax(dim=1) // 6, found.argmax(dim=1) % 6
            assert (rows - 2).abs().max() <= 1, name
            assert (columns - 2).abs().max() <= 1, name


def test_numbers_are_those_of_the_pixels():
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[:, 4:8, 4:8] = True
    values = masks.float() + torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0)) * 1.5
    assert pixel_auroc(values, masks) == pytest.approx(roc_auc_score(masks.flatten(), values.flatten()))
    assert pixel_auroc(100 + values, masks) == pytest.approx(pixel_auroc(values, masks), abs=1e-4)
    assert mean_iou(masks.float(), masks, 0.5) == 1
    assert mean_iou(torch.ones(2, 16, 16), masks, 0.5) == pytest.approx(16 / 256)
    assert mean_iou(values, masks, best_threshold(values, masks)) >= mean_iou(values, masks, 1.0)
    assert without_rim(masks).shape == (2, 12, 12)
