"""Find the stars of an image and measure their fluxes; mask their light."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.kernels.measure import mesh
from zemosaic.kernels.measure.apertures import BETA_OF_HOLES, Circles, Fluxes, Holes, aperture_fluxes, weighted_moments
from zemosaic.kernels.measure.holes import fill_holes, find_holes
from zemosaic.kernels.measure.peaks import (
    SMOOTHED_NOISE,
    Peaks,
    find_peaks,
    light_in_line,
    mark_objects,
    smooth,
    take_off_wide,
)
from zemosaic.model.measurements import Stars
from zemosaic.stages.measure.block_means import ChannelSky, block_edges, sky_of_blocks
from zemosaic.stages.numeric.robust import mad_sigma

__all__ = ["APERTURES_FWHM", "find_stars", "star_mask", "well_measured"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.uint8]

MESH_PX = 64
"""Side of the blocks that the sky is read from: many times a star's width, and narrower than gradients bend."""

_MOST_MEASURED = 3000
"""Brightest stars that are measured: they bound the time that a field of the Milky Way takes."""

_MAX_PEAKS = 100_000
"""Room for peaks, of which the brightest are then chosen."""

_FWHM_OF_SIGMA = 2.3548
"""Of a Gaussian: ``sqrt(8 ln 2)``."""

APERTURES_FWHM = (1.75, 3.0)
"""Radii of the measuring and of the growth-curve aperture, in FWHM of the frame."""

_RING_FWHM = (3.2, 5.0)
"""Ring of the local sky, in FWHM: clear of the aperture of the growth curve, and near enough to share its sky."""

_DEFAULT_FWHM_PX = 3.0
"""Where no star tells."""

_START_SIGMA_PX = 1.5
"""Of the weight that the first moments are taken with."""

_SURE_SNR, _FEWEST_SURE = 40.0, 10
"""Signal to noise from which the width of a peak is sure, and how many such are wanted. Fainter stars look narrower, by
5 % where most of them are: apertures of other sizes in every frame, and gains wrong by 3 mmag."""

_FAIR_SNR = 10.0
"""The same where there are not so many."""

_REACH_PX, _DROP = 5, 0.1
"""See `find_peaks`: the light of a star falls by more within so many pixels, that of a bump on its flank does not."""

_STRUCTURED = 1.25
"""Scatter of the smoothed image over what noise alone leaves, from which there is structure in the sky: crowds of faint
stars and nebulae reach 2 to 20, a plain sky 1.0 to 1.1."""

_WIDE_PX = 6
"""Reach of the square whose mean is taken off a structured sky: its side is four times a star's width, so that it holds
a tenth of a star's height. Of 80 faint stars on structure of 8 and 33 times the noise 79 and 35 are found; with 10 px
70 and 7."""

_MOST_OF_STAR = 4.0
"""Sigma at which light is cut off before that mean: bright stars make no hollows round them, and
holes no bright rims."""

_SOME = np.s_[::9, ::5]
"""Pixels that the scatter of an image is read from: it is then good to 0.4 % in 2 Mpix."""

_IN_LINE = 0.35
"""Share of a peak's height that goes on along one line, from which it lies on a trail or a filament."""

_BENT = 0.5
"""Bend of the sky from block to block, in units of a pixel's noise, from which lines between blocks are not enough:
below it they miss less than a sixteenth of the noise."""

_FINER = 4
"""Places between two blocks for which a bent sky is told: what lines between these miss is a sixteenth of that."""

_NEBULOUS = 0.3
"""Share of a mesh block's pixels above the threshold from which they are nebulosity, not stars."""

_BETA = 2.5
"""Of a Moffat star with wide wings; turbulence alone gives 4.8 (Trujillo et al. 2001, MNRAS 328, 977)."""

_FAINT = 0.1
"""Share of the sky noise that light of a star may leave in what counts as sky."""

_RIM_PX = 2
"""Round a detected pixel: its neighbours are part of the same star."""

