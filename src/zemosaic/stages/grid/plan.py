"""The output grid: where the frames are, and what map shows them best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy
from astropy.wcs import WCS

from zemosaic.errors import NothingToDo, SettingError
from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs, ra_dec_of, unit_vectors
from zemosaic.model.sky.grid import SkyGrid, footprint_box
from zemosaic.settings import Angle, BoxCrop, Crop, GridSettings

__all__ = [
    "crop_grid",
    "cut_grid",
    "find_strays",
    "grow_grid",
    "make_wcs",
    "plan_grid",
    "sparse_coverage",
]

Array = npt.NDArray[np.float64]

WIDE_DEG = 10.0
"""Frames that reach over more get an equal-area grid: at 5 degrees from the centre of TAN a pixel has 1.1 % less sky
than at the centre, so that stars' sums come out as much too high; at 25 degrees by 34 %."""

STRAY_DEG = 15.0
"""A frame nearer than this to the middle of all frames is never called a stray."""


def make_wcs(
    center_deg: tuple[float, float],
    scale_arcsec: float,
    shape: tuple[int, int],
    projection: str = "TAN",
    rotation_deg: float = 0.0,
) -> CelestialWcs:
    """A WCS with its reference point in the middle of the image; east is left.

    Parameters
    ----------
    center_deg : (ra, dec)
        ICRS position of the middle of the image.
    scale_arcsec : float
        Pixel scale there.
    shape : (height, width)
        Image shape.
    projection : str
        Projection code; cylindrical ones get their reference on the equator, as the standard asks.
    rotation_deg : float
        Position angle of the image's y axis, degrees east of north.

    Raises
    ------
    SettingError
        For a projection that is not known.
    """
    height, width = shape
    s, angle = scale_arcsec / 3600, np.deg2rad(rotation_deg)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{projection}", f"DEC--{projection}"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = list(center_deg)
    wcs.wcs.crpix = [(width + 1) / 2, (height + 1) / 2]
    wcs.wcs.cd = [
        [-s * np.cos(angle), s * np.sin(angle)],
        [s * np.sin(angle), s * np.cos(angle)],
    ]
    wcs.wcs.radesys = "ICRS"
    wcs.array_shape = shape
    try:
        if projection in {"CAR", "CEA", "MER", "SFL", "AIT", "MOL", "PAR"}:
            # Their native latitude 0 must stay the equator, or the map is oblique (FITS WCS paper II, 5.2).
            wcs.wcs.crval = [center_deg[0], 0.0]
            _, y = wcs.wcs_world2pix(*center_deg, 1)
            wcs.wcs.crpix = [(width + 1) / 2, (height + 1) / 2 - (float(y) - (height + 1) / 2)]
        wcs.wcs.set()
    except ValueError as problem:
        raise SettingError("grid.unknown-projection", projection=projection) from problem
    return CelestialWcs(wcs, shape)


