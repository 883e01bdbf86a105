"""Raw Bayer planes: what has which colour, superpixels to measure on, noise of single samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from zemosaic.errors import FrameRejected
from zemosaic.kernels.measure.bayer_stars import RawPlane, fit_stars
from zemosaic.kernels.measure.superpixels import Cell, bin_cells
from zemosaic.kernels.resample.bayer import LOBE, SAMPLE_DENSITY, cfa_table, colour_phases
from zemosaic.kernels.resample.points import KERNEL_TAPS
from zemosaic.stages.numeric.quantile import quantile_of

__all__ = [
    "SUPERPIXEL_GAIN",
    "SUPERPIXEL_NOISE",
    "RawStars",
    "channel_map",
    "fit_raw_stars",
    "full_from_super",
    "noise_by_phase",
    "pixel_variance",
    "superpixels",
]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

SUPERPIXEL_GAIN = 4.0
"""Value of a superpixel over the raw level of its samples: it stands for four pixels of one colour."""

SUPERPIXEL_NOISE = (4.0, 2 * math.sqrt(2), 4.0)
"""Noise of a superpixel's red, green and blue over that of one raw sample of the colour."""

_ROWS_FOR_NOISE = 96
"""Rows of a colour that tell its noise: some 100,000 differences, to half a per cent."""


def channel_map(pattern: str) -> npt.NDArray[np.int64]:
    """Channel (red 0, green 1, blue 2) of each pixel by the parity of its row and column, shape (2, 2).

    Raises
    ------
    ValueError
        For a pattern other than RGGB, BGGR, GRBG, GBRG.
    """
    colour_phases(pattern)
    return np.array(["RGB".index(colour) for colour in pattern]).reshape(2, 2)


