"""The search for a frame's star pattern in a catalogue cone: pairs of stars, cheap ones first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.kernels.solve.pattern import mark_stars, search_pair
from zemosaic.stages.solve.verify import PlateFit, SkyPlane, fit_plate

__all__ = ["Search", "find_plates", "prepare_search"]

Array = npt.NDArray[np.float64]

_MAX_PAIR_REFS, _MAX_MARKED_REFS = 800, 4000
"""Brightest stars of the catalogue that pairs are made of, and that hits are counted on. They matter in fields of many
degrees only: a cone of 1.7 degrees holds at most some 650 stars."""

# (stars tested / stars expected, stars that pairs are made of, hypotheses allowed), cheap first. The sum of
# the last column bounds the cost of giving up: some 0.15 microseconds each.
_TIERS = ((1.3, 10, 200_000), (1.3, 20, 400_000), (2.5, 40, 450_000))

_CHANCE_OF_A_FIT = 1e-4
"""Chance of so many hits by accident from which a hypothesis is worth a fit."""

_HYPOTHESES_A_FIT_COSTS = 3000
"""In time: a fit takes half a millisecond."""


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """One catalogue cone, ready to be searched for a frame.

    Attributes
    ----------
    plane : SkyPlane
        All stars of the cone, its tangent point at the hint.
    shape : tuple of int
        ``(height, width)`` of the frame.
    scale_arcsec, scale_tolerance : float
        Nominal pixel scale, and how far off it may be.
    reach_deg : float
        How far the frame's centre may be from the tangent point.
    n_expected : float
        Catalogue stars that a frame holds on average.
    ref : ndarray, shape (2, n)
        Stars that pairs are made of, sorted by x, and
    marks : ndarray of uint8
        map of the places near a star, both in cells of
    cell_arcsec : float
        from the corner of a square whose middle is the tangent point.
    """

    plane: SkyPlane
    shape: tuple[int, int]
    scale_arcsec: float
    scale_tolerance: float
    reach_deg: float
    n_expected: float
    ref: Array
    marks: npt.NDArray[np.uint8]
    cell_arcsec: float


def prepare_search(
    plane: SkyPlane,
    shape: tuple[int, int],
    scale_arcsec: float,
    scale_tolerance: float,
    reach_deg: float,
    radius_deg: float,
) -> Search:
    """Make the map and the list that `find_plates` searches; `radius_deg` is that of the cone."""
    diagonal = float(np.hypot(*shape)) * scale_arcsec
    # Wide enough for what a pair's own errors grow to at the far corner of the frame.
    cell = max(4 * scale_arcsec, 0.002 * diagonal, 3.0)
    n_cells = 2 * int(np.ceil(radius_deg * 3600 / cell))
    in_cells = plane.xy.T / cell + n_cells / 2
    marked = in_cells[:, :_MAX_MARKED_REFS]
    pairs = in_cells[:, :_MAX_PAIR_REFS]
    return Search(
        plane=plane,
        shape=shape,
        scale_arcsec=scale_arcsec,
        scale_tolerance=scale_tolerance,
        reach_deg=reach_deg,
        n_expected=_count_in_field(plane, shape[0] * shape[1] * scale_arcsec**2),
        ref=np.ascontiguousarray(pairs[:, np.argsort(pairs[0], kind="stable")]),
        marks=mark_stars(np.ascontiguousarray(marked[0]), np.ascontiguousarray(marked[1]), n_cells),
        cell_arcsec=cell,
    )


def _count_in_field(plane: SkyPlane, area_arcsec2: float) -> float:
    """Other catalogue stars round a catalogue star, on average: the catalogue may fill but a part of the cone."""
    if not len(plane.xy):
        return 0.0
    some = plane.xy[:: len(plane.xy) // 200 + 1]
    count = plane.tree.query_ball_point(some, np.sqrt(area_arcsec2 / np.pi), return_length=True)
    return float(np.mean(count)) - 1


def find_plates(stars: Array, search: Search) -> Iterator[tuple[PlateFit, int]]:
    """Fitted plates that are worth a look, with the number of hypotheses tested so far.

    Parameters
    ----------
    stars : ndarray, shape (n, 2)
        The frame's stars, brightest first, pixels from its centre.
    search : Search
        Where to look.

    Notes
    -----
    Begins with the brightest stars and as many as the catalogue should hold; the next tiers go
    deeper, for frames whose brightest detections are false or not in the catalogue.
    """
    n_tested = n_done = 0
    share = min(1.0, _MAX_MARKED_REFS / max(len(search.plane.xy), 1))
    for depth, n_pair_stars, budget in _TIERS:
        n_test = int(min(max(depth * share * search.n_expected, 20), 200, len(stars)))
        n_pair_stars = min(n_pair_stars, n_test)
        spent, min_hits = 0, _least_hits(n_test, search, share)
        for pair in _pairs(stars[:n_pair_stars], n_done, float(np.hypot(*search.shape))):
            rows, n = _try_pair(stars[:n_test], pair, search, min_hits)
            n_tested += n
            spent += n + len(rows) * _HYPOTHESES_A_FIT_COSTS
            for row in rows:
                fit = fit_plate(
                    stars[:n_test], _linear_of(row, search), search.plane, search.shape, 2 * search.cell_arcsec
                )
                if fit is not None:
                    yield fit, n_tested
            if spent > budget:
                break
        n_done = n_pair_stars


def _pairs(stars: Array, n_done: int, diagonal: float) -> list[tuple[int, int]]:
    """Pairs whose fainter star is none of the first `n_done`, short pairs first.

    A pair fits a number of catalogue pairs that grows with the square of its length, so short
    pairs are the cheap ones; below a tenth of the diagonal they fix rotation and scale too poorly.
    """
    first, second = np.triu_indices(len(stars), 1)
    length = np.hypot(*(stars[second] - stars[first]).T) / diagonal
    wanted = np.flatnonzero((second >= n_done) & (length >= 0.1) & (length <= 0.6))
    wanted = wanted[np.argsort(length[wanted], kind="stable")]
    return [(int(first[k]), int(second[k])) for k in wanted]


def _least_hits(n_test: int, search: Search, share: float) -> int:
    """Hits from which a hypothesis that is tested with `n_test` stars is worth a fit."""
    unit = search.scale_arcsec / search.cell_arcsec
    per_star = share * max(search.n_expected, 1) * 9 / (search.shape[0] * search.shape[1] * unit**2)
    counts = np.arange(3, 400)
    return int(counts[np.argmax(scipy.special.pdtrc(counts - 1, per_star * n_test) < _CHANCE_OF_A_FIT)])


def _try_pair(stars: Array, pair: tuple[int, int], search: Search, min_hits: int) -> tuple[Array, int]:
    """Hypotheses of one pair that hit more stars than chance does, best first, and how many were tested."""
    cell = search.cell_arcsec
    unit = search.scale_arcsec / cell
    bound = 1 + search.scale_tolerance
    found = np.empty((16, 6))
    n_found, n_tested = search_pair(
        stars * unit,
        pair,
        search.ref,
        search.marks,
        (1 / bound, bound),
        search.reach_deg * 3600 / cell,
        min_hits,
        found,
    )
    found = found[:n_found]
    return found[np.argsort(-found[:, 0], kind="stable")], n_tested


def _linear_of(row: Array, search: Search) -> Array:
    """Matrix form of ``a z + b``: pixels from the frame's centre -> arcsec on the plane."""
    _, a_re, a_im, b_re, b_im, parity = row
    middle = len(search.marks) / 2
    turn = search.scale_arcsec * np.array([[a_re, -parity * a_im], [a_im, parity * a_re]])
    return np.column_stack([turn, search.cell_arcsec * (np.array([b_re, b_im]) - middle)])
