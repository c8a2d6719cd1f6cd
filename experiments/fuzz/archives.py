"""What is done to files of ``torch.save``: code in them, tensors that are no weights, other content."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor

MARK = "FUZZED_CODE"
OTHER_CONTENT: list[Any] = [None, 5, "text", [1], {}, {"a": 1}, torch.zeros(3), {"conv1.weight": torch.zeros(3, 3)}]


class Code:
    """Something that leaves a mark in this process when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        """Set an environment variable."""
        return exec, (f"import os; os.environ[{MARK!r}] = 'run'",)


def unrun(read: Callable[[], Any]) -> Any:
    """Read, and fail where code in the file has left its mark.

    Raises:
        AssertionError: If code in the file was run.
    """
    try:
        return read()
    finally:
        if os.environ.pop(MARK, None):
            msg = "code in the file was run"
            raise AssertionError(msg)


def _poisoned(value: float) -> Callable[[Tensor, Generator], Tensor]:
    def poison(tensor: Tensor, rng: Generator) -> Tensor:
        changed = tensor.clone()
        changed.view(-1)[int(rng.integers(changed.numel()))] = value
        return changed

    return poison


TENSOR_CHANGES: dict[str, Callable[[Tensor, Generator], Any]] = {
    "NaN": _poisoned(float("nan")),
    "infinite": _poisoned(float("inf")),
    "longer": lambda tensor, _: torch.cat([tensor, tensor]),
    "flat": lambda tensor, _: tensor.reshape(-1, 1, 1),
    "integers": lambda tensor, _: tensor.long(),
    "complex": lambda tensor, _: tensor.to(torch.complex64),
    "switches": lambda tensor, _: tensor > 0,
    "sparse": lambda tensor, _: tensor.to_sparse(),
    "no numbers": lambda tensor, _: tensor[:0],
    "a list": lambda tensor, _: tensor.tolist(),
    "text": lambda *_: "text",
}
"""Of one tensor; after each only an error is right."""