_FILLED_VARIANCE = 2.25
"""What a filled pixel adds to the variance of a sum that holds its neighbours, in units of a pixel's: they count 1.5
times then, and the diagonal ones 0.75 times."""

_FILLED_ERROR = 0.4
"""Error of what a filled pixel is set right by, as a share of it: 0.1 to 0.5 for Gaussian and Moffat stars (beta 2.5 to
4) of 2 to 4 px."""

_FILLED_FLOOR = 0.4
"""Error of the light in a filled pixel in units of ``(1 - light beside) ** 2``, what the neighbours of a star's middle
miss of it: where nothing is set right, what differs from the profile remains."""

_MOST_FILLED = 0.05
"""Error of a flux by filled pixels, as a share of it, above which the star counts as one with a pixel missing."""


def find_stars(
    data: F4, bad: Mask, skies: list[ChannelSky], detect_sigma: float, limits: list[float]
) -> tuple[Stars, Mask, float]:
    """Detect on the sum of all channels, measure on each.

    Parameters
    ----------
    data : ndarray, shape (c, h, w), float32
    bad : ndarray, shape (h, w), uint8
        0 where a pixel counts. Single missing pixels are filled from their neighbours, at a price in the star's error.
    skies : list of ChannelSky
        One for each channel.
    detect_sigma : float
        Threshold of a peak in sigma of the smoothed image.
    limits : list of float
        Level from which each channel's pixels count as saturated; inf for none.

    Returns
    -------
    stars : Stars
    objects : ndarray, shape (h, w), uint8
        1 on pixels above the threshold, nebulosity left out.
    fwhm_px : float
        Median width of clean stars; NaN without any.
    """
    missing = bad
    data, bad, code = _without_holes(data, missing)
    light, sky = _detection_image(data, bad, skies)
    x, y, snr, objects = _detect(light, bad, sky, detect_sigma)
    x, y, fwhm, ellipticity = _shapes(light, x, y)
    width = _typical_width(fwhm, snr)
    scale = width if np.isfinite(width) else _DEFAULT_FWHM_PX
    holes = _tell_holes(code, missing, scale)
    flux, error, wide, peak, saturated = _photometry(data, bad, holes, skies, x, y, scale, limits)
    brightness = flux.sum(axis=0)
    order = np.argsort(-brightness, kind="stable")
    stars = Stars(
        x=x[order],
        y=y[order],
        flux=flux[:, order].astype(np.float32),
        flux_error=error[:, order].astype(np.float32),
        flux_wide=wide[:, order].astype(np.float32),
        peak=peak[order].astype(np.float32),
        fwhm_px=fwhm[order].astype(np.float32),
        ellipticity=ellipticity[order].astype(np.float32),
        saturated=saturated[order],
        blended=_blended(x, y, brightness, scale)[order],
    )
    return stars, objects, width


def star_mask(bad: Mask, objects: Mask, stars: Stars, noise: F8, fwhm_px: float) -> Mask:
    """Pixels that hold starlight or nothing.

    A disc round each star reaches out to where a profile with wings (Moffat, beta 2.5) of the star's flux has
    fallen to `_FAINT` of the sky noise; detected pixels themselves are masked with a rim.

    Parameters
    ----------
    bad : ndarray, shape (h, w), uint8
    objects : ndarray, shape (h, w), uint8
    stars : Stars
    noise : ndarray, shape (c,)
    fwhm_px : float
        Width of the image's stars; NaN takes a common one.

    Returns
    -------
    ndarray, shape (h, w), uint8
        1 where a pixel must not enter a block mean.
    """
    mask = bad.copy()
    mesh.grow_mask(objects, _RIM_PX, mask)
    if len(stars):
        width = fwhm_px if np.isfinite(fwhm_px) else _DEFAULT_FWHM_PX
        core = width / (2 * np.sqrt(2 ** (1 / _BETA) - 1))
        brightest = np.max(stars.flux / noise[:, None], axis=0).astype(float)
        centre = np.maximum(brightest, 1e-3) * (_BETA - 1) / (np.pi * core**2)
        radius = core * np.sqrt(np.maximum((centre / _FAINT) ** (1 / _BETA) - 1, 0.0))
        mesh.paint_discs(mask, stars.x, stars.y, np.clip(radius, 1.5 * width, 60 * width))
    return mask


