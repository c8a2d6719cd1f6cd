"""Objects that know how they were built, so that a checkpoint can hold them as plain values."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Configurable:
    """Remembers the arguments it was built with, defaults included.

    Attributes:
        init_args: Argument -> value, of this class and of the bases that it forwards ``**kwargs`` to.
    """

    init_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> "Configurable":
        """Note the arguments; those that do not fit are left to ``__init__``, which raises the usual error."""
        self = super().__new__(cls)
        signature = inspect.signature(cls.__init__)
        try:
            _, *given = signature.bind(self, *args, **kwargs).arguments.items()
        except TypeError:  # also where copy or pickle make an empty object, whose state follows
            return self
        self.init_args = _defaults(cls)
        for name, value in given:
            is_rest = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            self.init_args |= value if is_rest else {name: value}
        return self

    def config(self) -> dict[str, Any]:
        """How to build an equal object: ``class_path`` and ``init_args``, plain values only.

        Raises:
            TypeError: If an argument is no plain value, so that a checkpoint could not hold it.
        """
        name = type(self).__name__
        arguments = {argument: plain(value, f"{argument} of {name}") for argument, value in self.init_args.items()}
        return {"class_path": _import_path(type(self)), "init_args": arguments}


def plain(value: Any, name: str = "the value") -> Any:
    """A value as YAML has it: tuples as lists, paths as text, configurable objects as their configuration.

    Args:
        value: The value.
        name: What it is called in an error.

    Raises:
        TypeError: If it holds anything else than numbers, text, lists, mappings and configurable objects.
    """
    if isinstance(value, Configurable):
        return value.config()
    if isinstance(value, Mapping):
        if any(not isinstance(key, str) for key in value):
            msg = f"A checkpoint holds plain values only: the keys of {name} must be text, got {list(value)}."
            raise TypeError(msg)
        return {key: plain(item, f"{key} of {name}") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item, name) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    msg = (
        f"A checkpoint holds plain values only, and {name} is of type {type(value).__name__}: "
        "give numbers, text, lists or mappings."
    )
    raise TypeError(msg)


def build(config: Mapping[str, Any], base: type) -> Any:
    """Build the object of a configuration, and those within its arguments.

    Args:
        config: ``class_path`` and, unless all defaults are wanted, ``init_args``.
        base: The class that it must be of.

    Raises:
        ValueError: If the class cannot be imported, is of another kind, or does not take the arguments.
    """
    arguments = config.get("init_args", {}) if isinstance(config, Mapping) else None
    if not isinstance(arguments, Mapping) or any(not isinstance(name, str) for name in arguments):
        msg = f"A {base.__name__} is given as class_path and init_args, a mapping of names to values, got {config!r}."
        raise ValueError(msg)
    path = str(config.get("class_path", ""))
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the module raises when it is imported
        msg = f"Cannot import {path!r} ({error}): check its class_path, and install the package that it is from."
        raise ValueError(msg) from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        msg = f"{path} is not a {base.__name__}."
        raise ValueError(msg)
    try:
        return cls(**{name: _revived(value) for name, value in arguments.items()})
    except TypeError as error:
        msg = f"{path} cannot be built of {arguments}: {error}"
        raise ValueError(msg) from error


def _revived(value: Any) -> Any:
    """An argument with the objects that it describes, also those in a list."""
    if isinstance(value, Mapping) and "class_path" in value:
        return build(value, Configurable)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_revived(item) for item in value]
    return value


def _defaults(cls: type) -> dict[str, Any]:
    """Defaults of a class's arguments, and of its bases' as far as ``**kwargs`` are handed on to them."""
    defaults: dict[str, Any] = {}
    for owner in (each for each in cls.__mro__ if "__init__" in vars(each)):
        parameters = inspect.signature(owner.__init__).parameters.values()  # type: ignore[misc]
        for parameter in parameters:
            if parameter.default is not parameter.empty:
                defaults.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return defaults


def _import_path(cls: type) -> str:
    """The shortest path that a class can be imported by, which outlives moves between files."""
    parts = cls.__module__.split(".")
    for depth in range(1, len(parts)):
        package = ".".join(parts[:depth])
        if getattr(importlib.import_module(package), cls.__name__, None) is cls:
            return f"{package}.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"
