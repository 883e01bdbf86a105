"""How near a mosaic comes to the truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from scipy.ndimage import binary_erosion, uniform_filter
from scipy.spatial import cKDTree

from zemosaic.errors import NothingToDo
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.simulate.truth import ExposureTruth, SetTruth, read_truth

__all__ = ["PlaneScore", "score_mosaic", "score_plane", "true_image"]

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_BIN_PX = 24
"""Side of the blocks that large-scale errors are read from: far wider than a star, far narrower than a frame."""

_FAINTEST_MASKED_ADU = 400.0
"""Stars above are masked with a radius that grows with them; fainter ones are part of the known sky."""

_FAINTEST_MEASURED_ADU = 12000.0
"""Fainter stars tell more of noise than of gains."""

_BRIGHTEST_MEASURED_ADU = 400000.0
"""Brighter stars may be saturated."""

_BORDER_OFFSET_PX = 6.0
"""Distance of the compared means of 7 x 7 pixels from an exposure's border: none reaches over it."""

_SEGMENT_PX = 96.0
"""Length of border that makes one value."""

_POINTS_PER_SEGMENT = 16
"""Means along a segment: one every six pixels, so that those of 7 x 7 pixels meet."""

_MMAG = 2500 / np.log(10)
"""Thousandths of a magnitude in a relative difference of 1."""


class _Stars(NamedTuple):
    """True stars on a mosaic: where they lie, pixels, and their fluxes in one channel, ADU."""

    x: Array
    y: Array
    flux: Array


@dataclass(frozen=True, slots=True)
class PlaneScore:
    """Figures of one plane of a mosaic of a simulated set; smaller is better but for `filled`.

    Attributes
    ----------
    star_mmag : float
        Robust scatter of measured over true flux of isolated stars, millimagnitudes; NaN below 5 stars.
    n_stars : int
        How many were measured.
    background_sigma : float
        RMS of the background's residual in bins of 24 pixels, in units of one exposure's noise, after a
        cubic over the whole mosaic (which differences between exposures cannot know) is removed.
    seam_sigma : float
        RMS step of the residual across the borders of the exposures, in the same units.
    n_steps : int
        Number of border segments behind it.
    filled : float
        Share of the exposures' common footprint where the mosaic holds data.
    scale : float
        Mosaic units per true ADU, from the stars.
    """

    star_mmag: float
    n_stars: int
    background_sigma: float
    seam_sigma: float
    n_steps: int
    filled: float
    scale: float


def score_mosaic(set_dir: Path | str, mosaic: Path | str) -> dict[str, float]:
    """Compare a mosaic file with the truth of the set it was made of.

    Parameters
    ----------
    set_dir : Path or str
        Folder that `simulate_frames` or `simulate_raws` wrote.
    mosaic : Path or str
        FITS file with the mosaic in its primary HDU, one plane or red, green, blue.

    Returns
    -------
    dict
        The figures of `PlaneScore` by name; for a colour mosaic with ``red_``, ``green_``, ``blue_`` before.

    Raises
    ------
    SettingError
        When the folder holds no truth.
    NothingToDo
        When the mosaic holds no data on the truth's sky, or its planes are not the set's.
    """
    truth = read_truth(set_dir)
    data, header = fits.getdata(mosaic, header=True)
    planes = data[None] if data.ndim == 2 else data
    if len(planes) != truth.n_channels:
        raise NothingToDo("score.planes", n_planes=len(planes), n_channels=truth.n_channels)
    wcs = CelestialWcs.from_header(header, planes.shape[1:])
    figures = {}
    for channel, plane in enumerate(planes):
        prefix = ("red_", "green_", "blue_")[channel] if len(planes) == 3 else ""
        score = asdict(score_plane(plane, wcs, truth, channel))
        figures.update({prefix + name: float(value) for name, value in score.items()})
    return figures


