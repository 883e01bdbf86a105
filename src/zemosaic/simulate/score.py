"""How near a mosaic comes to the truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy
from astropy.io import fits

from zemosaic.errors import NothingToDo
from zemosaic.model.each import Each
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.simulate.ground import POINTS_PER_SEGMENT, Ground, Pixels, filled_share, mosaic_fwhm
from zemosaic.simulate.truth import SetTruth, read_truth

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

_FAINTEST_FOR_SCALE_ADU = 2000.0
"""Where there is none as bright, many fainter ones tell what the whole mosaic is multiplied by."""

_BRIGHTEST_MEASURED_ADU = 400000.0
"""Brighter stars may be saturated."""

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


def score_mosaic(set_dir: Path | str, mosaic: Path | str, each: Each = map) -> dict[str, float]:
    """Compare a mosaic file with the truth of the set it was made of.

    Parameters
    ----------
    set_dir : Path or str
        Folder that `simulate_frames` or `simulate_raws` wrote.
    mosaic : Path or str
        FITS file with the mosaic in its primary HDU, one plane or red, green, blue.
    each : Each
        Looks at the planes, perhaps several at once.

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
    ground = Ground.of(truth, wcs)
    scores = each(lambda channel: _score(planes[channel], ground, channel), range(len(planes)))
    figures = {}
    for channel, score in enumerate(scores):
        prefix = ("red_", "green_", "blue_")[channel] if len(planes) == 3 else ""
        figures.update({prefix + name: float(value) for name, value in asdict(score).items()})
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
    return _score(data, Ground.of(truth, wcs), channel)


def _score(data: npt.NDArray[np.floating], ground: Ground, channel: int) -> PlaneScore:
    """As `score_plane`, of a plane on a known ground."""
    truth, fwhm_px = ground.truth, ground.fwhm_px
    stars = _Stars(ground.x, ground.y, truth.sky.star_fluxes(truth.n_channels)[:, channel])
    valid = np.isfinite(data)
    if not valid.any():
        raise NothingToDo("score.no-data")
    model = _true_nebula(truth, ground.wcs, channel)
    full = model.copy()
    _add_true_stars(full, truth, ground.wcs, channel)
    _add_true_stars(model, truth, ground.wcs, channel, _FAINTEST_MASKED_ADU)
    ratio = _star_ratios(np.where(valid, data, 0), valid, model, full - model, stars, fwhm_px)
    if len(ratio):
        scale = float(np.median(ratio))
    else:
        fainter = _star_ratios(
            np.where(valid, data, 0), valid, model, full - model, stars, fwhm_px, _FAINTEST_FOR_SCALE_ADU
        )
        scale = float(np.median(fainter)) if len(fainter) else 1.0
    clean = scipy.ndimage.binary_erosion(valid, iterations=6) & ~_star_mask(data.shape, stars, fwhm_px)
    residual = np.where(clean, data, 0) / scale - np.where(clean, model, 0)
    background, trend = _background_rms(residual, clean)
    steps = _border_steps(np.where(clean, residual - trend, 0), clean, ground.borders)
    return PlaneScore(
        star_mmag=float(_robust_std(ratio / scale) * _MMAG) if len(ratio) >= 5 else float("nan"),
        n_stars=len(ratio),
        background_sigma=background / truth.sigma,
        seam_sigma=float(np.sqrt(np.mean(steps**2))) / truth.sigma if len(steps) else float("nan"),
        n_steps=len(steps),
        filled=filled_share(valid, ground.covered),
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
    image = _true_nebula(truth, wcs, channel)
    _add_true_stars(image, truth, wcs, channel, faintest_left_out)
    return image


def _true_nebula(truth: SetTruth, wcs: CelestialWcs, channel: int) -> Image:
    sky = truth.sky
    image = np.zeros(wcs.shape, np.float32)
    colour = sky.nebula_colour[channel] if truth.n_channels == 3 else 1.0
    sky.add_nebula(image, wcs, np.array([colour * (wcs.pixel_scale_arcsec() / sky.pixel_arcsec) ** 2]))
    return image


def _add_true_stars(
    image: Image, truth: SetTruth, wcs: CelestialWcs, channel: int, faintest_left_out: float = np.inf
) -> None:
    flux = truth.sky.star_fluxes(truth.n_channels)[:, channel]
    shown = np.where(flux < faintest_left_out, flux, 0.0)
    truth.sky.add_stars(image, wcs, mosaic_fwhm(truth, wcs), shown[:, None], 3e-4 * truth.sigma)


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
    faintest: float = _FAINTEST_MEASURED_ADU,
) -> Array:
    """Aperture fluxes of isolated stars from `faintest` on, over those of the same apertures on their true `light`.

    The true background `model` is taken off first: it scales with what the stars tell.
    """
    x, y, flux = stars
    aperture, outer = 2.3 * fwhm_px, 5 * fwhm_px
    reach = int(np.ceil(outer))
    height, width = data.shape
    inside = (x > reach) & (y > reach) & (x < width - reach - 1) & (y < height - reach - 1)
    seen = np.flatnonzero(inside & (flux > _FAINTEST_MASKED_ADU))
    target = seen[(flux[seen] > faintest) & (flux[seen] < _BRIGHTEST_MEASURED_ADU)]
    if not len(target):
        return np.zeros(0)
    place = np.stack([x, y], axis=1)
    alone = scipy.spatial.cKDTree(place[seen]).query_ball_point(place[target], outer + fwhm_px, return_length=True) == 1
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
    of_powers = np.zeros((4, 4))
    of_powers[tuple(np.transpose(_CUBIC_POWERS))] = coefficients
    trend = np.vander(v, 4, increasing=True) @ of_powers.T @ np.vander(u, 4, increasing=True).T
    return float(np.sqrt(np.mean(left**2))), trend


_CUBIC_POWERS = [(p, q) for p in range(4) for q in range(4 - p)]


def _cubic(u: Array, v: Array) -> Array:
    return np.stack([u**p * v**q for p, q in _CUBIC_POWERS], axis=1)


def _border_steps(residual: Array, clean: Mask, borders: list[tuple[Pixels, Pixels]]) -> Array:
    """Step of the residual across each exposure's border, one value a segment of about 96 pixels.

    Means over 7 x 7 pixels are compared 6 pixels inside and outside the border.
    """
    weight = np.asarray(scipy.ndimage.uniform_filter(clean.astype(float), 7))
    mean = np.asarray(scipy.ndimage.uniform_filter(residual, 7) / np.maximum(weight, 1e-6))
    steps = []
    for inner, outer in borders:
        difference = _look_up(mean, weight, inner) - _look_up(mean, weight, outer)
        enough = np.isfinite(difference).sum(axis=1) >= POINTS_PER_SEGMENT // 2
        steps.append(np.nanmedian(difference[enough], axis=1))
    return np.concatenate(steps)


def _look_up(mean: Array, weight: Array, pixels: Pixels) -> Array:
    """Values of the mosaic at some pixels; NaN where less than half of those round one count."""
    j, i, inside = pixels
    value = np.full(i.shape, np.nan)
    value[inside] = np.where(weight[j[inside], i[inside]] > 0.5, mean[j[inside], i[inside]], np.nan)
    return value
