"""Figures as SVG that lies in a page: small, without ids that clash, in colours that the page's theme decides."""

from __future__ import annotations

import gc
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

__all__ = [
    "COLOURS", "FAINT", "GRID", "INK", "ONE", "TWO", "Picture", "bars", "dots", "draw", "explain_lines", "plain_ticks",
    "plot", "shade_span", "style",
]  # fmt: skip

F8 = npt.NDArray[np.float64]

INK, FAINT, GRID = "#010203", "#010204", "#010205"
ONE, TWO = "#010207", "#010208"
"""Colours that nobody would choose: each stands for a variable of the page's style sheet."""

_VARIABLES = {INK: "--ink", FAINT: "--faint", GRID: "--grid", ONE: "--one", TWO: "--two"}

COLOURS = {1: (ONE,), 3: ("#01020a", "#01020b", "#01020c")}
"""Of a mosaic's channels: one, or red, green and blue."""

_VARIABLES |= dict(zip(COLOURS[3], ("--red", "--green", "--blue"), strict=True))

LEFT, RIGHT, BOTTOM, TOP = 46.0, 10.0, 32.0, 18.0
"""Room round the axes, in points. A layout made to measure costs twice the time of drawing."""

MOST_DOTS = 2000
"""More points than this are drawn as a density: a page of 20,000 opens no slower and shows more."""

MOST_HOLLOW = 300
"""Of more hollow points every n-th is drawn: they mark exceptions, and must not hide the rule."""

CELLS_X, CELLS_Y = 90, 28
"""Cells of a density."""

WIDE_RANGE = 300.0
"""A logarithmic axis over more than this shows powers of ten alone."""

SHADES = 5
"""Steps of a density, by logarithm of the count."""

_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "zemosaic", "font.size": 8.5, "font.family": "sans-serif",
    "text.color": INK, "axes.labelcolor": FAINT, "axes.edgecolor": FAINT, "axes.linewidth": 0.6,
    "axes.facecolor": "none", "figure.facecolor": "none", "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.5,
    "xtick.color": FAINT, "ytick.color": FAINT, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "xtick.major.width": 0.5, "ytick.major.width": 0.5, "xtick.minor.width": 0.4, "ytick.minor.width": 0.4,
    "legend.frameon": False, "legend.fontsize": 8, "legend.labelcolor": INK, "path.simplify": False,
    "axes.titlesize": 9, "axes.titlecolor": INK, "axes.titlelocation": "left", "lines.linewidth": 1.4,
}  # fmt: skip


class Picture:
    """A raster that lies below the axes of a figure: PNG or JPEG bytes, filling them."""

    def __init__(self, axes: Axes, data_uri: str, opacity: float = 1.0) -> None:
        self.axes, self.data_uri, self.opacity = axes, data_uri, opacity

    def element(self, width_pt: float, height_pt: float) -> str:
        """The image element, in the figure's points from its upper left corner."""
        box = self.axes.get_position()
        x, y = box.x0 * width_pt, (1 - box.y1) * height_pt
        return (
            f'<image x="{x:.2f}" y="{y:.2f}" width="{box.width * width_pt:.2f}" height="{box.height * height_pt:.2f}" '
            f'preserveAspectRatio="none" opacity="{self.opacity:g}" href="{self.data_uri}"/>'
        )


@contextmanager
def style() -> Iterator[None]:
    """The page's style, inside which figures are made and drawn.

    Their parts point at each other, a few MB a figure. Looking for those that nobody needs takes a tenth of the time of
    drawing, since it looks at all that is loaded: it waits until the page is done.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        with matplotlib.rc_context(_STYLE):
            yield
    finally:
        if collects:
            gc.enable()


def plot(width_pt: float, height_pt: float) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    figure = Figure(figsize=(width_pt / 72, height_pt / 72))
    across, tall = width_pt - LEFT - RIGHT, height_pt - BOTTOM - TOP
    place = (LEFT / width_pt, BOTTOM / height_pt, across / width_pt, tall / height_pt)
    return figure, figure.add_axes(place)


def explain_lines(axes: Axes, n_columns: int = 2) -> None:
    """What the labelled lines are, above the axes, where they hide nothing."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncol=n_columns, handlelength=1.8, columnspacing=1.2,
        borderaxespad=0.1,
    )  # fmt: skip


def plain_ticks(axis: Axis) -> None:
    """Round numbers along a logarithmic axis, as people write them."""
    low, high = axis.get_view_interval()
    wide = high / low > WIDE_RANGE
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace(",", "\u202f") if value >= 1 else f"{value:g}")
    axis.set_minor_formatter(NullFormatter())
    if not wide:
        axis.set_minor_locator(NullLocator())


def with_comma(svg: Markup) -> Markup:
    """A figure whose numbers have a decimal comma."""
    return Markup(re.sub(r"(?<=>)[^<>]*\d\.\d[^<>]*(?=</text>)", lambda text: text[0].replace(".", ","), svg))