def score_plane(data: npt.NDArray[np.floating], wcs: CelestialWcs, truth: SetTruth, channel: int = 0) -> PlaneScore:
    """Compare one plane of a mosaic with what is true.

    Parameters
    ----------
    data : ndarray of float, shape (h, w)
        The plane; NaN where it holds no data. Values are counts in an output pixel.
    wcs : CelestialWcs
        Its WCS.
    truth : SetTruth
        What `simulate_frames` or `simulate_raws` returned, or `read_truth` read.
    channel : int
        Which plane of a colour mosaic this is (red 0, green 1, blue 2).

    Returns
    -------
    PlaneScore

    Raises
    ------
    NothingToDo
        When the plane holds no data on the truth's sky.
    """
    flux = truth.sky.star_fluxes(truth.n_channels)[:, channel]
    stars = _Stars(*wcs.sky_to_pixel(truth.sky.star_ra, truth.sky.star_dec), flux)
    fwhm_px = _mosaic_fwhm(truth, wcs)
    valid = np.isfinite(data)
    if not valid.any():
        raise NothingToDo("score.no-data")
    full = true_image(truth, wcs, channel)
    model = true_image(truth, wcs, channel, faintest_left_out=_FAINTEST_MASKED_ADU)
    ratio = _star_ratios(np.where(valid, data, 0), valid, model, full - model, stars, fwhm_px)
    scale = float(np.median(ratio)) if len(ratio) else 1.0
    clean = binary_erosion(valid, iterations=6) & ~_star_mask(data.shape, stars, fwhm_px)
    residual = np.where(clean, data, 0) / scale - np.where(clean, model, 0)
    background, trend = _background_rms(residual, clean)
    steps = _border_steps(np.where(clean, residual - trend, 0), clean, wcs, _good(truth))
    return PlaneScore(
        star_mmag=float(_robust_std(ratio / scale) * _MMAG) if len(ratio) >= 5 else float("nan"),
        n_stars=len(ratio),
        background_sigma=background / truth.sigma,
        seam_sigma=float(np.sqrt(np.mean(steps**2))) / truth.sigma if len(steps) else float("nan"),
        n_steps=len(steps),
        filled=_filled(valid, wcs, _good(truth)),
        scale=scale,
    )


def true_image(truth: SetTruth, wcs: CelestialWcs, channel: int = 0, faintest_left_out: float = np.inf) -> Image:
    """What a perfect, noiseless mosaic would show on a grid.

    Parameters
    ----------
    truth : SetTruth
        The set.
    wcs : CelestialWcs
        The grid.
    channel : int
        Plane of a colour mosaic.
    faintest_left_out : float
        Stars of this flux in ADU and brighter are left out.

    Returns
    -------
    ndarray of float32
        ADU in a pixel of the grid, with the mean seeing of the set.
    """
    sky = truth.sky
    image = np.zeros(wcs.shape, np.float32)
    colour = sky.nebula_colour[channel] if truth.n_channels == 3 else 1.0
    sky.add_nebula(image, wcs, np.array([colour * (wcs.pixel_scale_arcsec() / sky.pixel_arcsec) ** 2]))
    flux = sky.star_fluxes(truth.n_channels)[:, channel]
    shown = np.where(flux < faintest_left_out, flux, 0.0)
    sky.add_stars(image, wcs, _mosaic_fwhm(truth, wcs), shown[:, None], 3e-4 * truth.sigma)
    return image


def _good(truth: SetTruth) -> list[ExposureTruth]:
    return [e for e in truth.exposures if e.condition == "good"]


def _mosaic_fwhm(truth: SetTruth, wcs: CelestialWcs) -> float:
    arcsec = [e.fwhm_px * np.sqrt(e.area) * truth.sky.pixel_arcsec for e in _good(truth)]
    return float(np.mean(arcsec)) / wcs.pixel_scale_arcsec()


def _robust_std(values: Array) -> float:
    low, high = np.percentile(values, [15.865, 84.135])
    return float(high - low) / 2


def _star_mask(shape: tuple[int, ...], stars: _Stars, fwhm_px: float) -> Mask:
    """True round stars, as far as their wings exceed what a change of the seeing may move."""
    mask = np.zeros(shape, bool)
    for xs, ys, f in zip(*stars, strict=True):
        if f < _FAINTEST_MASKED_ADU or not (0 <= xs < shape[1] and 0 <= ys < shape[0]):
            continue
        radius = fwhm_px * (1 + (f / _FAINTEST_MASKED_ADU) ** (1 / 6))
        reach = int(np.ceil(radius))
        j, i = round(float(ys)), round(float(xs))
        rows, columns = np.ogrid[max(j - reach, 0) : j + reach + 1, max(i - reach, 0) : i + reach + 1]
        rows, columns = rows[rows[:, 0] < shape[0]], columns[:, columns[0] < shape[1]]
        inside = (rows - ys) ** 2 + (columns - xs) ** 2 <= radius**2
        mask[rows[0, 0] : rows[-1, 0] + 1, columns[0, 0] : columns[0, -1] + 1] |= inside
    return mask


