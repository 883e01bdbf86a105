"""Group detections that lie at one place of the sky. Serial, nogil, linear in their number."""

from __future__ import annotations

import math

import numpy as np

from zemosaic.kernels.compiled import kernel, part

__all__ = ["group_detections"]


_EMPTY = np.int64(-(2**62))
"""Marks a free place of the hash table; no cell of the sky has this number."""


@part
def _slot_of(table_x, table_y, cx, cy):
    """Slot of cell (cx, cy) in an open-addressing table: where it is, or where it would go."""
    mask = np.int64(len(table_x) - 1)
    # Products with large odd numbers (they may wrap) spread neighbouring cells over the table.
    mixed = (cx * np.int64(0x1E3779B97F4A7C15)) ^ (cy * np.int64(0x42B2AE3D27D4EB4F))
    k = (mixed ^ (mixed >> np.int64(29))) & mask
    while table_x[k] != _EMPTY and (table_x[k] != cx or table_y[k] != cy):
        k = (k + np.int64(1)) & mask
    return k


@kernel
def group_detections(x, y, order, radius, group):
    """Give every detection the number of its group; return how many groups there are.

    Detections are taken in `order`; each joins the nearest group founder within `radius`, else founds one.

    Parameters
    ----------
    x, y : float64 (n,)
        Positions on a plane.
    order : int64 (n,)
        Best first: founders are the best measured.
    radius : float
    group : int64 (n,), output
    """
    n = len(x)
    size = 16
    while size < 2 * n:
        size *= 2
    table_x = np.full(size, _EMPTY, np.int64)
    table_y = np.full(size, _EMPTY, np.int64)
    head = np.full(size, -1, np.int64)
    following = np.full(n, -1, np.int64)
    founder_group = np.full(n, -1, np.int64)
    n_groups = 0
    for q in range(n):
        k = order[q]
        cx, cy = np.int64(math.floor(x[k] / radius)), np.int64(math.floor(y[k] / radius))
        best, best_d2 = -1, radius * radius
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                slot = _slot_of(table_x, table_y, cx + dx, cy + dy)
                other = head[slot]
                while other >= 0:
                    d2 = (x[k] - x[other]) ** 2 + (y[k] - y[other]) ** 2
                    if d2 < best_d2:
                        best, best_d2 = other, d2
                    other = following[other]
        if best >= 0:
            group[k] = founder_group[best]
            continue
        slot = _slot_of(table_x, table_y, cx, cy)
        table_x[slot], table_y[slot] = cx, cy
        following[k] = head[slot]
        head[slot] = k
        founder_group[k] = n_groups
        group[k] = n_groups
        n_groups += 1
    return n_groups
