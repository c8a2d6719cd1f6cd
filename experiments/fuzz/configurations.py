"""Configurations: values of every type under every key, misspelt keys, sections of another kind, damaged text."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jsonargparse import ArgumentError
from numpy.random import Generator

from anomalib_memmc.cli import CLI, USER_ERRORS
from anomalib_memmc.register import register
from anomalib_memmc.usage import main_line
from experiments.fuzz.case import Case
from experiments.fuzz.damage import DAMAGES

SIZES = {
    "image_size": 32,
    "patch_size": 8,
    "encoder_dim": 32,
    "encoder_depth": 2,
    "encoder_heads": 2,
    "decoder_dim": 32,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "memory_slots": 4,
}
SCORER = {
    "class_path": "anomalib_memmc.scoring.ReconstructionScorer",
    "init_args": {"error_map": {"class_path": "anomalib_memmc.scoring.SquaredErrorMap"}, "num_masks": 2},
}
VALUES: list[Any] = [0, 1, 2, 3, 4, 8, 12, 48, -1, -4, 1.5, 2.0, 0.5, -0.5, math.nan, math.inf, -math.inf]
VALUES += ["two", "", "2", None, True, False, [], [1], [2, 2], [32, 64], {}, {"a": 1}]


class Key(NamedTuple):
    """What a key of the configuration may be, and where the built objects show it."""

    is_legal: Callable[[Any], bool]
    shown: Callable[[Any], Any]  # of the built command line


def _network(path: str) -> Callable[[Any], Any]:
    return lambda built: _attribute(built.model.model.network, path)


def _attribute(owner: Any, path: str) -> Any:
    """The value at a dotted path of attributes and numbers."""
    for name in path.split("."):
        owner = owner[int(name)] if name.lstrip("-").isdigit() else getattr(owner, name)
    return owner


def _is_count(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= least


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _or_none(is_legal: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_legal(value)


def _is_switch(value: Any) -> bool:
    return type(value) is bool


def _is_size(value: Any) -> bool:
    sides = value if isinstance(value, list) else [value, value]
    return len(sides) == 2 and all(type(side) is int and side > 0 and side % 8 == 0 for side in sides)


def _is_levels(value: Any) -> bool:
    return type(value) is bool or value in ([1], [2], [1, 2], [2, 1])


def _levels(built: Any) -> Any:
    """The levels that the decoder attends to, as the value that asks for them."""
    levels = built.model.model.network.levels
    return {(): False, (1, 2): True}.get(levels, list(levels))


_MODEL, _DATA, _SCORER = "model.init_args", "data.init_args", "model.init_args.scorer.init_args"
KEYS: dict[str, Key] = {
    f"{_MODEL}.encoder_depth": Key(_is_count(1), lambda built: len(built.model.model.network.encoder.blocks)),
    f"{_MODEL}.decoder_depth": Key(_is_count(1), lambda built: len(built.model.model.network.decoder.blocks)),
    f"{_MODEL}.encoder_dim": Key(_is_count(1), _network("patch_embed.weight.shape.0")),
    f"{_MODEL}.decoder_dim": Key(_is_count(1), _network("decoder.embed.out_features")),
    f"{_MODEL}.encoder_heads": Key(_is_count(1), _network("encoder.blocks.0.attn.num_heads")),
    f"{_MODEL}.decoder_heads": Key(_is_count(1), _network("decoder.blocks.0.attn.num_heads")),
    f"{_MODEL}.memory_slots": Key(
        _is_count(0),
        lambda built: sum(
            each.shape[1] for each in [built.model.model.network.encoder.blocks[0].attn.memory_key] if each is not None
        ),
    ),
    f"{_MODEL}.patch_size": Key(_is_count(1), _network("patch_embed.weight.shape.3")),
    f"{_MODEL}.in_channels": Key(_is_count(1), _network("patch_embed.weight.shape.1")),
    f"{_MODEL}.image_size": Key(_is_size, lambda built: list(built.model.model.network.image_size)),
    f"{_MODEL}.multi_level": Key(_is_levels, _levels),
    f"{_MODEL}.cross_residual": Key(_is_switch, _network("decoder.blocks.0.cross_residual")),
    f"{_MODEL}.long_skips": Key(_is_switch, lambda built: built.model.model.network.encoder.skips.scale is not None),
    f"{_MODEL}.mask_ratio": Key(
        lambda value: _is_number(value) and 0 < value < 1, lambda built: built.model.model.mask_ratio
    ),
    f"{_MODEL}.max_epochs": Key(_or_none(_is_count(-1)), lambda built: built.model.max_epochs),
    f"{_MODEL}.seed": Key(_or_none(_is_count(0)), lambda built: built.model.seed),
    f"{_MODEL}.picture_every": Key(_is_count(0), lambda built: built.model.picture_every),
    f"{_MODEL}.lr": Key(_is_number, lambda built: built.model.lr),
    f"{_MODEL}.weight_decay": Key(_is_number, lambda built: built.model.weight_decay),
    f"{_MODEL}.warmup_epochs": Key(_is_number, lambda built: built.model.warmup_epochs),
    f"{_MODEL}.optimizer": Key(lambda value: value in ("adam", "adamw"), lambda built: built.model.optimizer),
    f"{_SCORER}.num_masks": Key(_is_count(1), lambda built: len(built.model.model.scorer.masks)),
    f"{_SCORER}.chunk_size": Key(_or_none(_is_count(1)), lambda built: built.model.model.scorer.chunk_size),
    f"{_SCORER}.blur_sigma": Key(_is_number, lambda built: built.model.model.scorer.blur_sigma),
    f"{_DATA}.num_train": Key(_is_count(1), lambda built: built.datamodule.counts["train"]),
    f"{_DATA}.train_batch_size": Key(_is_count(1), lambda built: built.datamodule.train_batch_size),
    f"{_DATA}.num_workers": Key(_is_count(0), lambda built: built.datamodule.num_workers),
}


def configuration_case(rng: Generator, folder: Path) -> Case:
    """A training's configuration with one change."""
    config = _config()
    path = folder / "config.yaml"
    draw, key = rng.random(), str(rng.choice(list(KEYS)))
    section, _, name = key.rpartition(".")
    if draw < 0.7:
        value = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
        _section(config, section)[name] = value
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return _case(f"{key} = {value!r}", path, partial(_is_right, KEYS[key], value), (name, key))
    if draw < 0.8:
        misspelt = f"{name}s" if rng.random() < 0.5 else name[:-1]
        _section(config, section)[misspelt] = _section(config, section).pop(name, 2)
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return _case(f"{key} as {misspelt}", path, lambda _: False, (misspelt,))
    if draw < 0.85:
        place = str(rng.choice(["model", "data", "trainer", _MODEL, f"{_MODEL}.scorer", _SCORER]))
        value = copy.deepcopy([[], [1], "text", 5][rng.integers(4)])
        section, _, name = place.rpartition(".")
        (_section(config, section) if section else config)[name] = value
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        is_empty_callbacks = place == "trainer" and not value
        return _case(
            f"{place} = {value!r}", path, lambda _: None if is_empty_callbacks else False, (name, "model", "class")
        )
    damage = str(rng.choice(list(DAMAGES)))
    path.write_bytes(DAMAGES[damage](yaml.safe_dump(config, sort_keys=False).encode(), rng))
    return _case(damage, path, lambda _: None, ("",))


