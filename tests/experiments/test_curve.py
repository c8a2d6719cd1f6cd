"""Checkpoints of a training by the number of their steps."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from anomalib_memmc.benchmark.predictions import Predictions
from anomalib_memmc.benchmark.results import Results
from experiments.curve import as_text, curve, draw
from experiments.halves import first_half
from experiments.retest import kept

SIGNALS = {"MAE@900": 2.0, "MAE@1000": 1.0, "MemMC-MAE@900": 0.5}


@pytest.fixture
def folder(tmp_path):
    labels = np.repeat([0, 1], 30)
    rng = np.random.default_rng(0)
    results, predictions = Results(tmp_path / "results.csv"), Predictions(tmp_path)
    for model, signal in SIGNALS.items():
        results.put({"model": model, "seed": "0", "status": "ok", "config_hash": "0", "pixel_IoU": "0.25"})
        scores = signal * labels + rng.normal(size=60)
        paths = [f"{index:08d}_000.png" for index in range(60)]
        table = {"path": paths, "label": labels, "score": scores, "file_bytes": np.arange(60) % 30}
        predictions.put(f"{model}-seed0", pd.DataFrame(table))
    return tmp_path


def test_rows_stand_in_the_order_of_steps(folder):
    table = curve(folder, "file_bytes")
    assert list(zip(table["model"], table["steps"], strict=True)) == [
        ("MAE", 900),
        ("MAE", 1000),
        ("MemMC-MAE", 900),
    ]
    predictions = Predictions(folder).of("MAE@900-seed0")
    half = first_half(predictions["label"].to_numpy(), predictions.rename(columns={"path": "image_path"}))
    for name, part in (("half A", half), ("half B", ~half)):
        own = predictions[part]
        assert table[name].iloc[0] == pytest.approx(roc_auc_score(own["label"], own["score"]))
    assert (table["IoU"] == 0.25).all()
    assert "| MAE | 1,000 |" in as_text(table, "file_bytes")
    lines = [line for axes in draw(table, "file_bytes").axes for line in axes.get_lines()]
    assert [len(line.get_xdata()) for line in lines] == [2, 1] * 3


def test_checkpoints_on_the_way_are_found_by_step(tmp_path):
    with pytest.raises(FileNotFoundError, match="ModelCheckpoint"):
        kept(tmp_path)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in ("epoch=99-step=1000", "epoch=9-step=90", "last"):
        (tmp_path / "run" / "checkpoints" / f"{name}.ckpt").touch()
    assert [step for step, _ in kept(tmp_path)] == ["@90", "@1000"]
