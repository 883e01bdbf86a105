"""How alike frames see the stars that they share: fluxes and places, after everything is corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.stages.numeric.robust import excess_scatter, mad_sigma

__all__ = ["Detections", "FluxFigure", "PlaceFigure", "StarFigures", "figure_fluxes", "figure_places", "figure_stars"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TO_MMAG = 2500 / float(np.log(10))
"""A change of ln flux in thousandths of a magnitude."""

FIELD_CELLS = 8
"""Cells along each side of a frame in which residuals are gathered: finer than any smooth fault of a lens."""

LEAST_IN_CELL = 10
"""Detections from which the median of a cell is a figure."""

N_CURVE = 12
"""Points of the curve of scatter against flux: one a few tenths of a decade."""

LEAST_IN_POINT = 20
"""Detections from which a point of that curve is drawn."""

MOST_STARS = 1500
"""Stars that are listed one by one, evenly by rank of flux: more only blacken the figure."""

BRIGHT_SHARE = 0.25
"""The brightest detections, by share, tell the floor: of fainter ones the sky's noise hides it."""

LEAST_SEEN = 3
"""Frames that show a star, from which its own scatter is drawn: of two it is one difference."""

N_BINS = 41
"""Bins of a histogram of residuals; odd, so that one lies about 0."""

