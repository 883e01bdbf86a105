"""Figures of the match: steps at borders, star fluxes, places."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from zemosaic.report.svg import COLOURS, FAINT, GRID, INK, ONE, TWO, dots, draw, explain_lines, plain_ticks, plot

__all__ = [
    "field_of_fluxes",
    "field_of_places",
    "histograms_of_places",
    "offsets_of_catalogue",
    "pulls_of_steps",
    "scatter_of_fluxes",
    "sizes_of_steps",
]

Say = Callable[[str], str]
"""Words of a figure by their code."""

Facts = Mapping[str, Any]

F8 = npt.NDArray[np.float64]

OFFSETS_SHOWN = 0.98
"""Share of the offsets that the histogram reaches to; the others are in its last bins."""

LEAST_REACH_ARCSEC = 0.01

OFFSET_BINS = 21
"""Bins of a histogram of some tens of stars; odd, so that one lies about 0."""

LEAST_STEP = 1e-3
"""Left end of the axis of steps, in noise of a pixel: nothing smaller matters."""


def sizes_of_steps(mosaic: Facts, limits: Sequence[float], say: Say) -> Markup:
    """Share of places with at most a step, before and after, and the limits of the verdict."""
    figure, axes = plot(340, 220)
    shares = np.array(mosaic["borders"]["shares"]) * 100
    colours = COLOURS[len(mosaic["seams"])]
    for seams, colour in zip(mosaic["seams"], colours, strict=True):
        for when, line in (("before", (0, (3, 2))), ("after", "solid")):
            if "curve" in seams[when]:
                size = np.maximum(np.array(seams[when]["curve"], float), LEAST_STEP)
                axes.plot(size, shares, color=colour, ls=line)
    axes.plot([], [], color=INK, ls=(0, (3, 2)), label=say("report.fig.before"))
    axes.plot([], [], color=INK, label=say("report.fig.after"))
    for limit in limits:
        axes.axvline(limit, color=FAINT, lw=0.8, ls=":")
    axes.set_xscale("log")
    plain_ticks(axes.xaxis)
    axes.set_ylim(0, 101)
    axes.set_xlabel(say("report.fig.step_noise"))
    axes.set_ylabel(say("report.fig.share_of_places"))
    explain_lines(axes)
    return draw(figure, say("report.fig.steps.title"))


def pulls_of_steps(mosaic: Facts, say: Say) -> Markup:
    """Steps over their errors beside a Gaussian of sigma 1."""
    figure, axes = plot(300, 220)
    edges = np.array(mosaic["borders"]["pull_edges"])
    width = edges[1] - edges[0]
    for seams, colour in zip(mosaic["seams"], COLOURS[len(mosaic["seams"])], strict=True):
        count = np.array(seams["after"].get("pulls", []), float)
        if count.sum():
            axes.stairs(count / count.sum() / width, edges, color=colour, lw=1.3)
    x = np.linspace(edges[0], edges[-1], 101)
    axes.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=INK, lw=1, ls="--", label=say("report.fig.gaussian"))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_yticks([])
    axes.set_xlabel(say("report.fig.step_error"))
    explain_lines(axes)
    return draw(figure, say("report.fig.pulls.title"))


def scatter_of_fluxes(mosaic: Facts, say: Say) -> Markup:
    """Scatter of single stars over their frames against flux, medians, what the sky's noise makes, and the floor."""
    figure, axes = plot(340, 240)
    stars = mosaic["stars"]
    flux, scatter = (np.array(stars["single"][name], float) for name in ("flux", "scatter_mmag"))
    curves = stars["curves"]
    axes.set_xscale("log")
    axes.set_yscale("log")
    known = np.concatenate([np.array(c["scatter_mmag"], float) for c in curves] + [scatter[scatter > 0]])
    if len(known):
        low = min([known.min(), *(floor for floor in stars["floor_mmag"] if floor is not None)])
        axes.set_ylim(max(low * 0.6, 0.05), known.max() * 1.6)
        every = np.concatenate([flux, *[np.array(c["flux"], float) for c in curves]])
        axes.set_xlim(every.min() * 0.8, every.max() * 1.25)
    dots(axes, flux, scatter, FAINT)
    for curve, colour in zip(curves, COLOURS[len(curves)], strict=True):
        axes.plot(curve["flux"], curve["scatter_mmag"], "-o", color=colour, ms=3.5)
        axes.plot(curve["flux"], curve["noise_mmag"], color=colour, lw=1, ls=(0, (2, 2)))
    axes.plot([], [], "-o", color=INK, ms=3.5, label=say("report.fig.measured"))
    axes.plot([], [], color=INK, lw=1, ls=(0, (2, 2)), label=say("report.fig.sky_noise"))
    floors = [floor for floor in stars["floor_mmag"] if floor is not None]
    if floors:
        axes.axhline(max(floors), color=INK, lw=0.9, ls=(0, (5, 2)), label=say("report.fig.floor"))
    plain_ticks(axes.xaxis)
    plain_ticks(axes.yaxis)
    axes.set_xlabel(say("report.fig.flux"))
    axes.set_ylabel(say("report.fig.scatter_mmag"))
    explain_lines(axes, 3)
    return draw(figure, say("report.fig.fluxes.title"))


