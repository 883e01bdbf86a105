"""Whether frames lie on each other: the stars of each pair, compared where the pair overlaps.

A WCS may be wrong where no catalogue can tell, and right by the catalogue and yet off by some pixels. What can always
be asked are the frames' own stars: in an overlap, those of one frame must lie on those of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.sky.celestial import CelestialWcs, unit_vectors
from zemosaic.model.sky.star_field import StarField
from zemosaic.stages.solve.verify import log_chance_of, match_nearest

__all__ = ["TOLERANCE_PX", "Meeting", "Stray", "compare_pairs", "find_strays_by_stars", "neighbours"]

Array = npt.NDArray[np.float64]

TOLERANCE_PX = 3.0
"""Stars nearer than this are one star; smaller errors of a place are what the joint adjustment mends."""

REACH_PX = 80.0
"""Shifts between two frames are looked for this far: more than a dither, less than makes chance meetings common."""

_PARTNERS = 6
"""Frames that each frame is compared with, the nearest first: enough to see who is off in a group of three or more."""

_BRIGHTEST = 60
"""Stars of each frame that are compared in an overlap; faint ones are seen by one frame and not by the other."""

_FEWEST = 4
"""Stars that each of two frames must have in their overlap before anything is asked."""

_FEWEST_TO_DOUBT = 12
"""Stars that both must have before it means something that none coincide."""

_FEWEST_TOGETHER = 3
"""Stars that must coincide as they lie: fewer fall together by chance in every tenth pair of frames."""

_SHIFTED_SHARE = 0.35
"""Share of the stars that must coincide after a shift: a frame that is merely shifted shows nearly all, chance few."""

_SURE_LOG_CHANCE = -4.0
"""Log10 of the chance below which a coincidence is believed, all shifts that were tried counted."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """What the stars of two frames say where the frames overlap.

    Attributes
    ----------
    first, second : int
        Positions of the frames in the list that was compared.
    verdict : {"together", "shifted", "apart", "unknown"}
        together: stars coincide; shifted: they do once `second` is moved; apart: both have stars, none coincide;
        unknown: too few stars.
    n_stars : int
        Stars of the frame that has fewer of them in the overlap, at most 60.
    n_shared : int
        Stars that coincide, after the shift.
    shift_px : tuple of float
        ``(x, y)`` to add to the places of `second`'s stars in `first`'s pixels.
    """

    first: int
    second: int
    verdict: Literal["together", "shifted", "apart", "unknown"]
    n_stars: int
    n_shared: int = 0
    shift_px: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Stray:
    """A frame that does not lie on those it overlaps.

    Attributes
    ----------
    index : int
        Its position in the list.
    meeting : Meeting
        The meeting that says most clearly so: "shifted" or "apart".
    """

    index: int
    meeting: Meeting


def compare_pairs(fields: Sequence[StarField], places: Sequence[CelestialWcs]) -> list[Meeting]:
    """Compare every frame's stars with those of the frames around it.

    Parameters
    ----------
    fields : sequence of StarField
        Star lists; any bands and depths.
    places : sequence of CelestialWcs
        Where each frame is thought to be.

    Returns
    -------
    list of Meeting
        Of pairs that overlap, sorted by `first` and `second`. Linear in frames: each has at most six partners.
    """
    sky = [place.pixel_to_sky(*field.xy.T) for field, place in zip(fields, places, strict=True)]
    meetings = [_compare(i, j, fields, places, sky) for i, j in neighbours(places)]
    return [meeting for meeting in meetings if meeting is not None]


def neighbours(places: Sequence[CelestialWcs]) -> list[tuple[int, int]]:
    """Pairs of frames whose circles overlap, each frame with its nearest ones."""
    if len(places) < 2:
        return []
    middle = np.array([unit_vectors(*place.pixel_to_sky(*_middle(place))) for place in places])
    radius = np.array([np.deg2rad(place.pixel_scale_arcsec() / 3600) * np.hypot(*place.shape) / 2 for place in places])
    tree = scipy.spatial.cKDTree(middle)
    distance, near = (np.asarray(table) for table in tree.query(middle, k=min(_PARTNERS + 1, len(places))))
    pairs = {
        (min(i, int(j)), max(i, int(j)))
        for i, (row, others) in enumerate(zip(distance, near, strict=True))
        for d, j in zip(row, others, strict=True)
        if i != j and d < radius[i] + radius[int(j)]
    }
    return sorted(pairs)


def _middle(place: CelestialWcs) -> tuple[float, float]:
    return (place.shape[1] - 1) / 2, (place.shape[0] - 1) / 2


def _compare(
    i: int,
    j: int,
    fields: Sequence[StarField],
    places: Sequence[CelestialWcs],
    sky: Sequence[tuple[Array, Array]],
) -> Meeting | None:
    """The stars of both frames in their overlap, in the pixels of the first."""
    moved = np.stack(places[i].sky_to_pixel(*sky[j]), axis=1)
    back = np.stack(places[j].sky_to_pixel(*sky[i]), axis=1)
    own_of_i = _inside(back, places[j].shape)
    own_of_j = _inside(moved, places[i].shape)
    one = _brightest(fields[i].xy[own_of_i], fields[i].flux[own_of_i])
    other = _brightest(moved[own_of_j], fields[j].flux[own_of_j])
    n_stars = min(len(one), len(other))
    if n_stars < _FEWEST:
        return Meeting(i, j, "unknown", n_stars) if n_stars else None
    area = max(float(np.prod(np.ptp(one, axis=0) + 2 * TOLERANCE_PX)), float(np.pi * REACH_PX**2))
    tree = scipy.spatial.cKDTree(one)
    n_here, log_chance = _coincide(other, one, tree, area)
    if n_here >= _FEWEST_TOGETHER and log_chance <= _SURE_LOG_CHANCE:
        return Meeting(i, j, "together", n_stars, n_here)
    shift = _vote(other, tree)
    n_shared, log_chance = _coincide(other + shift, one, tree, area, n_used=1)
    log_chance += 2 * float(np.log10(REACH_PX / TOLERANCE_PX))
    if n_shared >= max(4, _SHIFTED_SHARE * n_stars) and log_chance <= _SURE_LOG_CHANCE:
        return Meeting(i, j, "shifted", n_stars, n_shared, (float(shift[0]), float(shift[1])))
    is_apart = n_stars >= _FEWEST_TO_DOUBT and n_here < n_stars / 6
    return Meeting(i, j, "apart" if is_apart else "unknown", n_stars, n_here)


def _coincide(xy: Array, one: Array, tree: scipy.spatial.cKDTree, area: float, n_used: int = 0) -> tuple[int, float]:
    """How many stars have one of the tree beside them, and log10 of the chance of it; `n_used` of them made the fit."""
    found, _, distance = match_nearest(xy, tree, TOLERANCE_PX)
    return len(found), log_chance_of(distance, len(xy), len(one), area, 0.5, n_used)


def _inside(xy: Array, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    x, y = xy.T
    return np.asarray((x >= 0) & (x <= shape[1] - 1) & (y >= 0) & (y <= shape[0] - 1))


def _brightest(xy: Array, flux: Array) -> Array:
    return np.asarray(xy[np.argsort(-flux, kind="stable")[:_BRIGHTEST]])


def _vote(xy: Array, tree: scipy.spatial.cKDTree) -> Array:
    """The shift within reach that brings most of the stars onto those of the tree."""
    near = scipy.spatial.cKDTree(xy).sparse_distance_matrix(tree, REACH_PX, output_type="coo_matrix")
    shifts = tree.data[near.col] - xy[near.row]
    if not len(shifts):
        return np.zeros(2)
    votes = scipy.spatial.cKDTree(shifts).query_ball_point(shifts, TOLERANCE_PX, return_length=True)
    clump = shifts[np.hypot(*(shifts - shifts[np.argmax(votes)]).T) <= TOLERANCE_PX]
    return np.asarray(np.median(clump, axis=0))


def find_strays_by_stars(
    meetings: Sequence[Meeting], n_frames: int, sure: Sequence[bool]
) -> tuple[list[Stray], list[bool]]:
    """Frames that contradict those they overlap, and frames that some other frame confirms.

    Parameters
    ----------
    meetings : sequence of Meeting
        From `compare_pairs`.
    n_frames : int
    sure : sequence of bool
        Frames whose place a catalogue has confirmed: a group with such a frame is right, whoever contradicts it.

    Returns
    -------
    (list of Stray, list of bool)
        Strays by their position; whether each frame coincides with any other.

    Notes
    -----
    Frames that coincide, directly or through others, are one group. Where two groups contradict each other, the one
    with more confirmed frames is right, then the larger one, then the one with the first frame.
    """
    together = [(m.first, m.second) for m in meetings if m.verdict == "together"]
    rows, cols = np.array(together, dtype=int).reshape(-1, 2).T
    graph = scipy.sparse.coo_matrix((np.ones(len(rows)), (rows, cols)), (n_frames, n_frames))
    group = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
    rank = {}
    for label in range(int(group.max(initial=-1)) + 1):
        members = np.flatnonzero(group == label)
        rank[label] = (sum(sure[int(k)] for k in members), len(members), -int(members[0]))
    worst: dict[int, Meeting] = {}
    for meeting in meetings:
        a, b = int(group[meeting.first]), int(group[meeting.second])
        if meeting.verdict not in {"shifted", "apart"} or a == b:
            continue
        loser = a if rank[a] < rank[b] else b
        if loser not in worst or _clarity(meeting) > _clarity(worst[loser]):
            worst[loser] = meeting
    strays = [Stray(k, worst[int(group[k])]) for k in range(n_frames) if int(group[k]) in worst and not sure[k]]
    confirmed = np.zeros(n_frames, bool)
    confirmed[rows] = confirmed[cols] = True
    return strays, confirmed.tolist()


def _clarity(meeting: Meeting) -> tuple[bool, int]:
    return meeting.verdict == "shifted", max(meeting.n_shared, meeting.n_stars)
