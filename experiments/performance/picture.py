"""The picture of docs/performance.md."""

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt


def draw(of_floor: dict[str, dict[str, float]], file: Path) -> None:
    """Draw inference times relative to the floor as bars, one panel a preset.

    Args:
        of_floor: Preset -> way to score -> its time over the floor.
        file: Where to save the picture.
    """
    mpl.use("Agg")
    figure, axes = plt.subplots(1, len(of_floor), figsize=(6 * len(of_floor), 3.6), squeeze=False)
    for axis, (name, ratios) in zip(axes[0], of_floor.items(), strict=True):
        names = sorted(ratios, key=ratios.__getitem__, reverse=True)
        colours = ["tab:blue" if "ours" in key else "silver" for key in names]
        bars = axis.barh(names, [ratios[key] for key in names], color=colours)
        axis.bar_label(bars, fmt="%.2f", padding=3)
        axis.axvline(1, color="black", linewidth=1)
        axis.margins(x=0.15)
        axis.set(title=f"{name} preset", xlabel="time of an image / the multiply-adds' time")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
