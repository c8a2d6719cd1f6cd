"""One benchmark job: ``python -m anomalib_memmc.benchmark.job FOLDER`` runs the ``job.json`` of a folder.

A process of its own gives each job its own peak memory and random state. The outcome is written to ``result.json``.
"""

import json
import math
import shutil
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
from anomalib.data import AnomalibDataModule
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning import Trainer, seed_everything

from anomalib_memmc.benchmark.config import merge
from anomalib_memmc.benchmark.predictions import read
from anomalib_memmc.callbacks import PredictionTable, RequireFinite
from anomalib_memmc.instantiation import constructor_errors
from anomalib_memmc.memory.resident import peak_memory_mb
from anomalib_memmc.model import MemMCMAE, lite0
from anomalib_memmc.model.post_processor import NormalQuantilePostProcessor
from anomalib_memmc.register import register
from anomalib_memmc.reporting.comparisons import compare
from anomalib_memmc.reporting.false_alarms import false_alarms
from anomalib_memmc.usage import main_line

CONFIG_FILE = "job.json"
RESULT_FILE = "result.json"
TABLE_FILE = "predictions.csv"
NOT_OF_A_JOB = {"ckpt_path", "default_root_dir", "logging", "seed_everything"}
"""Keys of anomalib's command line that a preset may have, and that build nothing."""


def main(folder: Path) -> None:
    """Run the job of a folder.

    Args:
        folder: Folder with the job's ``job.json`` (``seed`` and ``config``); receives ``result.json`` with the
            results, or with the key ``error`` if the job failed.
    """
    job = json.loads((folder / CONFIG_FILE).read_text())
    result: dict[str, Any] = {}
    try:
        result = run(job["config"], job["seed"], folder)
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}"}
        raise
    finally:
        (folder / RESULT_FILE).write_text(json.dumps(result))


def run(config: dict[str, Any], seed: int, folder: Path) -> dict[str, float]:
    """Seed, build, fit, and test the last weights.

    Args:
        config: Sections ``model``, ``data`` and ``trainer`` as for anomalib's command line.
        seed: Seed set before anything is built.
        folder: Folder for checkpoint and predictions.

    Returns:
        Every test metric, what :func:`evidence`, :func:`promised` and :func:`learnt_threshold` add, ``fit_seconds``,
        ``test_seconds``, and ``peak_memory_mb``, the resident memory of this process.
    """
    register()
    seed_everything(seed, workers=True)
    model, datamodule, trainer = build(with_seed(config, seed))
    if isinstance(model, MemMCMAE):
        model.report = False  # what a report takes would count as the model's cost
    callbacks = [*(trainer.pop("callbacks", None) or []), RequireFinite(), PredictionTable()]
    engine = Engine(**{**trainer, "default_root_dir": folder, "callbacks": callbacks})
    started = time.perf_counter()
    engine.fit(model, datamodule=datamodule)
    fitted = time.perf_counter()
    (metrics,) = engine.test(model, datamodule=datamodule)
    tested = time.perf_counter()
    predictions = shutil.copy(Path(engine.trainer.default_root_dir) / TABLE_FILE, folder)
    return {
        **metrics,
        **evidence(Path(predictions)),
        **promised(Path(predictions), model),
        **learnt_threshold(model),
        "fit_seconds": fitted - started,
        "test_seconds": tested - fitted,
        "peak_memory_mb": peak_memory_mb(),
    }


