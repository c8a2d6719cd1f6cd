"""What a report tells of a training and a test besides their results: data, settings, versions, seeds, cost."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from pandas import DataFrame

import anomalib_memmc
from anomalib_memmc.memory.resident import peak_memory_mb
from anomalib_memmc.model.thresholds import thresholds_of

PACKAGES = ("anomalib", "lightning", "torch", "timm", "numpy")
SEED_VARIABLE = "PL_GLOBAL_SEED"
PARTS = ("train", "val", "test")


def training_facts(trainer: Trainer, pl_module: LightningModule, seconds: float, first_epoch: int) -> dict[str, Any]:
    """What a training was.

    Args:
        trainer: The trainer, at the end of a fit.
        pl_module: The trained model.
        seconds: What the fit took, with its validations.
        first_epoch: Finished epochs of the checkpoint that it went on from; 0 if it began anew.
    """
    return {
        "seconds": seconds,
        "first_epoch": first_epoch,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "batch_size": getattr(getattr(trainer, "datamodule", None), "train_batch_size", None),
        "accumulated_batches": trainer.accumulate_grad_batches,
        "devices": trainer.world_size,
        **_surroundings(pl_module),
    }


def test_facts(trainer: Trainer, pl_module: LightningModule, seconds: float) -> dict[str, Any]:
    """What a test was, besides its cases.

    Args:
        trainer: The trainer, at the end of a test.
        pl_module: The tested model.
        seconds: What the test took.
    """
    return {
        "seconds": seconds,
        "devices": trainer.world_size,
        **_surroundings(pl_module),
        "model": type(pl_module).__name__,
        "settings": dict(pl_module.hparams),
        "weights": sum(weight.numel() for weight in pl_module.parameters()),
        "data": data_facts(getattr(trainer, "datamodule", None)),
        "thresholds": thresholds_of(getattr(pl_module, "post_processor", None)),
        "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
    }


def data_facts(datamodule: Any) -> dict[str, Any]:
    """Images by part and class, and what the data module found of them.

    Args:
        datamodule: The data module of a test, or None.

    Returns:
        ``name``; ``parts``, the rows of a table; ``findings``, sentences, or None where the data module does not check
        its samples; and where known the ``validation`` mode and the ``seed`` of the split.
    """
    if datamodule is None:
        return {"name": None, "parts": [], "findings": None}
    samples = getattr(datamodule, "parts", None)
    if not isinstance(samples, DataFrame):
        sets = {part: getattr(getattr(datamodule, f"{part}_data", None), "samples", None) for part in PARTS}
        counts = [_counts(part, own) for part, own in sets.items() if isinstance(own, DataFrame)]
    else:
        counts = [_counts(part, own) for part in PARTS if len(own := samples[samples["split"] == part])]
    mode = getattr(datamodule, "val_split_mode", None)
    return {
        "name": getattr(datamodule, "name", type(datamodule).__name__),
        "parts": counts,
        "findings": getattr(datamodule, "findings", None),
        "validation": None if mode is None else str(getattr(mode, "value", mode)),
        "seed": getattr(datamodule, "split_seed", getattr(datamodule, "seed", None)),
    }


def _counts(part: str, samples: DataFrame) -> dict[str, Any]:
    labels = samples["label_index"].astype(int)
    groups = samples["group"].nunique() if "group" in samples else None
    is_grouped = groups is not None and groups < len(samples)
    row = {"part": part, "normal": int((labels == 0).sum()), "anomalous": int((labels == 1).sum())}
    masks = int((samples["mask_path"].fillna("") != "").sum()) if "mask_path" in samples else 0
    return {**row, "masks": masks, "groups": groups if is_grouped else None}


def _surroundings(pl_module: LightningModule) -> dict[str, Any]:
    """Machine, versions, commit, seeds and memory."""
    device = pl_module.device
    is_gpu = device.type == "cuda"
    return {
        "finished": datetime.now(timezone.utc).strftime("%Y-%m-%d, %H:%M UTC"),
        "device": torch.cuda.get_device_name(device) if is_gpu else f"{device.type.upper()}, {os.cpu_count()} cores",
        "gpu_memory_mb": torch.cuda.max_memory_allocated(device) / 1e6 if is_gpu else None,
        "memory_mb": peak_memory_mb(),
        "versions": versions(),
        "commit": commit(),
        "seeds": {"model": getattr(pl_module, "seed", None), "seed_everything": os.environ.get(SEED_VARIABLE)},
    }


def versions() -> dict[str, str]:
    """Versions of this package, of Python, and of the packages that results depend on."""
    found = {"anomalib-memmc": anomalib_memmc.__version__, "Python": platform.python_version()}
    return {**found, **{name: importlib.metadata.version(name) for name in PACKAGES}}


def commit(folder: Path | None = None) -> str | None:
    """The commit of this package, where it runs from a clone; with a mark where files were changed since.

    Args:
        folder: Folder of the package; None takes the one that runs.
    """
    folder = folder or Path(anomalib_memmc.__file__).parent
    if not (folder.parent / ".git").exists():  # an installed package may lie below another repository
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
