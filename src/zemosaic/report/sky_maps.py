"""Maps of the mosaic: pictures on its grid with RA and Dec, a scale bar, north and east."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.report.svg import FAINT, INK, TWO, Picture, draw, style

__all__ = ["map_of_picture", "map_of_places", "map_of_values"]

F4 = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

WIDTH_PT = 330
"""Of a map; its height follows the mosaic."""

LEFT, RIGHT, BOTTOM, TOP = 52.0, 12.0, 36.0, 8.0
"""Room round the axes, in points; a bar of colours takes `BAR` on the right."""

BAR = 44.0

TALLEST = 1.6
"""Height of a map over its width, at most: what is taller gets narrower."""

BAR_STEPS = 32

ENTRIES = 255
"""Colours of a map of values; the last entry of the palette is transparent: nothing is there."""

JPEG_QUALITY = 82
"""82: noise costs bytes that nobody sees."""

SCALE_BARS_ARCSEC = [s * unit for unit in (1, 60, 3600) for s in (1, 2, 5, 10, 20, 30)]
"""Lengths of scale bars: round in seconds, minutes or degrees."""


def map_of_picture(picture: Bytes, wcs: CelestialWcs, title: str, labels: tuple[str, str]) -> Markup:
    """The mosaic as it looks. `labels` are those of the axes."""
    figure, axes = _sky_axes(wcs, labels, 0)
    _scale_bar(axes, wcs, "#ffffff")
    return draw(figure, title, [Picture(axes, _jpeg(picture))])


def map_of_values(values: F4, wcs: CelestialWcs, title: str, labels: tuple[str, str], top: float, form: str) -> Markup:
    """Values from 0 to `top` in colours, nothing where they are NaN; `form` writes the numbers beside the bar."""
    figure, axes = _sky_axes(wcs, labels, BAR)
    _scale_bar(axes, wcs, INK)
    _colour_bar(figure, axes, top, form)
    return draw(figure, title, [Picture(axes, _palette_png(values, top))])


def map_of_places(
    picture: Bytes | None, wcs: CelestialWcs, places: Sequence[tuple[float, float]], title: str, labels: tuple[str, str]
) -> Markup:
    """Numbered places (ICRS degrees) on the dimmed mosaic; numbers of near places are written beside each other."""
    figure, axes = _sky_axes(wcs, labels, 0)
    radius = 0.022 * max(wcs.shape)
    taken: list[tuple[float, float]] = []
    for number, (ra, dec) in enumerate(places, 1):
        x, y = (float(q) for q in wcs.sky_to_pixel(ra, dec))
        if not np.isfinite(x + y):
            continue
        axes.plot([x], [y], "o", ms=9, mfc="none", mec=TWO, mew=1.4)
        # Numbers of places that lie on each other are put in a row.
        at = x + 1.1 * radius
        while any(abs(at - a) < 1.6 * radius and abs(y - b) < 1.6 * radius for a, b in taken):
            at += 1.7 * radius
        taken.append((at, y))
        axes.text(at, y, str(number), color=INK, fontsize=9, fontweight="bold", va="center")
    below = [Picture(axes, _jpeg(_shrunk(picture, 420)), 0.45)] if picture is not None else []
    return draw(figure, title, below)


def _sky_axes(wcs: CelestialWcs, labels: tuple[str, str], bar: float) -> tuple[Figure, Any]:
    """Axes in pixels of the mosaic with RA and Dec along them."""
    height, width = wcs.shape
    across = WIDTH_PT - LEFT - RIGHT - BAR
    tall = across * min(height / width, TALLEST)
    across = tall * width / height
    size = np.array([LEFT + across + RIGHT + bar, BOTTOM + tall + TOP])
    with style():
        figure = Figure(figsize=tuple(size / 72))
        place = (LEFT / size[0], BOTTOM / size[1], across / size[0], tall / size[1])
        axes: Any = figure.add_axes(place, projection=wcs.wcs)
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_ylim(-0.5, height - 0.5)
        axes.set_aspect("auto")
        axes.coords.frame.set_color(FAINT)
        axes.coords.frame.set_linewidth(0.6)
        axes.coords.grid(color=FAINT, alpha=0.35, linewidth=0.4)
        for coord, label in zip(axes.coords, labels, strict=True):
            coord.set_axislabel(label, color=FAINT, fontsize=8.5, minpad=0.5)
            coord.set_ticks(number=4)
            coord.set_ticklabel(size=7.5, color=FAINT, exclude_overlapping=True)
            coord.set_ticks_position("lb")
    return figure, axes


def _scale_bar(axes: Axes, wcs: CelestialWcs, colour: str) -> None:
    """A bar of round length at the lower left, and arrows to the north and the east at the lower right."""
    height, width = wcs.shape
    scale = wcs.pixel_scale_arcsec()
    length = max([s for s in SCALE_BARS_ARCSEC if s < 0.28 * width * scale], default=SCALE_BARS_ARCSEC[0])
    text = f"{length:g}″" if length < 60 else f"{length / 60:g}′" if length < 3600 else f"{length / 3600:g}°"
    x, y = 0.05 * width, 0.06 * height
    axes.plot([x, x + length / scale], [y, y], color=colour, lw=2, solid_capstyle="butt")
    axes.text(x + length / scale / 2, y + 0.015 * height, text, color=colour, ha="center", va="bottom", fontsize=8)
    reach = 0.07 * min(height, width)
    at = np.array([0.93 * width - reach, 0.06 * height + 0.2 * reach])
    ra, dec = wcs.pixel_to_sky(*at)
    step = reach * scale / 3600
    north = np.array(wcs.sky_to_pixel(ra, min(dec + step, 89.999)), float) - at
    east = np.array(wcs.sky_to_pixel(ra + step / max(np.cos(np.deg2rad(dec)), 1e-3), dec), float) - at
    for way, letter in ((north, "N"), (east, "E")):
        if np.isfinite(way).all() and np.hypot(*way) > 0:
            tip = at + way / np.hypot(*way) * reach
            axes.annotate("", tip, at, arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.1, "shrinkA": 0})
            label = at + way / np.hypot(*way) * reach * 1.3
            axes.text(*label, letter, color=colour, ha="center", va="center", fontsize=8)


def _colour_bar(figure: Figure, axes: Axes, top: float, form: str) -> None:
    box = axes.get_position()
    width, _ = figure.get_size_inches() * 72
    with style():
        bar = figure.add_axes((box.x1 + 10 / width, box.y0, 9 / width, box.height))
        colours = matplotlib.colormaps["viridis"](np.linspace(0, 1, BAR_STEPS))
        bar.bar(0, top / BAR_STEPS * 1.03, 1, np.arange(BAR_STEPS) * top / BAR_STEPS, color=colours, align="edge")
        bar.set_xlim(0, 1)
        bar.set_ylim(0, top)
        bar.set_xticks([])
        bar.yaxis.tick_right()
        bar.yaxis.set_major_formatter(lambda value, _: format(value, form))
        bar.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=form == "d" or form == ".0f"))
        bar.grid(visible=False)
        bar.spines[:].set_visible(False)


def _palette_png(values: F4, top: float) -> str:
    """Values as a picture of 255 colours, bottom row last; transparent where they are NaN."""
    index = np.clip(np.nan_to_num(values) / max(top, 1e-30) * (ENTRIES - 1), 0, ENTRIES - 1).astype(np.uint8)
    index[~np.isfinite(values)] = ENTRIES
    image = Image.fromarray(np.ascontiguousarray(index[::-1]), "P")
    palette = (matplotlib.colormaps["viridis"](np.linspace(0, 1, ENTRIES))[:, :3] * 255).astype(np.uint8)
    image.putpalette(np.vstack([palette, np.zeros((1, 3), np.uint8)]).tobytes())
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True, transparency=ENTRIES)
    return _data_uri("png", data)


def _jpeg(picture: Bytes) -> str:
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture[::-1])).save(data, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return _data_uri("jpeg", data)


def _shrunk(picture: Bytes, most_px: int) -> Bytes:
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((most_px, most_px))
    return np.asarray(image)


def _data_uri(kind: str, data: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
