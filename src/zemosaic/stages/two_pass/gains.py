"""Gains of tiles against their common mean, on cells of a coarse grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.box import Box
from zemosaic.stages.survey.overlaps import overlapping_boxes
from zemosaic.stages.tiles.compare import relate_images
from zemosaic.stages.tiles.network import choose_pairs, solve_gains
from zemosaic.text import Message, message

__all__ = ["CoarseTile", "TileGains", "find_gains"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

LEAST_CELLS = 100
"""Fewer common cells tell no gain."""

OVERLAP_SHARE = 0.05
"""Smoothed coverage of the others from which a cell counts as shared."""

N_ERRORS = 2.0
"""A gain nearer to 1 than this many of its errors is 1."""


@dataclass(frozen=True, slots=True, eq=False)
class CoarseTile:
    """A tile on cells of a coarse grid.

    Attributes
    ----------
    box : Box
        Cells of the grid.
    values : ndarray, shape of box
        Luminance.
    seen : ndarray of bool, shape of box
        Whether the cell is filled.
    """

    box: Box
    values: F4
    seen: Flags


@dataclass(frozen=True, slots=True, eq=False)
class TileGains:
    """What was found.

    Attributes
    ----------
    gain : ndarray, float32, shape (n,)
        To divide by: 1 unless told otherwise by more than two errors, and inside the bounds.
    measured, error : ndarray, shape (n,)
        The gain as measured and its relative error; 1 and inf where no overlap's structure ties a tile to the others.
    """

    gain: F4
    measured: F8
    error: F8

    def describe(self) -> Message:
        """In words."""
        n, n_known = len(self.gain), int(np.count_nonzero(np.isfinite(self.error)))
        kept = message("done.two-pass-kept", n=n - n_known) if n_known < n else None
        lowest, highest = float(self.gain.min()), float(self.gain.max())
        return message("done.two-pass", lowest=lowest, highest=highest, n_tiles=n, kept=kept)


def find_gains(
    tiles: Sequence[CoarseTile],
    shape: tuple[int, int],
    sigma_cells: float,
    gain_clip: tuple[float, float],
    seen: Flags | None = None,
) -> TileGains:
    """Gain of each tile relative to the mean of all.

    Parameters
    ----------
    tiles : sequence of CoarseTile
    shape : (height, width)
        Of the coarse grid.
    sigma_cells : float
        Smoothing of the others' coverage.
    gain_clip : (low, high)
    seen : ndarray of bool, shape `shape`, optional
        Cells that the first pass covers.

    Returns
    -------
    TileGains

    Notes
    -----
    Tiles are compared two by two (`relate_images`), where seeing and noise of either are known to be its own; one solve
    then finds all gains. Against a mean of the others, whose seeing and depth change at every tile's border, neither
    could be told from a gain. The geometric mean of the gains is held at 1.
    """
    number = np.zeros(shape)
    for tile in tiles:
        number[tile.box.slices] += tile.seen
    shared = [_shared(tile, number, sigma_cells, seen) for tile in tiles]
    boxes = [tile.box for tile in tiles]
    ends, slopes = [], []
    for i, j in choose_pairs(boxes, list(overlapping_boxes(boxes))):
        both = boxes[i].intersect(boxes[j])
        in_i, in_j = (both.relative_to(boxes[k]).slices for k in (i, j))
        mask = shared[i][in_i] & shared[j][in_j]
        if np.count_nonzero(mask) < LEAST_CELLS:
            continue
        found = relate_images(tiles[i].values[in_i], tiles[j].values[in_j], mask, bin_px=1)
        if found is not None:
            ends.append((i, j))
            slopes.append((found.slope, found.slope_error))
    pairs = np.array(ends, np.int64).reshape(-1, 2).T
    measured, error = solve_gains(len(tiles), pairs, *np.array(slopes).reshape(-1, 2).T)
    significant = np.abs(measured - 1) > N_ERRORS * error
    gain = np.clip(np.where(significant, measured, 1.0), *gain_clip).astype(np.float32)
    return TileGains(gain, measured, error)


def _shared(tile: CoarseTile, number: F8, sigma_cells: float, seen: Flags | None) -> Flags:
    """Cells of a tile in which others contribute, too."""
    part = tile.box.slices
    others = number[part] - tile.seen
    smooth = (
        scipy.ndimage.gaussian_filter(np.minimum(others, 1), sigma_cells, mode="constant")
        if sigma_cells > 0
        else others
    )
    shared = tile.seen & (others > 0) & (smooth > OVERLAP_SHARE)
    return shared if seen is None else shared & seen[part]
