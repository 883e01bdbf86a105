"""Values of tiles from what their overlaps say of the differences: a robust, sparse, linear solve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.box import Box
from zemosaic.stages.numeric.robust import cauchy_weight, mad_sigma

__all__ = ["choose_pairs", "group_tiles", "solve_differences", "solve_gains"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ROUNDS = 15
"""Of reweighting. There are few unknowns, so they cost nothing."""

_CAUCHY = 2.0
"""Errors from which on an edge that contradicts the others is weighed down."""

_FLOOR = 2e-4
"""Least error of an edge's ln gain: between tiles made of the same frames even the noise is the same, and the error
that a comparison states is 0."""

_LIFT = 1e-9
"""Put onto the diagonal, in units of its largest element: holds each component's mean near 0."""

_CHUNK = 256
"""Columns of the inverse that are made at a time."""

_MOST_PAIRS = 8
"""Overlaps of a tile that are compared, the largest: more make its gain hardly better known, and where a hundred tiles
lie on each other all pairs would be five thousand."""


def solve_gains(n: int, ends: Ints, slope: F8, slope_error: F8) -> tuple[F8, F8]:
    """Gains of tiles from slopes between them.

    Parameters
    ----------
    n : int
        Tiles.
    ends : ndarray, shape (2, k)
        The tiles of each overlap; slopes are of the second against the first.
    slope, slope_error : ndarray, shape (k,)
        Overlaps with an error of inf say nothing.

    Returns
    -------
    gain, error : ndarray, shape (n,)
        Responses and their relative errors. The geometric mean is 1 over the largest group of tiles that overlaps tie;
        all others have gain 1 with error inf.
    """
    told = np.isfinite(slope_error)
    ends, slope, slope_error = ends[:, told], slope[told], slope_error[told]
    if not len(slope):
        return np.ones(n), np.full(n, np.inf)
    label = group_tiles(n, ends)
    tied = label == np.argmax(np.bincount(label))
    log_gain, error = solve_differences(n, ends, np.log(slope), np.hypot(slope_error / slope, _FLOOR))
    return np.where(tied, np.exp(log_gain), 1.0), np.where(tied, error, np.inf)


def solve_differences(n: int, ends: Ints, difference: F8, error: F8) -> tuple[F8, F8]:
    """Values whose differences ``value[second] - value[first]`` fit best, robustly; mean 0 in each component.

    Returns
    -------
    value, error : ndarray, shape (n,)
        Errors of single edges are taken as they are stated, or larger where the edges contradict each other more.
    """
    if n == 0 or len(difference) == 0:
        return np.zeros(n), np.full(n, np.inf)
    rows = np.arange(len(difference))
    design = scipy.sparse.csc_array(
        scipy.sparse.coo_array(
            (np.r_[np.full(len(rows), -1.0), np.ones(len(rows))], (np.r_[rows, rows], np.r_[ends[0], ends[1]])),
            shape=(len(rows), n),
        )
    )
    robust, excess = np.ones(len(rows)), 1.0
    for _ in range(_ROUNDS):
        weight = robust / error**2
        normal = scipy.sparse.csc_array(design.T @ scipy.sparse.diags_array(weight) @ design)
        lift = _LIFT * max(float(normal.diagonal().max()), 1e-300)
        factors = scipy.sparse.linalg.splu(scipy.sparse.csc_array(normal + lift * scipy.sparse.diags_array(np.ones(n))))
        value = factors.solve(design.T @ (weight * difference))
        pull = (difference - design @ value) / error
        # Errors of overlaps that share their noise are too small: what all edges scatter by is their true size.
        excess = max(mad_sigma(pull, 0), 1.0)
        robust = cauchy_weight((pull / excess) ** 2, _CAUCHY)
    label = group_tiles(n, ends)
    value = np.asarray(value - (np.bincount(label, value) / np.bincount(label))[label])
    return value, excess * np.sqrt(_variances(factors, label))


def _variances(factors: scipy.sparse.linalg.SuperLU, label: Ints) -> F8:
    """Variances of the values less the mean of their component: columns of the inverse, without that mean."""
    n = len(label)
    variance, size = np.zeros(n), np.bincount(label)
    for start in range(0, n, _CHUNK):
        columns = np.arange(start, min(start + _CHUNK, n))
        # What is solved for has no common part, which the lift alone would hold.
        wanted = (np.arange(n)[:, None] == columns) - (label[:, None] == label[columns]) / size[label[columns]]
        found = factors.solve(wanted)
        variance[columns] = np.einsum("ij,ij->j", found, wanted)
    return np.maximum(variance, 0)


def group_tiles(n: int, ends: Ints) -> Ints:
    """Number of the connected group of each of n tiles."""
    links = scipy.sparse.coo_array((np.ones(ends.shape[1], np.int8), (ends[0], ends[1])), shape=(n, n))
    return np.asarray(scipy.sparse.csgraph.connected_components(links, directed=False)[1], np.int64)


def choose_pairs(boxes: Sequence[Box], pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Of all pairs that overlap, enough to compare: each tile's largest overlaps, and what ties all together.

    Parameters
    ----------
    boxes : sequence of Box
    pairs : sequence of (int, int)
        Those that overlap, as `overlapping_boxes` finds them.

    Returns
    -------
    list of (int, int)
        In the order of `pairs`.
    """
    if len(pairs) <= _MOST_PAIRS:
        return list(pairs)
    first, second = np.array(pairs).T
    area = np.array([boxes[i].intersect(boxes[j]).n_pixels for i, j in pairs])
    links = scipy.sparse.coo_array((1.0 / area, (first, second)), shape=(len(boxes), len(boxes)))
    tree = scipy.sparse.csgraph.minimum_spanning_tree(links).tocoo()
    kept = {(int(i), int(j)) for i, j in zip(*tree.coords, strict=True)}
    largest_first = np.argsort(-area, kind="stable")
    so_far = np.zeros(len(boxes), int)
    for k in largest_first:
        i, j = pairs[k]
        if min(so_far[i], so_far[j]) < _MOST_PAIRS:
            kept.add((i, j))
            so_far[[i, j]] += 1
    return [pair for pair in pairs if pair in kept]