def _detection_image(data: F4, bad: Mask, skies: list[ChannelSky]) -> tuple[F4, ChannelSky]:
    """Background-free sum of all channels, each divided by its noise squared, and what tells its noise."""
    total = np.zeros(data.shape[1:], np.float32)
    for channel, sky in zip(data, skies, strict=True):
        factor = np.float32(1 if len(skies) == 1 else 1 / sky.noise**2)
        mesh.add_above_mesh(channel, bad, *_fine_mesh(sky), factor, total)
    return total, skies[0] if len(skies) == 1 else sky_of_blocks(total, bad, MESH_PX, row_step=8)


def _fine_mesh(sky: ChannelSky) -> tuple[F4, F8, F8]:
    """Levels of a sky and their places along y and x: its mesh, and between its blocks, too, where it bends.

    Lines from block to block miss an eighth of a bend, and light that is left makes stars look wide: of a small frame
    with 40 % less of a bright sky at its corners four stars in five were taken for galaxies.
    """
    places = sky.y_centres, sky.x_centres
    bend = np.abs(scipy.ndimage.laplace(sky.mesh)[1:-1, 1:-1])
    if min(bend.shape) < 1 or np.median(bend) < _BENT * sky.noise:
        return sky.mesh, *places
    levels = _continue(_continue(sky.mesh, 0), 1)
    # A block's level is that of its middle and a part of the bend within it.
    levels = levels - scipy.ndimage.laplace(levels) / 24
    fine = [np.arange(0.5, len(at) + 0.5 + 1e-9, 1 / _FINER) for at in places]
    at_fine = np.meshgrid(*fine, indexing="ij")
    between = scipy.ndimage.map_coordinates(levels, at_fine, np.float32, order=3, mode="nearest")
    y, x = (np.interp(i, np.arange(len(at) + 2), _continue(at, 0, 1)) for i, at in zip(fine, places, strict=True))
    return between, y, x


def _continue(values: F8 | F4, axis: int, degree: int = 2) -> F8:
    """Values with one more at both ends of an axis, as a polynomial through the last ones goes on."""
    along = np.moveaxis(np.asarray(values, float), axis, 0)
    share = np.array([3, -3, 1] if degree == 2 else [2, -1, 0]).reshape(3, *[1] * (along.ndim - 1))
    first, last = np.sum(share * along[:3], axis=0), np.sum(share * along[:-4:-1], axis=0)
    return np.moveaxis(np.concatenate([first[None], along, last[None]]), 0, axis)


def _detect(light: F4, bad: Mask, sky: ChannelSky, detect_sigma: float) -> tuple[F8, F8, F8, Mask]:
    """Positions and signal to noise of peaks, highest first, and the pixels above the threshold."""
    smoothed: F4 = np.empty_like(light)
    objects: Mask = np.empty(light.shape, np.uint8)
    smooth(light, smoothed)
    # Demosaicing correlates the noise of neighbours: the smoothed image's own scatter is the safer one.
    scatter = mad_sigma(smoothed[_SOME][bad[_SOME] == 0])
    noise_mesh = SMOOTHED_NOISE * sky.noise_mesh.astype(float)
    sigma = np.maximum(noise_mesh, scatter).astype(np.float32)
    edges = mesh.BlockEdges(block_edges(light.shape[0], MESH_PX), block_edges(light.shape[1], MESH_PX))
    peaks = _list_peaks(smoothed, detect_sigma * sigma, edges)
    mark_objects(smoothed, detect_sigma * sigma, edges, _NEBULOUS, objects)
    if scatter > _STRUCTURED * SMOOTHED_NOISE * sky.noise:
        sigma = _take_off_structure(smoothed, bad, scatter, noise_mesh)
        peaks = _joined(peaks, _list_peaks(smoothed, detect_sigma * sigma, edges))
    on_line = _are_on_lines(smoothed, peaks)
    # On a structured sky the threshold of objects lies above a trail: its peaks tell where blocks must not look.
    lines = peaks.pick(on_line)
    mesh.paint_discs(objects, lines.x.astype(float), lines.y.astype(float), np.full(len(lines.x), float(_REACH_PX)))
    xs, ys, _ = peaks.pick(~on_line)
    at = np.searchsorted(edges.y, ys, side="right") - 1, np.searchsorted(edges.x, xs, side="right") - 1
    return xs.astype(float), ys.astype(float), np.asarray(smoothed[ys, xs] / sigma[at], float), objects


