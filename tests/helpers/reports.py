"""The folder of a tested run, as a test leaves it, with scores and pictures drawn at random."""

import html
import re

import numpy as np
import pandas as pd

from anomalib_memmc.metrics.conformal import conformal_threshold, p_values, percentiles
from anomalib_memmc.reporting.report.cases import Case, choose
from anomalib_memmc.reporting.report.collector import Localisation
from anomalib_memmc.reporting.report.record import write_test

NORMALS = np.random.default_rng(7).normal(size=59)
"""Scores of the held-out normal images."""
LEARNT = conformal_threshold(NORMALS, 0.05)
VERSIONS = {"anomalib-memmc": "0.1.0", "Python": "3.11.0"}


def predictions(normal=40, anomalous=30, seed=0, shift=1.5):
    """Predictions of normal and of anomalous images, which score higher by a shift."""
    rng = np.random.default_rng(seed)
    truth = np.repeat([0, 1], [normal, anomalous])
    scores = rng.normal(size=len(truth)) + shift * truth
    names = [f"data/{'sick' if label else 'well'}/{index:03d}.png" for index, label in enumerate(truth)]
    return pd.DataFrame(
        {
            "image_path": names,
            "stratum": np.where(truth, "polyp", "normal"),
            "gt_label": truth,
            "score": scores,
            "threshold": LEARNT.value,
            "label": (scores > LEARNT.value).astype(int),
            "percentile": percentiles(scores, NORMALS),
            "p_value": p_values(scores, NORMALS),
            "spread": 0.1,
            "pred_score": 1 / (1 + np.exp(LEARNT.value - scores)),
            "mean_intensity": rng.random(len(truth)),
            "file_bytes": rng.random(len(truth)) + 0.5 * truth,
        }
    )


def facts(thresholds=True):
    """Facts of a test."""
    learnt = {
        "promised_false_alarm_rate": LEARNT.rate,
        "promised_false_alarm_rate_interval": [LEARNT.low, LEARNT.high],
        "promised_by": LEARNT.num_normals,
        "normal_images": len(NORMALS),
        "image_threshold": LEARNT.value,
    }
    return {
        "seconds": 20.0,
        "devices": 1,
        "finished": "2024-01-01, 10:00 UTC",
        "device": "CPU, 2 cores",
        "gpu_memory_mb": None,
        "memory_mb": 900.0,
        "versions": VERSIONS,
        "commit": "0123456789ab",
        "seeds": {"model": 3, "seed_everything": None},
        "model": "MemMCMAE",
        "settings": {"lr": 0.001, "scorer": {"class_path": "anomalib_memmc.scoring.ReconstructionScorer"}},
        "weights": 12345,
        "data": {
            "name": "Frames",
            "parts": [
                {"part": "train", "normal": 100, "anomalous": 0, "masks": 0, "groups": 50},
                {"part": "test", "normal": 40, "anomalous": 30, "masks": 30, "groups": None},
            ],
            "findings": [],
            "validation": "from_train",
            "seed": 0,
        },
        "thresholds": learnt if thresholds else None,
        "metrics": {"image_AUROC": 0.9, "image_F1Score": float("nan")},
    }


TRAINING = {
    "seconds": 3725.0,
    "first_epoch": 0,
    "epochs": 40,
    "steps": 600,
    "batch_size": 32,
    "accumulated_batches": 1,
    **{name: facts()[name] for name in ("devices", "finished", "device", "gpu_memory_mb", "memory_mb")},
    **{name: facts()[name] for name in ("versions", "commit", "seeds")},
}


def cases(table, size=32, masks=True):
    """The cases of a table, with random pictures; the anomaly is a square in the upper left."""
    rng = np.random.default_rng(1)
    mask = np.zeros((size, size), dtype=bool)
    mask[2 : size // 2, 2 : size // 2] = True
    every = [
        Case(
            path=row.image_path,
            loader=0,
            score=row.pred_score,
            truth=int(row.gt_label),
            image=rng.integers(0, 255, (size, size, 3), dtype=np.uint8),
            anomaly_map=(0.4 * rng.random((size, size)) + 0.5 * mask * row.gt_label).astype(np.float16),
            mask=(mask if row.gt_label else ~mask & mask) if masks else None,
            iou=0.4 if masks and row.gt_label else None,
        )
        for row in table.itertuples()
    ]
    return choose(every, 0.5)


def save_run(folder, table=None, record=True, masks=True, size=32, thresholds=True):
    """Write a run's folder: ``predictions.csv``, and what the test kept."""
    folder.mkdir(parents=True, exist_ok=True)
    table = predictions() if table is None else table
    table.to_csv(folder / "predictions.csv", index=False)
    if record:
        number = int((table["gt_label"] == 1).sum())
        ious = np.random.default_rng(2).random((4, number)).tolist()
        localisation = Localisation(*ious) if masks and number else None
        write_test(folder, facts(thresholds), TRAINING, cases(table, size, masks), localisation, lambda case: None)
    return folder


def text(markup):
    """Words of a page, without markup."""
    markup = re.sub(r"<(style|script)>.*?</\1>", " ", markup, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())
