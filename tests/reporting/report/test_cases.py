import numpy as np

from anomalib_memmc.reporting.report.cases import Case, choose


def case(score, truth):
    return Case(f"{truth}-{score}", 0, score, truth, np.zeros((1, 1, 3), dtype=np.uint8))


def test_ends_and_border_of_each_class_are_kept():
    every = [case(score / 100, truth) for truth in (0, 1) for score in range(100)]
    kept = choose(every, threshold=0.5, number=3)
    scores = [round(100 * each.score) for each in kept if each.truth == 1]
    assert scores == [99, 98, 97, 51, 50, 49, 2, 1, 0]
    assert [round(100 * each.score) for each in kept if each.truth == 0] == scores
    assert [each.score for each in kept] == sorted((each.score for each in kept), reverse=True)


def test_choosing_batch_by_batch_gives_the_same():
    rng = np.random.default_rng(0)
    every = [case(float(score), index % 2) for index, score in enumerate(rng.random(200))]
    kept = []
    for start in range(0, 200, 7):
        kept = choose([*kept, *every[start : start + 7]], 0.3, number=4)
    assert [each.path for each in kept] == [each.path for each in choose(every, 0.3, number=4)]
    assert len(kept) == 24


def test_few_images_are_all_kept_once_and_an_unknown_truth_is_a_class():
    every = [case(0.3, 1), case(0.2, None), case(0.1, None)]
    assert choose(every[::-1], 0.5) == every


def test_without_a_threshold_there_is_no_border():
    every = [case(score / 10, 0) for score in range(10)]
    assert [each.score for each in choose(every, None, number=1)] == [0.9, 0.0]