REACH_SIGMA = 5.0
"""A histogram reaches so many sigma to both sides."""


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Stars that at least two frames share, a row a detection.

    Attributes
    ----------
    image, star : ndarray, shape (n,), int64
    u, v : ndarray, shape (n,)
        Place in the frame, -1 to 1.
    x, y : ndarray, shape (n,)
        Place on the output grid, px.
    flux, flux_error : ndarray, shape (c, n)
        Mosaic units, corrected.
    n_stars : int
    """

    image: Ints
    star: Ints
    u: F8
    v: F8
    x: F8
    y: F8
    flux: F8
    flux_error: F8
    n_stars: int


@dataclass(frozen=True, slots=True, eq=False)
class FluxFigure:
    """Scatter of star fluxes over their frames, one channel.

    Attributes
    ----------
    n_stars, n_detections : int
        That counted.
    floor_mmag : float
        Scatter of the brightest quarter beyond what the sky's noise explains, or the least that so many detections
        can show; NaN without stars.
    curve_flux, curve_mmag, noise_mmag : ndarray, shape (k,)
        Median flux of a group of detections, their scatter, and what the sky's noise makes of it.
    star_flux, star_mmag : ndarray, shape (m,)
        Single stars that three frames show or more, evenly by rank of flux.
    field_mmag : ndarray, shape (8, 8)
        Median residual over a frame's field, [v, u]; NaN in cells with few detections.
    """

    n_stars: int
    n_detections: int
    floor_mmag: float
    curve_flux: F8
    curve_mmag: F8
    noise_mmag: F8
    star_flux: F8
    star_mmag: F8
    field_mmag: F8


@dataclass(frozen=True, slots=True, eq=False)
class PlaceFigure:
    """Distances of stars in single frames from their mean places.

    Attributes
    ----------
    n_detections : int
    rms_px : float
        Robust sigma a coordinate, px of the mosaic; NaN without stars.
    edges_px : ndarray, shape (42,)
        Of the bins of both histograms.
    count_x, count_y : ndarray, shape (41,), int64
        Detections by their distance along x and y of the mosaic; those beyond are in the last bins.
    field_px : ndarray, shape (2, 8, 8)
        Median distance along x and y of the *frame* over its field, [v, u]; NaN in cells with few detections.
    """

    n_detections: int
    rms_px: float
    edges_px: F8
    count_x: Ints
    count_y: Ints
    field_px: F8


@dataclass(frozen=True, slots=True, eq=False)
class StarFigures:
    """Fluxes channel by channel, and places."""

    fluxes: tuple[FluxFigure, ...]
    places: PlaceFigure


def figure_stars(seen: Detections, wcs: Sequence[CelestialWcs], grid: SkyGrid) -> StarFigures:
    """All figures of shared stars; see `figure_fluxes` and `figure_places`."""
    return StarFigures(tuple(figure_fluxes(seen, c) for c in range(len(seen.flux))), figure_places(seen, wcs, grid))


def figure_fluxes(seen: Detections, channel: int) -> FluxFigure:
    """Scatter of the fluxes of one channel about each star's mean.

    Notes
    -----
    The mean of a star of k detections takes part in its own scatter: residuals are raised by ``sqrt(k / (k - 1))``,
    with k counted in weight. Non-positive fluxes do not count.
    """
    good = seen.flux[channel] > 0
    star, flux = seen.star[good], seen.flux[channel][good]
    error = np.maximum(seen.flux_error[channel][good] / flux, 1e-6)
    mean, left, raised, kept = _about_means(star, np.log(flux), 1 / error**2, seen.n_stars)
    star, error, place = star[kept], error[kept], np.exp(mean[kept])
    residual = left[kept] * raised[kept]
    if not len(residual):
        none = np.zeros(0)
        return FluxFigure(0, 0, np.nan, none, none, none, none, none, np.full((FIELD_CELLS, FIELD_CELLS), np.nan))
    bright = place >= np.quantile(place, 1 - BRIGHT_SHARE)
    # Less than this scatter of so many detections cannot be told from none.
    least = float(np.median(error[bright])) * (2 / np.count_nonzero(bright)) ** 0.25
    floor = excess_scatter(residual[bright] ** 2, error[bright], least, max(1.0, 2 * least), n_halvings=40)
    return FluxFigure(
        len(np.unique(star)),
        len(residual),
        floor * TO_MMAG,
        *_curve(place, residual, error),
        *_single_stars(star, place, residual, seen.n_stars),
        _over_field(seen.u[good][kept], seen.v[good][kept], left[kept]) * TO_MMAG,
    )


def figure_places(seen: Detections, wcs: Sequence[CelestialWcs], grid: SkyGrid) -> PlaceFigure:
    """Distances of detections from the mean place of their star.

    Parameters
    ----------
    seen : Detections
    wcs : sequence of CelestialWcs
        Of the frames: how they are turned on the grid.
    grid : SkyGrid
    """
    even = np.ones(len(seen.star))
    _, dx, raised, kept = _about_means(seen.star, seen.x, even, seen.n_stars)
    dy = _about_means(seen.star, seen.y, even, seen.n_stars)[1]
    if not kept.any():
        none = np.zeros(N_BINS, np.int64)
        return PlaceFigure(0, np.nan, np.zeros(N_BINS + 1), none, none, np.full((2, FIELD_CELLS, FIELD_CELLS), np.nan))
    dx, dy, raised, image = dx[kept], dy[kept], raised[kept], seen.image[kept]
    rms = float(np.hypot(mad_sigma(dx * raised, 0), mad_sigma(dy * raised, 0)) / np.sqrt(2))
    edges = np.linspace(-1, 1, N_BINS + 1) * REACH_SIGMA * max(rms, 1e-6)
    count_x, count_y = (_histogram(d * raised, edges) for d in (dx, dy))
    turn = np.stack([_turn(w, grid) for w in wcs])[image]
    along = turn[:, :, 0] * dx[:, None] + turn[:, :, 1] * dy[:, None]
    field = np.stack([_over_field(seen.u[kept], seen.v[kept], along[:, axis]) for axis in (0, 1)])
    return PlaceFigure(len(dx), rms, edges, count_x, count_y, field)


def _histogram(value: F8, edges: F8) -> Ints:
    """Counts in bins; what lies beyond is in the last."""
    return np.histogram(np.clip(value, edges[0], edges[-1]), edges)[0].astype(np.int64)


def _about_means(star: Ints, value: F8, weight: F8, n_stars: int) -> tuple[F8, F8, F8, npt.NDArray[np.bool_]]:
    """Mean of each row's star, what is left of the row, the factor for the mean's own part, and which rows count.

    A star that one row alone carries tells nothing: it does not count.
    """
    total = np.bincount(star, weight, n_stars)
    mean = (np.bincount(star, weight * value, n_stars) / np.maximum(total, 1e-300))[star]
    own = weight / np.maximum(total[star], 1e-300)
    kept = (np.bincount(star, minlength=n_stars)[star] >= 2) & (own < 0.99)
    return mean, value - mean, 1 / np.sqrt(np.maximum(1 - own, 1e-2)), kept


def _curve(flux: F8, residual: F8, error: F8) -> tuple[F8, F8, F8]:
    """Flux, scatter and expected scatter of groups of detections of like flux, in steps of equal ratio."""
    edges = np.geomspace(flux.min(), flux.max() * (1 + 1e-9), N_CURVE + 1)
    group = np.clip(np.searchsorted(edges, flux, "right") - 1, 0, N_CURVE - 1)
    parts = [np.flatnonzero(group == k) for k in range(N_CURVE)]
    parts = [part for part in parts if len(part) >= LEAST_IN_POINT]
    middle = np.array([np.median(flux[part]) for part in parts])
    scatter = np.array([mad_sigma(residual[part], 0) for part in parts])
    noise = np.array([np.sqrt(np.median(error[part] ** 2)) for part in parts])
    return middle, scatter * TO_MMAG, noise * TO_MMAG


def _single_stars(star: Ints, flux: F8, residual: F8, n_stars: int) -> tuple[F8, F8]:
    """Flux and scatter of stars that enough frames show, at most `MOST_STARS`, faintest first."""
    count = np.bincount(star, minlength=n_stars)
    of_star = np.zeros(n_stars)
    of_star[star] = flux
    scatter = np.sqrt(np.bincount(star, residual**2, n_stars) / np.maximum(count, 1))
    listed = np.flatnonzero(count >= LEAST_SEEN)
    listed = listed[np.argsort(of_star[listed], kind="stable")]
    if len(listed) > MOST_STARS:
        listed = listed[np.linspace(0, len(listed) - 1, MOST_STARS).astype(np.int64)]
    return of_star[listed], scatter[listed] * TO_MMAG


def _over_field(u: F8, v: F8, value: F8) -> F8:
    """Median of values in cells of a frame's field, [v, u]; NaN where there are few."""
    column, row = (np.clip(((q + 1) / 2 * FIELD_CELLS).astype(np.int64), 0, FIELD_CELLS - 1) for q in (u, v))
    cell = row * FIELD_CELLS + column
    order = np.argsort(cell, kind="stable")
    parts = np.split(value[order], np.cumsum(np.bincount(cell, minlength=FIELD_CELLS**2))[:-1])
    medians = [float(np.median(part)) if len(part) >= LEAST_IN_CELL else np.nan for part in parts]
    return np.array(medians).reshape(FIELD_CELLS, FIELD_CELLS)


def _turn(wcs: CelestialWcs, grid: SkyGrid) -> F8:
    """The rotation, or reflection, that brings a step on the grid into a frame's axes, (2, 2); lengths stay."""
    height, width = wcs.shape
    x = (width - 1) / 2 + np.array([0.0, 1.0, 0.0])
    y = (height - 1) / 2 + np.array([0.0, 0.0, 1.0])
    gx, gy = grid.wcs.sky_to_pixel(*wcs.pixel_to_sky(x, y))
    frame_to_grid = np.array([[gx[1] - gx[0], gx[2] - gx[0]], [gy[1] - gy[0], gy[2] - gy[0]]])
    if not np.isfinite(frame_to_grid).all() or np.linalg.det(frame_to_grid) == 0:
        return np.eye(2)
    back = np.linalg.inv(frame_to_grid)
    return np.asarray(back / np.sqrt(abs(np.linalg.det(back))))
