"""Tables of predictions."""

import numpy as np
import pandas as pd


def prediction_table():
    """As ``PredictionTable`` writes it: 40 normal and 30 anomalous images of three sources."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "gt_label": pd.array([0] * 40 + [1] * 30, dtype="Int64"),
            "pred_score": rng.random(70),
            "stratum": ["nih"] * 25 + ["rsna"] * 15 + ["nih"] * 20 + ["cohen"] * 10,
            "mean_intensity": rng.random(70),
            "aspect_ratio": np.repeat([1.2, 1.0], [40, 30]),
            "file_bytes": [np.nan, *range(69)],
        }
    )
    table.loc[40:, "pred_score"] += 0.3
    return table


def small_table(scores, strata=("a", "a", "b", "", "")):
    """As ``Predictions`` holds it for one job: three anomalous and two normal images."""
    columns = {"path": list("vwxyz"), "label": [1, 1, 1, 0, 0], "score": scores, "mean_intensity": [1, 2, 3, 4, 5]}
    return pd.DataFrame(columns).assign(stratum=strata)


def large_table(seed, shift=0.0):
    """As ``Predictions`` holds it for one job: 40 normal and 60 anomalous images; sick ones are larger files."""
    labels = np.repeat([0, 1], [40, 60])
    size = np.random.default_rng(0).normal(size=100) + 2 * labels
    scores = np.random.default_rng(seed).normal(size=100) + size + shift * labels
    columns = {"path": [f"test/{index}.png" for index in range(100)], "label": labels, "score": scores}
    return pd.DataFrame({**columns, "file_bytes": size, "aspect_ratio": 1.0})