def _star_ratios(
    data: npt.NDArray[np.floating],
    valid: Mask,
    model: Image,
    light: Image,
    stars: _Stars,
    fwhm_px: float,
) -> Array:
    """Aperture fluxes of isolated stars over those of the same apertures on their true `light`.

    The true background `model` is taken off first: it scales with what the stars tell.
    """
    x, y, flux = stars
    aperture, outer = 2.3 * fwhm_px, 5 * fwhm_px
    reach = int(np.ceil(outer))
    height, width = data.shape
    inside = (x > reach) & (y > reach) & (x < width - reach - 1) & (y < height - reach - 1)
    seen = np.flatnonzero(inside & (flux > _FAINTEST_MASKED_ADU))
    target = seen[(flux[seen] > _FAINTEST_MEASURED_ADU) & (flux[seen] < _BRIGHTEST_MEASURED_ADU)]
    if not len(target):
        return np.zeros(0)
    place = np.stack([x, y], axis=1)
    alone = cKDTree(place[seen]).query_ball_point(place[target], outer + fwhm_px, return_length=True) == 1
    cuts = []
    for k in target[alone]:
        j, i = round(float(y[k])), round(float(x[k]))
        box = np.s_[j - reach : j + reach + 1, i - reach : i + reach + 1]
        if valid[box].all():
            rows, columns = np.mgrid[box]
            radius = np.hypot(rows - y[k], columns - x[k])
            cuts.append((_aperture_flux(light[box], radius, aperture, outer), data[box], model[box], radius))
    ratio, scale = np.zeros(0), 1.0
    for _ in range(3):
        ratio = np.array([_aperture_flux(d - scale * m, r, aperture, outer) / f for f, d, m, r in cuts])
        scale = float(np.median(ratio)) if len(ratio) else 1.0
    return ratio


def _aperture_flux(cut: npt.NDArray[np.floating], radius: Array, aperture: float, outer: float) -> float:
    ring = (radius > 1.3 * aperture) & (radius < outer)
    return float(np.sum(cut[radius < aperture] - np.median(cut[ring])))


