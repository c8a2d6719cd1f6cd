"""The packages that exports are made with say more of their work than a person wants to read."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_errors(*names: str) -> Iterator[None]:
    """Leave out what packages say below the level of errors, and let them speak again afterwards.

    The levels of their loggers change, never those of handlers, which other loggers may share.

    Args:
        *names: Names of their loggers.
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
