"""Choose images for a part so that a group (a patient, a cluster of near-duplicates) is never in two parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anomalib_memmc.data.io import DatasetError


def draw_groups(groups: Sequence[str], count: int, seed: int) -> tuple[list[int], list[int]]:
    """Draw exactly `count` items, whole groups at a time.

    Groups come in a random order; one that is larger than the room left is passed over. If no set of whole groups
    fills the count, the smallest group that is too large is cut, and the items cut off go to neither side.

    Args:
        groups: Each item's group.
        count: How many items to draw, in [0, len(groups)].
        seed: Seed of the order; the same groups and seed give the same draw.

    Returns:
        Indices drawn and indices left over, each ascending, with no group in both.

    Raises:
        DatasetError: If `count` is negative or more than there are items.
    """
    if not 0 <= count <= len(groups):
        msg = f"Cannot draw {count} images out of {len(groups)}."
        raise DatasetError(msg)
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    names = sorted(members)
    order = [names[position] for position in np.random.default_rng(seed).permutation(len(names))]

    drawn: list[int] = []
    passed_over: list[list[int]] = []
    for name in order:
        if len(drawn) + len(members[name]) <= count:
            drawn.extend(members[name])
        else:
            passed_over.append(members[name])
    missing = count - len(drawn)
    if missing:
        smallest = min(passed_over, key=len)
        passed_over.remove(smallest)
        drawn.extend(smallest[:missing])
    return sorted(drawn), sorted(index for group in passed_over for index in group)
