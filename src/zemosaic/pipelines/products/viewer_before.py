"""What a mosaic would look like without its match, from what the finished folder tells.

A mosaic holds ``d / g - B`` of each frame's values d, with gain g and surface B. So a frame that shows the mosaic's sky
M had ``d = g (M + B)``, and the mean of all frames as they were is that of ``g (M + B)``. Nothing is read again. The
camera's response, where the match found one, stays corrected, and so do places and clipping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zemosaic.model.box import Box
from zemosaic.model.photo_scale import N_TERMS, n_terms, surface_terms

__all__ = ["channel_tags", "undo_match"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

STRIP_ROWS = 64
"""Rows of a frame that are painted at a time: a picture of 1024 x 1024 px takes 50 MB so, 167 MB by whole frames."""

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
    order = 4 if any(f"b{N_TERMS}{tag}" in frames.colnames for tag in tags) else 2
    needed = [[f"{name}{tag}" for tag in tags] for name in ("noise", "gain", *(f"b{k}" for k in range(n_terms(order))))]
    if not {name for names in needed for name in names} <= set(frames.colnames):
        return None
    noise, gain, *surface = (_columns(frames, names) for names in needed)
    if not np.any(surface):
        return None
    total, weight = np.zeros((2, *data.shape))
    for k, corner in enumerate(corners):
        for box in _strips_of(_box_of(corner).intersect(Box.of_shape((data.shape[1], data.shape[2])))):
            here = slice(None), *box.slices
            u, v = _places_in(corner, box)
            terms = surface_terms(u, v, order)
            own = np.tensordot(np.array([term[k] for term in surface]).T, terms, 1)
            share = (np.maximum(np.abs(u), np.abs(v)) <= 1) / np.square(noise[k])[:, None, None]
            total[here] += share * gain[k][:, None, None] * (data[here] + own)
            weight[here] += share
    seen = (weight > 0) & covered
    before = np.where(seen, total / np.where(seen, weight, 1), data)
    for channel, shown, known in zip(before, data, seen, strict=True):
        channel[known] -= np.median(channel[known] - shown[known]) if known.any() else 0
    return before.astype(np.float32)


def channel_tags(n_channels: int) -> list[str]:
    """What tells the columns of the channels apart in ``frames.ecsv``."""
    return [""] if n_channels == 1 else ["_r", "_g", "_b"]


def _columns(frames: Table, names: Sequence[str]) -> F8:
    """Columns side by side, shape (n, c); 0 where a row has no number (a lower order of its surface)."""
    return np.stack([np.ma.filled(np.ma.asarray(frames[name], float), 0.0) for name in names], axis=1)


def _box_of(corner: F8) -> Box:
    (x0, y0), (x1, y1) = np.floor(corner.min(axis=0)).astype(int), np.ceil(corner.max(axis=0)).astype(int) + 1
    return Box(int(y0), int(y1), int(x0), int(x1))


def _strips_of(box: Box) -> Iterator[Box]:
    """The rows of a box, a few at a time; none of an empty one."""
    if not box.is_empty:
        for y0 in range(box.y0, box.y1, STRIP_ROWS):
            yield Box(y0, min(y0 + STRIP_ROWS, box.y1), box.x0, box.x1)


def _places_in(corner: F8, box: Box) -> tuple[F8, F8]:
    """Places in a frame, -1 to 1, of the pixels of a box: what maps one tangent plane to another is a homography."""
    rows = []
    for (x, y), (u, v) in zip(corner, _UV, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    h = np.append(np.linalg.solve(np.array(rows), _UV.ravel()), 1.0).reshape(3, 3)
    x, y = np.arange(box.x0, box.x1), np.arange(box.y0, box.y1)[:, None]
    scale = h[2, 0] * x + h[2, 1] * y + 1
    return (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / scale, (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / scale
