"""Presets' names on a command line."""

from collections.abc import Iterator, Sequence

from anomalib_memmc.presets.names import find_config

OPTIONS = ("--config", "-c")


def with_preset_files(arguments: Sequence[str]) -> list[str]:
    """Put files in the place of presets' names, wherever ``--config`` or ``-c`` is given.

    Args:
        arguments: The command line.

    Returns:
        The same with paths of files; a configuration that is written out as text is left as it is.

    Raises:
        FileNotFoundError: If a name is that of no file and of no preset.
    """
    return list(_replaced(iter(arguments)))


def _replaced(arguments: Iterator[str]) -> Iterator[str]:
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option not in OPTIONS:
            yield argument
        elif equals:
            yield f"{option}={_file(value)}"
        else:
            yield argument
            yield from map(_file, _next(arguments))


def _next(arguments: Iterator[str]) -> list[str]:
    """The next argument, if there is one."""
    return [value for value in (next(arguments, None),) if value is not None]


def _file(value: str) -> str:
    is_text = not value or value.startswith("-") or any(mark in value for mark in "{[\n") or ": " in value
    return value if is_text else str(find_config(value))
