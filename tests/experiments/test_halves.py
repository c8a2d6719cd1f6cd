import numpy as np
import pandas as pd

from experiments.halves import first_half
from experiments.halves import halves as of_stratum


def halves(samples):
    labels = np.repeat([0, 1], 10)
    half = first_half(labels, samples)
    assert half[labels == 0].sum() == half[labels == 1].sum() == 5
    return half


def test_patients_stay_together_by_name():
    half = halves(pd.DataFrame({"image_path": [f"person{index // 2}_{index}.png" for index in range(20)]}))
    assert (half[::2] == half[1::2]).sum() >= 8  # half of ten images: one patient in each class may be cut
    assert (halves(pd.DataFrame({"image_path": [f"/a/{index:08d}_0.png" for index in range(20)]}))).any()


def test_groups_stay_together_where_they_are_known():
    names = [f"{index}.png" for index in range(20)]
    half = halves(pd.DataFrame({"image_path": names, "group": [str(index // 5) for index in range(20)]}))
    assert all(len(set(half[start : start + 5])) == 1 for start in range(0, 20, 5))


def test_all_normal_images_and_the_anomalous_ones_of_a_stratum_are_in_a_half():
    strata = ["normal"] * 8 + ["a"] * 4 + ["b"] * 4
    paths = [f"{number:08d}_000.png" for number in range(16)]
    kinds = {"label": ["normal"] * 8 + ["abnormal"] * 8, "label_index": [0] * 8 + [1] * 8}
    samples = pd.DataFrame({"image_path": paths, **kinds, "stratum": strata})
    labels, half_a, half_b = of_stratum(samples, "a")
    assert labels.tolist() == [0] * 8 + [1] * 8
    assert not (half_a & half_b).any()
    assert (half_a | half_b).tolist() == [True] * 12 + [False] * 4
    _, all_a, all_b = of_stratum(samples)
    assert (all_a == first_half(labels, samples)).all()
    assert (all_a | all_b).all()
