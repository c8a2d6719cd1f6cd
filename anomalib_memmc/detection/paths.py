"""A long list of paths in little memory."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

import pyarrow as pa
import pyarrow.compute as pc

from anomalib_memmc.data.io.text import printable

_AT_ONCE = 65_536


class Paths(Sequence[str]):
    """Paths without repetition, in their order, as bytes one after the other.

    A list of a million Python strings takes three times the memory, and worker processes that look at them copy all of
    it bit by bit. Names that are not UTF-8 are kept as the file system has them.

    Args:
        paths: The paths; of equal ones the first counts.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        rest = iter(paths)
        chunks = []
        while some := list(islice(rest, _AT_ONCE)):
            chunks.append(pa.array(map(os.fsencode, some), pa.large_binary()))
        self._bytes = pc.unique(pa.chunked_array(chunks, pa.large_binary()))

    def __len__(self) -> int:
        """Number of paths."""
        return len(self._bytes)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> "Paths": ...

    def __getitem__(self, index: int | slice) -> "str | Paths":
        """One path, or those of a slice."""
        if isinstance(index, slice):
            return self._kept(self._bytes[index])
        return os.fsdecode(self._bytes[index].as_py())

    def __iter__(self) -> Iterator[str]:
        """Go through the paths."""
        return (self[index] for index in range(len(self)))

    def without(self, names: pa.ChunkedArray) -> "Paths":
        """Those whose printable names are not among some.

        Args:
            names: Names as :func:`~anomalib_memmc.data.io.text.printable` makes them, text.
        """
        own = pa.array(map(printable, self), pa.large_string())
        known = pc.is_in(own, value_set=names.cast(pa.large_string()).combine_chunks())
        return self._kept(self._bytes.filter(pc.invert(known)))

    @staticmethod
    def _kept(paths: pa.Array) -> "Paths":
        part = Paths(())
        part._bytes = paths
        return part
