"""The output grid, its patches, and footprints on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs

__all__ = ["Patch", "SkyGrid", "footprint_box"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Patch:
    """A unit of output work.

    Attributes
    ----------
    inner : Box
        The pixels this patch owns; inner boxes partition the grid exactly.
    outer : Box
        `inner` with a border (clipped to the grid): what must be computed so that
        neighbourhood operations on `inner` do not depend on how the grid was cut.
    """

    inner: Box
    outer: Box


@dataclass(frozen=True, slots=True, eq=False)
class SkyGrid:
    """The output grid: a celestial WCS with a shape.

    Attributes
    ----------
    wcs : CelestialWcs
        Output projection; ``wcs.shape`` is the grid's shape.
    """

    wcs: CelestialWcs

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.wcs.shape

    @property
    def box(self) -> Box:
        """All pixels of the grid."""
        return Box.of_shape(self.shape)

    @property
    def area_ref_deg2(self) -> float:
        """A_ref: the area of a grid pixel at the grid's centre. Mosaic values are input units per A_ref."""
        return float(self.wcs.pixel_area_deg2())

    @property
    def area_shares(self) -> tuple[float, float]:
        """Smallest and largest area of a grid pixel over A_ref, from 17 x 17 pixels; both 1 on an equal-area grid."""
        height, width = self.shape
        x, y = np.meshgrid(np.linspace(0, width - 1, 17), np.linspace(0, height - 1, 17))
        share = self.wcs.pixel_area_deg2(x, y) / self.area_ref_deg2
        seen = share[np.isfinite(share)]
        return float(seen.min(initial=1.0)), float(seen.max(initial=1.0))

    @property
    def projection(self) -> str:
        """Code of the projection, as in CTYPE."""
        return str(self.wcs.wcs.wcs.ctype[0])[5:8]

    @property
    def scale_arcsec(self) -> float:
        """Pixel scale at the grid's centre."""
        return self.wcs.pixel_scale_arcsec()

    def patches(self, size: int, border: int) -> Iterator[Patch]:
        """Cut the grid into patches of `size`, row by row, with a border for neighbourhood operations."""
        for inner in self.box.split(size):
            yield Patch(inner, inner.expand(border).intersect(self.box))


def footprint_box(image: CelestialWcs, grid: SkyGrid, margin_px: int = 2) -> Box:
    """Smallest box of grid pixels that holds an image's footprint, clipped to the grid.

    Parameters
    ----------
    image : CelestialWcs
        The image.
    grid : SkyGrid
        The output grid.
    margin_px : int
        Pixels added on each side for what the outline's straight segments cut off.

    Returns
    -------
    Box
        Empty when the image does not reach the grid.

    Notes
    -----
    The outline, a sparse lattice of the image's inside and a celestial pole that lies in the image are projected.
    To each side is added what the outline's straight segments may cut off: its largest second difference, which
    is small for a smooth outline and the width of the map where the outline jumps from one rim of an all-sky map to the
    other. Points that the grid's projection cannot show are ignored.
    """
    height, width = image.shape
    per_side = 16
    ra, dec = image.outline(per_side)
    gx, gy = np.meshgrid(np.linspace(0, width - 1, 5), np.linspace(0, height - 1, 5))
    inside_ra, inside_dec = image.pixel_to_sky(gx.ravel(), gy.ravel())
    pole_dec = _poles_inside(image)
    x, y = grid.wcs.sky_to_pixel(
        np.concatenate([ra, inside_ra, np.zeros(len(pole_dec))]), np.concatenate([dec, inside_dec, pole_dec])
    )
    seen = np.isfinite(x) & np.isfinite(y)
    if not seen.any():
        return Box(0, 0, 0, 0)
    # Far points of an open projection can be astronomically large: clip before rounding to int.
    big = 10 * max(*grid.shape, 1000)
    x, y = np.clip(x, -big, big), np.clip(y, -big, big)
    margin_x, margin_y = (margin_px + _sagitta_px(v[: len(ra)].reshape(4, per_side)) for v in (x, y))
    x, y = x[seen], y[seen]
    box = Box(
        int(np.floor(y.min())) - margin_y,
        int(np.ceil(y.max())) + 1 + margin_y,
        int(np.floor(x.min())) - margin_x,
        int(np.ceil(x.max())) + 1 + margin_x,
    )
    return box.intersect(grid.box)


def _poles_inside(image: CelestialWcs) -> Array:
    """Declinations of the celestial poles that an image holds."""
    poles = np.array([90.0, -90.0])
    x, y = image.sky_to_pixel(np.zeros(2), poles)
    with np.errstate(invalid="ignore"):
        inside = (x > -0.5) & (x < image.shape[1] - 0.5) & (y > -0.5) & (y < image.shape[0] - 0.5)
    return poles[inside]


def _sagitta_px(sides: Array) -> int:
    """Largest second difference along the sides of an outline, without the corners; whole pixels, rounded up."""
    bend = np.abs(np.diff(sides, n=2, axis=1))
    return int(np.ceil(bend[np.isfinite(bend)].max(initial=0.0) - 0.01))
