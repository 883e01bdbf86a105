"""Places from headers: believed as far as the catalogue and the frames' own stars agree with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from zemosaic.engine.store import remember
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.pipelines.solving.candidate import Candidate
from zemosaic.settings import RefineSettings
from zemosaic.stages.refine.common_offset import find_common_offsets
from zemosaic.stages.refine.headers import HeaderMove, align_headers
from zemosaic.stages.solve.coincide import Meeting, compare_pairs, find_strays_by_stars
from zemosaic.text import Message, message

__all__ = ["align_kept_headers", "judge_unconfirmed", "move_onto_catalogue", "settle_strays"]

Array = npt.NDArray[np.float64]

_ROUNDS = 3
"""A stray that was moved onto a frame that is itself a stray is moved again; chains are short."""


def judge_unconfirmed(candidates: Sequence[Candidate], catalogue: Catalogue, run: Run) -> None:
    """Whether headers that the catalogue contradicts are true all the same, by the frames' own stars.

    A simulated sky agrees with no header, and yet its frames lie on each other; frames with a WCS of another field do
    not. What no other frame can confirm is taken as it is, with a warning; but where the frames' stars contradict more
    headers than they confirm, all are wrong: nothing then speaks for the rest.
    """
    open_ones = [c for c in candidates if c.verdict == "unconfirmed" and c.solution is None]
    if not open_ones:
        return
    meetings = _compare(open_ones)
    strays, confirmed = find_strays_by_stars(meetings, len(open_ones), [False] * len(open_ones))
    rejected = {stray.index: stray.meeting for stray in strays if stray.meeting.verdict == "apart"}
    n_confirmed = n_alone = 0
    most_are_wrong = len(rejected) > sum(ok for k, ok in enumerate(confirmed) if k not in rejected)
    for k, candidate in enumerate(open_ones):
        if k in rejected or most_are_wrong:
            candidate.verdict = "wrong"
            candidate.reasons += (_describe(rejected[k]),) if k in rejected else ()
            continue
        candidate.verdict = "unknown"
        n_confirmed += confirmed[k]
        n_alone += not confirmed[k]
    if n_confirmed:
        run.log.notice(
            message("solve.stars-coincide", catalogue=catalogue.name, n_headers=n_confirmed),
            "warning",
        )
    if n_alone:
        run.log.notice(
            message("solve.headers-unconfirmed", catalogue=catalogue.name, n_headers=n_alone),
            "warning",
        )


def settle_strays(candidates: Sequence[Candidate], run: Run) -> None:
    """Move headers onto the frames they overlap where stars say by how much; drop those that fit nowhere.

    What is dropped here keeps its star list: it may be tied to the others afterwards.
    """
    for _ in range(_ROUNDS):
        placed = [c for c in candidates if c.is_placed]
        if not any(c.header is not None for c in placed):
            return
        sure = [c.solution is not None or c.verdict == "right" for c in placed]
        strays, _ = find_strays_by_stars(_compare(placed), len(placed), sure)
        if not strays:
            return
        for stray in strays:
            candidate = placed[stray.index]
            if stray.meeting.verdict == "shifted":
                _move_onto(candidate, placed, stray.index, stray.meeting)
                run.log.notice(
                    message("solve.header-moved", file=candidate.frame.name, meeting=_describe(stray.meeting)),
                    "warning",
                )
            else:
                candidate.verdict = "wrong"
                candidate.reasons = (_describe(stray.meeting),)


def _compare(candidates: Sequence[Candidate]) -> list[Meeting]:
    return compare_pairs([c.field for c in candidates], [_place_of(c) for c in candidates])


def _place_of(candidate: Candidate) -> CelestialWcs:
    if candidate.solution is not None:
        return candidate.solution.plate.celestial(candidate.frame.shape)
    if candidate.wcs is None:
        raise ValueError(f"{candidate.frame.name} has no place")
    return candidate.wcs


def _describe(meeting: Meeting) -> Message:
    shared = {"n_shared": meeting.n_shared, "n_stars": meeting.n_stars}
    if meeting.verdict == "shifted":
        return message("solve.lies-off", shift_px=np.hypot(*meeting.shift_px), **shared)
    return message("solve.stars-apart", **shared)


def _move_onto(candidate: Candidate, placed: Sequence[Candidate], index: int, meeting: Meeting) -> None:
    """Shift a header's WCS so that its stars fall on those of the other frame of a meeting."""
    own = _place_of(candidate)
    shift = np.array(meeting.shift_px)
    middle = np.array([(own.shape[1] - 1) / 2, (own.shape[0] - 1) / 2])
    if index == meeting.first:
        offset = -shift
    else:
        first = _place_of(placed[meeting.first])
        seen = np.array(first.sky_to_pixel(*own.pixel_to_sky(*middle))) + shift
        offset = np.array(own.sky_to_pixel(*first.pixel_to_sky(*seen))) - middle
    _move(candidate, np.eye(2), offset)


