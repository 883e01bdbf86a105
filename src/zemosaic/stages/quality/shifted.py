"""Parts of a frame that lie beside their place: rows that were shifted while they were read out or stored.

One image does not tell: sky beside sky is sky. The stars of the frames round it do. Those of such a part stand where no
other frame shows any, all by one step beside those that are missing. Where one part of all frames was shifted, they
show nothing that is right there, but they do not confirm each other either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.box import Box
from zemosaic.model.measurements import Blocks, Measurements, Stars
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.stages.solve.coincide import TOLERANCE_PX, neighbours

__all__ = [
    "LonelyPart",
    "Look",
    "ShiftedPart",
    "find_lonely_part",
    "find_shifted_parts",
    "look_round",
    "without_part",
]

F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_SHOWN = 30.0
"""Signal to noise of stars that frames of like depth show beyond doubt."""

_EDGE_PX = 12
"""Stars nearer to a frame's edge may lie outside of it by a small error of its place."""

_LEAST_COVER = 2
"""Other frames that must reach a place before they say what stands there: of two nothing tells which is wrong."""

_FEW = 0.4
"""Share of the other frames that reach a place of which as many or fewer show a star there: most say there is none."""

_REACH_PX = 400.0
"""Longest shift that is looked for: longer ones leave few stars whose true place lies in the same frame."""

_STEP_PX = 1.5
"""How well the steps of the stars of one part agree."""

_FEWEST = 4
"""Stars that must be beside their place by one step; chance makes no three among hundreds of pairs."""

_SHARE = 0.5
"""Share of the stars that only this frame shows which one step must explain."""

_SECOND = 2
"""The part ends at the second star that is in its place: the first one may be another's by chance."""

_TO_BORDER = 0.05
"""Share of a side: a part whose stars reach so near to the border goes on to the border."""

_MOST = 0.75
"""Share of a frame that a part may be: where more lies elsewhere, so does the frame."""

_MIXED = 0.2
"""Stars in their places within such a part, over those that are beside theirs: more, and it is no part. Chance puts a
tenth of the stars onto places of others where 300 stand in 500 x 1000 px."""


_NEAREST = 12
"""Stars, itself with them, of all frames, whose share of lonely ones is that round a star."""

_LONELY = 0.7
"""Share of lonely stars from which a part is lonely: where rows are shifted alike, what stands in two frames by chance
and what other parts of frames show right are the rest."""

_CLEAR_LONELY = 0.2
"""Share of lonely stars in the rest, from which stars tell nothing: detections of noise, or places that are wrong."""

_LONELY_PART, _FEWEST_LONELY = 0.08, 24
"""Share of the stars, and stars, that a lonely part holds."""


@dataclass(frozen=True, slots=True)
class LonelyPart:
    """A part of the frames of one camera in which none shows the stars of the others.

    Attributes
    ----------
    box : Box
        Round the stars there, pixels of a frame.
    n_alone, n_stars : int
        Stars there that no other frame shows, and all there, of all frames.
    """

    box: Box
    n_alone: int
    n_stars: int


@dataclass(frozen=True, slots=True)
class ShiftedPart:
    """Rows, or columns, that lie beside their place.

    Attributes
    ----------
    box : Box
        From the last stars that are in their places to the next ones that are, or to the border.
    shift_px : tuple of float
        ``(x, y)``: by how much.
    n_stars : int
        Stars that tell.
    """

    box: Box
    shift_px: tuple[float, float]
    n_stars: int


def find_shifted_parts(looks: Sequence[Look]) -> list[ShiftedPart | None]:
    """The part of each frame that lies beside its place, by the stars of the frames it overlaps.

    Parameters
    ----------
    looks : sequence of Look
        Of all frames; see `look_round`.

    Returns
    -------
    list of ShiftedPart or None
        None for a frame whose stars stand where others show them, and wherever fewer than two others can tell.

    Notes
    -----
    Shifts of up to 3 px pass for errors of a place. Where most frames are shifted alike none of them is.
    """
    return [_find_part(look) for look in looks]


