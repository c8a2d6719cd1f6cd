"""One damaged or unusual input, and what comes of reading it."""

from __future__ import annotations

import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any

from numpy.random import Generator

from anomalib_memmc.data import DatasetError, ImageReadError

BUSY = 10
"""How many times slower than its processor a case may be by the clock."""
CLEAR = (DatasetError, ImageReadError)


class Outcome(Enum):
    """What came of a case; the value is the head of its column."""

    RIGHT = "read right"
    UNJUDGED = "read, not judged"
    CLEAR_ERROR = "clear error"
    OTHER_ERROR = "other error"
    WRONG = "silently wrong"
    HANG = "hang"

    @property
    def is_bad(self) -> bool:
        """Whether the package has to be mended."""
        return self in {Outcome.OTHER_ERROR, Outcome.WRONG, Outcome.HANG}


@dataclass(frozen=True)
class Case:
    """An input to read.

    Attributes:
        change: What was done to a valid input.
        read: Reads it with the package.
        judge: Whether what was read is right; ``None`` where the change cannot be seen in the file (another pixel of
            a BMP, another letter of a patient's name).
        names: What a clear error must name, one of them: the file, or the data set.
        clear: The exceptions that are clear errors.
    """

    change: str
    read: Callable[[], Any]
    judge: Callable[[Any], bool | None]
    names: tuple[str, ...]
    clear: tuple[type[Exception], ...] = CLEAR


Kind = Callable[[Generator, Path], Case]
"""Makes a case from a random generator and an empty folder for its files."""


class Hang(BaseException):
    """A case took too long. No ``Exception``, so that no reader takes it for a damaged file."""


def outcome_of(case: Case, limit: float) -> tuple[Outcome, str]:
    """Read a case.

    Args:
        case: The case.
        limit: Seconds of the processor that it may take.

    Returns:
        The outcome, and the error's text or traceback.
    """
    try:
        with warnings.catch_warnings(), time_limit(limit):
            warnings.simplefilter("ignore")
            right = case.judge(case.read())
    except Hang:
        return Outcome.HANG, f"more than {limit} s"
    except case.clear as error:
        is_clear = any(name in str(error) for name in case.names)
        return Outcome.CLEAR_ERROR if is_clear else Outcome.OTHER_ERROR, str(error)
    except Exception:
        return Outcome.OTHER_ERROR, traceback.format_exc()
    return {True: Outcome.RIGHT, None: Outcome.UNJUDGED, False: Outcome.WRONG}[right], ""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`Hang` in the body after so many seconds of the processor, or ten times as many by the clock.

    On a busy machine a case may wait for long without being stuck. There is no limit where the system has no alarm, and
    code in C is not interrupted before it returns.
    """
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    started, alarms = time.process_time(), count(1)

    def stop(*_: object) -> None:
        if next(alarms) >= BUSY or time.process_time() - started >= seconds:
            raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
