"""Panels of one image side by side, with lines of words above and below, laid out in inches."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

LONG_SIDE = 3.4
"""Inches of an image's longer side; its pixels set the figure's resolution, so that they are drawn one to one."""
FEWEST_DOTS, MOST_DOTS = 110, 300
"""Dots an inch: few enough pixels are enlarged so that words can be read, and very many are shrunk."""
MOST_PIXELS = round(MOST_DOTS * LONG_SIDE)
TWO_COLUMNS = 1.6
"""Images so many times as wide as high stand in two columns."""
BAR = 0.75
"""Inches that a colour bar takes beside its panel."""
_MARGIN, _GAP, _TITLE, _NARROWEST_PANEL, _NARROWEST_SHEET = 0.15, 0.2, 0.4, 1.6, 6.5
_LETTER, _BOLD_LETTER, _LEADING = 0.56, 0.68, 1.35  # of a font's size: width of a letter, height of a line


@dataclass(frozen=True)
class Line:
    """Words above or below the panels; long ones are broken.

    Attributes:
        text: The words.
        size: Size of the font in points.
        weight: As of matplotlib.
        style: As of matplotlib.
        colour: As of matplotlib.
    """

    text: str
    size: float = 10
    weight: str = "normal"
    style: str = "normal"
    colour: str = "black"

    @property
    def height(self) -> float:
        """Inches that one line of it takes."""
        return self.size * _LEADING / 72

    def broken(self, width: float) -> list["Line"]:
        """The lines that it makes in a width in inches."""
        letter = _BOLD_LETTER if self.weight == "bold" else _LETTER
        letters = max(20, int(width * 72 / (letter * self.size)))
        parts = textwrap.wrap(self.text, letters)
        return [Line(part, self.size, self.weight, self.style, self.colour) for part in parts]


@dataclass(frozen=True)
class Panel:
    """One field.

    Attributes:
        title: At most two lines above it.
        draw: Draws it into axes without ticks.
        beside: Inches that it takes at its right for itself.
    """

    title: str
    draw: Callable[[Axes], None]
    beside: float = 0.0


def draw_sheet(panels: list[Panel], size: tuple[int, int], head: list[Line], foot: list[Line]) -> Figure:
    """Lay out panels in a row, or in two columns where they are wide.

    Args:
        panels: At least one.
        size: Height and width of the image in pixels, which all of them show.
        head: Lines above.
        foot: Lines below, under a rule.

    Returns:
        A figure with an Agg canvas.
    """
    dots = min(max(max(size) / LONG_SIDE, FEWEST_DOTS), MOST_DOTS)

    def whole(inches: float) -> float:
        """So many inches that panels and sheet begin and end with a dot, and no pixel is blurred."""
        return round(inches * dots) / dots

    high, wide = (max(whole(LONG_SIDE * side / max(size)), 1 / dots) for side in size)
    columns = 2 if size[1] >= TWO_COLUMNS * size[0] else len(panels)
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    cell = max(wide, _NARROWEST_PANEL)
    width = whole(max(*(_width(row, cell) for row in rows), _NARROWEST_SHEET))
    above = [part for line in head for part in line.broken(width - 2 * _MARGIN)]
    below = [part for line in foot for part in line.broken(width - 2 * _MARGIN)]
    top = _MARGIN + sum(line.height for line in above)
    bottom = _MARGIN + (_MARGIN + sum(line.height for line in below) if below else 0)
    height = whole(top + len(rows) * (_TITLE + _GAP + high) + bottom)
    figure = Figure((width, height), dpi=dots, facecolor="white")
    FigureCanvasAgg(figure)
    _write(figure, above, height - _MARGIN)
    for number, row in enumerate(rows):
        left, floor = _MARGIN, whole(height - top - (number + 1) * (_TITLE + _GAP + high) + _GAP / 2)
        for panel in row:
            inset = whole(left + (cell - wide) / 2)
            box = (inset / width, floor / height, wide / width, high / height)
            axes = figure.add_axes(box, xticks=[], yticks=[])
            axes.set_title(panel.title, fontsize=9, pad=4, linespacing=1.1)
            panel.draw(axes)
            left += cell + panel.beside + _GAP
    if below:
        level = (bottom - _MARGIN / 2) / height
        figure.add_artist(Line2D((_MARGIN / width, 1 - _MARGIN / width), (level, level), color="0.6", linewidth=0.8))
        _write(figure, below, bottom - _MARGIN)
    return figure


def _width(row: list[Panel], cell: float) -> float:
    """Inches that a row of panels takes."""
    return 2 * _MARGIN + sum(cell + panel.beside for panel in row) + _GAP * (len(row) - 1)


def _write(figure: Figure, lines: list[Line], top: float) -> None:
    """Write lines from a height in inches downwards."""
    width, height = figure.get_size_inches()
    for line in lines:
        words: dict[str, Any] = {"weight": line.weight, "style": line.style, "color": line.colour}
        figure.text(_MARGIN / width, top / height, line.text, va="top", fontsize=line.size, parse_math=False, **words)
        top -= line.height
