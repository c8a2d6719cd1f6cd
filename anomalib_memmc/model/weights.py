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

from .positions import resize_positions
from .torch_model import MemMCMAEModel

_WRAPPERS = ("state_dict", "model")
_PREFIXES = ("module.", "vit.")

# Names outside the blocks: (theirs, ours), each with any ".weight" or ".bias" kept.
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
    # Hugging Face; the number is the part of qkv
    "layernorm_before": "norm1",
    "attention.attention.query": "attn.qkv/0",
    "attention.attention.key": "attn.qkv/1",
    "attention.attention.value": "attn.qkv/2",
    "attention.q_proj": "attn.qkv/0",
    "attention.k_proj": "attn.qkv/1",
    "attention.v_proj": "attn.qkv/2",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_BLOCK = re.compile(
    r"(?P<encoder>blocks|encoder\.layer|layers)\.(?P<i>\d+)\.(?P<name>.+)"
    r"|(?:decoder_blocks|decoder\.decoder_layers|decoder\.decoder_encoder\.layer)\.(?P<j>\d+)\.(?P<decoder_name>.+)"
)


class WeightReport(NamedTuple):
    """What became of the tensors of a checkpoint and of the model.

    Attributes:
        used: The checkpoint's names that were loaded.
        missed: The model's names that the checkpoint does not have; they keep the values they had.
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


def load_mae_weights(model: MemMCMAEModel, path: str | Path) -> WeightReport:
    """Load the weights of a masked autoencoder into a model.

    Understands the names of the original MAE, of timm and of Hugging Face, as ``.safetensors`` or as a file of
    ``torch.save`` (read with ``weights_only=True``), of the encoder alone or of the whole autoencoder. The encoder must
    fit in depth, width, patch size and channels. Position embeddings made for another grid are resized; the grid of
    the checkpoint is taken to be square where its number of patches is a square number. The decoder is loaded where
    all of it fits, else ignored. Memory, cross-attention and long skips are in no MAE and keep their values. Nothing
    is changed unless everything is valid.

    Args:
        model: The model to load into, changed in place.
        path: The checkpoint file.

    Returns:
        The names used, missed and ignored.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, holds no MAE encoder, or an encoder that does not fit the model.
    """
    path = Path(path)
    found, sources, ignored = _translate(_read(path))
    ours = model.state_dict()
    values = {name: tensor for name, tensor in found.items() if not name.startswith("decoder.")}
    _require_encoder(values, model, path)
    if "pos_embed" in values:
        values["pos_embed"] = _positions(values["pos_embed"], model.grid, path)
    _require_shapes(values, ours, path)
    decoder = {name: tensor for name, tensor in found.items() if name.startswith("decoder.")}
    if _decoder_fits(decoder, ours):
        if "decoder.pos_embed" in decoder:
            decoder["decoder.pos_embed"] = _positions(decoder["decoder.pos_embed"], model.grid, path)
        values |= decoder
    model.load_state_dict(values, strict=False)
    return WeightReport(
        used=[source for name in values for source in sources[name]],
        missed=[name for name in ours if name not in values],
        ignored=ignored + [source for name in found if name not in values for source in sources[name]],
    )


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, without wrappers."""
    if not path.exists():
        msg = f"There is no checkpoint {path}."
        raise FileNotFoundError(msg)
    if path.is_dir():
        msg = f"{path} is a directory; give the checkpoint file in it, such as model.safetensors."
        raise ValueError(msg)
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            # The original MAE code saves its command line, a plain Namespace, next to the weights.
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can fail in many ways
        msg = f"{path} cannot be read as a checkpoint (.safetensors, or a torch file of plain tensors): {error}"
        raise ValueError(msg) from error
    while isinstance(content, Mapping) and (inner := [w for w in _WRAPPERS if isinstance(content.get(w), Mapping)]):
        content = content[inner[0]]
    if not isinstance(content, Mapping):
        msg = f"{path} holds a {type(content).__name__}, not tensors by name."
        raise ValueError(msg)
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _translate(checkpoint: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, list[str]], list[str]]:
    """Sort a checkpoint by the model's names.

    Returns:
        The tensors by the model's names, query, key and value joined; the checkpoint's names behind each of them; and
        the checkpoint's names that mean nothing here.
    """
    parts: dict[str, dict[int, str]] = {}
    ignored = []
    for source in checkpoint:
        target = _our_name(source)
        name, part = target if target is not None else ("", 0)
        if target is None or part in parts.get(name, {}):
            ignored.append(source)
        else:
            parts.setdefault(name, {})[part] = source
    found, sources = {}, {}
    for name, by_part in parts.items():
        names = [by_part[part] for part in sorted(by_part)]
        if len(names) == 1 and 0 in by_part and ".attn.qkv." in name and not _is_joined(names[0]):
            ignored += names
        elif len(names) == 2:
            ignored += names
        else:
            found[name] = torch.cat([checkpoint[n] for n in names]) if len(names) == 3 else checkpoint[names[0]]
            sources[name] = names
    return found, sources, ignored