def _case(change: str, path: Path, judge: Callable[[Any], bool | None], names: tuple[str, ...]) -> Case:
    return Case(change, partial(_read, path), judge, (*names, path.name), clear=USER_ERRORS)


def _read(path: Path) -> CLI:
    """Build what the command line would train, in the way it does; its error is the line that it would print."""
    register()
    try:
        return CLI(["fit", "--config", str(path)], run=False)
    except ArgumentError as error:
        raise ValueError(main_line(str(error))) from error


def _is_right(key: Key, value: Any, built: CLI) -> bool:
    """Whether a value was fit to be taken, and is the one that the built objects have."""
    written = int(value) if value == "2" else value  # YAML's text is read as a number where one is wanted
    shown = key.shown(built)
    if isinstance(shown, list) and isinstance(written, int):
        written = [written, written]
    is_same = shown == written and (type(shown) is bool) == (type(written) is bool)
    return is_same and key.is_legal(int(value) if value == "2" else value)


def _section(config: dict[str, Any], path: str) -> dict[str, Any]:
    for name in path.split("."):
        config = config[name]
    return config


def _config() -> dict[str, Any]:
    """A valid configuration, which is small."""
    return {
        "model": {"class_path": "MemMCMAE", "init_args": {**SIZES, "scorer": copy.deepcopy(SCORER), "max_epochs": 1}},
        "data": {"class_path": "Phantom", "init_args": {"num_train": 8, "num_workers": 0}},
        "trainer": {"accelerator": "cpu", "logger": False},
    }
