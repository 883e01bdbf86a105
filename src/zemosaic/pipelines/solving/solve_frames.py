"""Where measured frames point: headers checked against stars, the rest solved, all refined together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zemosaic.engine.events import LeftOut
from zemosaic.engine.store import remember
from zemosaic.errors import FrameRejected
from zemosaic.model.frame import Frame, PointingHint
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.tan_sip import TanSip
from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.pipelines.solving.candidate import Candidate, check_header
from zemosaic.pipelines.solving.header_places import (
    align_kept_headers,
    judge_unconfirmed,
    move_onto_catalogue,
    settle_strays,
)
from zemosaic.pipelines.solving.known_sky import KnownSky
from zemosaic.pipelines.solving.places import Place
from zemosaic.settings import Settings, SolveSettings
from zemosaic.stages.refine.refine import Refined, refine
from zemosaic.stages.solve.field import Solution, guess_scales, solve_by_hints
from zemosaic.stages.solve.session import solve_like
from zemosaic.stages.solve.ties import session_reading, solution_of_header, tie_frames
from zemosaic.text import Message, message

__all__ = ["describe_coincidence", "refined_place", "solve_frames"]


_PROBES = 3
"""Headers that the catalogue contradicts and that are solved again before the catalogue itself is doubted."""

LEAST_TOLERANCE_TO_GUESS = 0.03
"""Tolerance of the scale below which none is guessed: from here on 70 guesses cover all scales that can be solved."""

_Known = dict[str, tuple[Solution, str]]
"""By camera: the first solution that was found, and the source of the hint that led to it."""

_BLIND_ATTEMPTS = 2
"""Vain attempts of the blind solvers, or of guessed scales, after which a camera is given up."""


def refined_place(frame: Frame, refined: Refined, row: int, how: str) -> Place:
    """The place of a plate that was refined."""
    return Place(refined.plates[row].celestial(frame.shape), how, int(refined.n_ties[row]), float(refined.rms_px[row]))


def describe_coincidence(rms_px: npt.ArrayLike) -> Message | None:
    """How well the stars of frames coincide, as a part of a summary; None where no star tells."""
    found = np.asarray(rms_px, float)
    return message("done.coincide", rms_px=float(np.nanmedian(found))) if np.isfinite(found).any() else None


def solve_frames(frames: Sequence[MeasuredFrame], sky: KnownSky, settings: Settings, run: Run) -> list[Place | LeftOut]:
    """A place for every frame that can have one; the others are announced with the reason.

    A header WCS is kept when the frame's stars agree with it, or are too few to tell. Frames without one, or with
    a wrong one, are solved with the catalogue, narrowly once a frame of their camera is solved, then tied to the frames
    that have a place, and searched for from every reading of their header where that fails. Where frames overlap, their
    own stars must coincide: a header that is off is moved onto the others, or the frame is left out. At last all solved
    frames are refined together, or kept headers aligned.
    """
    catalogue = sky.catalogue
    advance = run.log.start("solve", len(frames))
    candidates = [check_header(item.frame, item.measured, catalogue) for item in frames]
    _doubt_the_catalogue(candidates, catalogue, settings.solve, run)
    known: _Known = {}
    narrow: list[Candidate] = []
    for done, candidate in enumerate(candidates, 1):
        run.cancel.check()
        keeps_header = candidate.verdict in {"right", "unknown", "unconfirmed"}
        if not keeps_header and candidate.frame.header.camera in known:
            _solve_narrowly(candidate, catalogue, settings.solve, run, known)
            narrow.append(candidate)
        elif not keeps_header:
            _solve(candidate, catalogue, settings.solve, run, known)
        advance(done)
    _guess_scales(candidates, catalogue, settings.solve, run)
    judge_unconfirmed(candidates, catalogue, run)
    settle_strays(candidates, run)
    _tie(candidates, settings.solve)
    _solve_widely(narrow, catalogue, settings.solve, run, known)
    _tie(candidates, settings.solve)
    _solve_blind(candidates, sky, settings.solve, run)
    n_header = sum(c.header is not None for c in candidates)
    refined, fit = _refine(candidates, catalogue, settings, run)
    n_solved = sum(c.solution is not None for c in candidates)
    told = message("done.solve", n_header=n_header, n_solved=n_solved, n_frames=len(frames), fit=fit)
    run.log.end("solve", told)
    _tell_readings(candidates, run)
    return [
        place or run.log.leave_out(candidate.frame, message("solve.unsolved", reasons=candidate.reasons))
        for place, candidate in zip(refined, candidates, strict=True)
    ]


def _tell_readings(candidates: Sequence[Candidate], run: Run) -> None:
    """Say how header positions were understood: a camera's frames are all written in one way."""
    readings: Counter[str] = Counter()
    for camera in sorted({c.frame.header.camera for c in candidates}):
        solutions = [c.solution for c in candidates if c.frame.header.camera == camera and c.solution is not None]
        if reading := session_reading(solutions):
            readings[reading] += len(solutions)
    if readings:
        found = [message("solve.reading-of", reading=name, n_frames=n) for name, n in readings.items()]
        run.log.notice(message("solve.reading", readings=found))


