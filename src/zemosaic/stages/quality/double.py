"""Frames that were moved while they were exposed: their stars come in pairs of one offset."""

from __future__ import annotations

import numpy as np
import scipy

from zemosaic.model.measurements import Stars
from zemosaic.text import Message, message

__all__ = ["find_double"]

_PAIR_REACH_PX, _PAIR_PX = 60.0, 1.5
"""Longest step of a mount in one exposure that is looked for, and how well the offsets of its pairs of images agree."""

_BRIGHTEST, _POOL = 40, 150
"""Stars that are asked for a second image, and the brightest of all, among which it is looked for: more would meet by
chance in crowded fields."""

_DOUBLE = 0.3
"""Share of them that must have one at the same offset; stars of one field give a tenth at most."""

_FEWEST_DOUBLE = 8
"""Stars with a second image, at least."""


def find_double(stars: Stars) -> Message | None:
    """Whether the brightest stars have a second image at one offset, with the numbers; None if not.

    So look frames of a mount that was bumped, and trails, which are found as several stars in a row.
    """
    clean = np.flatnonzero(~stars.saturated)
    if len(clean) < 2 * _FEWEST_DOUBLE:
        return None
    xy = np.column_stack([stars.x[clean], stars.y[clean]])
    xy = xy[:_POOL]  # brightest first
    bright = xy[:_BRIGHTEST]
    pairs = scipy.spatial.cKDTree(bright).sparse_distance_matrix(
        scipy.spatial.cKDTree(xy), _PAIR_REACH_PX, output_type="coo_matrix"
    )
    second = pairs.col > pairs.row
    offset = xy[pairs.col[second]] - bright[pairs.row[second]]
    if len(offset) == 0:
        return None
    offset = np.where((offset[:, :1] < 0) | ((offset[:, :1] == 0) & (offset[:, 1:] < 0)), -offset, offset)
    n_near = scipy.spatial.cKDTree(offset).query_ball_point(offset, _PAIR_PX, return_length=True)
    near = np.hypot(*(offset - offset[np.argmax(n_near)]).T) < _PAIR_PX
    # A star is asked once, however many neighbours it has.
    n_pairs = len(np.unique(pairs.row[second][near]))
    if n_pairs < max(_FEWEST_DOUBLE, _DOUBLE * len(bright)):
        return None
    dx, dy = np.median(offset[near], axis=0)
    return message("quality.double", n_pairs=n_pairs, n_bright=len(bright), distance_px=np.hypot(dx, dy))
