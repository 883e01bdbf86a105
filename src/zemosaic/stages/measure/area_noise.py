"""Noise of images whose neighbouring samples are not independent: debayered, resampled or smoothed before.

What neighbours tell understates such noise several times, and an image that was smoothed would outweigh the raw one it
was made of. Means of blocks tell the truth: their scatter, times the side of a block, is the noise as it adds up over
areas, and weights and VAR mean that. Clipping compares single samples, whose own scatter is a second number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.stages.numeric.robust import mad_sigma

__all__ = ["AreaNoise", "measure_area_noise"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.uint8]

_BLOCK_PX = 8
"""Side of the smaller blocks: wider than what demosaicing and resampling mix, narrower than most nebulae."""

_LOOK_STEP = 16
"""Bands of blocks between those that tell whether samples are independent at all: a look costs 3 ms for 2 Mpix."""

_BAND_STEP = 4
"""Bands between those that are measured where they are not: 2000 blocks of a 2 Mpix frame tell its noise to 3 %."""

_CORRELATED = 2.0
"""Variance of areas over that of neighbours from which samples count as correlated.

Faint structure of the sky and unresolved stars give up to 1.5 in raw frames; demosaicing gives 16 to 50.
"""

_FULL = 0.9
"""Share of a block's pixels that must count."""

_CELL_PX = 256
"""Side of the cells in which noise and structure are told apart: 60 triples of the larger blocks."""

_STRUCTURE = 1.5
"""Growth of the noise from the smaller to the larger blocks from which a cell shows structure of the sky.

Structure bends twice as wide blocks four times as much, which the side of the block makes eight; noise stays.
"""

_SHARE_OF_CELLS = 0.2
"""Cells without structure, of those with enough pixels, below which nothing can be told."""

_FEWEST = 12
"""Triples of blocks that a cell must have."""


@dataclass(frozen=True, slots=True)
class AreaNoise:
    """Noise of one channel.

    Attributes
    ----------
    sample : float
        Standard deviation of one sample.
    area : float
        Standard deviation of a mean over many samples times the root of their number; `sample` where they are
        independent.
    """

    sample: float
    area: float


def measure_area_noise(data: F4, bad: Mask, noise: float) -> AreaNoise:
    """Whether samples are independent, and their noise.

    Parameters
    ----------
    data : ndarray, shape (h, w), float32
        One channel.
    bad : ndarray, shape (h, w), uint8
        0 where a pixel counts: no star, and data.
    noise : float
        What differences of neighbours say.

    Returns
    -------
    AreaNoise
        `noise` twice where samples are independent, or where too little is left to tell.

    Notes
    -----
    Second differences of three blocks in a row know neither level nor slope; their median absolute value knows no
    star. Blocks of 8 and of 16 px are compared: a cell in which the wider ones scatter much more shows structure of
    the sky, not noise. Where an image was smoothed over a few pixels the smaller blocks still miss some of it, by as
    much as their border is of their area, which the two sizes tell, too.
    """
    if noise <= 0:
        return AreaNoise(noise, noise)
    looked = _noise_of_cells(data, bad, _BLOCK_PX, _LOOK_STEP, with_sample=False).area
    if not np.isfinite(looked).any() or np.nanmedian(looked) ** 2 < _CORRELATED * noise**2:
        return AreaNoise(noise, noise)
    small, large = (
        _noise_of_cells(data, bad, side, _BAND_STEP, with_sample=False).area for side in (_BLOCK_PX, 2 * _BLOCK_PX)
    )
    told = np.isfinite(small) & np.isfinite(large)
    plain = told & (large < _STRUCTURE * small)
    if plain.sum() < max(_SHARE_OF_CELLS * told.sum(), 1):
        return AreaNoise(noise, noise)
    narrow, wide = float(np.median(small[plain])), float(np.median(large[plain]))
    if narrow**2 < _CORRELATED * noise**2:  # mostly it ends here, and nobody asks for the samples' own noise
        return AreaNoise(noise, noise)
    sample = float(np.median(_noise_of_cells(data, bad, _BLOCK_PX, _BAND_STEP).sample[plain]))
    return AreaNoise(sample, float(np.clip(2 * wide - narrow, narrow, 1.3 * narrow)))


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Noise in cells of the image, shape (n_cells,); NaN where too little is left of one, or it was not asked for."""

    sample: F8
    area: F8


def _noise_of_cells(data: F4, bad: Mask, side: int, band_step: int, *, with_sample: bool = True) -> _Cells:
    """The noise by blocks of one size, cell by cell."""
    height, width = data.shape
    widest = 2 * _BLOCK_PX  # whatever the side, so that blocks of both sizes have the same cells
    starts = [
        (slice(y, min(y + _CELL_PX, height)), slice(x, min(x + _CELL_PX, width)))
        for y in range(0, max(height - widest, 1), _CELL_PX)
        for x in range(0, max(width - widest, 1), _CELL_PX)
    ]
    found = [_block_noise(data[cell], bad[cell], side, band_step, with_sample) for cell in starts]
    return _Cells(np.array([item[0] for item in found]), np.array([item[1] for item in found]))


def _block_noise(data: F4, bad: Mask, side: int, band_step: int, with_sample: bool) -> tuple[float, float]:
    """Noise of a sample, if asked for, and over areas in one cell, from some of its bands of blocks."""
    n_rows, n_cols = data.shape[0] // side, data.shape[1] // side
    bands = np.arange(0, n_rows, band_step)
    if len(bands) == 0 or n_cols < 3:
        return np.nan, np.nan
    rows = (bands[:, None] * side + np.arange(side)).ravel()
    shape = len(bands), side, n_cols, side
    values = data[rows, : n_cols * side].reshape(shape)
    good = (bad[rows, : n_cols * side] == 0).reshape(shape)
    count = good.sum(axis=(1, 3))
    full = count >= _FULL * side * side
    triple = full[:, :-2] & full[:, 1:-1] & full[:, 2:]
    if triple.sum() < _FEWEST:
        return np.nan, np.nan
    counted = np.maximum(count, 1)
    mean = np.where(good, values, 0).sum(axis=(1, 3), dtype=np.float64) / counted
    bend = (mean[:, :-2] - 2 * mean[:, 1:-1] + mean[:, 2:])[triple]
    of_mean = mad_sigma(bend, 0) ** 2 / 6
    area = float(side * np.sqrt(of_mean))
    if not with_sample:
        return np.nan, area
    spread = np.where(good, np.square(values - mean[:, None, :, None]), 0).sum(axis=(1, 3), dtype=np.float64) / counted
    return float(np.sqrt(np.median(spread[full]) + of_mean)), area
