"""Thresholds in plain numbers: what they say is what the post-processor does."""

import json

import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.post_processing import PostProcessor

from anomalib_memmc import NormalQuantilePostProcessor
from anomalib_memmc.model.thresholds import score_threshold, thresholds_of

NUMBERS = ("image_threshold", "pixel_threshold", "normalised_image_threshold", "normalised_pixel_threshold")


def validated(post_processor, with_anomalies=False):
    scores = torch.rand(40, generator=torch.Generator().manual_seed(0))
    labels = scores > 0.7 if with_anomalies else torch.zeros(40, dtype=torch.bool)
    maps = scores[:, None, None] * torch.linspace(0.1, 3, 64).view(8, 8)
    batch = ImageBatch(image=torch.zeros(40, 3, 8, 8), gt_label=labels, pred_score=scores, anomaly_map=maps)
    if with_anomalies:
        batch.gt_mask = maps > 1
    post_processor.on_validation_epoch_start(None, None)
    post_processor.on_validation_batch_end(None, None, batch)
    post_processor.on_validation_epoch_end(None, None)
    return post_processor


@pytest.mark.parametrize("kind", [NormalQuantilePostProcessor, PostProcessor])
@pytest.mark.parametrize("sensitivity", [0.5, 0.3, 0.8])
@pytest.mark.parametrize("normalised", [True, False])
def test_labels_and_masks_are_those_above_the_thresholds(kind, sensitivity, normalised):
    post_processor = validated(
        kind(enable_normalization=normalised, image_sensitivity=sensitivity, pixel_sensitivity=sensitivity), True
    )
    found = thresholds_of(post_processor)
    assert found["image_threshold"] == score_threshold(post_processor)
    scores, maps = torch.linspace(0, 1.5, 997), torch.linspace(0, 4, 100_000).view(1, 1, 1, -1)
    result = post_processor(InferenceBatch(pred_score=scores, anomaly_map=maps))
    assert result.pred_label.tolist() == (scores > found["image_threshold"]).tolist()
    assert (result.pred_mask != (maps > found["pixel_threshold"])).sum() <= 1  # rounding
    assert 0 < result.pred_label.sum() < len(scores)
    assert result.pred_label.tolist() == (result.pred_score > found["normalised_image_threshold"]).tolist()
    assert torch.equal(result.pred_mask, result.anomaly_map > found["normalised_pixel_threshold"])


def test_the_promise_is_in_plain_numbers():
    found = thresholds_of(validated(NormalQuantilePostProcessor()))
    assert found["promised_false_alarm_rate"] == pytest.approx(2 / 41)  # rank 39 of 40
    assert [round(end, 3) for end in found["promised_false_alarm_rate_interval"]] == [0.006, 0.132]
    assert (found["promised_by"], found["normal_images"]) == (40, 40)
    assert found["normalised_image_threshold"] == found["normalised_pixel_threshold"] == 0.5
    assert set(found) - {"units"} <= set(found["units"])
    json.dumps(found, allow_nan=False)


UNLABELLED = validated(NormalQuantilePostProcessor(enable_thresholding=False))


@pytest.mark.parametrize("post_processor", [NormalQuantilePostProcessor(), PostProcessor(), None, UNLABELLED])
def test_what_is_not_known_is_none(post_processor):
    found = thresholds_of(post_processor)
    assert [found[name] for name in NUMBERS] == [None] * 4
    assert found["promised_false_alarm_rate"] is None
    assert found["promised_false_alarm_rate_interval"] is None
    assert score_threshold(post_processor) is None
    json.dumps(found, allow_nan=False)
