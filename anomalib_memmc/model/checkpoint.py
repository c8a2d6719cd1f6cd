"""Whether a checkpoint belongs to a model, and with which scorer it was made."""

import logging
from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import Tensor

from anomalib_memmc.configurable import build
from anomalib_memmc.model.finite import require_finite_weights
from anomalib_memmc.model.torch_model import MemMCMAEModel
from anomalib_memmc.scoring.base import Scorer

logger = logging.getLogger(__name__)

_COMPUTATION = (  # no shape shows these
    "cross_residual",
    "decoder_heads",
    "encoder_heads",
    "feature_target",
    "multi_level",
    "normalize",
)


_NETWORK = "model.network."
ARGUMENTS = "memmc_arguments"
"""Key of a checkpoint's own arguments: Lightning overwrites the hyper-parameters by what a caller passes."""


def saved_arguments(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a checkpoint's model was built with, plain values; empty where it names none.

    Raises:
        ValueError: If it has something else in their place.
    """
    arguments = checkpoint.get(ARGUMENTS, {})
    if not isinstance(arguments, Mapping):
        msg = f"The checkpoint is damaged: {ARGUMENTS} in it holds a {type(arguments).__name__}, not arguments by name."
        raise ValueError(msg)
    return dict(arguments)


def saved_scorer(checkpoint: Mapping[str, Any]) -> Scorer | None:
    """The scorer that a checkpoint was made with, not fitted; None where it names none."""
    config = saved_arguments(checkpoint).get("scorer")
    if config is None:
        return None
    scorer: Scorer = build(config, Scorer)
    return scorer


def network_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's weights in a checkpoint, by the network's names; none where it holds something else."""
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        return {}
    return {name.removeprefix(_NETWORK): value for name, value in state.items() if str(name).startswith(_NETWORK)}


def require_finite_checkpoint(checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose network, or what its scorer has learnt, is NaN or infinite.

    Thresholds may be NaN: they are before the first validation.

    Args:
        checkpoint: What ``torch.load`` gives.

    Raises:
        NotFiniteError: Naming the first tensor.
    """
    state = checkpoint.get("state_dict", {})
    require_finite_weights({key: value for key, value in state.items() if key.startswith("model.")}, "The checkpoint")


def require_same_network(checkpoint: Mapping[str, Any], model: MemMCMAEModel, arguments: Mapping[str, Any]) -> None:
    """Refuse weights of another network, naming the arguments that differ.

    Args:
        checkpoint: What ``torch.load`` gives.
        model: The model that the weights are meant for.
        arguments: The model's hyper-parameters, plain values.

    Raises:
        ValueError: If the network's weights do not fit, or another computation was trained.
    """
    theirs = saved_arguments(checkpoint)
    differing = differences(theirs, arguments, ignored={"scorer"})
    weights = network_weights(checkpoint)
    saved = {name: value.shape for name, value in weights.items()}
    expected = model.network.state_dict()
    has_shapes = saved == {name: value.shape for name, value in expected.items()}
    if not theirs or not has_shapes or set(differing) & set(_COMPUTATION):
        described = "; ".join(differing.values())
        reason = f"trained with {described}" if differing and weights else "not a MemMC-MAE checkpoint of this version"
        msg = (
            f"The checkpoint does not fit this model: it was {reason}. "
            "Pass the same --config, or the same model arguments, as for training."
        )
        raise ValueError(msg)
    require_sound(weights, expected)


def require_sound(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse weights that are no numbers.

    Args:
        weights: A checkpoint's weights by name.
        expected: A model's weights by name; the others are not looked at.

    Raises:
        ValueError: If one is not of its kind, such as integers in place of fractions.
    """
    for name, theirs in weights.items():
        if name not in expected:
            continue
        here = expected[name]
        is_dense = theirs.layout is torch.strided and not theirs.is_complex()
        if not is_dense or theirs.is_floating_point() != here.is_floating_point():
            msg = f"The checkpoint is damaged: {name} in it is of {theirs.dtype}, {theirs.layout}, not of {here.dtype}."
            raise ValueError(msg)


def require_same_scorer(checkpoint: Mapping[str, Any], model: MemMCMAEModel, mask_ratio: float) -> None:
    """Refuse a scorer that cannot take what the checkpoint's has learnt; warn where thresholds do not fit.

    Args:
        checkpoint: What ``torch.load`` gives.
        model: The model with the scorer that was asked for.
        mask_ratio: The model's.

    Raises:
        ValueError: If either scorer learns from normal images and they differ in more than what does not matter.
    """
    saved = saved_scorer(checkpoint)
    if saved is None:
        return
    theirs = {**_flat(saved.config()), "mask_ratio of training": saved_arguments(checkpoint).get("mask_ratio")}
    asked = {**_flat(model.scorer.config()), "mask_ratio of training": mask_ratio}
    differing = differences(theirs, asked, ignored=_costless(model.scorer))
    described = "; ".join(differing.values())
    if set(differing) - model.scorer.unlearnt and (saved.learns or model.scorer.learns):
        msg = (
            f"What the checkpoint's scorer knows of normal images was measured with other scoring: {described}. "
            "Pass the same scorer as for training, or none at all to take the checkpoint's."
        )
        raise ValueError(msg)
    if differing:
        logger.warning(
            "The thresholds in the checkpoint were learnt with other scoring (%s): labels, masks, F1 and IoU do "
            "not fit these scores until you validate again.",
            described,
        )


def differences(theirs: Mapping[str, Any], here: Mapping[str, Any], ignored: Set[str]) -> dict[str, str]:
    """Tell in which arguments two models or scorers differ.

    Args:
        theirs: A checkpoint's arguments, plain values.
        here: The present ones.
        ignored: Names that do not matter.

    Returns:
        Argument -> how it differs, for those that both have.
    """
    names = sorted((theirs.keys() & here.keys()) - ignored)
    return {name: f"{name}={theirs[name]!r} (here {here[name]!r})" for name in names if theirs[name] != here[name]}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A scorer's configuration as one level of arguments; those of a fusion's scorers as ``scorers.0.num_masks``."""
    flat = {f"{prefix}scorer": config["class_path"]}
    for name, value in config["init_args"].items():
        if name != "scorers":
            flat[f"{prefix}{name}"] = value
            continue
        flat[f"{prefix}scorers"] = [part["class_path"] for part in value]
        for index, part in enumerate(value):
            flat |= _flat(part, f"{prefix}scorers.{index}.")
    return flat


def _costless(scorer: Scorer, prefix: str = "") -> set[str]:
    """The arguments of a scorer, and of a fusion's scorers, that change no score."""
    names = {f"{prefix}{name}" for name in scorer.costless}
    for index, part in enumerate(getattr(scorer, "scorers", ())):
        names |= _costless(part, f"{prefix}scorers.{index}.")
    return names
