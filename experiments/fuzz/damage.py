"""What happens to files of any kind on their way: flipped bits, a missing end, a hole."""

from __future__ import annotations

from numpy.random import Generator


def flip(data: bytes, rng: Generator) -> bytes:
    """Change one to four bytes."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        changed[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut(data: bytes, rng: Generator) -> bytes:
    """Keep the beginning, which may be nothing."""
    return data[: rng.integers(len(data))]


def blank(data: bytes, rng: Generator) -> bytes:
    """Write zeros over a stretch, as a copy with a bad sector has."""
    start = int(rng.integers(len(data)))
    length = int(rng.integers(1, max(2, len(data) // 4)))
    return (data[:start] + bytes(length) + data[start + length :])[: len(data)]


DAMAGES = {"flipped bits": flip, "cut off": cut, "zeros": blank}
