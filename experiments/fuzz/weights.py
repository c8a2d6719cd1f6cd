"""Weights for ``pretrained``: the layouts and wrappers that are read, parts that are missing or no weights, damage."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.random import Generator
from safetensors.torch import save_file
from torch import Tensor

from anomalib_memmc.cli import USER_ERRORS
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.model.pretrained import load_mae_weights
from experiments.fuzz.archives import OTHER_CONTENT, TENSOR_CHANGES, Code, unrun
from experiments.fuzz.case import Case
from experiments.fuzz.configurations import SIZES
from experiments.fuzz.damage import DAMAGES

PLAIN = {**SIZES, "memory_slots": 0, "multi_level": False, "long_skips": False}
State = dict[str, Tensor]


def weights_case(rng: Generator, folder: Path) -> Case:
    """Weights of a plain MAE under the names of one layout, with one change."""
    expected = {name: _numbers(rng, value.shape) for name, value in MaskedAutoencoder(**PLAIN).state_dict().items()}
    if rng.random() < 0.3:
        expected = {name: value for name, value in expected.items() if not name.startswith("decoder.")}
    rename = (_original, _hugging_face)[rng.integers(2)]
    state: dict[str, Any] = rename(expected)
    draw = rng.random()
    path = folder / str(rng.choice(["mae.pth", "mae.safetensors"]))
    if draw < 0.25:
        change = "half precision" if rng.random() < 0.3 else "none"
        if change == "half precision":
            state, expected = ({name: value.half() for name, value in each.items()} for each in (state, expected))
        return _case(change, path, _wrapped(state, path, rng), expected, True)
    if draw < 0.55:
        name = str(rng.choice([name for name in state if "pos_embed" not in name and "position" not in name]))
        change = str(rng.choice([*TENSOR_CHANGES, "missing", "renamed"]))
        value = state.pop(name)
        if change in TENSOR_CHANGES:
            state[name] = TENSOR_CHANGES[change](value, rng)
        elif change == "renamed":
            state[f"{name}_"] = value
        return _case(f"{name} {change}", path, state, expected, _is_optional(name))
    path = path.with_suffix(".pth")
    if draw < 0.7:
        state[str(rng.choice(["extra", "model", "blocks.0.attn.qkv.weight"]))] = Code()
        return _case("code", path, state, expected, False)
    if draw < 0.8:
        other = OTHER_CONTENT[rng.integers(len(OTHER_CONTENT))]
        if rng.random() < 0.5:
            other = {"epoch": 1}
            other["model"] = other
        return _case("other content", path, other, expected, False)
    torch.save(state, path) if rng.random() < 0.5 else save_file(state, path := path.with_suffix(".safetensors"))
    damage = str(rng.choice(list(DAMAGES)))
    path.write_bytes(DAMAGES[damage](path.read_bytes(), rng))
    return _case(damage, path, None, expected, path.suffix == ".pth")


def _case(change: str, path: Path, content: Any, expected: State, is_judged: bool) -> Case:
    """A case of a file; ``None`` leaves the one that is there."""
    if content is not None and path.suffix == ".safetensors" and _is_plain(content):
        save_file({name: value.contiguous() for name, value in content.items()}, path)
    elif content is not None:
        path = path.with_suffix(".pth")
        torch.save(content, path)
    read = partial(unrun, partial(_read, path))
    return Case(
        f"{path.suffix} {change}", read, partial(_is_right, expected, is_judged), (path.name,), clear=USER_ERRORS
    )


def _is_plain(content: Any) -> bool:
    """Whether safetensors can hold it."""
    return isinstance(content, dict) and all(
        isinstance(value, Tensor) and not value.is_sparse and value.dtype != torch.complex64
        for value in content.values()
    )


def _read(path: Path) -> tuple[State, set[str]]:
    """The network's values after loading, and the names that kept theirs."""
    network = MaskedAutoencoder(**PLAIN)
    report = load_mae_weights(network, path)
    return dict(network.state_dict()), set(report.missed)


def _is_right(expected: State, is_judged: bool, read: tuple[State, set[str]]) -> bool | None:
    """Whether what was loaded is the file's, and what was not is named.

    Bytes of a safetensors file have no checksum, so that other numbers in it cannot be told from weights.
    """
    values, missed = read
    is_finite = all(bool(value.isfinite().all()) for value in values.values())
    is_same = all(torch.equal(values[name], value.float()) for name, value in expected.items() if name not in missed)
    if not is_judged:
        return None if is_finite else False
    return is_finite and is_same


def _is_optional(name: str) -> bool:
    """Whether an encoder is whole without it: its ends, and the decoder, which is named as missed."""
    return not re.search(r"blocks\.\d|layer\.\d|patch", name) or "decoder" in name


def _numbers(rng: Generator, shape: torch.Size) -> Tensor:
    return torch.from_numpy(rng.normal(size=tuple(shape))).float()


def _original(state: State) -> State:
    """This package's names -> those of the original MAE and timm."""
    outer = {"patch_embed": "patch_embed.proj", "encoder.norm": "norm", "decoder.mask_token": "mask_token"}
    outer |= {f"decoder.{part}": f"decoder_{part}" for part in ("embed", "pos_embed", "norm", "pred")}
    blocks = {"encoder.blocks.": "blocks.", "decoder.blocks.": "decoder_blocks."}
    return {_renamed(name, outer, blocks): value for name, value in state.items()}


def _hugging_face(state: State) -> State:
    """This package's names -> those of checkpoints on the Hugging Face hub."""
    outer = {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings"}
    outer |= {"patch_embed": "embeddings.patch_embeddings.projection", "encoder.norm": "layernorm"}
    outer = {name: f"vit.{theirs}" for name, theirs in outer.items()}
    outer |= {f"decoder.{part}": f"decoder.decoder_{part}" for part in ("embed", "pos_embed", "norm", "pred")}
    blocks = {"encoder.blocks.": "vit.encoder.layer.", "decoder.blocks.": "decoder.decoder_layers."}
    inner = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.output.dense"}
    inner |= {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}
    renamed: State = {}
    for name, value in state.items():
        theirs = _renamed(name, outer, blocks)
        if ".attn.qkv." in theirs:
            for part, values in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[theirs.replace("attn.qkv", f"attention.attention.{part}")] = values.clone()
            continue
        for ours, other in inner.items():
            theirs = theirs.replace(f".{ours}.", f".{other}.")
        renamed[theirs] = value
    return renamed


def _renamed(name: str, outer: dict[str, str], blocks: dict[str, str]) -> str:
    for start, theirs in blocks.items():
        if name.startswith(start):
            return theirs + name.removeprefix(start)
    stem, dot, kind = name.rpartition(".")
    return f"{outer[stem]}{dot}{kind}" if stem in outer else outer.get(name, name)


def _wrapped(state: dict[str, Any], path: Path, rng: Generator) -> dict[str, Any]:
    """As training scripts save it: bare, or within a mapping."""
    if path.suffix == ".safetensors" or rng.random() < 0.5:
        return state
    return {"model": state, "epoch": 3} if rng.random() < 0.5 else {"state_dict": {"model": state}}
