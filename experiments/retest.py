"""Test the trained models of a benchmark on other images, or by another scorer: nothing is trained again.

    python -m experiments.retest results/benchmark/kermany --output results/benchmark/kermany-official \
        --data.init_args.normal_test_dir official-test/NORMAL --data.init_args.abnormal_dir official-test/PNEUMONIA

The first argument is the folder in which ``anomalib-memmc benchmark`` ran, with checkpoints. Thresholds, and what a
scorer learnt, are those of the checkpoint. ``--scorer FILE.yaml`` (``class_path``, ``init_args``) has MemMC-MAE's
checkpoints scored by another scorer instead, which learns from the normal training images, and thresholds from the
held-out ones. ``--models`` keeps some models. ``--steps`` tests the checkpoints that a ``ModelCheckpoint`` of Lightning
kept on the way (``checkpoints/epoch=9-step=100.ckpt``) instead of the last one, as models ``MODEL@100``. The output
folder has ``results.csv`` and ``predictions.parquet`` as a benchmark's.
"""

import argparse
import tempfile
from copy import copy
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import yaml
from anomalib.engine import Engine

from anomalib_memmc.benchmark.config import dotlist
from anomalib_memmc.benchmark.gallery import load_job
from anomalib_memmc.benchmark.job import TABLE_FILE, evidence, promised
from anomalib_memmc.benchmark.predictions import Predictions, read
from anomalib_memmc.benchmark.results import OK, RESULTS_FILE, Results, Row, finished, job_name
from anomalib_memmc.callbacks import PredictionTable
from anomalib_memmc.configurable import build
from anomalib_memmc.scoring import Scorer
from experiments.scores import batches_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scorer", type=Path)
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--steps", action="store_true")
    arguments, overrides = parser.parse_known_args()
    changes = list(dotlist(overrides))
    arguments.output.mkdir(parents=True, exist_ok=True)
    results, predictions = Results(arguments.output / RESULTS_FILE), Predictions(arguments.output)
    for row in chain.from_iterable(finished(arguments.folder).values()):
        if arguments.models and row["model"] not in arguments.models:
            continue
        folder = arguments.folder / job_name(row)
        for step, checkpoint in kept(folder) if arguments.steps else [("", None)]:
            model, datamodule = load_job(folder, changes, checkpoint)
            if arguments.scorer:
                rescore(model, datamodule, build(yaml.safe_load(arguments.scorer.read_text(encoding="utf-8")), Scorer))
            own = {**row, "model": f"{row['model']}{step}"}
            with tempfile.TemporaryDirectory() as temporary:
                tested = retest(model, datamodule, Path(temporary))
                table = read(next(Path(temporary).rglob(TABLE_FILE)), getattr(datamodule, "root", None))
                predictions.put(job_name(own), table)
            same = {name: own[name] for name in ("model", "seed", "commit", "config_hash", "fit_seconds")}
            results.put({**same, "status": OK, **tested, "folder": str(arguments.output / job_name(own))})
            print(f"{job_name(own)}: image AUROC {float(tested['image_AUROC']):.3f}", flush=True)


def kept(folder: Path) -> list[tuple[str, Path]]:
    """``@STEP`` and file of the checkpoints that a job kept on the way, first step first."""
    found = {int(path.stem.partition("step=")[2]): path for path in folder.rglob("checkpoints/*step=*.ckpt")}
    if not found:
        msg = f"{folder} holds no checkpoints/*step=*.ckpt: train with a ModelCheckpoint that keeps them."
        raise FileNotFoundError(msg)
    return [(f"@{step}", path) for step, path in sorted(found.items())]


def rescore(model: Any, datamodule: Any, scorer: Scorer) -> None:
    """Give a model another scorer, and let it and the thresholds learn from normal images."""
    model.model.set_scorer(scorer)
    with torch.no_grad():
        scorer.prepare()
        scorer.fit(model.model.network, batches_of(model, normal_images(datamodule)))
    quiet_engine().validate(model, datamodule=datamodule)


def normal_images(datamodule: Any) -> Any:
    """The normal training images without augmentations; a copy of the training set where none are offered."""
    if hasattr(datamodule, "normal_data"):
        return datamodule.normal_data
    dataset = copy(datamodule.train_data)
    dataset.augmentations = None
    return dataset


def retest(model: Any, datamodule: Any, folder: Path) -> Row:
    """Test a model; the metrics of its row, and its predictions in a folder."""
    engine = quiet_engine(default_root_dir=folder, callbacks=[PredictionTable()])
    (metrics,) = engine.test(model, datamodule=datamodule, verbose=False)
    table = next(folder.rglob(TABLE_FILE))
    values = {**metrics, **evidence(table), **promised(table, model)}
    return {name: str(float(value)) for name, value in values.items()}


def quiet_engine(**arguments: Any) -> Engine:
    """An engine that leaves no logs."""
    return Engine(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, **arguments)


if __name__ == "__main__":
    main()
