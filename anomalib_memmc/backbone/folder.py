"""A folder with the encoder of a checkpoint, in the layout that timm loads by the name ``local-dir:FOLDER``."""

import argparse
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from anomalib_memmc.backbone.memmc_mae import INPUT, NAME, MemMCBackbone
from anomalib_memmc.configurable import plain
from anomalib_memmc.model.checkpoint import network_weights, require_sound, saved_arguments
from anomalib_memmc.model.checkpoint_file import require_checkpoint
from anomalib_memmc.model.finite import require_finite_weights
from anomalib_memmc.model.lightning_model import MemMCMAE

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def main(argv: Sequence[str]) -> int:
    """Run ``anomalib-memmc backbone``.

    Args:
        argv: The arguments after ``backbone``.

    Returns:
        The exit code, 0.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the checkpoint is none of MemMC-MAE.
    """
    parser = argparse.ArgumentParser(
        prog="anomalib-memmc backbone",
        description="Save the encoder of a checkpoint as a backbone for other detectors, such as PaDiM and PatchCore.",
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of MemMCMAE")
    parser.add_argument("folder", type=Path, help="the folder to write")
    arguments = parser.parse_args(argv)
    backbone = save_backbone(arguments.checkpoint, arguments.folder)
    depth, width = len(backbone.feature_info), backbone.num_features
    print(
        "Write in the init_args of a detector, such as anomalib.models.Padim:\n"
        f"  backbone: local-dir:{arguments.folder}\n"
        f"  layers: [blocks.{depth - 1}]  # one or more of blocks.0 to blocks.{depth - 1}, {width} features each\n"
        f"  pre_processor: {json.dumps(backbone.pre_processor)}"
    )
    return 0


def save_backbone(source: MemMCMAE | str | Path, folder: str | Path) -> MemMCBackbone:
    """Save a trained encoder where detectors find it as ``backbone="local-dir:FOLDER"``.

    Args:
        source: The model, or the path of its checkpoint.
        folder: The folder to write, ``config.json`` and ``model.safetensors``; made where it does not exist.

    Returns:
        The backbone that was saved.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the checkpoint is none of MemMC-MAE.
    """
    if isinstance(source, MemMCMAE):
        arguments, state = source.model.network.init_args, source.model.state_dict()
    else:
        arguments, state = _read(Path(source))
    taken = inspect.signature(MemMCBackbone).parameters.keys() & arguments.keys()
    arguments = {name: plain(arguments[name], name) for name in sorted(taken)}
    backbone = MemMCBackbone(**arguments)
    expected = backbone.state_dict()
    require_sound(state, expected)
    require_finite_weights({name: state[name] for name in state.keys() & expected.keys()}, "The checkpoint")
    backbone.load_state_dict({name: value for name, value in state.items() if name in expected})
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    images = {**INPUT, "input_size": (3, *backbone.network.image_size), "num_classes": 0}
    config = {"architecture": NAME, "model_args": arguments, "pretrained_cfg": images}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2), encoding="utf-8")
    save_file({name: value.contiguous() for name, value in backbone.state_dict().items()}, folder / WEIGHTS_FILE)
    return backbone


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments and the weights of a checkpoint's model."""
    require_checkpoint(path, MemMCMAE)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    weights = network_weights(checkpoint)
    return saved_arguments(checkpoint), {f"network.{name}": value for name, value in weights.items()}
