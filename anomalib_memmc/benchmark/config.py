"""Configuration files with what they include, and the list of jobs that a benchmark's file stands for."""

import hashlib
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import OmegaConf

from anomalib_memmc.presets.names import preset_names, preset_path

INCLUDE, BASE = "config", "base"
KEYS = {"output", "seeds", BASE, "trainer", "data", "models"}
MODEL_KEYS = {"class_path", "init_args", "data", "trainer"}


@dataclass(frozen=True)
class Job:
    """One model trained and tested with one seed.

    Attributes:
        model: The model's name in the benchmark.
        seed: Seed of weights, masks and the order of the images.
        config: The sections ``model``, ``data`` and ``trainer`` in the format of anomalib's command line.
        folder: Folder of the job's configuration, log, predictions and checkpoint.
    """

    model: str
    seed: int
    config: dict[str, Any]
    folder: Path

    @property
    def config_hash(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of seed and configuration."""
        text = json.dumps([self.seed, self.config], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: its output folder and its jobs, model by model in the order of the file."""

    output: Path
    jobs: list[Job]


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a configuration file as anomalib's command line reads it, with what it includes.

    A file may start with ``config: OTHER.yaml``, relative to its own folder: it then has the other file's values, and
    its own on top. Its dotted keys, such as ``trainer.max_epochs: 3``, change one value each. A mapping would replace
    what was included under its key, and is refused unless it names another class.

    Args:
        path: The YAML file.

    Returns:
        The file's values in nested mappings, without ``config``.

    Raises:
        FileNotFoundError: If the file or one that it includes does not exist.
        ValueError: If a file is no YAML mapping, or includes itself, or a key does not fit what was included.
    """
    return _read(Path(path), ())


def load(path: str | Path, overrides: Sequence[str] = ()) -> Benchmark:
    """Read a benchmark's configuration, which may include another as ``read_config`` says.

    Keys of the file: ``output`` (folder), ``seeds`` (list of integers), ``models`` (name to ``class_path`` and
    ``init_args``), ``data`` (``class_path`` and ``init_args``), ``trainer`` (arguments of Lightning's trainer), and
    optionally ``base``: a configuration of anomalib's command line, relative to the file's own folder, or the name of
    a preset. The base's ``data`` and ``trainer`` sections are completed and overridden by the benchmark's. Its
    ``model`` section is the starting point of the models that name the same class, one derived from it, or none; so a
    benchmark shares a preset's settings and names only what differs. A model may override ``data`` and ``trainer`` for
    itself, such as augmentations that are part of another model's recipe.

    Args:
        path: The YAML file.
        overrides: Values that replace those of the file, as ``"key.sub=value"``.

    Returns:
        The benchmark with one job per model and seed.

    Raises:
        FileNotFoundError: If the file, its base or an included file does not exist.
        ValueError: If a key is unknown or missing, or a model's name is not fit for a folder's name.
    """
    path = Path(path)
    config = override(read_config(path), overrides)
    _check(config, path)
    base = read_config(_base(path.parent, str(config[BASE]))) if BASE in config else {}
    output = Path(config["output"])
    shared = {
        "model": base.get("model"),
        "data": merge(base.get("data"), config.get("data", {})),
        "trainer": merge(base.get("trainer", {}), config.get("trainer", {})),
    }
    return Benchmark(
        output=output,
        jobs=[
            Job(name, seed, merge(shared, _sections(entry or {}, shared["model"] or {})), output / f"{name}-seed{seed}")
            for name, entry in config["models"].items()
            for seed in config["seeds"]
        ],
    )


def override(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Merge values of the form ``key.sub=value`` into a configuration, and resolve its references.

    Args:
        config: The configuration.
        overrides: Values that replace its own.

    Returns:
        A new configuration.
    """
    merged = OmegaConf.merge(OmegaConf.create(config), OmegaConf.from_dotlist(list(overrides)))
    return cast(dict[str, Any], OmegaConf.to_container(merged, resolve=True))


def dotlist(overrides: Sequence[str]) -> Iterator[str]:
    """Turn command-line tokens (``--key.sub VALUE`` or ``--key.sub=VALUE``) into ``key.sub=VALUE``.

    Raises:
        ValueError: If a token is no such override.
    """
    tokens = iter(overrides)
    for token in tokens:
        key, equals, value = token.partition("=")
        if not equals:
            value = next(tokens, "")
        if not key.startswith("--") or not (equals or value):
            msg = f"{token!r} is not an override: write --key.sub VALUE."
            raise ValueError(msg)
        yield f"{key.removeprefix('--')}={value}"


def merge(base: Any, override: Any) -> Any:
    """Merge two configurations; the second wins.

    Mappings are merged key by key, except that the arguments of one class are never mixed with those of another.

    Args:
        base: The configuration to start from.
        override: The configuration whose values win.

    Returns:
        The merged configuration.

    Examples:
        >>> merge({"class_path": "a.A", "init_args": {"x": 1, "y": 2}}, {"init_args": {"x": 3}})
        {'class_path': 'a.A', 'init_args': {'x': 3, 'y': 2}}
        >>> merge({"class_path": "a.A", "init_args": {"x": 1}}, {"class_path": "b.B"})
        {'class_path': 'b.B'}
    """
    if not isinstance(base, dict) or not isinstance(override, dict):
        return override
    if class_name(override) and class_name(override) != class_name(base):
        return override
    return {**base, **{key: merge(base.get(key), value) for key, value in override.items()}}


def _sections(entry: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Turn a model's entry into the sections of a job's configuration; a class derived from the base's keeps its."""
    model = {key: value for key, value in entry.items() if key in {"class_path", "init_args"}}
    others = {key: value for key, value in entry.items() if key not in model}
    if _is_derived(model, base):
        model["init_args"] = merge(base.get("init_args", {}), model.get("init_args", {}))
    return {"model": model, **others}


def _is_derived(model: dict[str, Any], base: dict[str, Any]) -> bool:
    """Whether a section's class is derived from the base's; what is no class is left to parsing."""
    try:
        start, own = (pkgutil.resolve_name(section["class_path"]) for section in (base, model))
        return issubclass(own, start)
    except (KeyError, TypeError, ValueError, ImportError, AttributeError):
        return False


def class_name(section: dict[str, Any]) -> str:
    """Return the last part of a section's ``class_path``, or an empty string."""
    return str(section.get("class_path", "")).rpartition(".")[-1]


def _read(path: Path, including: tuple[Path, ...]) -> dict[str, Any]:
    """Read a file that is included by those of ``including``, the outermost first."""
    origin = f" ({including[-1]} includes it)" if including else ""
    if not path.is_file():
        msg = f"The configuration file {path} does not exist{origin}."
        raise FileNotFoundError(msg)
    if path.resolve() in (file.resolve() for file in including):
        msg = f"{path} includes itself{origin}."
        raise ValueError(msg)
    try:
        own = OmegaConf.to_container(OmegaConf.load(path))
    except yaml.YAMLError as error:
        msg = f"{path} is not valid YAML: {error}"
        raise ValueError(msg) from error
    if not isinstance(own, dict):
        msg = f"{path} must hold a mapping of keys to values."
        raise ValueError(msg)
    config: dict[str, Any] = {}
    if INCLUDE in own:
        if next(iter(own)) != INCLUDE or not isinstance(own[INCLUDE], str):
            msg = f"{path}: {INCLUDE} must be the first key, and name one file."
            raise ValueError(msg)
        config = _read(path.parent / own.pop(INCLUDE), (*including, path))
    for key, value in own.items():
        _put(config, str(key), value, path)
    return config


def _put(config: dict[str, Any], key: str, value: Any, path: Path) -> None:
    """Set the value of a dotted key, making the mappings on its way."""
    *parents, last = key.split(".")
    section: Any = config
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            msg = f"{path}: {key}: {parent} is no mapping of keys to values, but {section!r}."
            raise ValueError(msg)
    included = section.get(last)
    if isinstance(included, dict) and isinstance(value, dict) and class_name(value) in {"", class_name(included)}:
        msg = f"{path}: {key} would replace what was set before: write {key}.{next(iter(value), 'KEY')} and so on."
        raise ValueError(msg)
    if last == "class_path" and section.get(last, value) != value:
        msg = f"{path}: {key} names another class than before: give {'.'.join(parents)} as a whole."
        raise ValueError(msg)
    section[last] = value


def _base(folder: Path, given: str) -> Path:
    """The file of a benchmark's ``base``; one that does not exist is named as it was looked for."""
    return preset_path(given) if given in preset_names() and not (folder / given).is_file() else folder / given


def _check(config: dict[str, Any], path: Path) -> None:
    if unknown := config.keys() - KEYS:
        msg = f"{path}: unknown key(s) {', '.join(sorted(unknown))}; a benchmark has {', '.join(sorted(KEYS))}."
        raise ValueError(msg)
    if missing := [key for key in ("output", "seeds", "models") if not config.get(key)]:
        msg = f"{path}: {', '.join(missing)} must be given."
        raise ValueError(msg)
    if not isinstance(config["seeds"], list) or not all(type(seed) is int for seed in config["seeds"]):
        msg = f"{path}: seeds must be a list of integers, not {config['seeds']!r}."
        raise ValueError(msg)
    if not isinstance(config["models"], Mapping):
        msg = f"{path}: models must map names to their arguments, got {config['models']!r}."
        raise ValueError(msg)
    for name, entry in config["models"].items():
        if unknown := (entry or {}).keys() - MODEL_KEYS:
            known = ", ".join(sorted(MODEL_KEYS))
            msg = f"{path}: unknown key(s) {', '.join(sorted(unknown))} in model {name}; there are {known}."
            raise ValueError(msg)
        if not re.fullmatch(r"[\w+-]+", str(name)):
            msg = f"{path}: model name {name!r} names a folder; use letters, digits, '_', '+' and '-' only."
            raise ValueError(msg)