def _background_rms(residual: Array, clean: Mask) -> tuple[float, Array]:
    """RMS of the binned residual about a robust cubic, and the cubic's values on all pixels."""
    height, width = residual.shape
    rows, columns = height // _BIN_PX, width // _BIN_PX
    if rows < 2 or columns < 2:
        raise NothingToDo("score.too-small", width_px=width, height_px=height)
    cut = np.s_[: rows * _BIN_PX, : columns * _BIN_PX]
    shape = (rows, _BIN_PX, columns, _BIN_PX)
    count = clean[cut].reshape(shape).sum((1, 3))
    total = residual[cut].reshape(shape).sum((1, 3))
    j, i = np.nonzero(count > _BIN_PX**2 // 2)
    if len(j) < 20:
        raise NothingToDo("score.too-few-bins", n_bins=len(j))
    value = total[j, i] / count[j, i]
    basis = _cubic((i + 0.5) / columns - 0.5, (j + 0.5) / rows - 0.5)
    kept = np.ones(len(value), bool)
    for _ in range(5):
        coefficients = np.linalg.lstsq(basis[kept], value[kept], rcond=None)[0]
        left = value - basis @ coefficients
        kept = np.abs(left) <= 4 * _robust_std(left[kept]) + 1e-12
    left = np.clip(left, *np.percentile(left, [0.5, 99.5]))
    u = (np.arange(width) + 0.5) / (columns * _BIN_PX) - 0.5
    v = (np.arange(height) + 0.5) / (rows * _BIN_PX) - 0.5
    trend = np.zeros(residual.shape)
    for k, (p, q) in enumerate(_CUBIC_POWERS):
        trend += coefficients[k] * np.outer(v**q, u**p)
    return float(np.sqrt(np.mean(left**2))), trend


_CUBIC_POWERS = [(p, q) for p in range(4) for q in range(4 - p)]


def _cubic(u: Array, v: Array) -> Array:
    return np.stack([u**p * v**q for p, q in _CUBIC_POWERS], axis=1)


def _border_steps(residual: Array, clean: Mask, wcs: CelestialWcs, exposures: list[ExposureTruth]) -> Array:
    """Step of the residual across each exposure's border, one value a segment of about 96 pixels.

    Means over 7 x 7 pixels are compared 6 pixels inside and outside the border.
    """
    weight = np.asarray(uniform_filter(clean.astype(float), 7))
    mean = np.asarray(uniform_filter(residual, 7) / np.maximum(weight, 1e-6))
    steps = []
    for exposure in exposures:
        image_wcs = exposure.celestial
        offset = _BORDER_OFFSET_PX * wcs.pixel_scale_arcsec() / image_wcs.pixel_scale_arcsec()
        inner, outer = _border_points(exposure, offset)
        difference = _look_up(mean, weight, wcs, image_wcs, inner) - _look_up(mean, weight, wcs, image_wcs, outer)
        enough = np.isfinite(difference).sum(axis=1) >= _POINTS_PER_SEGMENT // 2
        steps.append(np.nanmedian(difference[enough], axis=1))
    return np.concatenate(steps)


def _border_points(exposure: ExposureTruth, offset: float) -> tuple[Array, Array]:
    """Points ``(2, n_segments, 16)`` just inside and just outside the border of the data."""
    height, width = exposure.shape
    left, right, low, high = -0.5, width - exposure.border_px - 0.5, exposure.border_px - 0.5, height - 0.5
    sides = [
        ((left, low), (right, low), (0, 1)),
        ((left, high), (right, high), (0, -1)),
        ((left, low), (left, high), (1, 0)),
        ((right, low), (right, high), (-1, 0)),
    ]
    inside, outside = [], []
    for start, end, inwards in sides:
        start_px, end_px, normal = np.array(start), np.array(end), np.array(inwards, float)
        n_segments = max(round(float(np.abs(end_px - start_px).max()) / _SEGMENT_PX), 1)
        n_points = n_segments * _POINTS_PER_SEGMENT
        t = ((np.arange(n_points) + 0.5) / n_points).reshape(n_segments, _POINTS_PER_SEGMENT)
        points = start_px[:, None, None] + (end_px - start_px)[:, None, None] * t
        inside.append(points + offset * normal[:, None, None])
        outside.append(points - offset * normal[:, None, None])
    return np.concatenate(inside, axis=1), np.concatenate(outside, axis=1)


def _look_up(mean: Array, weight: Array, wcs: CelestialWcs, image_wcs: CelestialWcs, points: Array) -> Array:
    """Values of the mosaic at points of an exposure; NaN where less than half of the pixels count."""
    x, y = wcs.sky_to_pixel(*image_wcs.pixel_to_sky(*points))
    i, j = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (i >= 0) & (j >= 0) & (i < mean.shape[1]) & (j < mean.shape[0])
    value = np.full(i.shape, np.nan)
    value[inside] = np.where(weight[j[inside], i[inside]] > 0.5, mean[j[inside], i[inside]], np.nan)
    return value


def _filled(valid: Mask, wcs: CelestialWcs, exposures: list[ExposureTruth]) -> float:
    """Share of the union of footprints (8 pixels in from the borders) where the mosaic holds data."""
    rows, columns = np.mgrid[4 : valid.shape[0] : 8, 4 : valid.shape[1] : 8]
    ra, dec = wcs.pixel_to_sky(columns, rows)
    covered = np.zeros(rows.shape, bool)
    for e in exposures:
        x, y = e.celestial.sky_to_pixel(ra, dec)
        covered |= (x > 8) & (y > e.border_px + 8) & (x < e.shape[1] - e.border_px - 9) & (y < e.shape[0] - 9)
    return float(valid[rows, columns][covered].mean()) if covered.any() else 0.0
