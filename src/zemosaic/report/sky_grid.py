"""Lines of right ascension and declination over a mosaic, and the numbers where they meet its edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.sky.celestial import CelestialWcs

__all__ = ["GridLines", "find_grid_lines"]

F8 = npt.NDArray[np.float64]

NODES = 49
"""Places along each side where the sky is asked for: between them lines are straight to less than a line's width."""

LINES = 4
"""About so many lines each way: more hide the mosaic."""

_SIXTIETHS = (1, 2, 5, 10, 15, 30)
RA_STEPS_S = [step * unit for unit in (1, 60) for step in _SIXTIETHS] + [3600 * h for h in (1, 2, 3, 6)]
"""Steps of right ascension, seconds of time."""
DEC_STEPS_ARCSEC = [step * unit for unit in (1, 60, 3600) for step in _SIXTIETHS]

OTHER_SIDE_DEG = 170.0
"""Farther from the middle's right ascension, as beyond a pole, no line is drawn: values jump there."""


@dataclass(frozen=True, slots=True, eq=False)
class GridLines:
    """Lines of one coordinate.

    Attributes
    ----------
    x, y : ndarray
        Pixels of the nodes, along each axis.
    values : ndarray, shape (len(y), len(x))
        The coordinate there, in seconds of time or of arc, right ascension without a jump; NaN where it has one.
    levels : ndarray
        Where lines are.
    ticks : list of (float, str)
        Pixels along the edge that lines meet, and what is written there.
    """

    x: F8
    y: F8
    values: F8
    levels: F8
    ticks: list[tuple[float, str]]


def find_grid_lines(wcs: CelestialWcs) -> tuple[GridLines, GridLines]:
    """Lines of right ascension, told along the lower edge, and of declination, told along the left one."""
    height, width = wcs.shape
    x, y = np.linspace(-0.5, width - 0.5, NODES), np.linspace(-0.5, height - 0.5, NODES)
    ra, dec = wcs.pixel_to_sky(*np.meshgrid(x, y))
    middle = float(ra[NODES // 2, NODES // 2])
    off = (ra - middle + 180) % 360 - 180
    off[np.abs(off) > OTHER_SIDE_DEG] = np.nan
    ra_s, dec_arcsec = 240 * (middle + off), 3600 * dec
    ra_levels, ra_step = _levels(ra_s, RA_STEPS_S)
    dec_levels, dec_step = _levels(dec_arcsec, DEC_STEPS_ARCSEC)
    ra_ticks = [(at, _ra_label(level, ra_step)) for level in ra_levels for at in _crossings(x, ra_s[0], level)]
    dec_ticks = [(at, _dec_label(lev, dec_step)) for lev in dec_levels for at in _crossings(y, dec_arcsec[:, 0], lev)]
    return GridLines(x, y, ra_s, ra_levels, ra_ticks), GridLines(x, y, dec_arcsec, dec_levels, dec_ticks)


def _levels(values: F8, steps: list[int]) -> tuple[F8, int]:
    """Multiples of a round step among values, and the step."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    step = next((step for step in steps if (high - low) / step <= LINES + 1), steps[-1])
    return step * np.arange(np.ceil(low / step), np.floor(high / step) + 1), step


def _crossings(at: F8, values: F8, level: float) -> list[float]:
    """Where values along an edge pass a level."""
    below, above = values[:-1] - level, values[1:] - level
    passed = np.flatnonzero(((below <= 0) != (above <= 0)) & np.isfinite(below + above))
    return [float(at[k] + (at[k + 1] - at[k]) * below[k] / (below[k] - above[k])) for k in passed]


def _ra_label(seconds: float, step: int) -> str:
    hours, rest = divmod(round(seconds) % 86400, 3600)
    return f"{hours}h" + (f"{rest // 60:02d}m" if step < 3600 else "") + (f"{rest % 60:02d}s" if step < 60 else "")


def _dec_label(arcsec: float, step: int) -> str:
    degrees, rest = divmod(abs(round(arcsec)), 3600)
    sign = "−" if arcsec < 0 else "+"
    return (
        f"{sign}{degrees}°" + (f"{rest // 60:02d}′" if step < 3600 else "") + (f"{rest % 60:02d}″" if step < 60 else "")
    )
