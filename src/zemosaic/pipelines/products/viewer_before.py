"""What a mosaic would look like without its match, from what the finished folder tells.

A mosaic holds ``d / g - B`` of each frame's values d, with gain g and surface B. So a frame that shows the mosaic's sky
M had ``d = g (M + B)``, and the mean of all frames as they were is, with their weights w, that of these:
``(M sum(w g) + sum(w g B)) / sum(w)``. Nothing is read again. The camera's response, where the match found one, stays
corrected, and so do places and clipping.

A frame's w and w g are the same all over it: they are added where its rows begin and taken off where they end, and sums
along the rows do the rest. B is smooth: known at `N_NODES` x `N_NODES` places, it is linear between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zemosaic.kernels.pixels.surfaces import add_surface
from zemosaic.model.box import Box
from zemosaic.model.photo_scale import order_of, surface_terms

__all__ = ["channel_tags", "undo_match"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int_]

N_NODES = 33
"""Places along a side of a frame where its surface is computed. Lines between them leave 0.1 % of a quadratic's bend,
which no picture shows."""

_UV = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
"""Places in a frame of the corners that the table of frames tells."""


def undo_match(data: F4, covered: Flags, frames: Table, corners: F8) -> F4 | None:
    """The mean of all frames as they were, weighed by their noise; levels as in the mosaic, on the whole.

    Parameters
    ----------
    data : ndarray, float32, shape (c, h, w)
        The mosaic, reduced or whole; finite.
    covered : ndarray of bool, shape (h, w)
        Where it has data.
    frames : Table
        Rows of ``frames.ecsv``, of the frames that the mosaic holds.
    corners : ndarray, shape (n, 4, 2)
        (x, y) of each frame's corners in pixels of `data`.

    Returns
    -------
    ndarray, float32, shape (c, h, w), or None
        `data` itself where no frame reaches; None where frames were not matched.
    """
    tags = channel_tags(len(data))
    n_terms = sum(f"b{k}{tags[-1]}" in frames.colnames for k in range(len(frames.colnames)))
    needed = [[f"{name}{tag}" for tag in tags] for name in ("noise", "gain", *(f"b{k}" for k in range(n_terms)))]
    if n_terms == 0 or not {name for names in needed for name in names} <= set(frames.colnames):
        return None
    noise, gain, *surface = (_columns(frames, names) for names in needed)
    if not np.any(surface):
        return None
    share, (height, width) = 1 / np.square(noise), data.shape[1:]
    surfaces = (share * gain)[:, :, None] * np.stack(surface, axis=-1)
    count = np.zeros((height, width + 1), np.int32)
    weight, gained = np.zeros((2, len(data), height, width + 1))
    added = np.zeros(data.shape, np.float32)
    for k, corner in enumerate(corners):
        box = _box_of(corner).intersect(Box.of_shape((height, width)))
        if box.is_empty:
            continue
        y, (first, past) = np.arange(box.y0, box.y1), _rows_of(corner, box)
        for sums, value in ((count, 1), (weight, share[k][:, None]), (gained, (share * gain)[k][:, None])):
            sums[..., y, first] += value
            sums[..., y, past] -= value
        nodes = _surface_nodes(corner, surfaces[k], box)
        add_surface(nodes, (box.y0, box.x0), box.shape, first, past, added)
    total, seen = _along_rows(gained) * data + added, (_along_rows(count) > 0) & covered
    before = np.where(seen, total / np.where(seen, _along_rows(weight), 1), data)
    if seen.any():
        before[:, seen] -= np.median(before[:, seen] - data[:, seen], axis=1, keepdims=True)
    return before.astype(np.float32)


def channel_tags(n_channels: int) -> list[str]:
    """What tells the columns of the channels apart in ``frames.ecsv``."""
    return [""] if n_channels == 1 else ["_r", "_g", "_b"]


def _columns(frames: Table, names: Sequence[str]) -> F8:
    """Columns side by side, shape (n, c); 0 where a row has no number (a lower order of its surface)."""
    return np.stack([np.ma.filled(np.ma.asarray(frames[name], float), 0.0) for name in names], axis=1)


def _box_of(corner: F8) -> Box:
    """The pixels that lie in a frame as far as its longest and shortest coordinates tell."""
    (x0, y0), (x1, y1) = np.ceil(corner.min(axis=0)).astype(int), np.floor(corner.max(axis=0)).astype(int) + 1
    return Box(int(y0), int(y1), int(x0), int(x1))


def _along_rows(changes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sums of what rows change by from pixel to pixel; the last change lies behind the row."""
    return changes.cumsum(axis=-1)[..., :-1]


def _rows_of(corner: F8, box: Box) -> tuple[Whole, Whole]:
    """First pixel of each row of a box that lies in a frame, and the one after the last; the same where none does."""
    first, last = np.full(box.height, box.x0, float), np.full(box.height, box.x1 - 1, float)
    y = np.arange(box.y0, box.y1)
    for (x0, y0), (x1, y1), (x2, y2) in zip(corner, np.roll(corner, -1, 0), np.roll(corner, -2, 0), strict=True):
        dx, dy = x1 - x0, y1 - y0
        if dy == 0:  # a side along the rows: the box ends there
            continue
        crossing = x0 + (y - y0) * dx / dy
        if x2 > x0 + (y2 - y0) * dx / dy:  # the frame lies behind this side
            first = np.maximum(first, crossing)
        else:
            last = np.minimum(last, crossing)
    begin = np.minimum(np.ceil(first), box.x1).astype(int)
    return begin, np.maximum(np.floor(last).astype(int) + 1, begin)


def _surface_nodes(corner: F8, coefficients: F8, box: Box) -> F4:
    """A frame's surface, of coefficients (c, n_terms), at the nodes of a lattice over a box of the picture."""
    y, x = (np.linspace(low, high - 1, N_NODES) for low, high in ((box.y0, box.y1), (box.x0, box.x1)))
    terms = surface_terms(*_places_in(corner, x, y[:, None]), order_of(coefficients.shape[1] - 1))
    return np.asarray(np.tensordot(coefficients, terms, 1), np.float32)


def _places_in(corner: F8, x: F8, y: F8) -> tuple[F8, F8]:
    """Places in a frame, -1 to 1, of pixels: what maps one tangent plane to another is a homography."""
    rows = []
    for (at_x, at_y), (u, v) in zip(corner, _UV, strict=True):
        rows += [[at_x, at_y, 1, 0, 0, 0, -u * at_x, -u * at_y], [0, 0, 0, at_x, at_y, 1, -v * at_x, -v * at_y]]
    h = np.append(np.linalg.solve(np.array(rows), _UV.ravel()), 1.0).reshape(3, 3)
    scale = h[2, 0] * x + h[2, 1] * y + 1
    return (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / scale, (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / scale
