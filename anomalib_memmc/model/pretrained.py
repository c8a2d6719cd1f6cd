"""Start from published MAE weights: original, timm and Hugging Face checkpoints."""

import argparse
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from anomalib_memmc.model.finite import NotFiniteError
from anomalib_memmc.model.layers.positions import resize_positions
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.model.torch_file import read_torch_file, require_file
from anomalib_memmc.model.torch_model import MemMCMAEModel

_WRAPPERS = ("state_dict", "model")
_DEEPEST = 8
_PREFIXES = ("module.", "vit.")

# Their names and this package's, without ".weight" and ".bias"; first outside the blocks, then inside.
_OUTER_NAMES = {
    # original MAE and timm
    "cls_token": "cls_token",
    "pos_embed": "pos_embed",
    "patch_embed.proj": "patch_embed",
    "norm": "encoder.norm",
    "mask_token": "decoder.mask_token",
    "decoder_embed": "decoder.embed",
    "decoder_pos_embed": "decoder.pos_embed",
    "decoder_norm": "decoder.norm",
    "decoder_pred": "decoder.pred",
    # Hugging Face
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed",
    "layernorm": "encoder.norm",
    "decoder.mask_token": "decoder.mask_token",
    "decoder.decoder_embed": "decoder.embed",
    "decoder.decoder_pos_embed": "decoder.pos_embed",
    "decoder.decoder_norm": "decoder.norm",
    "decoder.decoder_pred": "decoder.pred",
}
_INNER_NAMES = {
    # original MAE and timm
    "norm1": "norm1",
    "attn.qkv": "attn.qkv",
    "attn.proj": "attn.proj",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    # Hugging Face, whose query, key and value are joined afterwards
    "layernorm_before": "norm1",
    "attention.attention.query": "attn.query",
    "attention.attention.key": "attn.key",
    "attention.attention.value": "attn.value",
    "attention.q_proj": "attn.query",
    "attention.k_proj": "attn.key",
    "attention.v_proj": "attn.value",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_BLOCK_PARTS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
_BLOCK = re.compile(
    r"(?:blocks|encoder\.layer|layers)\.(?P<i>\d+)\.(?P<name>.+)"
    r"|(?:decoder_blocks|decoder\.decoder_layers|decoder\.decoder_encoder\.layer)\.(?P<j>\d+)\.(?P<decoder_name>.+)"
)


class WeightReport(NamedTuple):
    """What became of the tensors of a checkpoint and of the model.

    Attributes:
        used: The checkpoint's names that were loaded.
        missed: The network's names that the checkpoint does not have; they keep the values they had.
        ignored: The checkpoint's names that have no place in the model.
    """

    used: list[str]
    missed: list[str]
    ignored: list[str]

    def summary(self) -> str:
        """The report in a sentence, with block numbers folded together."""
        return (
            f"MAE weights: {len(self.used)} tensors loaded; {len(self.missed)} of the model keep their initial values"
            f"{_listing(self.missed)}; {len(self.ignored)} of the checkpoint ignored{_listing(self.ignored)}."
        )


def load_mae_weights(model: MemMCMAEModel | MaskedAutoencoder, path: str | Path) -> WeightReport:
    """Load the weights of a masked autoencoder into a model.

    Understands the names of the original MAE, of timm and of Hugging Face, as ``.safetensors`` or as a file of
    ``torch.save`` (read with ``weights_only=True``), of the encoder alone or of the whole autoencoder. The encoder must
    fit in depth, width, patch size and channels. Position embeddings made for another grid are resized; the grid of
    the checkpoint is taken to be square where its number of patches is a square number. The decoder is loaded where
    all of it fits, else ignored. Memory, cross-attention and long skips are in no MAE and keep their values. Nothing
    is changed unless everything is valid.

    Args:
        model: The model whose network to load into, or the network itself; changed in place.
        path: The checkpoint file.

    Returns:
        The names used, missed and ignored.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, holds no MAE encoder, or one that does not fit or is not whole.
        NotFiniteError: If a weight is NaN or infinite.
    """
    path = Path(path)
    network = model if isinstance(model, MaskedAutoencoder) else model.network
    found, sources, ignored = _translate(_read(path))
    expected = network.state_dict()
    values = {name: tensor for name, tensor in found.items() if not name.startswith("decoder.")}
    _require_encoder(values, network, path)
    _require_whole(values, path)
    values = {name: tensor for name, tensor in values.items() if name in expected}
    if "pos_embed" in values:
        values["pos_embed"] = _positions(values["pos_embed"], network.grid, path)
    _require_shapes(values, expected, path)
    decoder = {name: tensor for name, tensor in found.items() if name.startswith("decoder.")}
    if _decoder_fits(decoder, expected):
        if "decoder.pos_embed" in decoder:
            decoder["decoder.pos_embed"] = _positions(decoder["decoder.pos_embed"], network.grid, path)
        values |= decoder
    network.load_state_dict(values, strict=False)
    return WeightReport(
        used=[source for name in values for source in sources[name]],
        missed=[name for name in expected if name not in values and not name.startswith("feature_target.")],
        ignored=ignored + [source for name in found if name not in values for source in sources[name]],
    )


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, without wrappers."""
    content: Any
    if path.suffix == ".safetensors":
        content = _read_safetensors(path)
    else:  # the original MAE code saves its command line, a plain Namespace, next to the weights
        content = read_torch_file(path, safe_globals=[argparse.Namespace])
    for _ in range(_DEEPEST):
        inner = [w for w in _WRAPPERS if isinstance(content, Mapping) and isinstance(content.get(w), Mapping)]
        if not inner:
            break
        content = content[inner[0]]
    else:
        msg = f"{path} holds {' in '.join(_WRAPPERS)} without end, or in itself: it is damaged. Copy it again."
        raise ValueError(msg)
    if not isinstance(content, Mapping):
        msg = f"{path} holds a {type(content).__name__}, not tensors by name."
        raise ValueError(msg)
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for name, value in tensors.items():
        if _own_name(name) is not None:
            _require_numbers(name, value, path)
    return tensors


def _require_numbers(name: str, value: Tensor, path: Path) -> None:
    """Refuse a tensor that cannot be weights."""
    if not value.is_floating_point() or value.layout is not torch.strided or value.device.type != "cpu":
        msg = f"{path} holds no weights under {name}: it is of {value.dtype}, {value.layout}, on {value.device}."
        raise ValueError(msg)
    if not value.float().isfinite().all():
        msg = f"{path} is of no use: {name} holds NaN or infinite numbers. Take another checkpoint, or copy it again."
        raise NotFiniteError(msg)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    require_file(path)
    try:
        return load_file(path)
    except Exception as error:  # a broken file can fail in many ways
        msg = f"{path} cannot be read as a file of safetensors: {error}. Copy it again."
        raise ValueError(msg) from error


def _translate(checkpoint: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, list[str]], list[str]]:
    """Sort a checkpoint by the model's names.

    Returns:
        The tensors by the model's names, query, key and value joined; the checkpoint's names behind each of them; and
        the checkpoint's names that have no place.
    """
    sources: dict[str, list[str]] = {}
    ignored = []
    for source in checkpoint:
        name = _own_name(source)
        if name is None or name in sources:
            ignored.append(source)
        else:
            sources[name] = [source]
    for query in [name for name in sources if ".attn.query." in name]:
        triple = [query.replace(".attn.query.", f".attn.{kind}.") for kind in ("query", "key", "value")]
        if all(name in sources for name in triple):
            sources[query.replace(".attn.query.", ".attn.qkv.")] = [sources.pop(name)[0] for name in triple]
    found = {
        name: torch.cat([checkpoint[n] for n in names]) if names[1:] else checkpoint[names[0]]
        for name, names in sources.items()
    }
    return found, sources, ignored


def _own_name(name: str) -> str | None:
    """The model's name of a checkpoint's tensor, or None where it has no place."""
    while prefix := next((p for p in _PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    stem, dot, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        stem, dot, kind = name, "", ""
    if match := _BLOCK.fullmatch(stem):
        inner = _INNER_NAMES.get(match["name"] or match["decoder_name"])
        if inner is None:
            return None
        block = f"encoder.blocks.{match['i']}" if match["i"] else f"decoder.blocks.{match['j']}"
        return f"{block}.{inner}{dot}{kind}"
    outer = _OUTER_NAMES.get(stem)
    return None if outer is None else f"{outer}{dot}{kind}"


def _require_encoder(found: dict[str, Tensor], network: MaskedAutoencoder, path: Path) -> None:
    """Compare the checkpoint's sizes, as far as it tells them, with the model's."""
    theirs: dict[str, int] = {}
    if (depth := _depth(found)) > 0:
        theirs["encoder_depth"] = depth
    if (patches := found.get("patch_embed.weight")) is not None and patches.ndim == 4:
        theirs |= {"encoder_dim": len(patches), "in_channels": patches.shape[1], "patch_size": patches.shape[-1]}
    elif "encoder.blocks.0.norm1.weight" in found:
        theirs["encoder_dim"] = len(found["encoder.blocks.0.norm1.weight"])
    if "encoder_depth" not in theirs:
        msg = f"{path} holds no MAE encoder: none of its names is of a transformer block as original MAE, timm or "
        msg += "Hugging Face name them. A checkpoint of MemMC-MAE itself goes to --ckpt_path."
        raise ValueError(msg)
    expected = {
        "encoder_depth": len(network.encoder.blocks),
        "encoder_dim": network.patch_embed.out_channels,
        "in_channels": network.in_channels,
        "patch_size": network.patch_size,
    }
    differing = [
        f"{name}={size} (the model has {expected[name]})" for name, size in theirs.items() if size != expected[name]
    ]
    if differing:
        msg = f"The encoder of {path} does not fit the model: it has {', '.join(differing)}. "
        msg += "Build the model with the checkpoint's sizes, or take another checkpoint."
        raise ValueError(msg)


def _require_whole(found: Mapping[str, Tensor], path: Path) -> None:
    """Refuse an encoder of which a part is missing: that part would be random."""
    depth = _depth(found)
    parts = [f"{part}.{kind}" for part in _BLOCK_PARTS for kind in ("weight", "bias")]
    whole = [f"encoder.blocks.{index}.{part}" for index in range(depth) for part in parts]
    whole += ["patch_embed.weight", "patch_embed.bias"]
    if missing := [name for name in whole if name not in found]:
        msg = f"The encoder of {path} is not whole: there is nothing for {', '.join(missing[:5])}. Copy it again."
        raise ValueError(msg)


def _require_shapes(values: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    differing = [
        f"{name} {tuple(tensor.shape)} (the model has {tuple(expected[name].shape)})"
        for name, tensor in values.items()
        if tensor.shape != expected[name].shape
    ]
    if differing:
        msg = f"The encoder of {path} does not fit the model: {', '.join(differing[:5])}."
        raise ValueError(msg)


def _decoder_fits(decoder: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    """Whether a decoder has the model's depth and shapes; the number of positions may differ."""
    if _depth(decoder) != _depth({name: expected[name] for name in expected if name.startswith("decoder.")}):
        return False
    return all(
        name in expected and _comparable(name, tensor.shape) == _comparable(name, expected[name].shape)
        for name, tensor in decoder.items()
    )


def _comparable(name: str, shape: torch.Size) -> tuple[int, ...]:
    """A shape, without the number of positions where it is one of position embeddings."""
    return (shape[0], *shape[2:]) if name.endswith("pos_embed") and len(shape) == 3 else tuple(shape)


def _depth(names: Mapping[str, Tensor]) -> int:
    """Number of blocks that tensors of an encoder or a decoder belong to."""
    return 1 + max((int(name.split(".")[2]) for name in names if name.split(".")[1:2] == ["blocks"]), default=-1)


def _positions(positions: Tensor, grid: tuple[int, int], path: Path) -> Tensor:
    """Position embeddings for the model's grid."""
    if positions.ndim != 3 or len(positions) != 1:
        msg = f"The position embeddings of {path} should be (1, 1 + patches, width), got {tuple(positions.shape)}."
        raise ValueError(msg)
    num_patches = positions.shape[1] - 1
    side = math.isqrt(max(0, num_patches))
    if side and side * side == num_patches:
        return positions if (side, side) == grid else resize_positions(positions.float(), (side, side), grid)
    if num_patches == grid[0] * grid[1]:
        return positions
    msg = (
        f"The position embeddings of {path} are for {num_patches} patches, which is neither a square grid nor as many "
        f"as the model's {grid[0]} x {grid[1]}; they cannot be resized."
    )
    raise ValueError(msg)


def _listing(names: list[str]) -> str:
    """Names with block numbers folded, such as ``blocks.*.attn.memory_key (12)``."""
    folded = Counter(re.sub(r"\.\d+\.", ".*.", name) for name in names)
    shown = [f"{name} ({count})" if count > 1 else name for name, count in folded.items()]
    return f" ({', '.join(shown)})" if shown else ""
