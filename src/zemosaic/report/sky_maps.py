"""Maps of the mosaic: pictures on its grid with RA and Dec, a scale bar, north and east."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.report.sky_grid import find_grid_lines
from zemosaic.report.svg import FAINT, INK, ONE, TWO, Picture, draw

__all__ = ["map_of_offsets", "map_of_picture", "map_of_places", "map_of_values"]

F4 = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

WIDTH_PT = 330
"""Of a map; its height follows the mosaic."""

LEFT, RIGHT, BOTTOM, TOP = 48.0, 46.0, 36.0, 8.0
"""Room round the axes, in points; a bar of colours stands on the right."""

TALLEST = 1.6
"""Height of a map over its width, at most: what is taller gets narrower."""

LABEL_STEP = 0.035
"""Room that a number takes, as a share of the longer side."""

LABEL_APART = 0.12
"""Room between numbers along an axis, as a share of it, so that none covers the next."""

ENTRIES = 255
"""Colours of a map of values; the last entry of the palette is transparent: nothing is there."""

PNG_LEVEL = 6
"""The highest level takes fifteen times as long for a tenth fewer bytes."""

JPEG_QUALITY = 82
"""82: noise costs bytes that nobody sees."""

OFFSET_COLUMNS = "x_px", "y_px", "east_arcsec", "north_arcsec"

ARROW_SHARE = 0.05
"""Length of an arrow as long as the spread, as a share of the longer side."""

LONGEST_ARROW = 4.0
"""Longer ones, in that length, are cut."""

KEY_LOW = -0.11
"""Place of the key below the axes, as a share of their height."""

LEAST_KEY_ARCSEC = 1e-3
"""Shortest length that an arrow is named by: no catalogue is better."""

SCALE_BARS_ARCSEC = [s * unit for unit in (1, 60, 3600) for s in (1, 2, 5, 10, 20, 30)]
"""Lengths of scale bars: round in seconds, minutes or degrees."""


def map_of_picture(picture: Bytes, wcs: CelestialWcs, title: str, labels: tuple[str, str]) -> Markup:
    """The mosaic as it looks. `labels` are those of the axes."""
    figure, axes = _sky_axes(wcs, labels)
    _scale_bar(axes, wcs, "#ffffff")
    return draw(figure, title, [Picture(axes, _jpeg(picture))])


def map_of_values(values: F4, wcs: CelestialWcs, title: str, labels: tuple[str, str], top: float, unit: str) -> Markup:
    """Values from 0 to `top` in colours, nothing where they are NaN; without a unit they are counts."""
    figure, axes = _sky_axes(wcs, labels)
    bar = _colour_bar(figure, axes, top, unit)
    return draw(figure, title, [Picture(axes, _palette_png(values, top)), bar])


def map_of_offsets(catalogue: Mapping[str, Any], wcs: CelestialWcs, title: str, labels: tuple[str, str]) -> Markup:
    """Arrows from where a catalogue has stars towards where the mosaic has them; the bar is their spread, enlarged."""
    figure, axes = _sky_axes(wcs, labels)
    x, y, east, north = (np.array(catalogue["stars"][name], float) for name in OFFSET_COLUMNS)
    ra, dec = wcs.pixel_to_sky(x, y)
    to_x, to_y = wcs.sky_to_pixel(ra + east / 3600 / np.cos(np.deg2rad(dec)), dec + north / 3600)
    key = float(f"{max(catalogue['spread_arcsec'], LEAST_KEY_ARCSEC):.1g}")
    length = ARROW_SHARE * max(wcs.shape)
    dx, dy = ((v * length * wcs.pixel_scale_arcsec() / key) for v in (to_x - x, to_y - y))
    # A star that was taken for another would lie across the map.
    cut = np.minimum(LONGEST_ARROW * length / np.maximum(np.hypot(dx, dy), 1e-30), 1)
    axes.quiver(x, y, dx * cut, dy * cut, color=ONE, angles="xy", scale_units="xy", scale=1, width=0.004)
    below = {"transform": axes.transAxes, "clip_on": False}
    end = length / wcs.shape[1]
    axes.plot([0, end], [KEY_LOW, KEY_LOW], color=INK, lw=2, solid_capstyle="butt", **below)
    axes.text(1.2 * end, KEY_LOW, f"{key:g}″", color=INK, va="center", fontsize=8, **below)
    return draw(figure, title)


def map_of_places(
    picture: Bytes | None, wcs: CelestialWcs, places: Sequence[tuple[float, float]], title: str, labels: tuple[str, str]
) -> Markup:
    """Numbered places (ICRS degrees) on the dimmed mosaic; numbers of near places are written beside each other."""
    figure, axes = _sky_axes(wcs, labels)
    at = np.array([wcs.sky_to_pixel(ra, dec) for ra, dec in places], float).reshape(-1, 2)
    for number, (place, label) in enumerate(zip(at, _free_places(at, wcs.shape), strict=True), 1):
        if np.isfinite(place).all():
            axes.plot(*place, "o", ms=8, mfc="none", mec=TWO, mew=1.4)
            axes.plot([place[0], label[0]], [place[1], label[1]], color=TWO, lw=0.5)
            axes.text(*label, str(number), color=INK, fontsize=9, fontweight="bold", va="center", ha="center")
    below = [Picture(axes, _jpeg(_shrunk(picture, 420)), 0.45)] if picture is not None else []
    return draw(figure, title, below)


def _free_places(at: npt.NDArray[np.float64], shape: tuple[int, int]) -> list[npt.NDArray[np.float64]]:
    """For each place a point near by where its number hides no other place or number, inside the map where it can."""
    step = LABEL_STEP * max(shape)
    ways = [np.array([np.cos(a), np.sin(a)]) for a in np.linspace(0, 2 * np.pi, 16, endpoint=False)]
    taken = [place for place in at if np.isfinite(place).all()]
    found = []
    for place in at:
        tries = [place + way * step * far for far in (1.3, 2.2, 3.1, 4.0) for way in ways]
        inside = [t for t in tries if step < t[0] < shape[1] - step and step < t[1] < shape[0] - step]
        free = (t for t in inside if all(np.hypot(*(t - other)) > step for other in taken))
        found.append(next(free, tries[0]))
        taken.append(found[-1])
    return found


def _sky_axes(wcs: CelestialWcs, labels: tuple[str, str]) -> tuple[Figure, Any]:
    """Axes in pixels of the mosaic with RA and Dec along them."""
    height, width = wcs.shape
    tall = (WIDTH_PT - LEFT - RIGHT) * min(height / width, TALLEST)
    across = tall * width / height
    size = np.array([WIDTH_PT, BOTTOM + tall + TOP])
    figure = Figure(figsize=(size[0] / 72, size[1] / 72))
    place = (LEFT / size[0], BOTTOM / size[1], across / size[0], tall / size[1])
    axes: Any = figure.add_axes(place)
    axes.spines[:].set_visible(True)
    axes.grid(visible=False)
    ra, dec = find_grid_lines(wcs)
    for lines in (ra, dec):
        if len(lines.levels):
            axes.contour(lines.x, lines.y, lines.values, lines.levels, colors=FAINT, alpha=0.35, linewidths=0.4)
    axes.set_xticks(*_apart(ra.ticks, LABEL_APART * width), fontsize=7.5)
    axes.set_yticks(*_apart(dec.ticks, LABEL_APART * height), fontsize=7.5)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5), xlabel=labels[0], ylabel=labels[1])
    return figure, axes


def _apart(ticks: Sequence[tuple[float, str]], least: float) -> tuple[list[float], list[str]]:
    """Places and texts of ticks, without those that would cover the one before."""
    shown: list[tuple[float, str]] = []
    for at, text in sorted(ticks):
        if not shown or at - shown[-1][0] >= least:
            shown.append((at, text))
    return [at for at, _ in shown], [text for _, text in shown]


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
    ra, dec = (float(q) for q in wcs.pixel_to_sky(at[0], at[1]))
    step = reach * scale / 3600
    north = np.stack(wcs.sky_to_pixel(ra, min(dec + step, 89.999))) - at
    east = np.stack(wcs.sky_to_pixel(ra + step / max(np.cos(np.deg2rad(dec)), 1e-3), dec)) - at
    for way, letter in ((north, "N"), (east, "E")):
        if np.isfinite(way).all() and np.hypot(*way) > 0:
            tip = at + way / np.hypot(*way) * reach
            arrow = {"arrowstyle": "->", "color": colour, "lw": 1.1, "shrinkA": 0}
            axes.annotate("", (tip[0], tip[1]), (at[0], at[1]), arrowprops=arrow)
            label = at + way / np.hypot(*way) * reach * 1.3
            axes.text(label[0], label[1], letter, color=colour, ha="center", va="center", fontsize=8)


def _colour_bar(figure: Figure, axes: Axes, top: float, unit: str) -> Picture:
    """The colours of values beside the axes, and the axis along them."""
    box = axes.get_position()
    width, _ = figure.get_size_inches() * 72
    bar = figure.add_axes((box.x1 + 8 / width, box.y0, 8 / width, box.height))
    bar.set_xlim(0, 1)
    bar.set_ylim(0, top)
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.yaxis.set_major_formatter(lambda value, _: format(value, "g") + unit)
    bar.yaxis.set_major_locator(MaxNLocator(5, integer=not unit))
    bar.grid(visible=False)
    bar.spines[:].set_visible(False)
    return Picture(bar, _palette_png(np.linspace(0, 1, ENTRIES, dtype=np.float32)[:, None], 1.0))


def _palette_png(values: F4, top: float) -> str:
    """Values as a picture of 255 colours, bottom row last; transparent where they are NaN."""
    index = np.clip(np.nan_to_num(values) / max(top, 1e-30) * (ENTRIES - 1), 0, ENTRIES - 1).astype(np.uint8)
    index[~np.isfinite(values)] = ENTRIES
    image = Image.fromarray(np.ascontiguousarray(index[::-1]), "P")
    palette = (matplotlib.colormaps["viridis"](np.linspace(0, 1, ENTRIES))[:, :3] * 255).astype(np.uint8)
    image.putpalette(np.vstack([palette, np.zeros((1, 3), np.uint8)]).tobytes())
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=PNG_LEVEL, transparency=ENTRIES)
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
