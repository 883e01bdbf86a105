"""How deep a mosaic is, for report.json: frames over its places, noise in boxes, the faintest that shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.model.box import Box
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.outputs.match_facts import short
from zemosaic.stages.figures.depth import BOX_SIZES, noise_of_box, pulls_of_boxes, scatter_of_pulls

__all__ = ["MosaicView", "describe_depth"]

WINDOW_PX = 256
"""Side of the windows that noise is measured in."""

WINDOWS_ACROSS = 8
"""Windows each way over the mosaic: 4 million pixels, which take some seconds in three channels."""

CALM_SHARE, CALM_SIZE = 0.25, BOX_SIZES.index(16)
"""The calmest share of the windows, by boxes of this size, tells the noise: nebulae and crowds of stars are none."""

LIMIT_ARCSEC, LIMIT_SIGMA = 10.0, 3.0
"""The surface brightness limit is that of so many sigma in boxes of this side."""

STAR_SIGMA = 5.0
"""And that of a star."""

STRIP_PX = 4_000_000
"""Pixels of COV that are counted at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class MosaicView:
    """A mosaic that is read a box at a time.

    Attributes
    ----------
    grid : SkyGrid
    names : tuple of str
        Planes that it has.
    n_channels : int
    fwhm_px : float
        Width of its stars.
    read : callable
        ``read(plane, box)`` gives ``(c, h, w)``, NaN in DATA and VAR where there are no data.
    """

    grid: SkyGrid
    names: tuple[str, ...]
    n_channels: int
    fwhm_px: float
    read: Callable[[str, Box], npt.NDArray[Any]]


def describe_depth(mosaic: MosaicView) -> dict[str, Any]:
    """Figures of depth, in mosaic units; what needs a plane that the mosaic has not is left out."""
    out: dict[str, Any] = {}
    if "COV" in mosaic.names:
        out |= _coverage(mosaic)
    if "VAR" in mosaic.names:
        out |= _noise(mosaic)
    return out


def _coverage(mosaic: MosaicView) -> dict[str, Any]:
    """How many frames reach how much of the sky."""
    height, width = mosaic.grid.shape
    n_rows = max(STRIP_PX // width, 1)
    counts = np.zeros(1, np.int64)
    for y0 in range(0, height, n_rows):
        found = np.bincount(mosaic.read("COV", Box(y0, min(y0 + n_rows, height), 0, width)).ravel())
        longer, shorter = (found, counts) if len(found) > len(counts) else (counts, found)
        counts = longer.astype(np.int64)
        counts[: len(shorter)] += shorter
    covered = counts.copy()
    covered[0] = 0
    n = int(covered.sum())
    middle = int(np.searchsorted(np.cumsum(covered), n / 2)) if n else 0
    return {
        "area_deg2": n * mosaic.grid.area_ref_deg2,
        "filled": n / (height * width),
        "frames_median": middle,
        "frames_most": len(counts) - 1,
    }


def _noise(mosaic: MosaicView) -> dict[str, Any]:
    """Noise in boxes of each channel beside what VAR says, and what can be seen above it."""
    area_arcsec2 = mosaic.grid.area_ref_deg2 * 3600**2
    pulls: list[list[list[npt.NDArray[np.float64]]]] = [[] for _ in range(mosaic.n_channels)]
    variances: list[list[float]] = [[] for _ in range(mosaic.n_channels)]
    for box in _windows(mosaic.grid.shape):
        data, variance = mosaic.read("DATA", box), mosaic.read("VAR", box)
        for c in range(mosaic.n_channels):
            known = variance[c][np.isfinite(data[c]) & (variance[c] > 0)]
            if not len(known):
                continue
            variances[c].append(float(np.median(known)))
            pulls[c].append(pulls_of_boxes(data[c], variance[c]))
    channels = []
    for c in range(mosaic.n_channels):
        typical = float(np.sqrt(np.median(variances[c]))) if variances[c] else float("nan")
        told = typical / np.array(BOX_SIZES)
        measured = told * _scatters(pulls[c])
        side_px = LIMIT_ARCSEC / mosaic.grid.scale_arcsec
        # The area over which a Gaussian star's light is worth as much as if it were spread evenly.
        star_px = np.sqrt(4 * np.pi) * mosaic.fwhm_px / 2.3548
        limit = LIMIT_SIGMA * noise_of_box(side_px, BOX_SIZES, measured) / area_arcsec2
        star = STAR_SIGMA * noise_of_box(star_px, BOX_SIZES, measured) * star_px**2
        channels.append({
            "measured": short(measured), "by_variance": short(told),
            **dict(zip(("limit_per_arcsec2", "star_flux"), short(np.array([limit, star])), strict=True)),
        })  # fmt: skip
    return {"box_px": BOX_SIZES, "noise": channels}


def _scatters(windows: Sequence[Sequence[npt.NDArray[np.float64]]]) -> npt.NDArray[np.float64]:
    """Scatter of boxes of each size in the calmest windows."""
    restless = np.nan_to_num([scatter_of_pulls([window[CALM_SIZE]]) for window in windows], nan=np.inf)
    order = np.argsort(restless, kind="stable")[: max(round(CALM_SHARE * len(windows)), 1)]
    calm = [windows[k] for k in order]
    return np.array([scatter_of_pulls([window[k] for window in calm]) for k in range(len(BOX_SIZES))])


def _windows(shape: tuple[int, int]) -> list[Box]:
    """Windows evenly over a grid, none twice."""
    starts = []
    for length in shape:
        room = max(length - WINDOW_PX, 0)
        n = min(WINDOWS_ACROSS, -(-length // WINDOW_PX))
        starts.append(sorted({round(room * (k + 0.5) / n) for k in range(n)} if n > 1 else {room // 2}))
    height, width = shape
    return [Box(y, min(y + WINDOW_PX, height), x, min(x + WINDOW_PX, width)) for y in starts[0] for x in starts[1]]
