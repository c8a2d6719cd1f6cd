"""Optional parts of the package, and the one way to say that one is missing."""

from typing import Literal

Extra = Literal["benchmark", "cluster", "dicom", "export", "int8"]


def missing_extra(extra: Extra, need: str, alternative: str = "") -> str:
    """Say that something needs an extra that is not installed.

    Args:
        extra: The extra, as in ``pyproject.toml``.
        need: What needs which package, such as ``--ray needs Ray``.
        alternative: What else can be done, such as ``convert the file to PNG``.

    Returns:
        A sentence.
    """
    return f"{need}: {install(extra)}{f', or {alternative}' if alternative else ''}."


def install(extra: Extra) -> str:
    """The command that installs an extra.

    Args:
        extra: The extra, as in ``pyproject.toml``.
    """
    return f"pip install 'anomalib-memmc[{extra}]'"
