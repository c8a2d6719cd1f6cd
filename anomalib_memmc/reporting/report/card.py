"""The model card: what was trained, on what, at which cost, and what it is not fit for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from anomalib_memmc.reporting.report.run import Run

LIMITS = (
    "Software for research, and no medical device. Nothing here supports a decision about a patient.",
    "The numbers hold for images like those of the test: same kind, same make, same way of choosing them. The share of "
    "anomalous images in a test is not that of a practice, so precision is not what a practice would see.",
    "A score says how unusual an image is to this model. It is no probability of disease, and an unusual device, "
    "position or file may raise it as well.",
    "A promised false-alarm rate holds for normal images like the held-out ones, on average over such calibrations.",
    "Curves and operating points at a chosen specificity use the labels of the test. The learnt threshold does not.",
)
VALIDATION = {
    "from_train": "normal images held out of the training part",
    "synthetic": "normal images held out of the training part, half of them with a synthetic anomaly",
    "from_test": "images taken away from the test part",
    "same_as_test": "the test images themselves",
    "none": "none",
}
UNKNOWN = "not known"


def rows(run: Run) -> list[tuple[str, str]]:
    """Name and value of each line of the card.

    Args:
        run: The run.
    """
    test, training = run.record.test, run.record.training
    return [
        *(_model(test) if test else []),
        *(_training(training) if training else [("Training", f"{UNKNOWN}: its facts are not beside the checkpoint")]),
        *(_test(test, len(run.table)) if test else []),
    ]


def settings(run: Run) -> str:
    """The arguments of the tested model, as YAML; empty where they are not known."""
    known = run.record.test and run.record.test["settings"]
    return yaml.safe_dump(known, sort_keys=True, allow_unicode=True) if known else ""


def configuration(folder: Path) -> str:
    """The configuration of the run, as the command line saved it; empty where there is none."""
    path = folder / "config.yaml"
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def duration(seconds: float) -> str:
    """Seconds in words: 12 s, 3 min 5 s, 22 h 4 min."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _model(test: dict[str, Any]) -> Iterator[tuple[str, str]]:
    scorer = (test["settings"].get("scorer") or {}).get("class_path", "").rpartition(".")[2]
    yield "Model", f"{test['model']}, {test['weights']:,} weights" + (f", scored by {scorer}" if scorer else "")
    data = test["data"]
    yield "Data", data["name"] or UNKNOWN
    if data.get("validation"):
        yield "Thresholds learnt from", VALIDATION.get(data["validation"], data["validation"])


def _training(training: dict[str, Any]) -> Iterator[tuple[str, str]]:
    again = f", of which {training['first_epoch']} before it was resumed" if training["first_epoch"] else ""
    batch = training["batch_size"]
    yield (
        "Training",
        f"{training['epochs']} epochs{again}, {training['steps']:,} steps"
        + (f", {batch} images a batch on each of {training['devices']} devices" if batch else ""),
    )
    yield "Cost of the training", _cost(training) + (" (since it was resumed)" if again else "")
    yield "Training ended", training["finished"]
    yield "Trained with", _software(training)
    yield "Seeds of the training", _seeds(training["seeds"])


def _test(test: dict[str, Any], images: int) -> Iterator[tuple[str, str]]:
    yield "Cost of the test", f"{_cost(test)}; {test['seconds'] / images:.3g} s an image, reading and pictures included"
    yield "Test ended", test["finished"]
    yield "Tested with", _software(test)
    if (seed := test["data"].get("seed")) is not None:
        yield "Seed of the split", str(seed)


def _cost(facts: dict[str, Any]) -> str:
    parts = [duration(facts["seconds"]), facts["device"]]
    if facts["memory_mb"]:
        parts.append(f"{facts['memory_mb']:,.0f} MB of memory")
    if facts["gpu_memory_mb"]:
        parts.append(f"{facts['gpu_memory_mb']:,.0f} MB of GPU memory")
    return ", ".join(parts)


def _software(facts: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"{packages}; commit {facts['commit'] or UNKNOWN}"


def _seeds(seeds: dict[str, Any]) -> str:
    return "; ".join(f"{name} {'not set' if seed is None else seed}" for name, seed in seeds.items())