def field_of_fluxes(mosaic: Facts, say: Say) -> Markup:
    """Median residual of fluxes over a frame's field."""
    figure, axes = plot(300, 230)
    field = np.array(mosaic["stars"]["field_mmag"], float)
    known = np.abs(field[np.isfinite(field)])
    top = max(float(known.max(initial=0.0)), 1.0)
    n = len(field)
    rows, columns = np.nonzero(np.isfinite(field))
    corners = np.stack([columns, rows], 1)[:, None] + np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    colours = matplotlib.colormaps["RdBu_r"]((field[rows, columns] / top + 1) / 2)
    axes.add_collection(PolyCollection(corners, facecolors=colours, linewidths=0), autolim=False)
    for value in (-top, 0.0, top):
        axes.plot([], [], "s", color=matplotlib.colormaps["RdBu_r"]((value / top + 1) / 2), label=f"{value:+.1f} mmag")
    explain_lines(axes, 3)
    _as_field(axes, n, say)
    return draw(figure, say("report.fig.field_mmag.title"))


def field_of_places(mosaic: Facts, say: Say) -> Markup:
    """Median distances of stars from their mean places over a frame's field, as arrows."""
    figure, axes = plot(300, 230)
    dx, dy = np.array(mosaic["places"]["field_px"], float)
    n = len(dx)
    rows, columns = np.mgrid[:n, :n] + 0.5
    known = np.isfinite(dx) & np.isfinite(dy)
    rms = mosaic["places"]["rms_px"]
    key = float(f"{rms:.1g}") if rms else 0.1
    axes.set_title(" ")  # Room for the key.
    if known.any():
        arrows = axes.quiver(
            columns[known], rows[known], dx[known], dy[known], color=ONE, angles="xy", scale_units="xy", scale=key,
            width=0.008,
        )  # fmt: skip
        axes.quiverkey(
            arrows, 0.08, 1.05, key, f"{key:g} px", labelpos="E", color=INK, labelcolor=INK, coordinates="axes",
            fontproperties={"size": 8},
        )  # fmt: skip
    _as_field(axes, n, say)
    return draw(figure, say("report.fig.field_px.title"))


def _as_field(axes: Axes, n: int, say: Say) -> None:
    """Axes of a frame's field: a square with no numbers, for frames have many sizes."""
    axes.set_xlim(0, n)
    axes.set_ylim(0, n)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.set_xlabel(say("report.fig.frame_field"))


def histograms_of_places(mosaic: Facts, say: Say) -> Markup:
    """Distances of stars from their mean places along x and y of the mosaic."""
    places = mosaic["places"]
    edges = np.array(places["edges_px"], float)
    counts = ("report.fig.along_x", places["count_x"]), ("report.fig.along_y", places["count_y"])
    return _two_histograms(edges, counts, ("report.fig.distance_px", "report.fig.detections"), "report.fig.places", say)


def offsets_of_catalogue(mosaic: Facts, say: Say) -> Markup:
    """Distances of stars from where the catalogue has them, to the east and to the north."""
    stars = mosaic["catalogue"]["stars"]
    east, north = (np.array(stars[name], float) for name in ("east_arcsec", "north_arcsec"))
    reach = max(float(np.quantile(np.abs(np.append(east, north)), OFFSETS_SHOWN)), LEAST_REACH_ARCSEC) * 1.2
    edges = np.linspace(-reach, reach, OFFSET_BINS + 1)
    counts = [
        (f"report.fig.{way}", np.histogram(np.clip(values, -reach, reach), edges)[0])
        for way, values in (("east", east), ("north", north))
    ]
    return _two_histograms(edges, counts, ("report.fig.distance_arcsec", "report.fig.stars"), "report.fig.offsets", say)


def _two_histograms(
    edges: F8, counts: Sequence[tuple[str, npt.ArrayLike]], labels: tuple[str, str], title: str, say: Say
) -> Markup:
    """Two labelled histograms about zero; `labels` are those of the axes."""
    figure, axes = plot(300, 220)
    for (label, count), colour, line in zip(counts, (ONE, TWO), ("solid", (0, (4, 1.5))), strict=True):
        axes.stairs(np.asarray(count), edges, color=colour, ls=line, lw=1.3, label=say(label))
    axes.axvline(0, color=GRID, lw=0.8)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(say(labels[0]))
    axes.set_ylabel(say(labels[1]))
    explain_lines(axes)
    return draw(figure, say(f"{title}.title"))
