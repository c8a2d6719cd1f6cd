"""The memory that tensors hold while code runs, real or fake ones."""

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, after each operator within the context.

    A storage counts once, however many views it has, from the operator that makes it until it is freed. What an
    operator takes and frees on its own is not seen. ``torch.distributed._tools.mem_tracker.MemTracker`` finds the same
    numbers (a test compares them) and is several times slower, since it also keeps a record of every module.

    Args:
        held: Tensors that are alive already, such as weights.

    Attributes:
        now: Bytes of the tensors that are alive.
        peak: The most that ``now`` has been, since the start or since :meth:`restart`.
    """

    def __init__(self, held: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()
        for tensor in held:
            self._hold(tensor)

    def restart(self) -> None:
        """Forget the peak, not what is alive."""
        self.peak = self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count the tensors that it returns."""
        del types
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._hold(value)
        return result

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if id(storage) in self._known:
            return
        self._known.add(id(storage))
        weakref.finalize(storage, self._free, id(storage), storage.nbytes()).atexit = False
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)

    def _free(self, storage: int, size: int) -> None:
        self._known.discard(storage)
        self.now -= size