def find_lonely_part(looks: Sequence[Look]) -> LonelyPart | None:
    """The part of the frames of one camera, all of one shape, whose stars no other of them confirms.

    Parameters
    ----------
    looks : sequence of Look
        Of these frames; see `look_round`.

    Returns
    -------
    LonelyPart or None
        None where frames confirm each other, where too few overlap, and where stars are lonely everywhere.
    """
    told = [look.n_reach >= _LEAST_COVER for look in looks]
    xy = np.concatenate([np.zeros((0, 2)), *(look.own.shown[some] for look, some in zip(looks, told, strict=True))])
    lonely = np.concatenate([
        np.zeros(0, bool),
        *(look.n_show[some] == 0 for look, some in zip(looks, told, strict=True)),
    ])
    if len(xy) < 3 * _NEAREST:
        return None
    part = np.mean(lonely[scipy.spatial.cKDTree(xy).query(xy, k=_NEAREST)[1]], axis=1) >= _LONELY
    if np.count_nonzero(part) < max(_LONELY_PART * len(xy), _FEWEST_LONELY):
        return None
    (x0, y0), (x1, y1) = np.floor(xy[part].min(axis=0)), np.ceil(xy[part].max(axis=0)) + 1
    box = Box(int(y0), int(y1), int(x0), int(x1))
    # Stars beside the part's edge have lonely neighbours, too: what is clear begins outside of the box.
    clear = lonely[~_inside(xy, box, 0)]
    if len(clear) < _NEAREST or np.mean(clear) > _CLEAR_LONELY:
        return None
    return LonelyPart(box, int(np.count_nonzero(lonely & part)), int(np.count_nonzero(part)))


