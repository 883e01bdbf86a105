"""The seam figure: how well corrected images agree at their borders, without any truth (SPEC R-20b).

For an image i in a cell of its border: step = (w_i / sum w) x robust mean of (image i - mean of the others) within a
band along the border: what the eye sees where the image begins or ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.photometry import PhotoScale
from zemosaic.stages.sky_nodes import BlockTable

__all__ = ["SeamFigure", "measure_seams"]

F8 = npt.NDArray[np.float64]

_LEAST_BLOCKS = 3


@dataclass(frozen=True, slots=True, eq=False)
class SeamFigure:
    """Steps at the borders of all images of one channel.

    Attributes
    ----------
    image : ndarray, shape (s,), int64
        Image whose border it is.
    u, v : ndarray, shape (s,)
        Place of the border cell in that image, -1 to 1.
    step, error : ndarray, shape (s,)
        Step in the mosaic and its error, mosaic units.
    """

    image: npt.NDArray[np.int64]
    u: F8
    v: F8
    step: F8
    error: F8

    @property
    def rms(self) -> float:
        """Root mean square of the steps; NaN without any."""
        return float(np.sqrt(np.mean(self.step**2))) if len(self.step) else float("nan")

    @property
    def p95(self) -> float:
        """95th percentile of the steps' sizes; NaN without any."""
        return float(np.quantile(np.abs(self.step), 0.95)) if len(self.step) else float("nan")

    def worst(self, n: int) -> npt.NDArray[np.int64]:
        """Indices of the `n` largest steps, largest first."""
        return np.argsort(-np.abs(self.step), kind="stable")[:n]


def measure_seams(
    table: BlockTable, channel: int, sky: F8, scales: Sequence[PhotoScale], noise: F8, *, n_cells: int = 8
) -> SeamFigure:
    """Steps at all borders, from the block means.

    Parameters
    ----------
    table : BlockTable
    channel : int
    sky : ndarray, shape of the table's nodes
        A smooth model of the sky, taken off all images alike, so that blocks at neighbouring places compare.
    scales : sequence of PhotoScale
        One for each image of the table; neutral ones give the figure before matching.
    noise : ndarray, shape (n,)
        Noise of each image in mosaic units: its weight in the mosaic is ``1 / noise**2``.
    n_cells : int
        Cells along each border.

    Notes
    -----
    An image's blocks in its outermost tenth are compared with the weighted mean of all other images' blocks in the
    same square of the sky (one node spacing). Blocks lie at other places of the square in each image, so what
    structure `sky` does not follow enters as scatter, not as a step.
    """
    image = table.image
    used = table.error[channel] > 0
    value = _corrected(table, channel, scales) - _sky_at_blocks(table, sky)
    weight = np.where(used, 1 / noise[image] ** 2, 0.0)
    total = np.bincount(table.cell, weight, table.nodes.n)
    summed = np.bincount(table.cell, weight * np.where(used, value, 0), table.nodes.n)
    key = image.astype(np.int64) * table.nodes.n + table.cell
    unique, where = np.unique(key, return_inverse=True)
    own = np.bincount(where, weight)
    own_sum = np.bincount(where, weight * np.where(used, value, 0))
    cell = unique % table.nodes.n
    others = total[cell] - own
    ok = (own > 0) & (others > 1e-9 * total[cell])
    share = own / np.maximum(total[cell], 1e-300)
    step = share * (own_sum / np.maximum(own, 1e-300) - (summed[cell] - own_sum) / np.maximum(others, 1e-300))
    u = np.bincount(where, table.u) / np.bincount(where)
    v = np.bincount(where, table.v) / np.bincount(where)
    border = ok & (np.maximum(np.abs(u), np.abs(v)) > 0.9)
    return _by_border_cell(unique[border] // table.nodes.n, u[border], v[border], step[border], n_cells)


def _corrected(table: BlockTable, channel: int, scales: Sequence[PhotoScale]) -> F8:
    """Block means in mosaic units, corrected."""
    out = np.empty(len(table.cell))
    for i, scale in enumerate(scales):
        part = slice(table.start[i], table.start[i + 1])
        # u and v of the blocks are pixels of an image of size 2, shifted.
        x, y = table.u[part] + 0.5, table.v[part] + 0.5
        response = scale.response_at(x, y, (2, 2))[channel]
        out[part] = table.mean[channel, part] / (scale.gain[channel] * response)
        out[part] -= scale.surface_at(x, y, (2, 2))[channel]
    return out


def _sky_at_blocks(table: BlockTable, sky: F8) -> F8:
    """Bilinear sky at every block; nodes without a value count as 0, alike for all images."""
    flat, nx = np.nan_to_num(sky).ravel(), table.nodes.shape[1]
    low = flat[table.cell] * (1 - table.fx) + flat[table.cell + 1] * table.fx
    high = flat[table.cell + nx] * (1 - table.fx) + flat[table.cell + nx + 1] * table.fx
    return np.asarray(low * (1 - table.fy) + high * table.fy)


def _by_border_cell(image: npt.NDArray[np.int64], u: F8, v: F8, step: F8, n_cells: int) -> SeamFigure:
    """Medians over the squares of each cell of each border."""
    flat = np.abs(u) > np.abs(v)
    side = np.where(flat, np.where(u > 0, 0, 1), np.where(v > 0, 2, 3))
    along = np.where(flat, v, u)
    slot = np.clip(((along + 1) / 2 * n_cells).astype(np.int64), 0, n_cells - 1)
    key = (image * 4 + side) * n_cells + slot
    rows = []
    for k in np.unique(key):
        inside = np.flatnonzero(key == k)
        if len(inside) < _LEAST_BLOCKS:
            continue
        middle = float(np.median(step[inside]))
        spread = 1.4826 * float(np.median(np.abs(step[inside] - middle)))
        rows.append((
            image[inside[0]], u[inside].mean(), v[inside].mean(), middle, 1.2533 * spread / len(inside) ** 0.5
        ))  # fmt: skip
    columns = np.array(rows).reshape(-1, 5).T
    return SeamFigure(columns[0].astype(np.int64), *columns[1:])