def _move(candidate: Candidate, matrix: Array, shift_px: Array) -> None:
    """Move a frame's header WCS: see `moved_header`."""
    place = _place_of(candidate)
    candidate.wcs = CelestialWcs.from_header(moved_header(place, matrix, shift_px), place.shape)
    candidate.is_moved = True


def moved_header(place: CelestialWcs, matrix: Array, shift_px: Array) -> fits.Header:
    """A header's cards so changed that pixel ``p`` has the sky of ``middle + matrix (p - middle) + shift_px``.

    A distortion is taken along with the reference pixel; the matrix is so near to 1 that it is felt the same.
    """
    header = place.cards
    if header is None:
        raise ValueError("a WCS object without cards cannot be moved")
    middle = np.array([(place.shape[1] + 1) / 2, (place.shape[0] + 1) / 2])
    old = np.array([header["CRPIX1"], header["CRPIX2"]])
    new = middle - np.linalg.solve(matrix, middle + shift_px - old)
    cd = np.array([[header.get(f"CD{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)]) @ matrix
    header["CRPIX1"], header["CRPIX2"] = float(new[0]), float(new[1])
    for i in range(2):
        for j in range(2):
            header[f"CD{i + 1}_{j + 1}"] = float(cd[i, j])
    return header


def align_kept_headers(candidates: Sequence[Candidate], settings: RefineSettings, run: Run) -> list[HeaderMove]:
    """Move the kept headers by what the shared stars of all frames say; each where it is more than its error."""
    fields, places = [c.field for c in candidates], [_place_of(c) for c in candidates]
    moves: list[HeaderMove] = remember(
        run.store,
        make_key("refine", "headers", fields, places, settings),
        lambda: align_headers(fields, places, settings),
        list[HeaderMove],
    )
    moved = [move.largest_px for move in moves if move.largest_px]
    for candidate, move in zip(candidates, moves, strict=True):
        if move.largest_px:
            _move(candidate, move.matrix, move.shift_px)
    if moved:
        run.log.notice(
            message(
                "solve.headers-aligned",
                n_moved=len(moved),
                n_headers=len(moves),
                median_px=np.median(moved),
                largest_px=max(moved),
            )
        )
    return moves


def move_onto_catalogue(candidates: Sequence[Candidate], catalogue: Catalogue, run: Run) -> None:
    """Move kept headers that are all off by the same, which the stars that frames share cannot tell."""
    fields, places = [c.field for c in candidates], [_place_of(c) for c in candidates]
    for offset in find_common_offsets(fields, places, catalogue):
        if not offset.is_sure:
            continue
        for k in offset.members:
            _move(candidates[k], *offset.move(places[k]))
        told = message(
            "solve.headers-off",
            n_stars=offset.n_stars,
            catalogue=catalogue.name,
            offset_px=offset.size_arcsec / offset.scale_arcsec,
            offset_arcsec=offset.size_arcsec,
            error_arcsec=offset.error_arcsec,
            n_headers=len(offset.members),
        )
        run.log.notice(told, "warning")