def superpixels(raw: F4, weight: F4, pattern: str, saturation_adu: float = math.inf) -> tuple[F4, F4]:
    """Half-size colour image of a whole raw plane: what stars and background are measured on.

    A superpixel is one cell of 2 x 2 pixels. Its red and blue are four times their one sample, its green is twice
    the sum of its two, so a sum over superpixels estimates the sum over all pixels in that colour, and a star's
    flux is in the units of a full-density plane.

    Parameters
    ----------
    raw, weight : ndarray, float32, shape (h, w)
        The plane from its first pixel, and its relative inverse variance. An odd last row or column is left out.
    pattern : str
        Colours of the first four pixels.
    saturation_adu : float
        Level at and above which a sample is saturated. A green with one saturated sample then reads at least four
        times this, so that ``4 x saturation_adu`` is the level of saturation in all channels.

    Returns
    -------
    data, weight : ndarray, float32, shape (3, h // 2, w // 2)
        The weight is the relative inverse variance, 1 where all samples have 1; a green with one missing sample is
        four times the other one with half its weight. Data are 0 where the weight is 0.

    Notes
    -----
    Coordinates: see `full_from_super`. Noise: see `SUPERPIXEL_NOISE`. The samples of red and blue sit half a pixel
    from the cell's middle, on opposite sides along both axes, so a position measured on the sum of all channels is
    off by ``(0.5, 0.5) px x (blue - red) / total`` or a mirror image of it: 0.05 px for a star with B - R = 10 %
    of its light. A position measured on green is exact.
    """
    places = {colour: [divmod(k, 2) for k in range(4) if pattern[k] == colour] for colour in "RGB"}
    data = np.empty((3, raw.shape[0] // 2, raw.shape[1] // 2), np.float32)
    out_weight = np.empty_like(data)
    (first, second), (red,), (blue,) = places["G"], places["R"], places["B"]
    bin_cells(raw, weight, Cell(red, first, second, blue), float(saturation_adu), data, out_weight)
    return data, out_weight


def full_from_super(x_super: npt.ArrayLike, y_super: npt.ArrayLike) -> tuple[F8, F8]:
    """Pixel position in the raw plane of a position among superpixels: ``2 x + 0.5``, likewise for y."""
    return 2 * np.asarray(x_super, float) + 0.5, 2 * np.asarray(y_super, float) + 0.5


def noise_by_phase(raw: F4, weight: F4) -> F4:
    """Noise of one raw sample for each of the four places in a 2 x 2 cell, from a sparse sample of rows.

    Parameters
    ----------
    raw, weight : ndarray, float32, shape (h, w)
        A raw plane, Bayer or mono; 0 weight where there is no data.

    Returns
    -------
    ndarray, float32, shape (2, 2)
        By the parity of row and column: half the range of the middle 68 % of differences between samples two
        columns apart, over sqrt(2). Stars and gradients hardly enter. At least 0.3 of a unit step, the rounding
        noise of whole numbers.

    Raises
    ------
    FrameRejected
        When fewer than 100 pairs of samples have weight.
    """
    noise = np.empty((2, 2), np.float32)
    rows_each = max(raw.shape[0] // 2 // _ROWS_FOR_NOISE, 1)
    for j, i in np.ndindex(2, 2):
        part = (slice(j, None, 2 * rows_each), slice(i, None, 2))
        sample, valid = raw[part], weight[part] > 0
        difference = (sample[:, 1:] - sample[:, :-1])[valid[:, 1:] & valid[:, :-1]]
        if difference.size < 100:
            raise FrameRejected("measure.too-few-pairs", n_pairs=difference.size)  # fmt: skip
        low, high = (quantile_of(difference, share) for share in (0.15865, 0.84135))
        noise[j, i] = max((high - low) / 2 / math.sqrt(2), 0.3)
    return noise


@cache
def pixel_variance(kernel: str, channel: int, pixfrac: float = 1.0) -> float:
    """Scatter of single output pixels of a CFA-direct warp over the large-area variance that its weight states.

    A weight says ``1 / variance`` of means over large areas, per pixel; noise of neighbouring output pixels is
    correlated, so single pixels scatter less. Output pixels of the size of raw pixels are assumed.

    Parameters
    ----------
    kernel : str
        As in `zemosaic.kernels.resample.bayer.resample_cfa`.
    channel : int
        0, 1, 2 for red, green, blue.
    pixfrac : float
        Drizzle only.

    Returns
    -------
    float
        Samples per pixel times the mean over all positions of the sum of squared taps: 0.28 for red and 0.40 for
        green with "lanczos3", 0.11 and 0.22 with "bilinear". For "area" and "drizzle" of a stack that is deep enough
        to have samples in every pixel, ``(1 - side / 3)^2`` with side the drop's in output pixels (Fruchter & Hook
        2002, PASP 114, 144, eq. 9; their other branch where the drop is larger than a pixel).
    """
    density = SAMPLE_DENSITY[channel]
    if kernel in {"area", "drizzle"}:
        side = pixfrac if kernel == "drizzle" else 1 / math.sqrt(density)
        return (1 - side / 3) ** 2 if side <= 1 else ((1 - 1 / (3 * side)) / side) ** 2
    taps = KERNEL_TAPS[kernel]
    if taps <= 2:
        per_axis = (1.0, 2 / 3)[taps - 1]
    else:
        table = cfa_table(taps // 2, LOBE[channel])[:-1].astype(float)
        per_axis = float(np.mean(np.sum(table**2, axis=1)))
    return density * per_axis**2


@dataclass(frozen=True, slots=True, eq=False)
class RawStars:
    """Stars as the samples of a raw plane show them, in the order given; NaN where a fit failed.

    Attributes
    ----------
    x, y : ndarray, shape (n,)
        Centres in pixels of the plane.
    fwhm_px, ellipticity : ndarray, shape (n,)
        Geometric mean of the axes' FWHM, the pixel's own width included, and 1 - minor / major axis.
    """

    x: F8
    y: F8
    fwhm_px: F8
    ellipticity: F8

    def typical(self) -> tuple[float, float]:
        """Medians of FWHM and ellipticity; NaN without any star."""
        good = np.isfinite(self.fwhm_px)
        if not good.any():
            return math.nan, math.nan
        return float(np.median(self.fwhm_px[good])), float(np.median(self.ellipticity[good]))


def fit_raw_stars(
    raw: F4, weight: F4, pattern: str | None, x: npt.ArrayLike, y: npt.ArrayLike, fwhm_px: float
) -> RawStars:
    """Centres and shapes of stars on a raw plane.

    Parameters
    ----------
    raw, weight : ndarray, float32, shape (h, w)
        The plane; samples of weight 0 (hot pixels, say) are left out.
    pattern : str or None
        Colours of the first four pixels; None for mono.
    x, y : array_like, shape (n,)
        Where the stars are to about half a FWHM, in pixels of the plane (`full_from_super`). Saturated stars and
        those with a neighbour within 3 FWHM are better left out.
    fwhm_px : float
        Width to start from, within a factor of 2 of the truth.

    Returns
    -------
    RawStars
    """
    x, y = np.ascontiguousarray(x, np.float64), np.ascontiguousarray(y, np.float64)
    found = np.empty((x.size, 5))
    channels = channel_map(pattern) if pattern else np.zeros((2, 2), np.int64)
    fit_stars(RawPlane(raw, weight, channels), x, y, float(fwhm_px), max(math.ceil(1.8 * fwhm_px), 4), found)
    major, minor = found[:, 2], found[:, 3]
    return RawStars(found[:, 0], found[:, 1], np.sqrt(major * minor), 1 - minor / major)
