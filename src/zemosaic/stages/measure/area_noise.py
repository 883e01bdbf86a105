"""Noise of images whose neighbouring samples are not independent: debayered, resampled or smoothed before.

What neighbours tell understates such noise several times, and an image that was smoothed would outweigh the raw one it
was made of. Means of blocks tell the truth: their scatter, times the side of a block, is the noise as it adds up over
areas, and weights and VAR mean that. Clipping compares single samples, whose own scatter is a second number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.measure.block_noise import sum_bands
from zemosaic.stages.numeric.robust import MAD_TO_SIGMA

__all__ = ["AreaNoise", "measure_area_noise"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.uint8]

_BLOCK_PX = 8
"""Side of the smaller blocks: wider than what demosaicing and resampling mix, narrower than most nebulae."""

_LOOK_STEP = 16
"""Bands of blocks between those that tell whether samples are independent at all: a look costs 1 ms for 2 Mpix."""

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
    looked = _area_of_cells(_Bands.of(data, bad, _BLOCK_PX, _LOOK_STEP))
    if not np.isfinite(looked).any() or np.nanmedian(looked) ** 2 < _CORRELATED * noise**2:
        return AreaNoise(noise, noise)
    bands = _Bands.of(data, bad, _BLOCK_PX, _BAND_STEP)
    small, large = _area_of_cells(bands), _area_of_cells(_Bands.of(data, bad, 2 * _BLOCK_PX, _BAND_STEP))
    told = np.isfinite(small) & np.isfinite(large)
    plain = told & (large < _STRUCTURE * small)
    if plain.sum() < max(_SHARE_OF_CELLS * told.sum(), 1):
        return AreaNoise(noise, noise)
    narrow, wide = float(np.median(small[plain])), float(np.median(large[plain]))
    if narrow**2 < _CORRELATED * noise**2:  # mostly it ends here, and nobody asks for the samples' own noise
        return AreaNoise(noise, noise)
    sample = float(np.median(np.hypot(_spread_of_cells(bands), small / _BLOCK_PX)[plain]))
    return AreaNoise(sample, float(np.clip(2 * wide - narrow, narrow, 1.3 * narrow)))


@dataclass(frozen=True, slots=True, eq=False)
class _Bands:
    """Some rows of blocks of an image.

    Attributes
    ----------
    data, bad : ndarray, shape (h, w)
        The image and where it does not count.
    side, band_step : int
        Side of a block, and rows of blocks from one band to the next.
    count : ndarray, int64, shape (n_bands, n_cols)
        Good pixels of each block.
    mean : ndarray, float64, shape of count
    cells : tuple of int
        How many cells there are down and across.
    per_cell : tuple of int
        Bands and columns of blocks in a cell.
    """

    data: F4
    bad: Mask
    side: int
    band_step: int
    count: npt.NDArray[np.int64]
    mean: F8
    cells: tuple[int, int]
    per_cell: tuple[int, int]

    @classmethod
    def of(cls, data: F4, bad: Mask, side: int, band_step: int) -> _Bands:
        """Blocks of `side` px of every `band_step`-th row of them; both divide the side of a cell."""
        shape = -(-(data.shape[0] // side) // band_step), data.shape[1] // side
        total, count = np.empty(shape), np.empty(shape, np.int64)
        sum_bands(data, bad, side, band_step, total, count)
        # Whatever the side, so that blocks of both sizes have the same cells.
        down, across = (max(-(-(length - 2 * _BLOCK_PX) // _CELL_PX), 1) for length in data.shape)
        per_cell = _CELL_PX // (side * band_step), _CELL_PX // side
        return cls(data, bad, side, band_step, count, total / np.maximum(count, 1), (down, across), per_cell)

    @property
    def full(self) -> npt.NDArray[np.bool_]:
        """Blocks of which enough pixels count."""
        return np.asarray(self.count >= _FULL * self.side**2)

    def by_cell(self, of_blocks: F8) -> F8:
        """Values of blocks, NaN where none is, as an array of shape (down, bands, across, columns)."""
        (down, across), (bands, columns) = self.cells, self.per_cell
        held = np.full((down * bands, across * columns), np.nan)
        inside = of_blocks[: held.shape[0], : held.shape[1]]
        held[: inside.shape[0], : inside.shape[1]] = inside
        return held.reshape(down, bands, across, columns)


def _area_of_cells(bands: _Bands) -> F8:
    """Noise over areas in each cell, shape (down * across,); NaN where too little is left of one."""
    mean = bands.by_cell(np.where(bands.full, bands.mean, np.nan))
    bend = np.abs(mean[..., :-2] - 2 * mean[..., 1:-1] + mean[..., 2:])
    return np.asarray(bands.side * MAD_TO_SIGMA / np.sqrt(6) * _medians(bend))


def _spread_of_cells(bands: _Bands) -> F8:
    """Scatter of samples about the means of their blocks in each cell, shape (down * across,)."""
    (n_bands, n_cols), side = bands.mean.shape, bands.side
    rows = (np.arange(n_bands)[:, None] * bands.band_step * side + np.arange(side)).ravel()
    values, bad = (of[rows, : n_cols * side].reshape(n_bands, side, n_cols, side) for of in (bands.data, bands.bad))
    away = np.where(bad == 0, np.square(values - bands.mean[:, None, :, None]), 0)
    # Whole rows first, which is many times as fast.
    variance = away.sum(axis=1).sum(axis=-1) / np.maximum(bands.count, 1)
    return np.asarray(np.sqrt(_medians(bands.by_cell(np.where(bands.full, variance, np.nan)))))


def _medians(of_blocks: F8) -> F8:
    """Median of each cell's finite values, from an array as `_Bands.by_cell` gives; NaN for fewer than `_FEWEST`."""
    down, _, across, _ = of_blocks.shape
    ordered = np.sort(of_blocks.transpose(0, 2, 1, 3).reshape(down * across, -1), axis=1)  # NaN comes last
    n = np.isfinite(ordered).sum(axis=1)
    cell = np.arange(len(n))
    middle = 0.5 * (ordered[cell, np.maximum(n - 1, 0) // 2] + ordered[cell, n // 2 % ordered.shape[1]])
    return np.asarray(np.where(n >= _FEWEST, middle, np.nan))