def look_round(measured: Sequence[Measurements], places: Sequence[CelestialWcs]) -> list[Look]:
    """How often the stars of each frame are shown by those it overlaps.

    Parameters
    ----------
    measured : sequence of Measurements
    places : sequence of CelestialWcs
        Where each frame is.
    """
    sights = [_Sight.of(m, place) for m, place in zip(measured, places, strict=True)]
    partners: list[list[_Sight]] = [[] for _ in measured]
    for i, j in neighbours(places):
        partners[i].append(sights[j])
        partners[j].append(sights[i])
    return [Look(own, others, *_count_sights(own, others)) for own, others in zip(sights, partners, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class _Sight:
    """A frame's box and place, a tree of its stars, and those it shows beyond doubt: their pixels and their sky."""

    box: Box
    place: CelestialWcs
    stars: scipy.spatial.cKDTree
    shown: F8
    sky: tuple[F8, F8]

    @classmethod
    def of(cls, measured: Measurements, place: CelestialWcs) -> _Sight:
        shown = _shown(measured.stars)
        tree = scipy.spatial.cKDTree(np.column_stack([measured.stars.x, measured.stars.y]))
        return cls(measured.valid_box, place, tree, shown, place.pixel_to_sky(*shown.T))

    def see(self, other: _Sight) -> F8:
        """Where stars that another frame shows lie in this one's pixels, shape (n, 2)."""
        return np.column_stack(self.place.sky_to_pixel(*other.sky))


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What the frames that a frame overlaps say of its stars.

    Attributes
    ----------
    own : _Sight
    partners : list of _Sight
        Of those frames.
    n_reach, n_show : ndarray, int64, shape (n,)
        Of each star that the frame shows beyond doubt, how many others reach its place, and how many show one there.
    """

    own: _Sight
    partners: list[_Sight]
    n_reach: npt.NDArray[np.int64]
    n_show: npt.NDArray[np.int64]


def without_part(measured: Measurements, part: Box) -> Measurements:
    """What was measured on a frame beside a part of it."""
    stars = measured.stars
    beside = ~_inside(np.column_stack([stars.x, stars.y]), part, 0)
    kept = {name: getattr(stars, name)[..., beside] for name in Stars.__dataclass_fields__}

    def cut(blocks: Blocks) -> Blocks:
        return blocks.where(~_inside(np.column_stack([blocks.x, blocks.y]), part, -round(blocks.size_px / 2)))

    return replace(measured.with_blocks(cut), stars=Stars(**kept), valid_box=_beside(measured.valid_box, part))


def _beside(box: Box, part: Box) -> Box:
    """A box less a part that goes from side to side of it and reaches its border."""
    y0, y1, x0, x1 = box.y0, box.y1, box.x0, box.x1
    if part.x0 <= x0 and part.x1 >= x1:
        y0, y1 = (part.y1, y1) if part.y0 <= y0 else (y0, part.y0) if part.y1 >= y1 else (y0, y1)
    elif part.y0 <= y0 and part.y1 >= y1:
        x0, x1 = (part.x1, x1) if part.x0 <= x0 else (x0, part.x0) if part.x1 >= x1 else (x0, x1)
    return Box(y0, y1, x0, x1)


def _shown(stars: Stars) -> F8:
    """Places of stars beyond doubt, shape (n, 2)."""
    error = np.sqrt(np.sum(np.square(stars.flux_error, dtype=float), axis=0))
    sure = ~stars.saturated & (np.sum(stars.flux, axis=0, dtype=float) > _SHOWN * error)
    return np.asarray(np.column_stack([stars.x, stars.y])[sure], float)


def _inside(xy: F8, box: Box, edge_px: int) -> Flags:
    x, y = xy.T
    return np.asarray(
        (x >= box.x0 + edge_px) & (x <= box.x1 - 1 - edge_px) & (y >= box.y0 + edge_px) & (y <= box.y1 - 1 - edge_px)
    )


def _find_part(look: Look) -> ShiftedPart | None:
    own, n_reach, n_show = look.own, look.n_reach, look.n_show
    if len(own.shown) < _FEWEST or len(look.partners) < _LEAST_COVER:
        return None
    # Frames that were read out by one faulty camera may agree with each other.
    alone, good = (n_reach >= _LEAST_COVER) & (_FEW * n_reach >= n_show), n_show > _FEW * n_reach
    if np.count_nonzero(alone) < _FEWEST:
        return None
    step = _common_step(own.shown[alone], _missing([own.see(other) for other in look.partners], own))
    if step is None:
        return None
    shift, moved = step
    return _part_of(own.shown[alone][moved], own.shown[good], own.box, shift)


def _count_sights(own: _Sight, partners: Sequence[_Sight]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of each star that a frame shows, how many others reach its place, and how many show one there."""
    n_reach, n_show = np.zeros((2, len(own.shown)), np.int64)
    for other in partners:
        there = other.see(own)
        n_reach += _inside(there, other.box, _EDGE_PX)
        n_show += other.stars.query(there, distance_upper_bound=TOLERANCE_PX)[0] < TOLERANCE_PX
    return n_reach, n_show


def _missing(seen_by_others: Sequence[F8], own: _Sight) -> F8:
    """Places of stars that at least two others show and the frame does not."""
    found = []
    for k, xy in enumerate(seen_by_others):
        xy = xy[_inside(xy, own.box, _EDGE_PX)]
        xy = xy[own.stars.query(xy)[0] > TOLERANCE_PX]
        rest = np.concatenate([other for n, other in enumerate(seen_by_others) if n > k] or [np.zeros((0, 2))])
        found.append(xy[scipy.spatial.cKDTree(rest).query(xy)[0] < TOLERANCE_PX])
    xy = np.concatenate(found)
    return xy[np.unique(np.round(xy / TOLERANCE_PX), axis=0, return_index=True)[1]] if len(xy) else xy


def _common_step(alone: F8, missing: F8) -> tuple[tuple[float, float], Flags] | None:
    """The one step that leads to most lonely stars from missing ones, and to which of them."""
    if min(len(alone), len(missing)) < _FEWEST:
        return None
    pairs = scipy.spatial.cKDTree(alone).sparse_distance_matrix(
        scipy.spatial.cKDTree(missing), _REACH_PX, output_type="coo_matrix"
    )
    steps = alone[pairs.row] - missing[pairs.col]
    if len(steps) < _FEWEST:
        return None
    n_near = scipy.spatial.cKDTree(steps).query_ball_point(steps, _STEP_PX, return_length=True)
    near = np.hypot(*(steps - steps[np.argmax(n_near)]).T) < _STEP_PX
    moved = np.isin(np.arange(len(alone)), pairs.row[near])
    if np.count_nonzero(moved) < max(_FEWEST, _SHARE * len(alone)):
        return None
    dx, dy = np.median(steps[near], axis=0)
    return (float(dx), float(dy)), moved


def _part_of(moved: F8, good: F8, box: Box, shift: tuple[float, float]) -> ShiftedPart | None:
    """The rows or columns of stars that moved, up to the nearest ones that did not."""
    best: tuple[int, Box] | None = None
    for axis, ends in ((1, (box.y0, box.y1)), (0, (box.x0, box.x1))):
        low, high = moved[:, axis].min(), moved[:, axis].max()
        below, above = (np.sort(good[side, axis]) for side in (good[:, axis] < low, good[:, axis] > high))
        mixed = len(good) - len(below) - len(above)
        near = _TO_BORDER * (ends[1] - ends[0])
        is_cut_low, is_cut_high = low - ends[0] > near, ends[1] - high > near
        first = int(np.ceil(below[-_SECOND])) if is_cut_low and len(below) >= _SECOND else ends[0]
        last = int(np.floor(above[_SECOND - 1])) + 1 if is_cut_high and len(above) >= _SECOND else ends[1]
        part = replace(box, y0=first, y1=last) if axis == 1 else replace(box, x0=first, x1=last)
        if best is None or mixed < best[0]:
            best = mixed, part
    if best is None or best[0] > _MIXED * len(moved) or best[1].n_pixels > _MOST * box.n_pixels:
        return None
    return ShiftedPart(best[1], shift, len(moved))
