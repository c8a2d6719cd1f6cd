"""The verdict in words, and the numbers behind it."""

import pytest
import torch
from anomalib.post_processing import PostProcessor

from anomalib_memmc import NormalQuantilePostProcessor
from anomalib_memmc.detection.result import Result, Verdicts


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (
            {"score": 3.1, "threshold": 1.2, "label": 1, "percentile": 99.4, "spread": 0.2},
            "anomalous: score 3.1, threshold 1.2, more unusual than 99.4 % of normal images; spread 0.2",
        ),
        (
            {"score": 1.1, "threshold": 1.2, "label": 0, "percentile": 0.0},
            "normal: score 1.1, threshold 1.2, more unusual than 0 % of normal images",
        ),
        (
            {"score": 12345.678, "threshold": 0.00012, "label": 1, "percentile": 100.0, "spread": 0.004},
            "anomalous: score 12300, threshold 0.00012, more unusual than all held-out normal images; spread 0.004",
        ),
        (
            {"score": 0.648217, "threshold": 0.648215, "label": 1, "percentile": 99.96},
            "anomalous: score 0.64822, threshold 0.64821, more unusual than 99.9 % of normal images",
        ),
        ({"score": 0.5, "threshold": 0.5, "label": 0}, "normal: score 0.5, threshold 0.5"),
        ({"score": 0.5}, "no verdict: score 0.5, and no threshold was learnt"),
        ({"error": "Cannot read it."}, "no verdict: Cannot read it."),
    ],
)
def test_a_verdict_in_words(numbers, words):
    assert Result(**numbers).verdict == words


def test_verdicts_are_those_of_the_post_processor():
    post_processor = NormalQuantilePostProcessor()
    assert Verdicts(post_processor).of(0.3) == {"threshold": None, "label": None, "map_threshold": None}
    post_processor.normal_scores = torch.tensor([1.0, 2.0, 3.0, 4.0])
    post_processor._image_threshold.fill_(4.0)
    post_processor._pixel_threshold.fill_(7.0)
    post_processor.image_min.fill_(2.5)
    post_processor.image_max.fill_(4.0)
    verdicts = Verdicts(post_processor)
    ranks = {"threshold": 4.0, "map_threshold": 0.5}
    assert verdicts.of(4.0) == {**ranks, "label": 0, "percentile": 75.0, "p_value": 0.4}
    assert verdicts.of(4.5) == {**ranks, "label": 1, "percentile": 100.0, "p_value": 0.2}


def test_anomalibs_post_processor_gives_a_verdict_without_ranks():
    post_processor = PostProcessor()
    post_processor._image_threshold.fill_(4.0)
    post_processor.image_min.fill_(1.0)
    post_processor.image_max.fill_(9.0)
    assert Verdicts(post_processor).of(4.5) == {"threshold": 4.0, "label": 1, "map_threshold": 0.5}
