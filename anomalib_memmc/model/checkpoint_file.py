"""Whether a file is a checkpoint that a model can be given, told before anything is built from it."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anomalib.models import AnomalibModule
from anomalib.utils.serialization import anomalib_safe_globals

from anomalib_memmc.model.checkpoint import ARGUMENTS
from anomalib_memmc.model.lightning_model import MemMCMAE
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.model.torch_file import read_torch_file
from anomalib_memmc.model.torch_model import MemMCMAEModel

_VERSION = "pytorch-lightning_version"
_KINDS: dict[str, type] = {"state_dict": Mapping, _VERSION: str}
_KINDS_TO_RESUME: dict[str, type] = {
    "callbacks": Mapping,
    "epoch": int,
    "global_step": int,
    "loops": Mapping,
    "lr_schedulers": list,
    "optimizer_states": list,
}


def require_checkpoint(path: Path, model_class: type[AnomalibModule], resume: bool = False) -> None:
    """Refuse a file that is no checkpoint of a model. Nothing in it is run, and its tensors are not loaded.

    Args:
        path: The file.
        model_class: The class of the model that it is meant for.
        resume: Whether a training is to go on from it, which takes the state of the optimizer.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, one without what a training needs to go on, or one of another version.
    """
    with anomalib_safe_globals(extra=model_class.checkpoint_safe_globals()):
        content = read_torch_file(path, mmap=True)
    if not _has(content, _KINDS):
        msg = (
            f"{path} is no checkpoint of a training: {' or '.join(_KINDS)} is missing or damaged. Give the one that "
            "the training left, such as results/MemMCMAE/Phantom/latest/weights/lightning/model.ckpt; MAE weights are "
            "for pretrained."
        )
        raise ValueError(msg)
    if resume and not _has(content, _KINDS_TO_RESUME):
        msg = (
            f"Training cannot go on from {path}: of {', '.join(_KINDS_TO_RESUME)} not all are in it. It holds the "
            "weights alone: test or export them, or train anew."
        )
        raise ValueError(msg)
    if issubclass(model_class, MemMCMAE):
        _require_known_arguments(content, model_class, path)


def _has(content: Any, kinds: Mapping[str, type]) -> bool:
    """Whether a file's content has values of these types under these names, and mappings for anomalib's components."""
    if not isinstance(content, Mapping):
        return False
    components = (value for name, value in content.items() if str(name).startswith("anomalib_") and value is not None)
    return all(isinstance(content.get(name), kind) for name, kind in kinds.items()) and all(
        isinstance(value, Mapping) for value in components
    )


def _require_known_arguments(content: Mapping[str, Any], model_class: type, path: Path) -> None:
    """Refuse the checkpoint of another model, or of a version whose arguments are not those of this one."""
    names = (ARGUMENTS, MemMCMAE.CHECKPOINT_HYPER_PARAMS_KEY)
    if not _has(content, dict.fromkeys(names, Mapping)):
        msg = f"{path} is no checkpoint of this version of MemMC-MAE: it lacks {' or '.join(names)}."
        raise ValueError(msg)
    owners = (*model_class.__mro__, MemMCMAEModel, MaskedAutoencoder)
    known = {name for owner in owners if "__init__" in vars(owner) for name in inspect.signature(owner).parameters}
    if unknown := {str(key) for name in names for key in content[name]} - known:
        msg = f"{path} is of another version of MemMC-MAE: it has arguments unknown here, {', '.join(sorted(unknown))}."
        raise ValueError(msg)
