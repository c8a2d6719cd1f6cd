"""Seconds of calls that take turns, and multiply-adds of a call."""

import statistics
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments.performance.device import DEVICE

Call = Callable[[], object]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Rounds:
    """A value in each round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.values)


class Times(Rounds):
    """Seconds of a call in each round."""

    @property
    def best(self) -> float:
        """The shortest."""
        return min(self.values)

    def over(self, other: "Times") -> "Ratio":
        """How many times as long as another call it takes, round by round."""
        return Ratio(tuple(own / its for own, its in zip(self.values, other.values, strict=True)))


class Ratio(Rounds):
    """A ratio of seconds in each round; as text, its median and its range."""

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        return f"{self.median:.2f}" if len(self.values) == 1 else f"{self.median:.2f} ({low:.2f} to {high:.2f})"


def take_turns(calls: dict[Key, Call], rounds: int, warm_up: int = 1) -> dict[Key, Times]:
    """Seconds of each call; all calls run in every round, after some rounds that do not count.

    Args:
        calls: What to time, by name.
        rounds: Rounds that count.
        warm_up: Rounds that do not count.

    Returns:
        Seconds by name.
    """
    times: dict[Key, list[float]] = {name: [] for name in calls}
    for counted in [*[False] * warm_up, *[True] * rounds]:
        for name, call in calls.items():
            seconds = _seconds(call)
            if counted:
                times[name].append(seconds)
    return {name: Times(tuple(values)) for name, values in times.items()}


def _seconds(call: Call) -> float:
    """Seconds of a call, on a GPU until it has done all its work."""
    if DEVICE.type == "cpu":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def without_gradients(call: Call) -> Call:
    """The same call in inference mode."""

    def run() -> object:
        with torch.inference_mode():
            return call()

    return run


def multiply_adds(call: Call) -> int:
    """Multiply-adds of all products."""
    with counting() as counter:
        call()
    return counter.get_total_flops() // 2


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Count what products take, two for a multiply-add.

    Attention is counted as two explicit products, as the counter knows no fused one on a CPU; nor in-place products.
    """

    def in_place(_: torch.Size, left: torch.Size, right: torch.Size, **__: object) -> int:
        return 2 * left.numel() * right[-1]

    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: in_place})
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        yield counter
