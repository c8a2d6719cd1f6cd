"""Which images a model scores, and what becomes of the others."""

import pytest
import torch
from anomalib.data import InferenceBatch

from anomalib_memmc.export.input_check import fits, refuse, without_misfits


def image(low, high, channels=3):
    made = torch.full((channels, 4, 4), float(low))
    made[0, 0, 0] = high
    return made


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, True),
        (0, 0, True),
        (-0.005, 1.005, True),
        (0, 1.5, False),
        (0, 255, False),
        (-2.1, 2.6, False),
        (-0.1, 0.5, False),
        (0, float("nan"), False),
        (0, float("inf"), False),
    ],
)
def test_pixels_lie_between_zero_and_one(low, high, expected):
    images = torch.stack([image(low, high), image(0.2, 0.7)])
    assert fits(images, (3,)).tolist() == [expected, True]  # an image is judged by itself


@pytest.mark.parametrize(("channels", "expected"), [(1, True), (2, False), (3, True), (4, False)])
def test_channels_are_counted(channels, expected):
    assert fits(image(0, 1, channels)[None], (1, 3)).tolist() == [expected]


def test_what_has_no_score_is_not_called_normal():
    predictions = InferenceBatch(
        pred_score=torch.tensor([0.2, 0.3]),
        pred_label=torch.tensor([False, False]),
        anomaly_map=torch.rand(2, 1, 3, 3),
        pred_mask=torch.zeros(2, 1, 3, 3, dtype=torch.bool),
    )
    found = without_misfits(predictions, torch.tensor([True, False]))
    assert found.pred_score[0] == predictions.pred_score[0]
    assert torch.equal(found.anomaly_map[0], predictions.anomaly_map[0])
    assert (found.pred_label.tolist(), found.pred_mask[0].any().item()) == ([False, True], False)
    assert found.pred_score[1].isnan()
    assert found.anomaly_map[1].isnan().all()
    assert found.pred_mask[1].all()
    assert without_misfits(predictions._replace(pred_mask=None), torch.ones(2, dtype=torch.bool)).pred_mask is None


def test_the_error_says_what_to_do():
    with pytest.raises(ValueError, match=r"pixels in \[0, 1\], got values from 0 to 255: divide 8-bit pixels by 255"):
        refuse(image(0, 255)[None], (3,))
    with pytest.raises(ValueError, match="takes images of 1 or 3 channels, got 4"):
        refuse(image(0, 1, 4)[None], (1, 3))
