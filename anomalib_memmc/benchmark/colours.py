"""One colour for each model, in every figure."""

from collections.abc import Iterable
from itertools import cycle

KNOWN = {
    "PaDiM-128": "#8c8c8c",
    "PaDiM-256": "#4d4d4d",
    "PatchCore-128": "#9ecae1",
    "PatchCore-256": "#08519c",
    "MAE": "#4292c6",
    "MemMC-MAE": "#d94801",
}
"""The models of the presets: greys and blues for what is compared, orange for MemMC-MAE."""
OTHERS = ("#756bb1", "#31a354", "#e6ab02", "#a65628", "#e7298a", "#1b9e77")


def palette(models: Iterable[str]) -> dict[str, str]:
    """Colours of models: those of the presets have their own, whichever others there are.

    Args:
        models: Their names, in order; a name may come more than once.

    Returns:
        Model -> colour; two have the same only where more than six are not those of the presets.
    """
    names = dict.fromkeys(models)
    others = zip((name for name in names if name not in KNOWN), cycle(OTHERS), strict=False)
    return {name: KNOWN[name] for name in names if name in KNOWN} | dict(others)