def _list_peaks(smoothed: F4, threshold: F4, edges: mesh.BlockEdges) -> Peaks:
    """The highest peaks of an image, highest first."""
    peaks = Peaks(np.empty(_MAX_PEAKS, np.int64), np.empty(_MAX_PEAKS, np.int64), np.empty(_MAX_PEAKS, np.float32))
    n = find_peaks(smoothed, threshold, edges, _REACH_PX, _DROP, peaks)
    return peaks.pick(np.argsort(-peaks.height[:n], kind="stable")[:_MOST_MEASURED])


def _joined(plain: Peaks, fine: Peaks) -> Peaks:
    """The peaks of the image itself, and those that show where its structure is taken off, one for each star."""
    if len(plain.x) > 0:
        known = scipy.spatial.cKDTree(np.column_stack([plain.x, plain.y]))
        distance, _ = known.query(np.column_stack([fine.x, fine.y]), distance_upper_bound=_REACH_PX)
        fine = fine.pick(np.isinf(distance))
    x, y = np.concatenate([plain.x, fine.x]), np.concatenate([plain.y, fine.y])
    return Peaks(x, y, np.concatenate([plain.height, fine.height])).pick(np.arange(min(len(x), _MOST_MEASURED)))


def _are_on_lines(image: F4, peaks: Peaks) -> npt.NDArray[np.bool_]:
    """Which peaks stand along a trail, where noise makes a row of them."""
    share = np.empty(len(peaks.x), np.float32)
    light_in_line(image, peaks.x, peaks.y, share)
    return np.asarray(share >= _IN_LINE)


def _take_off_structure(smoothed: F4, bad: Mask, scatter: float, noise_mesh: F8) -> F4:
    """Take off of the smoothed image what is wider than stars; returns the sigma that its peaks are held against.

    In a nebula a threshold of the image's own scatter is one of the nebula's bumps: of a star list half was lost there.
    """
    take_off_wide(smoothed, _WIDE_PX, np.float32(_MOST_OF_STAR * scatter))
    left = mad_sigma(smoothed[_SOME][bad[_SOME] == 0])
    return np.maximum(noise_mesh, left).astype(np.float32)


def _shapes(light: F4, x: F8, y: F8) -> tuple[F8, F8, F8, F8]:
    """Centroids, FWHM and ellipticities from weighted moments; the peak's place where they fail."""
    moments = np.empty((len(x), 5))
    weighted_moments(light, x, y, _START_SIGMA_PX, moments)
    fine = np.isfinite(moments[:, 0])
    x, y = np.where(fine, moments[:, 0], x), np.where(fine, moments[:, 1], y)
    xx, xy, yy = moments[:, 2:].T
    half_trace, root = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    major, minor = np.sqrt(half_trace + root), np.sqrt(np.maximum(half_trace - root, 0))
    return x, y, _FWHM_OF_SIGMA * np.sqrt(major * minor), 1 - minor / major


def well_measured(known: npt.NDArray[np.bool_], snr: F8) -> npt.NDArray[np.bool_]:
    """Which stars tell the shape of all: faint ones look narrower and longer than they are.

    Parameters
    ----------
    known : ndarray of bool, shape (n,)
        Stars that may be taken at all.
    snr : ndarray, shape (n,)
        Signal to noise.

    Returns
    -------
    ndarray of bool, shape (n,)
        Those above `_SURE_SNR`; where they are fewer than `_FEWEST_SURE`, those above `_FAIR_SNR`; else all known.
    """
    sure, fair = known & (snr > _SURE_SNR), known & (snr > _FAIR_SNR)
    if np.count_nonzero(sure) >= _FEWEST_SURE:
        return sure
    return fair if fair.any() else known


