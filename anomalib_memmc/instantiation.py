"""Errors of constructors, kept readable when jsonargparse calls them."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import NoneType
from typing import Any, get_args, get_type_hints

from jsonargparse import ArgumentParser


@contextmanager
def constructor_errors(parser: ArgumentParser) -> Iterator[None]:
    """Raise what a constructor raised, instead of jsonargparse's report on every type it tried.

    jsonargparse lets ``null`` pass as a value of any type. Here a class of this package is not built with it where its
    argument has another type.

    Args:
        parser: The parser whose ``instantiate_classes`` is called within the context.

    Raises:
        Exception: The last exception of a constructor, if instantiation failed.
    """
    errors: list[Exception] = []

    def instantiate(class_type: type, *args: Any, **kwargs: Any) -> Any:
        try:
            _require_concrete(class_type)
            _require_no_null(class_type, kwargs)
            return class_type(*args, **kwargs)
        except Exception as error:
            errors.append(error)
            raise

    parser.add_instantiator(instantiate, object)
    try:
        yield
    except Exception as error:
        if errors and errors[-1] is not error:
            raise errors[-1] from None
        raise


def _require_concrete(class_type: type) -> None:
    """Refuse a base class, which is there to be inherited from."""
    if inspect.isabstract(class_type):
        missing = ", ".join(sorted(getattr(class_type, "__abstractmethods__", ())))
        msg = f"{class_type.__name__} is a base class without {missing}: give one of its subclasses as class_path."
        raise ValueError(msg)


def _require_no_null(class_type: type, arguments: Mapping[str, Any]) -> None:
    """Refuse ``null`` for an argument of one of this package's classes that is not declared to take it."""
    for owner in (each for each in class_type.__mro__ if each.__module__.startswith(f"{__package__}.")):
        if "__init__" not in vars(owner):
            continue
        constructor = vars(owner)["__init__"]
        hints, parameters = get_type_hints(constructor), inspect.signature(constructor).parameters
        for name, value in arguments.items():
            if value is None and name in hints and name in parameters and NoneType not in get_args(hints[name]):
                msg = (
                    f"{name} of {class_type.__name__} must not be null: give a value, or leave it out for its default."
                )
                raise ValueError(msg)