def with_seed(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the configuration with the model's own ``seed``, if it sets one, replaced by the job's."""
    arguments = config["model"].get("init_args", {})
    return merge(config, {"model": {"init_args": {"seed": seed}}}) if "seed" in arguments else config


def evidence(predictions: Path) -> dict[str, float]:
    """Compute what the predictions tell beyond the test metrics.

    Args:
        predictions: The file written by ``PredictionTable``.

    Returns:
        ``image_AP``, the average precision, and ``<nuisance>_matched_AUROC`` for each trivial baseline with images of
        both classes alike in it; nothing if the test set does not hold both normal and anomalous images.
    """
    comparisons = compare(read(predictions))
    if not comparisons:
        return {}
    matched = {f"{row.column}_matched_AUROC": row.matched for row in comparisons[0].trivial}
    values = {name: matched.value for name, matched in sorted(matched.items()) if matched.pairs > 0}
    return {"image_AP": comparisons[0].average_precision, **values}


def promised(predictions: Path, model: AnomalibModule) -> dict[str, float]:
    """Compute the false-alarm rate on the normal test images, beside the one that the threshold promises.

    Args:
        predictions: The file written by ``PredictionTable``.
        model: The tested model.

    Returns:
        ``false_alarm_rate`` and ``promised_false_alarm_rate``; nothing without normal images or a promise.
    """
    table = pd.read_csv(predictions)
    normals = table[(table["gt_label"] == 0) & table["label"].notna()]
    promise = getattr(model.post_processor, "promise", None)
    alarms = false_alarms(int(normals["label"].sum()), len(normals), promise)
    if alarms is None:
        return {}
    return {"false_alarm_rate": alarms.alarms / alarms.normals, "promised_false_alarm_rate": alarms.rate}


def learnt_threshold(model: AnomalibModule) -> dict[str, float]:
    """The score above which the tested model calls an image anomalous, as ``threshold``; nothing if it has none."""
    threshold = getattr(model.post_processor, "image_threshold", None)
    value = float("nan") if threshold is None else float(threshold)
    return {} if math.isnan(value) else {"threshold": value}


def build(config: dict[str, Any]) -> tuple[AnomalibModule, AnomalibDataModule, dict[str, Any]]:
    """Build the model, the data module and the trainer's arguments.

    All models are judged alike: unless its configuration says otherwise, a model gets the evaluator and the
    post-processor of MemMC-MAE, and no visualizer.

    Args:
        config: Sections ``model``, ``data`` and ``trainer`` as for anomalib's command line.

    Returns:
        The model, the data module, and the arguments of Lightning's trainer.
    """
    parser, parsed = parse(config)
    arguments = parsed.model.init_args
    given = config["model"].get("init_args", {})
    defaults = {
        "evaluator": MemMCMAE.configure_evaluator(),
        "post_processor": NormalQuantilePostProcessor(),
        "visualizer": False,
    }
    for name in defaults.keys() - given.keys():
        arguments[name] = defaults[name]
    try:
        with constructor_errors(parser):
            built = parser.instantiate_classes(parsed)
    except Exception as error:
        if lite0.is_backbone_of(config["model"]) and not lite0.is_installed():
            raise RuntimeError(lite0.HINT) from error
        raise
    return built.model, built.data, dict(built.trainer)


def parse(config: dict[str, Any]) -> tuple[ArgumentParser, Namespace]:
    """Check a job's configuration against the classes it names, building nothing.

    Args:
        config: Sections ``model``, ``data`` and ``trainer`` as for anomalib's command line; its other keys are left
            out.

    Returns:
        The parser and the parsed configuration.

    Raises:
        ValueError: If a class or an argument is unknown, or a value has the wrong type.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AnomalibModule, "model", fail_untyped=False, required=True)
    parser.add_subclass_arguments(AnomalibDataModule, "data", fail_untyped=False, required=True)
    parser.add_class_arguments(Trainer, "trainer", fail_untyped=False, instantiate=False, sub_configs=True)
    sections = {name: value for name, value in config.items() if name not in NOT_OF_A_JOB}
    try:
        return parser, parser.parse_object(deepcopy(sections))  # jsonargparse changes what it parses
    except ArgumentError as error:
        raise ValueError(main_line(str(error))) from error


def data_root(config: dict[str, Any]) -> Path | None:
    """Folder of the data set that a job's configuration names, or that its data module takes without a name.

    Args:
        config: Sections ``model``, ``data`` and ``trainer`` as for anomalib's command line.

    Returns:
        The folder; ``None`` where the data module has no ``root``.
    """
    register()
    _, parsed = parse(config)
    root = parsed.data.init_args.get("root")
    return None if root is None else Path(str(root))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
