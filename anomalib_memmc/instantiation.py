"""Errors of constructors, kept readable when jsonargparse calls them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jsonargparse import ArgumentParser


@contextmanager
def constructor_errors(parser: ArgumentParser) -> Iterator[None]:
    """Raise what a constructor raised, instead of jsonargparse's report on every type it tried.

    Args:
        parser: The parser whose ``instantiate_classes`` is called within the context.

    Raises:
        Exception: The last exception of a constructor, if instantiation failed.
    """
    errors: list[Exception] = []

    def instantiate(class_type: type, *args: Any, **kwargs: Any) -> Any:
        try:
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