def find_strays(images: Sequence[CelestialWcs]) -> dict[int, float]:
    """Indices of images that lie absurdly far from all others, with their distance in degrees.

    One frame with a wrong header on the other side of the sky must not blow up the grid. An image
    is a stray when its centre is farther from the medial centre than 15 degrees *and* five
    times the median distance; wide surveys therefore have none.
    """
    if len(images) < 3:
        return {}
    centers = np.array([
        unit_vectors(*image.pixel_to_sky((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)) for image in images
    ])
    middle = np.median(centers, axis=0)
    middle /= np.linalg.norm(middle)
    # The medoid is a real pointing; a component-wise median may fall between two far groups.
    middle = centers[np.argmax(centers @ middle)]
    distance = np.rad2deg(2 * np.arcsin(np.clip(np.linalg.norm(centers - middle, axis=1) / 2, 0, 1)))
    limit = max(STRAY_DEG, 5 * float(np.median(distance)))
    return {int(i): float(distance[i]) for i in np.nonzero(distance > limit)[0]}


def plan_grid(images: Sequence[CelestialWcs], settings: GridSettings, given: CelestialWcs | None = None) -> SkyGrid:
    """The grid that holds all images, or the one that the settings fix.

    Parameters
    ----------
    images : sequence of CelestialWcs
        Where the frames are.
    settings : GridSettings
        Projection, scale, centre, size, rotation, crop.
    given : CelestialWcs, optional
        A grid read from a header file; wins over everything but the crop.

    Raises
    ------
    NothingToDo
        Without images.
    SettingError
        For values that cannot be read, or an empty crop.
    """
    if not images:
        raise NothingToDo("grid.no-frame")
    if given is None:
        given = _grid_around(images, settings)
    grid = SkyGrid(given)
    return grid if settings.crop is None else crop_grid(grid, images, settings.crop)


def _grid_around(images: Sequence[CelestialWcs], settings: GridSettings) -> CelestialWcs:
    scale = settings.scale_arcsec or float(np.median([image.pixel_scale_arcsec() for image in images]))
    outlines = [image.outline(8) for image in images]
    ra, dec = (np.concatenate([outline[k] for outline in outlines]) for k in (0, 1))
    wanted = settings.center
    center = _middle(ra, dec) if wanted is None else (wanted.ra_deg, wanted.dec_deg)
    rotation = _rotation_deg(settings.rotation, ra, dec, center)
    projection = _projection(settings.projection, ra, dec, center)
    for _ in range(2 if wanted is None else 0):
        # Recentre on the bounding box: the mean of the outlines is off for uneven coverage.
        wcs = make_wcs(center, scale, (1, 1), projection, rotation)
        x, y = _seen_on(wcs, ra, dec)
        mid_ra, mid_dec = wcs.pixel_to_sky((x.min() + x.max()) / 2, (y.min() + y.max()) / 2)
        if np.isfinite(mid_ra) and np.isfinite(mid_dec):
            center = (float(mid_ra), float(mid_dec))
    x, y = _seen_on(make_wcs(center, scale, (1, 1), projection, rotation), ra, dec)
    if settings.size_px is not None:
        width, height = settings.size_px.width, settings.size_px.height
    else:
        half_x, half_y = np.abs(x).max() + 1, np.abs(y).max() + 1
        width, height = int(np.ceil(2 * half_x)), int(np.ceil(2 * half_y))
    return make_wcs(center, scale, (height, width), projection, rotation)


def _seen_on(wcs: CelestialWcs, ra: Array, dec: Array) -> tuple[Array, Array]:
    x, y = wcs.sky_to_pixel(ra, dec)
    seen = np.isfinite(x) & np.isfinite(y)
    if not seen.any():
        raise SettingError("grid.centre-beside", center_deg=wcs.wcs.wcs.crval)
    return x[seen], y[seen]


def _middle(ra: Array, dec: Array) -> tuple[float, float]:
    v = unit_vectors(ra, dec).mean(axis=0)
    if np.linalg.norm(v) < 1e-6:
        raise SettingError("grid.no-centre")
    middle_ra, middle_dec = ra_dec_of(v)
    return float(middle_ra), float(middle_dec)


def _projection(wanted: str, ra: Array, dec: Array, center: tuple[float, float]) -> str:
    """The code of a projection; by default the one that fits the extent of the frames."""
    if wanted != "auto":
        return wanted
    apart = np.linalg.norm(unit_vectors(ra, dec) - unit_vectors(*center), axis=-1)
    farthest_deg = 2 * np.rad2deg(np.arcsin(min(float(apart.max()) / 2, 1.0)))
    return "ZEA" if 2 * farthest_deg > WIDE_DEG else "TAN"


def _rotation_deg(wanted: Angle, ra: Array, dec: Array, center: tuple[float, float]) -> float:
    if wanted != "min-area":
        return wanted
    x, y = make_wcs(center, 1.0, (1, 1)).sky_to_pixel(ra, dec)
    points = np.stack([x, y], axis=1)[np.isfinite(x) & np.isfinite(y)]
    try:
        hull = points[scipy.spatial.ConvexHull(points).vertices]
    except scipy.spatial.QhullError:
        return 0.0
    # The smallest box has a side along an edge of the hull (Freeman & Shapira 1975).
    edges = np.diff(hull, axis=0, append=hull[:1])
    angles = np.unique(np.round(np.arctan2(edges[:, 1], edges[:, 0]) % (np.pi / 2), 9))
    c, s = np.cos(angles)[:, None], np.sin(angles)[:, None]
    along, across = c * hull[:, 0] + s * hull[:, 1], -s * hull[:, 0] + c * hull[:, 1]
    best = float(angles[np.argmin(np.ptp(along, axis=1) * np.ptp(across, axis=1))])
    # Turning the grid by `a` in pixel space (x right = west) is a position angle of +a; keep it within +-45 deg.
    return float(np.rad2deg(best if best <= np.pi / 4 else best - np.pi / 2))


def sparse_coverage(images: Sequence[CelestialWcs], grid: SkyGrid, step: int = 16) -> npt.NDArray[np.int32]:
    """Number of footprints over every `step`-th grid pixel, from outlines alone (no pixel is read)."""
    height, width = grid.shape
    count = np.zeros(((height + step - 1) // step, (width + step - 1) // step), np.int32)
    for image in images:
        box = footprint_box(image, grid)
        if box.is_empty:
            continue
        ys = np.arange(-(-box.y0 // step), (box.y1 - 1) // step + 1)
        xs = np.arange(-(-box.x0 // step), (box.x1 - 1) // step + 1)
        gx, gy = np.meshgrid(xs * step, ys * step)
        px, py = image.sky_to_pixel(*grid.wcs.pixel_to_sky(gx, gy))
        with np.errstate(invalid="ignore"):
            inside = (px > -0.5) & (py > -0.5) & (px < image.shape[1] - 0.5) & (py < image.shape[0] - 0.5)
        count[np.ix_(ys, xs)] += inside
    return count


def crop_grid(grid: SkyGrid, images: Sequence[CelestialWcs], crop: Crop) -> SkyGrid:
    """The part of a grid that a crop asks for.

    Raises
    ------
    SettingError
        When no pixel is left.
    """
    if isinstance(crop, BoxCrop):
        box = Box(crop.y0, crop.y1, crop.x0, crop.x1).intersect(grid.box)
    else:
        step = 16
        count = sparse_coverage(images, grid, step)
        ys, xs = np.nonzero(count >= max(crop.share * count.max(), 1))
        box = Box(0, 0, 0, 0)
        if len(ys):
            box = Box(int(ys.min()) * step, int(ys.max() + 1) * step, int(xs.min()) * step, int(xs.max() + 1) * step)
        box = box.intersect(grid.box)
    if box.is_empty:
        raise SettingError("grid.crop-empty", crop=crop, width_px=grid.shape[1], height_px=grid.shape[0])
    return cut_grid(grid, box)


def grow_grid(grid: SkyGrid, images: Sequence[CelestialWcs]) -> SkyGrid:
    """A grid with whole rows and columns added so that it holds all images too; its pixels stay where they are.

    Raises
    ------
    SettingError
        When its projection cannot show the images.
    """
    height, width = grid.shape
    x, y = np.array([0.0, width - 1]), np.array([0.0, height - 1])
    for image in images:
        image_x, image_y = _seen_on(grid.wcs, *image.outline(8))
        x, y = np.append(x, image_x), np.append(y, image_y)
    low, high = (np.floor(np.min([y, x], axis=1) + 0.5), np.ceil(np.max([y, x], axis=1) - 0.5))
    box = Box(int(low[0]), int(high[0]) + 1, int(low[1]), int(high[1]) + 1)
    wcs = grid.wcs.wcs.deepcopy()
    wcs.wcs.crpix = [wcs.wcs.crpix[0] - box.x0, wcs.wcs.crpix[1] - box.y0]
    wcs.array_shape = box.shape
    return SkyGrid(CelestialWcs(wcs, box.shape))


def cut_grid(grid: SkyGrid, box: Box) -> SkyGrid:
    """The grid of a box of a grid's pixels: the same sky at the same pixels, counted from another corner."""
    return SkyGrid(grid.wcs.cut(box))
