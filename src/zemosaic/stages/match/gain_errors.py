"""Variances of gains by the exact inverse of their normal matrix, through whichever are fewer, images or stars."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.match import dense
from zemosaic.kernels.match import gains as kernel
from zemosaic.kernels.match.gains import Detections

__all__ = ["gain_variances"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_AT_ONCE = 64
"""Images whose variances are found together."""


def gain_variances(seen: Detections, weight: F8, totals: F8, least: F8, hold: F8, component: Ints) -> F8:
    """Diagonal of the inverse of ``D - A^T T^-1 A + P``, shape (images,).

    A holds the weights (stars, images), T the stars' `totals`, D the images' summed weights and `least`, and P is
    `hold` between any two images of one component: what its mean is held by. Where stars are fewer than images the
    images are eliminated instead (Woodbury): ``Q + Q A^T (T - A Q A^T)^-1 A Q`` with ``Q = (D + P)^-1``.

    Parameters
    ----------
    seen : Detections
    weight : ndarray, shape (detections,)
    totals : ndarray, shape (stars,)
        At least a star's summed weight.
    least : ndarray, shape (images,)
        Positive.
    hold : ndarray, shape (images,)
        Of one value in a component.
    component : ndarray, shape (images,)
        All images of a star are of one.
    """
    if len(totals) < len(least):
        return _by_stars(seen, weight, totals, least, hold, component)
    matrix = _eliminate(seen.image, seen.star, weight, totals, len(least))
    matrix += np.where(component[:, None] == component, hold[:, None], 0.0) + np.diag(least)
    return _squares(matrix, _unit_columns(len(least)))


def _by_stars(seen: Detections, weight: F8, totals: F8, least: F8, hold: F8, component: Ints) -> F8:
    n, n_stars = len(least), len(totals)
    own = np.bincount(seen.image, weight, n) + least
    # Of Q in a component: 1 / own on the diagonal, less `common` / own / own between any two.
    common = hold / (1 + hold * np.bincount(component, 1 / own)[component])
    of_star = np.full(n_stars, -1)
    of_star[seen.star] = component[seen.image]
    reach = np.bincount(seen.star, weight / own[seen.image], n_stars)
    by_component = np.zeros(int(component.max()) + 1)
    by_component[component] = common
    shared = np.where(of_star < 0, 0.0, by_component[of_star]) * reach
    matrix = _eliminate(seen.star, seen.image, weight, own, n_stars)
    # A star without weight says nothing: any number on the diagonal will do.
    beyond = np.where(totals > 0, totals - np.bincount(seen.star, weight, n_stars), 1.0)
    matrix += np.where(of_star[:, None] == of_star, shared[:, None] * reach, 0.0) + np.diag(beyond)

    def columns() -> Iterator[tuple[int, F8]]:
        order = np.argsort(seen.image, kind="stable")
        start = np.searchsorted(seen.image[order], np.arange(n + 1))
        for i0 in range(0, n, _AT_ONCE):
            i1 = min(i0 + _AT_ONCE, n)
            rows = np.where(of_star[:, None] == component[i0:i1], -shared[:, None], 0.0)
            some = order[start[i0] : start[i1]]
            np.add.at(rows, (seen.star[some], seen.image[some] - i0), weight[some])
            yield 0, rows / own[i0:i1]

    return 1 / own - common / own**2 + _squares(matrix, columns())


def _eliminate(kept: Ints, gone: Ints, weight: F8, totals: F8, n: int) -> F8:
    """Normal matrix of one side, shape (n, n), with the other one, of the given totals, eliminated."""
    order, matrix = np.argsort(gone, kind="stable"), np.empty((n, n))
    start = np.searchsorted(gone[order], np.arange(len(totals) + 1))
    kernel.eliminate(kept, start, weight, totals, order, matrix)
    return matrix


def _unit_columns(n: int) -> Iterator[tuple[int, F8]]:
    for i0 in range(0, n, _AT_ONCE):
        yield i0, np.eye(n, min(_AT_ONCE, n - i0), -i0)


def _squares(matrix: F8, columns: Iterator[tuple[int, F8]]) -> F8:
    """``x^T matrix^-1 x`` of all columns, told by blocks behind the first row where these are not 0."""
    dense.factorise(matrix)
    found = [np.zeros(0)]
    for first, block in columns:
        found.append(np.zeros(block.shape[1]))
        dense.add_squares(matrix, block, first, found[-1])
    return np.concatenate(found)
