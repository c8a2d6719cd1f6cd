"""Checkpoints: other content, other tensors, other arguments, code, other models, damaged files."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import lightning
import torch
from numpy.random import Generator
from torch import Tensor

from anomalib_memmc import MemMCMAE
from anomalib_memmc.backbone.folder import save_backbone
from anomalib_memmc.cli import USER_ERRORS
from anomalib_memmc.model.checkpoint_file import require_checkpoint
from anomalib_memmc.scoring import ReconstructionScorer, SquaredErrorMap
from experiments.fuzz.archives import OTHER_CONTENT, TENSOR_CHANGES, Code, unrun
from experiments.fuzz.case import Case
from experiments.fuzz.configurations import SIZES, VALUES
from experiments.fuzz.damage import DAMAGES

ARGUMENTS, HYPER_PARAMETERS = "memmc_arguments", "hyper_parameters"
Checkpoint = dict[str, Any]


def checkpoint_case(rng: Generator, folder: Path) -> Case:
    """A checkpoint with one change, read by one of the three ways that checkpoints are."""
    path = folder / "model.ckpt"
    content: Any = copy.deepcopy(_checkpoint())
    kind = str(rng.choice(list(CHANGES)))
    change, content, names = CHANGES[kind](content, rng)
    if isinstance(content, bytes):
        path.write_bytes(content)
        expected = _checkpoint()
    else:
        torch.save(content, path)
        expected = content
    way = str(rng.choice(list(WAYS)))
    read = partial(unrun, partial(WAYS[way], path))
    names = (path.name, "checkpoint", "state_dict", *names)
    return Case(f"{change}, {way}", read, partial(_is_right, expected), names, clear=USER_ERRORS)


@cache
def _checkpoint() -> Checkpoint:
    """What a training leaves of a small model whose weights are known."""
    torch.manual_seed(0)
    model = _model()
    checkpoint: Checkpoint = {
        "epoch": 1,
        "global_step": 2,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": {name: value.clone() for name, value in model.state_dict().items()},
        "callbacks": {},
        "loops": {},
        "optimizer_states": [],
        "lr_schedulers": [],
        HYPER_PARAMETERS: dict(model.hparams),
    }
    model.on_save_checkpoint(checkpoint)
    return checkpoint


def _model() -> MemMCMAE:
    return MemMCMAE(**SIZES, scorer=ReconstructionScorer(SquaredErrorMap(), num_masks=2))


def _by_lightning(path: Path) -> dict[str, Tensor]:
    """As ``export`` and the commands with ``--checkpoint`` build a model of it."""
    require_checkpoint(path, MemMCMAE)
    return _shown(MemMCMAE.load_from_checkpoint(path, map_location="cpu"))


def _by_trainer(path: Path) -> dict[str, Tensor]:
    """As ``test``, ``predict`` and ``train`` put it into a model that is there."""
    require_checkpoint(path, MemMCMAE, resume=True)
    model = _model()
    checkpoint = torch.load(path, weights_only=True)
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])
    return _shown(model)


def _by_backbone(path: Path) -> dict[str, Tensor]:
    backbone = save_backbone(path, path.parent / "backbone")
    return {f"model.{name}": value for name, value in backbone.state_dict().items()}


def _shown(model: MemMCMAE) -> dict[str, Tensor]:
    """The weights that a model computes with, and what it computes with them that no weight shows."""
    network = model.model.network
    heads = torch.tensor([network.encoder.blocks[0].attn.num_heads, network.decoder.blocks[0].attn.num_heads])
    residual = torch.tensor(network.decoder.blocks[0].cross_residual)
    return {**model.state_dict(), "heads": heads, "cross_residual": residual, "levels": torch.tensor(network.levels)}


WAYS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    "by Lightning": _by_lightning,
    "by the trainer": _by_trainer,
    "as a backbone": _by_backbone,
}
TRAINED = {"heads": [2, 2], "cross_residual": False, "levels": [1, 2]}
"""What the weights were trained with."""


def _is_right(saved: Any, read: dict[str, Tensor]) -> bool:
    """Whether every weight is the file's, and is used as in the training."""
    for name, value in read.items():
        if name in TRAINED:
            if value.tolist() != TRAINED[name]:
                return False
        elif not isinstance(saved["state_dict"].get(name), Tensor) or not _is_same(value, saved["state_dict"][name]):
            return False
    return True


def _is_same(value: Tensor, saved: Tensor) -> bool:
    return value.shape == saved.shape and torch.equal(value.float().nan_to_num(1e9), saved.float().nan_to_num(1e9))


Change = Callable[[Checkpoint, Generator], tuple[str, Any, tuple[str, ...]]]
"""Changes a checkpoint: what was done, what to save (bytes as they are), and what else an error may name."""


def _drop(checkpoint: Checkpoint, rng: Generator) -> tuple[str, Any, tuple[str, ...]]:
    key = str(rng.choice(list(checkpoint)))
    del checkpoint[key]
    return f"without {key}", checkpoint, ()


