"""Presets by name: ``cpu/folder`` is the file ``cpu/folder.yaml`` of the folder ``configs``."""

from difflib import get_close_matches
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
SUFFIX = ".yaml"
_FILES = {".yaml", ".yml", ".json"}
_NO_PRESETS = {"shared", "study"}  # blocks that presets include; studies, whose code is in the repository alone


def presets_folder() -> Path:
    """The folder of the presets: within the installed package, or beside it in a clone of the repository."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def preset_names() -> list[str]:
    """Names of all presets, those of the top folder first."""
    folder = presets_folder()
    paths = [path.relative_to(folder) for path in folder.rglob(f"*{SUFFIX}")]
    names = [path.with_suffix("").as_posix() for path in paths if path.parts[0] not in _NO_PRESETS]
    return sorted(names, key=lambda name: (name.count("/"), name))


def preset_path(name: str) -> Path:
    """The file of a preset.

    Args:
        name: Its name, such as ``quickstart`` or ``cpu/folder``.

    Raises:
        ValueError: If there is none of the name, with the nearest ones.
    """
    if name not in preset_names():
        msg = f"There is no preset {name!r}{_suggestion(name)}. anomalib-memmc presets lists them."
        raise ValueError(msg)
    return presets_folder() / f"{name}{SUFFIX}"


def find_config(given: str | Path) -> Path:
    """The file that a configuration's path or a preset's name stands for; a file that exists comes first.

    Args:
        given: What was written for ``--config``.

    Returns:
        The path of a file.

    Raises:
        FileNotFoundError: If it is no file, and no preset's name, with the nearest presets.
    """
    path, name = Path(given), str(given)
    if path.is_file():
        return path
    if name in preset_names():
        return preset_path(name)
    if path.suffix.lower() in _FILES:
        msg = f"The configuration file {given} does not exist{_suggestion(name)}."
    else:
        msg = f"There is no file and no preset {name!r}{_suggestion(name)}. anomalib-memmc presets lists them."
    raise FileNotFoundError(msg)


def _suggestion(name: str) -> str:
    """The presets that may have been meant, in brackets."""
    plain = name.removesuffix(SUFFIX).removeprefix("configs/")
    names = preset_names()
    same_end = [each for each in names if each.rpartition("/")[2] == plain.rpartition("/")[2]]
    near = list(dict.fromkeys([*same_end, *get_close_matches(plain, names, n=3, cutoff=0.6)]))[:3]
    if not near:
        return ""
    return f" (nearest {'preset' if len(near) == 1 else 'presets'}: {', '.join(near)})"