def draw(figure: Figure, title: str, pictures: Sequence[Picture] = ()) -> Markup:
    """A figure as an ``<svg>`` element.

    Parameters
    ----------
    figure : Figure
    title : str
        What it shows, for those who do not see it.
    pictures : sequence of Picture
        Drawn below everything.
    """
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = _own_ids(svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r' d="[^"]*"', lambda found: re.sub(r"(?<=\.\d\d)\d+", "", found[0]), svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    width, height = figure.get_size_inches() * 72
    below = "".join(picture.element(width, height) for picture in pictures)
    head = f'<svg viewBox="0 0 {width:.2f} {height:.2f}" role="img" aria-label="{escape(title)}">'
    return Markup(head + below + svg[svg.index(">") + 1 :])


def _own_ids(svg: str) -> str:
    """Ids that are used get a number of their own in the page; others go."""
    number = zlib.crc32(svg.encode())
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="f{number}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>f{number}-", svg)
    return svg.replace("xlink:href", "href")


def dots(axes: Axes, x: F8, y: F8, colour: str, size: float = 2.6, *, hollow: bool = False) -> None:
    """Points, in one path; many are drawn as a density, of many hollow ones every n-th. Axes must have their limits and
    scales.
    """
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if hollow:
        step = -(-len(x) // MOST_HOLLOW) or 1
        x, y = x[::step], y[::step]
        axes.plot(x, y, "o", mfc="none", mec=colour, ms=size + 1, mew=0.8, lw=0)
    elif len(x) > MOST_DOTS:
        _density(axes, x, y, colour)
    elif len(x):
        _strokes(axes, np.stack([np.stack([x, y], 1)] * 2, 1), colour, size, capstyle="round")


def bars(axes: Axes, x: F8, y: F8, error: F8, colour: str) -> None:
    """Error bars, in one path; none where points are many."""
    known = np.isfinite(x) & np.isfinite(y) & np.isfinite(error)
    if 0 < known.sum() <= MOST_DOTS // 2:
        x, y, error = x[known], y[known], error[known]
        _strokes(axes, np.stack([np.stack([x, y - error], 1), np.stack([x, y + error], 1)], 1), colour, 0.7)


def _strokes(axes: Axes, pairs: F8, colour: str, width: float, **options: Any) -> None:
    """Lines between pairs of points, ``(n, 2, 2)``, as one path."""
    codes = np.tile(np.array([Path.MOVETO, Path.LINETO], np.uint8), len(pairs))
    path = Path(pairs.reshape(-1, 2), codes)
    _add(axes, PathPatch(path, fill=False, edgecolor=colour, linewidth=width, **options))


def shade_span(axes: Axes, left: float, right: float) -> None:
    """Shade the axes, which have their limits, from one x to another."""
    low, high = axes.get_ylim()
    corners = [(left, low), (right, low), (right, high), (left, high), (left, low)]
    _add(axes, PathPatch(Path(corners, closed=True), facecolor=GRID, edgecolor="none", alpha=0.45))


def _add(axes: Axes, patch: PathPatch) -> None:
    """Put a patch on axes that have their limits: `add_patch` would look at each of its lines to find them."""
    axes.add_artist(patch)


def _density(axes: Axes, x: F8, y: F8, colour: str) -> None:
    """Cells shaded by the logarithm of how many points they hold, a path a shade."""
    to_screen = axes.transData
    low, high = axes.transAxes.transform([(0, 0), (1, 1)])
    at = to_screen.transform(np.stack([x, y], 1))
    edges = np.linspace(low[0], high[0], CELLS_X + 1), np.linspace(low[1], high[1], CELLS_Y + 1)
    at = np.clip(at, low, high)
    count = np.histogram2d(at[:, 0], at[:, 1], edges)[0]
    shade = np.ceil(SHADES * np.log1p(count) / np.log1p(max(count.max(), 1))).astype(int)
    to_data = to_screen.inverted()
    # Cells of one shade that follow each other upwards are one rectangle.
    padded = np.pad(shade, ((0, 0), (1, 1)), constant_values=-1)
    column, start = np.nonzero(np.diff(padded[:, :-1], axis=1))
    end = np.nonzero(np.diff(padded[:, 1:], axis=1))[1] + 1
    for level in range(1, SHADES + 1):
        run = shade[column, start] == level
        if not run.any():
            continue
        x0, x1 = edges[0][column[run]], edges[0][column[run] + 1]
        y0, y1 = edges[1][start[run]], edges[1][end[run]]
        corners = np.stack([np.stack(c, 1) for c in ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))], 1)
        codes = np.tile(np.array([Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY], np.uint8), len(corners))
        path = Path(to_data.transform(corners.reshape(-1, 2)), codes)
        _add(axes, PathPatch(path, facecolor=colour, edgecolor="none", alpha=0.15 + 0.85 * level / SHADES))
