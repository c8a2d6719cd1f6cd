"""The ``presets`` command: what presets there are, and one of them as a file that stands alone."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

import yaml

import anomalib_memmc
from anomalib_memmc.benchmark.config import BASE, INCLUDE, read_config
from anomalib_memmc.presets.names import SUFFIX, preset_names, preset_path, presets_folder

_WIDTH = 100


def main(argv: Sequence[str]) -> int:
    """Run ``anomalib-memmc presets``.

    Args:
        argv: The arguments after ``presets``.

    Returns:
        The exit code, 0.

    Raises:
        ValueError: If there is no preset of the name.
    """
    parser = argparse.ArgumentParser(
        prog="anomalib-memmc presets",
        description="List the presets, or print one: anomalib-memmc presets quickstart > my.yaml",
        epilog="Every command takes a preset's name where it takes a file: anomalib-memmc train --config quickstart",
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the preset to print")
    name = parser.parse_args(argv).name
    print(listing() if name is None else standalone(name), end="")
    return 0


def listing() -> str:
    """All presets, a line each: name, and what it is."""
    names = preset_names()
    width = max(map(len, names))
    return "".join(f"{name:{width}}  {summary(name)}\n" for name in names)


def summary(name: str) -> str:
    """The first sentence of a preset's comment.

    Args:
        name: The preset.
    """
    comment = " ".join(line.lstrip("# ") for line in _comment(preset_path(name).read_text(encoding="utf-8")))
    return re.split(r"(?<=\.) ", comment, maxsplit=1)[0] if comment else ""


def standalone(name: str) -> str:
    """A preset as the text of a file that includes no other, with its comments as far as they stand at its head.

    Args:
        name: The preset.

    Raises:
        ValueError: If there is no preset of the name.
    """
    path = preset_path(name)
    text = path.read_text(encoding="utf-8")
    origin = f"# Preset {name} of anomalib-memmc {anomalib_memmc.__version__}.\n"
    if not yaml.safe_load(text).keys() & {INCLUDE, BASE}:
        return origin + text
    config = read_config(path)
    if BASE in config:  # found by its name wherever the file is
        base = (path.parent / config[BASE]).resolve().relative_to(presets_folder().resolve())
        config[BASE] = base.as_posix().removesuffix(SUFFIX)
    body = yaml.safe_dump(_class_first(config), sort_keys=False, width=_WIDTH, allow_unicode=True)
    return origin + "".join(f"{line}\n" for line in _comment(text)) + body


def _class_first(value: Any) -> Any:
    """A configuration in whose mappings ``class_path`` stands above the arguments."""
    if isinstance(value, dict):
        return {key: _class_first(value[key]) for key in sorted(value, key=lambda key: key != "class_path")}
    return [_class_first(item) for item in value] if isinstance(value, list) else value


def _comment(text: str) -> list[str]:
    """The lines of a comment at a file's head."""
    lines = text.splitlines()
    return lines[: next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))]
