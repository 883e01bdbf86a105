"""What the second pass tells of its tiles: figures before and after, the map of what is left, lost coverage."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.stages.two_pass.gains import CoarseTile
from zemosaic.stages.two_pass.tiles import PreparedTile

__all__ = ["DELTA_PX", "TileStats", "compare_coverage", "log_gain", "make_delta_map", "mean_of_cells", "tile_stats"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

DELTA_PX = 8
"""Mosaic pixels in a cell of the delta map."""


@dataclass(frozen=True, slots=True, eq=False)
class TileStats:
    """What a tile holds: per channel, over valid pixels.

    Attributes
    ----------
    low, mean, median : ndarray, shape (c,)
        NaN for a channel without valid pixels.
    valid_fraction : float
        Share of pixels that are valid in all channels.
    """

    low: F8
    mean: F8
    median: F8
    valid_fraction: float

    def after(self, gain: float, level: F8) -> TileStats:
        """The same of the tile divided by a gain about its background `level`, shape (c,)."""
        low, mean, median = (level + (value - level) / gain for value in (self.low, self.mean, self.median))
        return TileStats(low, mean, median, self.valid_fraction)


def tile_stats(tile: PreparedTile) -> TileStats:
    """Figures of a tile."""
    seen = tile.weight > 0
    parts = [plane[mask].astype(float) for plane, mask in zip(tile.data, seen, strict=True)]
    low, mean, median = (
        np.array([float(reduce(part)) if part.size else np.nan for part in parts])
        for reduce in (np.min, np.mean, np.median)
    )
    return TileStats(low, mean, median, float(seen.all(axis=0).mean()))


def log_gain(log: logging.Logger, tile: str, gain: float, level: F8, stats: TileStats) -> None:
    """Two DEBUG lines: a tile, named `tile`, before and after its gain is divided out about `level`."""
    for when, figures in (("pre_gain", stats), ("post_gain", stats.after(gain, level))):
        log.debug(
            "[TwoPassTile] %s tile=%s gain=%.6f min=%s mean=%s median=%s valid_frac=%.6f",
            when, tile, gain, _shown(figures.low), _shown(figures.mean), _shown(figures.median), figures.valid_fraction,
        )  # fmt: skip


def _shown(values: F8) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"


def mean_of_cells(tiles: Sequence[CoarseTile], shape: tuple[int, int]) -> F8:
    """Mean of tiles on a grid of cells; NaN where no tile reaches."""
    total, count = np.zeros((2, *shape))
    for cell in tiles:
        total[cell.box.slices] += np.where(cell.seen, cell.values, 0)
        count[cell.box.slices] += cell.seen
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def make_delta_map(tiles: Sequence[CoarseTile], gains: Sequence[float], levels: Sequence[float], first: F8) -> F4:
    """Mean over tiles of ``|tile after its gain - first pass|``, luminance; NaN where no tile reaches.

    Parameters
    ----------
    tiles : sequence of CoarseTile
        Before their gains.
    gains, levels : sequence of float
        What each tile is divided by, and the luminance about which.
    first : ndarray
        The first pass on the same cells, NaN where it has none.
    """
    summed, number = np.zeros((2, *first.shape))
    for cell, gain, level in zip(tiles, gains, levels, strict=True):
        mean = first[cell.box.slices]
        both = cell.seen & np.isfinite(mean)
        after = level + (cell.values - level) / gain
        summed[cell.box.slices] += np.where(both, np.abs(after - np.where(both, mean, 0)), 0)
        number[cell.box.slices] += both
    return np.where(number > 0, summed / np.maximum(number, 1), np.nan).astype(np.float32)


def compare_coverage(first: Sequence[npt.NDArray[np.float64]], second: F4, log: logging.Logger) -> None:
    """DEBUG lines: pixels of each channel that the first pass covers and the second does not."""
    for c, (before, after) in enumerate(zip(first, second, strict=True), 1):
        if before.shape == after.shape:
            n_lost = np.count_nonzero((before > 0) & (after <= 0))
            log.debug("[TwoPass] channel %d coverage mismatch: cov1>0 & cov2==0 -> %d pixels", c, n_lost)
        else:
            log.debug(
                "[TwoPass] channel %d coverage shape mismatch for debug: cov1=%s cov2=%s",
                c, before.shape, after.shape,
            )  # fmt: skip
