"""The table of docs/results.md: sizes chosen on half A, the best model of half B first."""

import numpy as np
import pandas as pd
import pytest

from anomalib_memmc.benchmark.predictions import Predictions
from anomalib_memmc.benchmark.results import Results
from experiments.evidence import better_sizes, evidence


@pytest.fixture
def folder(tmp_path):
    """Three models of 60 images: one that sees the class, one at two sizes, the larger of which sees it better."""
    labels = np.repeat([0, 1], 30)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=60)
    signals = {"MAE": 4.0, "PaDiM-128": 0.5, "PaDiM-256": 1.5}
    results, predictions = Results(tmp_path / "results.csv"), Predictions(tmp_path)
    for model, signal in signals.items():
        row = {"model": model, "seed": "0", "status": "ok", "config_hash": "0", "false_alarm_rate": "0.1"}
        results.put(row)
        table = {
            "path": [f"{index:08d}_000.png" for index in range(60)],
            "label": labels,
            "score": signal * labels + noise,
            "file_bytes": np.arange(60) % 30,
        }
        predictions.put(f"{model}-seed0", pd.DataFrame(table))
    return tmp_path


def test_the_better_size_is_chosen_and_the_best_model_comes_first(folder):
    text = evidence(folder, "file_bytes")
    shown = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][2:]
    assert shown == ["MAE", "PaDiM-256"]
    assert "Not chosen: PaDiM-128" in text
    assert text.startswith("Half A: 15 anomalous and 15 normal images; half B: 15 anomalous and 15 normal.")
    assert "0.100" in text


@pytest.mark.parametrize("others", [["MAE", "MemMC-MAE"], ["mask-ratio-85", "mask-ratio-90"]])
def test_names_without_an_image_size_are_families_of_their_own(others):
    assert better_sizes({**dict.fromkeys(others, 0.5), "P-128": 0.6, "P-256": 0.7}) == [*others, "P-256"]
