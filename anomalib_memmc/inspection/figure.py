"""The figure of an inspection: one panel for each question, those that a model has no answer to left out."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from anomalib_memmc.inspection.ablation import NOTHING
from anomalib_memmc.inspection.table import ALL, ANOMALOUS, DIFFERENCE, NORMAL, Number, number, select

COLOURS = {NORMAL: "#4292c6", ANOMALOUS: "#d94801", ALL: "#4d4d4d"}
CLEAR = "#d94801"


def draw(table: pd.DataFrame) -> Figure:
    """Draw memory shares, slots, gates and what is lost without each part.

    Args:
        table: The table of an inspection.

    Returns:
        The figure.
    """
    panels = [_losses]
    if len(select(table, "gate")):
        panels.insert(0, _gates)
    if len(select(table, "memory_slots")):
        panels[:0] = [_shares, _slots]
    lines = math.ceil(len(panels) / 2)
    figure = Figure(figsize=(5.4 * min(2, len(panels)), 3.6 * lines), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    for place, panel in enumerate(panels, start=1):
        is_alone = place == len(panels) and place % 2 == 1
        axes = figure.add_subplot(lines, 1 if is_alone else 2, lines if is_alone else place)
        panel(axes, table)
        axes.title.set_fontsize(10)
        axes.xaxis.label.set_fontsize(9)
        axes.yaxis.label.set_fontsize(9)
        axes.tick_params(labelsize=8)
    figure.tight_layout()
    return figure


def _shares(axes: Axes, table: pd.DataFrame) -> None:
    for shift, images in ((-0.19, NORMAL), (0.19, ANOMALOUS)):
        rows = select(table, "memory_share", images=images)
        places = [block + shift for block in rows["block"]]
        axes.bar(places, rows["value"], 0.36, yerr=rows["standard_error"], color=COLOURS[images], label=images)
    even = number(table, "even_share").value
    axes.axhline(even, color="0.3", linestyle="--", linewidth=1, label=f"even attention ({even:.0%})")
    axes.set(title="Attention that goes to memory", xlabel="encoder layer", ylabel="share", ylim=(0, 1.25))
    axes.set_xticks(range(1, len(rows) + 1))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.legend(fontsize=7, ncols=3, loc="upper center", frameon=False)


def _slots(axes: Axes, table: pd.DataFrame) -> None:
    slots = number(table, "memory_slots").value
    whole, single = select(table, "slots_used"), select(table, "slots_of_a_query", images=ALL)
    axes.plot(whole["block"], whole["value"], "o-", color=COLOURS[ALL], label="on the whole")
    axes.plot(single["block"], single["value"], "s--", color="#9ecae1", label="by a single query")
    axes.axhline(slots, color="0.7", linewidth=1)
    axes.set(title=f"Memory slots used, of {slots:.0f}", xlabel="encoder layer", ylabel="effective number")
    axes.set(ylim=(0, 1.25 * slots), xlim=(0.5, len(whole) + 0.5))
    axes.set_xticks(range(1, len(whole) + 1))
    axes.legend(fontsize=7, ncols=2, loc="upper center", frameon=False)


def _gates(axes: Axes, table: pd.DataFrame) -> None:
    gates = select(table, "gate", images=ALL).pivot(index="block", columns="level", values="value")
    differences = select(table, "gate", images=DIFFERENCE)
    clear = differences["value"].abs() > 2 * differences["standard_error"]
    starred = set(zip(differences["block"][clear], differences["level"][clear], strict=True))
    image = axes.imshow(gates.to_numpy(float), vmin=0, vmax=1, cmap="RdBu_r", aspect="auto")
    for row, block in enumerate(gates.index):
        for column, level in enumerate(gates.columns):
            value = gates.loc[block, level]
            text = f"{value:.2f}{'*' if (block, level) in starred else ''}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=_ink(value))
    axes.set_xticks(range(len(gates.columns)), [str(level) for level in gates.columns])
    axes.set_yticks(range(len(gates.index)), [str(block) for block in gates.index])
    axes.set(title="Mean gate (* differs between the classes)", xlabel="encoder level", ylabel="decoder block")
    axes.figure.colorbar(image, ax=axes).ax.tick_params(labelsize=7)


def _losses(axes: Axes, table: pd.DataFrame) -> None:
    rows = select(table, "image_AUROC").iloc[::-1].reset_index(drop=True)
    axes.axvline(number(table, "image_AUROC", off=NOTHING).value, color="0.7", linewidth=1)
    for height, (off, value) in enumerate(zip(rows["off"], rows["value"], strict=True)):
        change = Number(0, 0) if off == NOTHING else number(table, "image_AUROC_change", off=off)
        colour = CLEAR if change.is_clear else COLOURS[ALL]
        axes.errorbar(value, height, xerr=2 * change.standard_error, fmt="o", color=colour, capsize=3)
    labels = ["everything on" if off == NOTHING else f"{off} off" for off in rows["off"]]
    axes.set_yticks(range(len(rows)), labels)
    axes.set(title="Detection with parts switched off", ylim=(-0.6, len(rows) - 0.4))
    axes.set_xlabel("image AUROC; bars: two standard errors of the change")


def _ink(value: float) -> str:
    """Black on the light middle of the colours, white on their dark ends."""
    return "white" if abs(value - 0.5) > 0.35 else "black"