def _retype(checkpoint: Checkpoint, rng: Generator) -> tuple[str, Any, tuple[str, ...]]:
    key = str(rng.choice(list(checkpoint)))
    checkpoint[key] = VALUES[rng.integers(len(VALUES))]
    return f"{key} = {checkpoint[key]!r}", checkpoint, (key,)


def _change_tensor(checkpoint: Checkpoint, rng: Generator) -> tuple[str, Any, tuple[str, ...]]:
    state = checkpoint["state_dict"]
    name = str(rng.choice([name for name in state if name.startswith("model.network.")]))
    change = str(rng.choice(list(TENSOR_CHANGES)))
    state[name] = TENSOR_CHANGES[change](state[name], rng)
    return f"{name}: {change}", checkpoint, ()


def _move_tensor(checkpoint: Checkpoint, rng: Generator) -> tuple[str, Any, tuple[str, ...]]:
    state = checkpoint["state_dict"]
    name = str(rng.choice(list(state)))
    value = state.pop(name)
    if rng.random() < 0.5:
        return f"without {name}", checkpoint, ()
    state[f"{name}_"] = value
    return f"{name} renamed", checkpoint, ()


def _change_argument(checkpoint: Checkpoint, rng: Generator) -> tuple[str, Any, tuple[str, ...]]:
    where = str(rng.choice([ARGUMENTS, HYPER_PARAMETERS]))
    key = str(rng.choice(list(checkpoint[where])))
    checkpoint[where] = {**checkpoint[where], key: VALUES[rng.integers(len(VALUES))]}
    return f"{where}.{key} = {checkpoint[where][key]!r}", checkpoint, (key,)


def _change_scorer(checkpoint: Checkpoint, rng: Generator) -> tuple[str, Any, tuple[str, ...]]:
    scorer = copy.deepcopy(checkpoint[ARGUMENTS]["scorer"])
    if rng.random() < 0.5:
        paths = ["os.system", "pathlib.Path", "no_such.Scorer", "Scorer", ".x", "", "anomalib_memmc.MemMCMAE"]
        scorer["class_path"] = str(rng.choice(paths))
    else:
        key = str(rng.choice([*scorer["init_args"], "unknown"]))
        scorer["init_args"][key] = VALUES[rng.integers(len(VALUES))]
    for where in (ARGUMENTS, HYPER_PARAMETERS):
        checkpoint[where] = {**checkpoint[where], "scorer": scorer}
    return f"scorer = {scorer}", checkpoint, ("Scorer", "class_path", *scorer["init_args"], "import")


def _unknown_argument(checkpoint: Checkpoint, rng: Generator) -> tuple[str, Any, tuple[str, ...]]:
    where = str(rng.choice([ARGUMENTS, HYPER_PARAMETERS]))
    checkpoint[where] = {**checkpoint[where], "number_of_slots": 3}
    return f"{where} with an unknown key", checkpoint, ()


def _add_code(checkpoint: Checkpoint, rng: Generator) -> tuple[str, Any, tuple[str, ...]]:
    key = str(rng.choice([*checkpoint, "extra"]))
    checkpoint[key] = Code()
    return f"code as {key}", checkpoint, ()


def _other_content(checkpoint: Checkpoint, rng: Generator) -> tuple[str, Any, tuple[str, ...]]:
    others = [*OTHER_CONTENT, checkpoint["state_dict"], {"state_dict": checkpoint["state_dict"]}]
    return "other content", others[rng.integers(len(others))], ()


def _contain_itself(checkpoint: Checkpoint, rng: Generator) -> tuple[str, Any, tuple[str, ...]]:
    key = str(rng.choice(list(checkpoint)))
    checkpoint[key] = checkpoint
    return f"itself as {key}", checkpoint, (key,)


def _damage(checkpoint: Checkpoint, rng: Generator) -> tuple[str, Any, tuple[str, ...]]:
    file = io.BytesIO()
    torch.save(checkpoint, file)
    damage = str(rng.choice(list(DAMAGES)))
    return damage, DAMAGES[damage](file.getvalue(), rng), ()


def _text(_: Checkpoint, rng: Generator) -> tuple[str, Any, tuple[str, ...]]:
    return "text", [b"", b"weights\n", b"\x80\x02.", b"PK\x03\x04", b"{}"][rng.integers(5)], ()


CHANGES: dict[str, Change] = {
    "none": lambda checkpoint, *_: ("none", checkpoint, ()),
    "drop": _drop,
    "retype": _retype,
    "tensor": _change_tensor,
    "move": _move_tensor,
    "argument": _change_argument,
    "scorer": _change_scorer,
    "unknown": _unknown_argument,
    "code": _add_code,
    "content": _other_content,
    "itself": _contain_itself,
    "damage": _damage,
    "text": _text,
}