def _typical_width(fwhm: F8, snr: F8) -> float:
    """Median width of well measured detections, those far from it (cosmic hits, galaxies) left out."""
    good = well_measured(np.isfinite(fwhm), snr)
    if not good.any():
        return float("nan")
    width = float(np.median(fwhm[good]))
    near = good & (np.abs(fwhm - width) < 0.35 * width)
    return float(np.median(fwhm[near])) if near.any() else width


def _photometry(
    data: F4,
    bad: Mask,
    holes: Holes,
    skies: list[ChannelSky],
    x: F8,
    y: F8,
    width: float,
    limits: list[float],
) -> tuple[F8, F8, F8, F8, npt.NDArray[np.bool_]]:
    """Fluxes, errors and wide fluxes (c, n), peaks over the sky and saturation flags (n,)."""
    radii, found = np.array(APERTURES_FWHM) * width, Fluxes.empty(len(data), len(x), len(APERTURES_FWHM))
    circles = Circles(radii, _RING_FWHM[0] * width, _RING_FWHM[1] * width)
    aperture_fluxes(data, bad, holes, x, y, circles, found)
    area = found.area[:, 0]
    of_ring = area**2 / np.maximum(found.ring_n, 1)
    own = np.sqrt(area + of_ring + _FILLED_VARIANCE * found.n_filled)
    error = np.hypot(np.array([[sky.noise] for sky in skies]) * own, found.filled_error)
    saturated = (found.filled_error > _MOST_FILLED * np.abs(found.flux[..., 0])).any(axis=0)
    saturated |= (found.n_bad[:, 0] > 0) | (found.ring_n < 8) | (found.peak >= np.array(limits)[:, None]).any(axis=0)
    peak = np.max(found.peak - np.array([[sky.level] for sky in skies]), axis=0, initial=0.0)
    # In thin overlaps most stars lie near a rim: that cuts the aperture of growth curves, and not the measuring one.
    wide = np.where(found.n_bad[:, 1] > 0, np.nan, found.flux[..., 1])
    return found.flux[..., 0], error, wide, peak, saturated


def _without_holes(data: F4, bad: Mask) -> tuple[F4, Mask, Mask]:
    """The image and its bad pixels with single missing pixels filled, and how these were; no copy where none are."""
    code = np.empty_like(bad)
    if find_holes(bad, code) == 0:
        return data, bad, code
    filled = data.copy()
    for channel in filled:
        fill_holes(channel, code, bad)
    return filled, np.where(code > 0, np.uint8(0), bad), code


def _tell_holes(code: Mask, missing: Mask, width: float) -> Holes:
    """What was filled, and what stars of a width look like there."""
    core_px = width / (2 * np.sqrt(2 ** (1 / BETA_OF_HOLES) - 1))
    beside = np.exp(-4 * np.log(2) / width**2)  # a neighbour's light over the middle's
    return Holes(code, missing, core_px, _FILLED_ERROR, _FILLED_FLOOR * (1 - beside) ** 2)


def _blended(x: F8, y: F8, brightness: F8, width: float) -> npt.NDArray[np.bool_]:
    """Stars whose aperture a neighbour's light reaches: 1 % of it close by, brighter ones farther out."""
    blended = np.zeros(len(x), bool)
    if len(x) < 2:
        return blended
    pairs = scipy.spatial.cKDTree(np.column_stack([x, y])).query_pairs(4.5 * width, output_type="ndarray")
    a, b = np.concatenate([pairs, pairs[:, ::-1]]).T
    near = np.hypot(x[a] - x[b], y[a] - y[b]) < 2.5 * width
    spill = np.where(near, 1.0, 0.01) * brightness[b]
    blended[a[spill > 0.01 * np.maximum(brightness[a], 0)]] = True
    return blended
