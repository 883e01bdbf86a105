"""Defective pixels: found on each raw frame, and by what all frames of a camera have in common."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.measure.hot_pixels import RESIDUAL_UNIT, find_defects, find_residuals
from zemosaic.model.box import Box

__all__ = ["LEAST_FRAMES", "DefectCounter", "Residuals", "drop_pixels", "mask_defects", "residuals_of"]

F4 = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Residuals = npt.NDArray[np.int16]
"""How far every pixel of a raw frame stands from the median of its neighbours; see `residuals_of`."""

N_SIGMA = 6.0
"""How far a pixel stands out of its neighbours to be judged, in sigma of the sky."""

LEAST_FRAMES = 5
"""Fewer frames tell no more than each of them does."""


_LEAST_MEAN_SIGMA = 0.5
"""A fainter defect does less harm than the pixel is worth."""

_RESIDUAL_SIGMA = 1.1
"""Scatter of a residual against the median of eight neighbours, in sigma."""

_STAR_SHARE = 0.15
"""A mean excess whose four neighbours show this share of it is a star that never moved."""


def mask_defects(raw: F4, weight: F4, noise: F4, *, n_sigma: float = N_SIGMA) -> tuple[F4, Codes]:
    """Give weight 0 to single hot and cold pixels of a raw frame.

    Parameters
    ----------
    raw, weight : ndarray, float32, shape (h, w)
        A whole raw plane, Bayer or mono.
    noise : ndarray, float32, shape (2, 2)
        Noise of a sample by the parity of its row and column (`zemosaic.stages.raw.cfa.noise_by_phase`).
    n_sigma : float
        Threshold in sigma of the sky.

    Returns
    -------
    weight : ndarray, float32, shape (h, w)
        A copy, 0 at defects. The data are not touched.
    codes : ndarray, uint8, shape (h, w)
        1 hot, 2 cold, 0 for the rest.
    """
    weight = weight.copy()
    codes = np.empty(raw.shape, np.uint8)
    find_defects(raw, weight, noise, n_sigma, codes)
    weight.reshape(-1)[np.flatnonzero(codes > 0)] = 0  # a few: by their numbers, not by a map
    return weight, codes


def drop_pixels(weight: F4, pixels: npt.NDArray[np.int32], box: Box, width: int) -> None:
    """Give weight 0 to listed pixels of a frame in a window of it.

    Parameters
    ----------
    weight : ndarray, float32, shape of the box
        Changed.
    pixels : ndarray, int32
        Indices into the flat frame, ascending.
    box : Box
        Where the window lies in the frame.
    width : int
        Columns of the frame.
    """
    # Numbers of the list's own type: for others all of the list would be converted.
    first, last = pixels.searchsorted(np.array((box.y0 * width, box.y1 * width), pixels.dtype))
    y, x = np.divmod(pixels[first:last], width)
    inside = (x >= box.x0) & (x < box.x1)
    weight[y[inside] - box.y0, x[inside] - box.x0] = 0


def residuals_of(raw: F4, weight: F4, noise: F4) -> Residuals:
    """How far every pixel of a whole raw frame stands from the median of its neighbours.

    Parameters
    ----------
    raw, weight : ndarray, float32, shape (h, w)
    noise : ndarray, float32, shape (2, 2)
        See `mask_defects`.

    Returns
    -------
    ndarray, int16, shape (h, w)
        In 64ths of sigma, cut at 8 sigma; 0 where a pixel or one of its neighbours is missing.
    """
    out = np.empty(raw.shape, np.int16)
    find_residuals(raw, weight, noise, out)
    return out


class DefectCounter:
    """What is hot or cold in all frames of one camera, however faintly.

    Each frame adds its residuals (`residuals_of`). They are whole numbers, so the sum does not depend on the order of
    frames, and takes four bytes a pixel for any number of them.
    The sky moves from frame to frame and averages out; a defect stays. Where the sky does not move (no dither, a
    perfect mount) a star stays too, and is told by its neighbours as in a single frame.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the sensor.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.n_frames = 0
        self.total = np.zeros(shape, np.int32)

    def add(self, residuals: Residuals) -> None:
        """Take a whole raw frame into account.

        Parameters
        ----------
        residuals : ndarray, int16, shape (height, width)

        Raises
        ------
        ValueError
            When the frame has another shape than the sensor.
        """
        if residuals.shape != self.total.shape:
            raise ValueError(f"the counter is for frames of {self.total.shape} pixels, got {residuals.shape}")
        self.total += residuals
        self.n_frames += 1

    def defects(self, n_sigma: float = N_SIGMA) -> npt.NDArray[np.bool_]:
        """Pixels whose mean residual stands out.

        Parameters
        ----------
        n_sigma : float
            Threshold in the noise of the mean; 0.5 sigma of a single frame at least, since less does no harm.

        Returns
        -------
        ndarray, bool, shape (height, width)
            All False with fewer than 5 frames. Missing pixels count as ordinary.
        """
        if self.n_frames < LEAST_FRAMES:
            return np.zeros(self.total.shape, bool)
        mean = (self.total / np.float32(RESIDUAL_UNIT * self.n_frames)).astype(np.float32)
        error = _RESIDUAL_SIGMA / math.sqrt(self.n_frames)
        limit = max(n_sigma * error, _LEAST_MEAN_SIGMA)
        padded = np.pad(mean, 1, mode="reflect")
        beside = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / np.float32(4)
        star = np.sign(mean) * beside > _STAR_SHARE * np.abs(mean) + error
        return np.asarray((np.abs(mean) > limit) & ~star)
