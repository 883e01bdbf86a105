"""Smooth surfaces known at the nodes of a lattice, added to pictures. Serial, nogil."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf

__all__ = ["add_surface"]


@kernel
def add_surface(nodes, corner, shape, first, past, total):
    """Add a surface, linear between its nodes, to a piece of each row of a box.

    Parameters
    ----------
    nodes : float32 (c, ny, nx)
        The first and the last of each axis lie on the first and the last pixel of the box; 2 at least.
    corner, shape : (y, x) and (height, width) of the box
    first, past : int64 (height,)
        Column of each row's first pixel, and the one after its last.
    total : float32 (c, h, w)
        Added to.
    """
    (y0, x0), (height, width) = corner, shape
    c, ny, nx = nodes.shape
    left, share, line = np.empty(width, np.int32), np.empty(width, np.float32), np.empty(nx, np.float32)
    for x in range(width):
        at = x * (nx - 1) / max(width - 1, 1)
        left[x] = min(int(at), nx - 2)
        share[x] = at - left[x]
    for y in range(height):
        if first[y] >= past[y]:
            continue
        at = y * (ny - 1) / max(height - 1, 1)
        below = min(int(at), ny - 2)
        for k in range(c):
            for i in range(nx):
                line[i] = nodes[k, below, i] + np.float32(at - below) * (nodes[k, below + 1, i] - nodes[k, below, i])
            _add_line(line, left, share, (first[y], past[y], x0), total[k, y0 + y])


@leaf
def _add_line(line, left, share, piece, total):
    """Add what is linear between the nodes of a row to a piece of it."""
    first, past, x0 = piece
    for x in range(first, past):
        i = left[x - x0]
        total[x] += line[i] + share[x - x0] * (line[i + 1] - line[i])