def _doubt_the_catalogue(
    candidates: Sequence[Candidate], catalogue: Catalogue, settings: SolveSettings, run: Run
) -> None:
    """Leave it to the frames' own stars where the catalogue seems to know nothing of this sky.

    A simulated sky, or one fainter than the catalogue, agrees with no header. When none of the headers is confirmed
    and the first few frames cannot be solved either, it may be the catalogue that is at fault.
    """
    wrong = [c for c in candidates if c.verdict == "wrong"]
    if not wrong or any(c.verdict in {"right", "shifted"} for c in candidates):
        return
    known: _Known = {}
    for candidate in wrong[:_PROBES]:
        _solve(candidate, catalogue, settings, run, known)
        if candidate.solution is not None:
            return
    for candidate in wrong:
        candidate.verdict = "unconfirmed"


def _solve(
    candidate: Candidate,
    catalogue: Catalogue,
    settings: SolveSettings,
    run: Run,
    known: _Known,
) -> None:
    """Solve one frame, or note why not; the reading that led to the first of its camera comes first."""
    if candidate.solution is not None:
        return
    field = candidate.field
    hints = _sorted_hints(candidate, known)

    def solve() -> tuple[Solution, PointingHint] | Message:
        try:
            return solve_by_hints(field, hints, catalogue, settings)
        except FrameRejected as problem:
            return problem.told

    key = make_key("solve", field, hints, settings, catalogue.name)
    found = remember(run.store, key, solve, tuple[Solution, PointingHint] | Message)
    if isinstance(found, Message):
        candidate.reasons += (found,)
    else:
        _take_solution(candidate, *found, run, known)


def _solve_narrowly(
    candidate: Candidate, catalogue: Catalogue, settings: SolveSettings, run: Run, known: _Known
) -> None:
    """Solve a frame like the first of its camera that was solved; no word where that fails: ties come next."""
    field, hints = candidate.field, _sorted_hints(candidate, known)
    like = known[candidate.frame.header.camera][0]
    if not hints or candidate.solution is not None:
        return

    def solve() -> Solution | None:
        try:
            return solve_like(like, field, hints[0], catalogue, settings)
        except FrameRejected:
            return None

    key = make_key("solve", field, hints[0], settings, catalogue.name, like.plate, like.offset_deg)
    found = remember(run.store, key, solve, Solution | None)
    if found is not None:
        _take_solution(candidate, found, hints[0], run, known)


def _sorted_hints(candidate: Candidate, known: _Known) -> list[PointingHint]:
    _, source = known.get(candidate.frame.header.camera, (None, None))
    return sorted(candidate.hints, key=lambda hint: hint.source != source)


def _take_solution(candidate: Candidate, solution: Solution, hint: PointingHint, run: Run, known: _Known) -> None:
    candidate.solution, candidate.field = solution, replace(candidate.field, hint=hint)
    known.setdefault(candidate.frame.header.camera, (solution, hint.source))
    if candidate.wcs is not None:
        run.log.notice(message("solve.again", file=candidate.frame.name, reasons=candidate.reasons), "warning")


def _solve_widely(
    candidates: Sequence[Candidate], catalogue: Catalogue, settings: SolveSettings, run: Run, known: _Known
) -> None:
    """Frames that neither a narrow search nor ties could place, with all that their headers allow."""
    for candidate in candidates:
        if not candidate.is_placed:
            run.cancel.check()
            _solve(candidate, catalogue, settings, run, known)


def _guess_scales(candidates: Sequence[Candidate], catalogue: Catalogue, settings: SolveSettings, run: Run) -> None:
    """Solve cameras of which no frame has a place with guessed pixel scales: none is stated, or a wrong one.

    Not where the settings hold the scale so tightly that thousands of guesses would be needed.
    """
    if settings.scale_tolerance < LEAST_TOLERANCE_TO_GUESS:
        return
    for camera in sorted({c.frame.header.camera for c in candidates}):
        group = [c for c in candidates if c.frame.header.camera == camera]
        unsolved = [
            c for c in group if not c.is_placed and c.verdict != "unconfirmed" and c.frame.header.hint is not None
        ]
        if not unsolved or any(c.is_placed for c in group):
            continue
        known: _Known = {}
        for candidate in sorted(unsolved, key=lambda c: (-len(c.field.xy), c.frame.id))[:_BLIND_ATTEMPTS]:
            run.cancel.check()
            hints, reasons = candidate.hints, candidate.reasons
            if candidate.frame.header.hint is not None:
                candidate.hints = tuple(guess_scales(candidate.frame.header.hint, settings))
            _solve(candidate, catalogue, settings, run, known)
            if candidate.solution is not None:
                break
            candidate.hints, candidate.reasons = hints, reasons
        else:
            continue
        scale = candidate.solution.plate.scale_arcsec
        run.log.notice(message("solve.scale-found", scale_arcsec=scale), "warning")
        for other in unsolved:
            other.hints = tuple(replace(hint, scale_arcsec=scale) for hint in other.frame.header.hints)
            _solve(other, catalogue, settings, run, known)


