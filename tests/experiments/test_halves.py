import numpy as np
import pandas as pd

from experiments.halves import first_half


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
