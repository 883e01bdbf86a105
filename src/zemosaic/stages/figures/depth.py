"""How the noise of a mosaic falls with area: scatter of means over boxes without stars, beside what VAR says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.stages.numeric.maps import grow_map
from zemosaic.stages.numeric.robust import mad_sigma

__all__ = ["BOX_SIZES", "noise_of_box", "pulls_of_boxes", "scatter_of_pulls"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

BOX_SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Sides of the boxes, px."""

SMOOTH_PX = 5
"""Stars are looked for in means over so many pixels each way: those that single pixels hide still weigh on boxes."""

STAR_SIGMA = 4.0
"""What stands so far above its surroundings is no sky."""

GROW_PX = 4
"""Light round a star that is too faint to be seen, and not for the mean of a box."""

SKY_BLOCK_PX = 32
"""Side of the blocks whose medians tell the surroundings."""

LEAST_FILLED = 0.5
"""Share of a box that must be sky."""

LEAST_PULLS = 30
"""Differences from which their scatter is known to 15 %."""


def pulls_of_boxes(data: F4, variance: F4, sizes_px: Sequence[int] = BOX_SIZES) -> list[F8]:
    """Second differences of the means of neighbouring boxes, over the errors that VAR gives them.

    Parameters
    ----------
    data, variance : ndarray, shape (h, w), float32
        Of one channel; NaN where there are no data.
    sizes_px : sequence of int
        Sides of the boxes, each a multiple of the one before.

    Returns
    -------
    list of ndarray, shape (n,)
        One a size, of sigma 1 where VAR is right. A level and a gradient of the sky cancel; what bends within three
        boxes stays.
    """
    sky = find_sky(data, variance)
    sums = np.stack([sky, np.where(sky, data, 0), np.where(sky, variance, 0)]).astype(np.float64)
    found, side_px = [], 1
    for size in sizes_px:
        sums, side_px = _add_boxes(sums, size // side_px), size
        found.append(_pulls(sums[0], sums[1], sums[2], LEAST_FILLED * size**2))
    return found


def _add_boxes(sums: F8, times: int) -> F8:
    """Sums over boxes that are so many times as wide, of planes of sums; what is left over at the ends does not count.

    Whole rows, and then whole columns, are added: along short axes numpy is slow.
    """
    rows, columns = (length // times * times for length in sums.shape[1:])
    tall = sum((sums[:, k:rows:times] for k in range(1, times)), sums[:, 0:rows:times])
    return sum((tall[:, :, k:columns:times] for k in range(1, times)), tall[:, :, 0:columns:times])


def _pulls(count: F8, total: F8, total_variance: F8, least: float) -> F8:
    """Second differences along rows over their errors, of boxes with enough sky."""
    n = np.maximum(count, 1)
    mean, error2 = total / n, total_variance / n**2
    left, middle, right = (slice(None, -2), slice(1, -1), slice(2, None))
    full = count >= least
    known = full[:, left] & full[:, middle] & full[:, right]
    difference = mean[:, left] - 2 * mean[:, middle] + mean[:, right]
    error = np.sqrt(error2[:, left] + 4 * error2[:, middle] + error2[:, right])
    known &= error > 0
    return np.asarray(difference[known] / error[known])


def find_sky(data: F4, variance: F4) -> Flags:
    """Pixels with data that no star lights, as far as means over 25 pixels show."""
    there = np.isfinite(data) & (variance > 0)
    level = _surroundings(np.where(there, data, np.nan))
    above = np.where(there, data - level, 0)
    share = scipy.ndimage.uniform_filter(there.astype(np.float32), SMOOTH_PX)
    mean = scipy.ndimage.uniform_filter(above, SMOOTH_PX) / np.maximum(share, 1e-3)
    error = np.sqrt(np.where(there, variance, np.inf)) / SMOOTH_PX
    bright = there & (mean > STAR_SIGMA * error)
    return np.asarray(there & ~grow_map(bright, GROW_PX))


def _surroundings(data: F4) -> F4:
    """Median of each pixel's block; 0 where a block has no data."""
    height, width = data.shape
    rows, columns = -(-height // SKY_BLOCK_PX), -(-width // SKY_BLOCK_PX)
    padding = (0, rows * SKY_BLOCK_PX - height), (0, columns * SKY_BLOCK_PX - width)
    padded = np.pad(data, padding, constant_values=np.nan)
    blocks = padded.reshape(rows, SKY_BLOCK_PX, columns, SKY_BLOCK_PX).transpose(0, 2, 1, 3)
    # NaN is sorted behind all numbers.
    flat = np.sort(blocks.reshape(rows, columns, -1), axis=2)
    count = np.isfinite(flat).sum(axis=2)
    level: F4 = np.take_along_axis(flat, np.maximum(count - 1, 0)[:, :, None] // 2, axis=2)[:, :, 0]
    level = np.where(count > 0, level, 0)
    return level.repeat(SKY_BLOCK_PX, axis=0).repeat(SKY_BLOCK_PX, axis=1)[:height, :width]


def scatter_of_pulls(pulls: Sequence[F8]) -> float:
    """Their robust sigma, of all windows together; NaN where there are few."""
    everything = np.concatenate([np.zeros(0), *pulls])
    return mad_sigma(everything, 0) if len(everything) >= LEAST_PULLS else float("nan")


def noise_of_box(side_px: float, sizes: Sequence[int], noise: npt.ArrayLike) -> float:
    """Noise of the mean over a box of any side, from that of boxes measured.

    Between them by powers; beyond them as independent pixels would have it. NaN where none is known.
    """
    known = [
        (size, value)
        for size, value in zip(sizes, np.asarray(noise, float), strict=True)
        if np.isfinite(value) and value > 0
    ]
    if not known:
        return float("nan")
    x, y = np.log([k[0] for k in known]), np.log([k[1] for k in known])
    at = float(np.log(side_px))
    beyond = at - float(np.clip(at, x[0], x[-1]))
    return float(np.exp(np.interp(at, x, y) - beyond))