def _tie(candidates: Sequence[Candidate], settings: SolveSettings) -> None:
    """Place unsolved frames of a camera by the stars they share with those that have a place."""
    for camera in sorted({c.frame.header.camera for c in candidates}):
        group = [c for c in candidates if c.frame.header.camera == camera]
        group.sort(key=lambda c: (c.frame.header.date_obs, c.frame.id))
        if all(c.is_placed for c in group) or not any(c.is_placed for c in group):
            continue
        known = [c.solution if c.header is None else solution_of_header(c.header) for c in group]
        # What the header says of the position, not the WCS in it, tells the session's pointing error.
        fields = [c.field if c.header is None else replace(c.field, hint=c.frame.header.hint) for c in group]
        tied = tie_frames(fields, known, settings)
        for candidate, solution in zip(group, tied, strict=True):
            if not candidate.is_placed and solution is not None:
                candidate.how, candidate.solution = "tied", solution


def _solve_blind(candidates: Sequence[Candidate], sky: KnownSky, settings: SolveSettings, run: Run) -> None:
    """Frames whose header lacks a position or a scale, by blind solvers.

    A frame found in this way may tie the others of its camera; after a few vain attempts a camera is given up.
    """
    vain: Counter[str] = Counter()
    for candidate in candidates if sky.solvers else ():
        field, camera = candidate.field, candidate.frame.header.camera
        has_hint = field.hint is not None and field.hint.scale_arcsec is not None
        if candidate.is_placed or has_hint or vain[camera] >= _BLIND_ATTEMPTS or len(field.xy) < settings.min_matches:
            continue
        for solver in sky.solvers:
            run.cancel.check()
            hint = solver.locate(field)
            if hint is not None:
                candidate.field, candidate.how = replace(field, hint=hint), f"solved, located by {solver.name}"
                candidate.hints = (hint,)
                _solve(candidate, sky.catalogue, settings, run, {})
            if candidate.solution is not None:
                # What its header says of the position is not known.
                candidate.solution = replace(candidate.solution, hint_used=None, offset_deg={})
                _tie(candidates, settings)
                break
        else:
            vain[camera] += 1
            names = [solver.name for solver in sky.solvers]
            candidate.field, candidate.how = field, "solved"
            candidate.reasons += (message("solve.not-located", solvers=names),)


def _refine(
    candidates: Sequence[Candidate], catalogue: Catalogue, settings: Settings, run: Run
) -> tuple[list[Place | None], Message | None]:
    """The final place of each frame: solved ones refined together, with them headers that were kept.

    Where all frames keep their header's WCS, they are aligned with each other and moved onto the catalogue instead:
    projection and distortion stay.
    """
    placed = sorted((c for c in candidates if c.is_placed), key=lambda c: c.frame.id)
    may_move = len(placed) >= 2 and settings.refine.distortion_order > 0
    if all(c.header is not None for c in placed):
        moves = align_kept_headers(placed, settings.refine, run) if may_move else []
        move_onto_catalogue(placed, catalogue, run)
        if may_move:
            found = {c.frame.id: _kept(c, move.n_ties, move.rms_px) for c, move in zip(placed, moves, strict=True)}
            return [found.get(c.frame.id) for c in candidates], describe_coincidence([move.rms_px for move in moves])
    if not may_move:
        return [_unrefined(c) for c in candidates], None
    fields = [c.field for c in placed]
    plates = [c.solution.plate if c.solution is not None else _plate_of_header(c) for c in placed]
    refined = remember(
        run.store,
        make_key("refine", fields, plates, catalogue.name, settings.refine),
        lambda: refine(fields, plates, catalogue, settings.refine),
        Refined,
    )
    hows = [c.how if c.header is None else "header, refined" for c in placed]
    places = {
        c.frame.id: refined_place(c.frame, refined, k, how) for k, (c, how) in enumerate(zip(placed, hows, strict=True))
    }
    return [places.get(c.frame.id) for c in candidates], describe_coincidence(refined.rms_px)


def _plate_of_header(candidate: Candidate) -> TanSip:
    if candidate.header is None:
        raise ValueError(f"{candidate.frame.name} has no place")
    return solution_of_header(candidate.header).plate


def _kept(candidate: Candidate, n_ties: int, rms_px: float) -> Place:
    """The place of a header, moved or not."""
    wcs = candidate.header
    if wcs is None:
        raise ValueError(f"{candidate.frame.name} has no header WCS")
    how = "header" if candidate.verdict == "right" else "header, unchecked"
    if candidate.is_moved:
        how = "header, aligned"
    return Place(wcs, how, n_ties, rms_px)


def _unrefined(candidate: Candidate) -> Place | None:
    if candidate.header is not None:
        return _kept(candidate, 0, float("nan"))
    if candidate.solution is None:
        return None
    plate, shape = candidate.solution.plate, candidate.frame.shape
    rms_px = candidate.solution.rms_arcsec / plate.scale_arcsec
    return Place(plate.celestial(shape), candidate.how, candidate.solution.n_matched, rms_px)
