import doctest
import math
import time

import numpy as np
import pytest
import torch
from reference import matched as reference
from sklearn.metrics import roc_auc_score

from anomalib_memmc.metrics import matched, matched_auroc, paired_difference


def sample(count=60, seed=0):
    """Scores and a nuisance with ties, both higher in anomalous images."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % 5 < 2).astype(int)
    nuisance = np.round(generator.random(count) + 0.4 * labels, 1)
    return np.round(nuisance + generator.random(count), 1), labels, nuisance


@pytest.mark.parametrize("caliper", [0.05, 0.1, 0.4, 2.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_value_and_pairs_are_those_of_the_double_loop(seed, caliper):
    scores, labels, nuisance = sample(seed=seed)
    result = matched_auroc(scores, labels, nuisance, caliper=caliper)
    value, pairs = reference.matched_auroc(scores, labels, nuisance, caliper)
    assert result.pairs == pairs
    assert result.value == pytest.approx(value, abs=1e-12)


def test_standard_error_is_a_bootstrap_over_the_images_with_the_ranks_of_the_sample():
    scores, labels, nuisance = sample(30)
    generator = np.random.default_rng(7)
    draws = [reference.draw_images(labels, generator) for _ in range(matched.RESAMPLES)]
    values = [reference.matched_auroc(scores, labels, nuisance, 0.2, rows)[0] for rows in draws]
    result = matched_auroc(scores, labels, nuisance, caliper=0.2, seed=7)
    assert result.standard_error == pytest.approx(np.nanstd(values), abs=1e-12)
    assert matched_auroc(scores, labels, nuisance, caliper=0.2, seed=8).standard_error != result.standard_error


def test_without_a_nuisance_it_is_the_auroc():
    scores, labels, _ = sample()
    assert matched_auroc(scores, labels, None).value == pytest.approx(roc_auc_score(labels, scores))
    alike = matched_auroc(scores, labels, np.ones(len(labels)))
    assert alike == matched_auroc(scores, labels, None)
    assert alike.pairs == labels.sum() * (1 - labels).sum()


def test_a_score_that_is_the_nuisance_falls_to_chance():
    generator = np.random.default_rng(3)
    labels = np.repeat([0, 1], 300)
    nuisance = generator.normal(size=600) + labels
    disease = generator.normal(size=600) + labels
    assert matched_auroc(nuisance, labels, None).value > 0.7
    lost, kept = (matched_auroc(scores, labels, nuisance) for scores in (nuisance, disease))
    assert abs(lost.value - 0.5) < 0.1
    assert kept.value - 2 * kept.standard_error > 0.6


def test_equal_values_are_alike_however_small_the_caliper():
    assert matched_auroc([1, 2], [0, 1], [1, 1], caliper=1e-9).pairs == 1


def test_the_caliper_is_below_not_at_its_share_of_the_images():
    labels, nuisance = np.repeat([0, 1], [100, 40]), np.arange(140)  # 0.05 * 140 is above 7 in floating point
    result = matched_auroc(nuisance, labels, nuisance)
    assert result.pairs == sum(abs(i - j) < 7 for i in range(100) for j in range(100, 140))


def test_seeds_count_with_their_mean():
    scores, labels, nuisance = sample()
    other = sample(seed=5)[0]
    both = matched_auroc([scores, other], labels, nuisance)
    single = [matched_auroc(one, labels, nuisance).value for one in (scores, other)]
    assert both.value == pytest.approx(np.mean(single))


def test_no_pair_is_no_number():
    result = matched_auroc([1, 2, 3, 4], [0, 0, 1, 1], [1, 2, 30, 40], caliper=0.05)
    assert result.pairs == 0
    assert math.isnan(result.value)
    assert math.isnan(result.standard_error)


@pytest.mark.parametrize("matched_in", [False, True])
def test_paired_difference_is_that_of_the_two_aurocs_with_the_error_of_common_draws(matched_in):
    scores, labels, nuisance = sample(30)
    other = sample(30, seed=4)[0]
    nuisance = nuisance if matched_in else np.ones(30)
    result = paired_difference(scores, other, labels, nuisance if matched_in else None, caliper=0.3, seed=2)
    generator = np.random.default_rng(2)
    draws = [reference.draw_images(labels, generator) for _ in range(matched.RESAMPLES)]

    def difference(rows=None):
        first, second = (reference.matched_auroc(s, labels, nuisance, 0.3, rows)[0] for s in (scores, other))
        return first - second

    assert result.value == pytest.approx(difference(), abs=1e-12)
    assert result.standard_error == pytest.approx(np.nanstd([difference(rows) for rows in draws]), abs=1e-12)


def test_a_model_does_not_differ_from_itself():
    scores, labels, _ = sample()
    result = paired_difference(scores, [scores, scores], labels)
    assert (result.value, result.standard_error) == (0, 0)


def test_blocks_do_not_change_the_result(monkeypatch):
    scores, labels, nuisance = sample()
    whole = matched_auroc(scores, labels, nuisance)
    monkeypatch.setattr(matched, "BLOCK", 100)
    parts = matched_auroc(scores, labels, nuisance)
    assert (parts.value, parts.pairs) == (whole.value, whole.pairs)
    assert parts.standard_error == pytest.approx(whole.standard_error, rel=1e-12)


def test_tensors_and_booleans_are_taken():
    scores, labels, nuisance = sample()
    tensors = matched_auroc(torch.tensor(scores), torch.tensor(labels).bool(), torch.tensor(nuisance))
    assert tensors == matched_auroc(scores, labels, nuisance)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": [1.0, 2.0, 3.0]}, r"scores must hold one value for each of the 4 labels, got shape \(3,\)"),
        ({"nuisance": [1.0]}, "nuisance must hold one value"),
        ({"scores": [1.0, 2.0, 3.0, np.nan]}, "scores must be finite, but 1 of 4"),
        ({"nuisance": [1.0, 2.0, np.inf, np.nan]}, "nuisance must be finite, but 2 of 4"),
        ({"labels": [0, 0, 0, 0]}, "none of the 4 images is anomalous"),
        ({"labels": [1, 1, 1, 1]}, "none of the 4 images is normal"),
        ({"labels": [0, 1, 2, 1]}, "0 .normal. or 1 .anomalous., got"),
        ({"labels": [[0, 1, 0, 1]]}, "shape"),
        ({"caliper": 0}, "caliper"),
        ({"caliper": "x"}, "caliper must be a finite number above 0"),
    ],
)
def test_errors_name_the_argument(changes, message):
    arguments = {"scores": [1.0, 2.0, 3.0, 4.0], "labels": [0, 1, 0, 1], "nuisance": [1, 2, 3, 4], **changes}
    with pytest.raises(ValueError, match=message):
        matched_auroc(**arguments)


def test_a_thousand_images_take_no_time():
    scores, labels, nuisance = sample(1000)
    started = time.process_time()
    matched_auroc(scores, labels, nuisance, seed=11)
    assert time.process_time() - started < 2


def test_docstring_examples():
    assert doctest.testmod(matched).failed == 0
