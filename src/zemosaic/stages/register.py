"""Frames of a group laid on each other by their pixels alone, and the footprints that are left (SPEC R-40).

Where stars can be matched, `solve_ties.register_frames` does better; a shift found here says how much to believe it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter
from scipy.special import log_ndtr

from zemosaic.model.box import Box

__all__ = ["FftShift", "count_coverage", "find_shift", "reduce_footprint", "shift_overlap", "valid_pixels"]

F8 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[Any]

BACKGROUND_PX = 33
"""Structure larger than this, gradients above all, does not align frames."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FftShift:
    """A shift found by phase correlation.

    Attributes
    ----------
    dy, dx : float
        Pixel (y, x) of the image shows what pixel (y + dy, x + dx) of the reference shows.
    significance : float
        Height of the peak in standard deviations of the correlation.
    log10_chance : float
        log10 of the probability that noise alone has so high a peak anywhere; below -8 there is no doubt.
    """

    dy: float
    dx: float
    significance: float
    log10_chance: float


def find_shift(reference: AnyArray, image: AnyArray) -> FftShift:
    """The shift between two images of one scale and orientation.

    Parameters
    ----------
    reference, image : ndarray, shape (h, w)
        Pixels that are not finite are filled with the background: none enters the transform.

    Returns
    -------
    FftShift

    Raises
    ------
    ValueError
        When the shapes differ, or an image has no finite pixel.

    Notes
    -----
    Phase correlation (Kuglin & Hines 1975); the peak is refined by a parabola along each axis. Where the phases are
    random the correlation is normal and alike at all shifts, so the probability that the largest of N values exceeds z
    sigma by chance is N times the tail beyond z. No window is laid over the images, which would make the correlation of
    noise wider at small shifts (a Hann window: false peaks of a stated chance of 1e-3 in half of all pairs); the
    background is taken off instead, so their edges do not matter.
    """
    if reference.shape != image.shape or reference.ndim != 2:
        raise ValueError(f"two planes of one shape are wanted, got {reference.shape} and {image.shape}")
    product = np.conj(np.fft.rfft2(_prepared(image))) * np.fft.rfft2(_prepared(reference))
    size = np.abs(product)
    product = np.divide(product, size, out=np.zeros_like(product), where=size > 0)
    surface = np.fft.irfft2(product, s=image.shape)
    surface = surface - surface.mean()
    sigma = 1.4826 * float(np.median(np.abs(surface)))
    y, x = (int(k) for k in np.unravel_index(np.argmax(surface), surface.shape))
    height = float(surface[y, x]) / sigma if sigma > 0 else 0.0
    log_chance = min((math.log(surface.size) + float(log_ndtr(-height))) / math.log(10), 0.0)
    dy, dx = y + _parabola(surface[:, x], y), x + _parabola(surface[y], x)
    h, w = image.shape
    return FftShift(dy - h if dy > h / 2 else dy, dx - w if dx > w / 2 else dx, height, log_chance)


def _prepared(image: AnyArray) -> F8:
    """Without background and gaps."""
    plane = np.asarray(image, float)
    finite = np.isfinite(plane)
    if not finite.any():
        raise ValueError(f"an image of {plane.shape} pixels has none that is finite")
    filled = np.where(finite, plane, np.median(plane[finite]))
    return np.where(finite, filled - uniform_filter(filled, BACKGROUND_PX, mode="nearest"), 0.0)


def _parabola(values: F8, peak: int) -> float:
    """Place of the top of a parabola through a peak and its neighbours, relative to the peak."""
    before, top, after = values[peak - 1], values[peak], values[(peak + 1) % len(values)]
    bend = before - 2 * top + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def shift_overlap(shape: tuple[int, int], shift: FftShift) -> Box:
    """Pixels of the reference that the shifted image shows whole; the line that is logged tells shift and fraction.

    Parameters
    ----------
    shape : (height, width)
        Of both images.
    shift : FftShift

    Returns
    -------
    Box
        Exact: a shift by 5 columns leaves out 5 columns, one by 4.3 columns 5 as well. Possibly empty.
    """
    height, width = shape
    # A shift that is whole to within the precision of the refinement is whole.
    dy, dx = (round(v) if abs(v - round(v)) < 0.05 else v for v in (shift.dy, shift.dx))
    moved = Box(math.ceil(dy), math.floor(height + dy), math.ceil(dx), math.floor(width + dx))
    box = moved.intersect(Box.of_shape(shape))
    _log.debug(
        "FFT registration: dy=%.2f dx=%.2f overlap=%s overlap_frac=%.4f log10_chance=%.1f",
        shift.dy, shift.dx, box, box.n_pixels / (height * width), shift.log10_chance,
    )  # fmt: skip
    return box


def reduce_footprint(
    footprint: AnyArray | None, image_shape: tuple[int, ...], *, marks_missing: bool = True
) -> Mask | None:
    """A footprint of whatever form as one plane, true where there are data.

    Parameters
    ----------
    footprint : ndarray, optional
        Bool, or numbers of which those above 0 are true; shape (h, w), (h, w, c) or (c, h, w).
    image_shape : tuple of int
        Of the registered image, ``(h, w)``, ``(h, w, c)`` or ``(c, h, w)``: tells the axis of the channels.
    marks_missing : bool
        Whether true marks what has *no* data, as in astroalign.

    Returns
    -------
    ndarray of bool, shape (h, w), or None
        A pixel has data when all of its channels have. None, with a line in the log, for no footprint or one that fits
        the image in no way or in two.
    """
    if footprint is None:
        _log.info("MT_COVERAGE_IGNORED: no footprint came with the registered image")
        return None
    flags = footprint if footprint.dtype == bool else footprint > 0
    valid = ~flags if marks_missing else flags
    if len(image_shape) == 2:
        planes = {tuple(image_shape)}
    else:
        planes = {
            shape for shape, n in ((image_shape[:2], image_shape[2]), (image_shape[1:], image_shape[0])) if n <= 4
        }
    if valid.ndim == 2 and valid.shape in planes:
        return np.asarray(valid)
    axes = [axis for axis in (0, 2) if valid.ndim == 3 and _without(valid.shape, axis) in planes]
    if len(axes) != 1 or len(planes) != 1:
        _log.info("MT_COVERAGE_IGNORED: footprint of shape %s for an image of %s", footprint.shape, image_shape)
        return None
    return np.asarray(valid.all(axis=axes[0]))


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def valid_pixels(image: AnyArray) -> Mask:
    """Where all channels of an image ``(h, w)`` or ``(h, w, c)`` are finite."""
    finite = np.isfinite(image)
    return np.asarray(finite.all(axis=-1) if image.ndim == 3 else finite)


def count_coverage(footprints: Iterable[Mask | None], shape: tuple[int, int]) -> npt.NDArray[np.int32] | None:
    """How many frames reach each pixel, added up frame by frame: no more than one footprint is held.

    Parameters
    ----------
    footprints : iterable of ndarray of bool
        From `reduce_footprint` or `valid_pixels`.
    shape : (height, width)

    Returns
    -------
    ndarray, int32, or None
        None, with a line in the log, where a footprint is missing or has another shape, or nothing is covered.
    """
    count = np.zeros(shape, np.int32)
    for number, footprint in enumerate(footprints):
        if footprint is None or footprint.shape != shape:
            found = None if footprint is None else footprint.shape
            _log.info("MT_COVERAGE_IGNORED: footprint %d is %s, the tile %s", number, found, shape)
            return None
        count += footprint
    if not count.any():
        _log.info("MT_COVERAGE_IGNORED: no pixel of %s is covered", shape)
        return None
    return count
