"""Where measured frames point: headers checked against stars, the rest solved, all refined together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zemosaic.engine.events import LeftOut
from zemosaic.engine.store import make_key, remember
from zemosaic.errors import FrameRejected
from zemosaic.io.astrometry.blind import installed_solvers
from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.model.frame import Frame, PointingHint
from zemosaic.model.measurements import Measurements
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.star_field import StarField
from zemosaic.model.sky.tan_sip import TanSip
from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.solving.places import Place, kept_place
from zemosaic.settings import Settings, SolveSettings
from zemosaic.stages.refine.refine import Refined, refine
from zemosaic.stages.solve.check_header import check_wcs, hint_from_wcs
from zemosaic.stages.solve.field import Solution, solve_field
from zemosaic.stages.solve.ties import session_reading, tie_frames

__all__ = ["describe_coincidence", "refined_place", "solve_frames", "star_field"]


_KEEP = {"right", "unknown"}
_MAX_STARS = 200
_PROBES = 3
_BLIND_ATTEMPTS = 2


@dataclass(slots=True, eq=False)
class _Candidate:
    """A frame on its way to a place: the header's WCS while it holds, else a solution."""

    frame: Frame
    field: StarField
    wcs: CelestialWcs | None = None
    verdict: str = "none"
    solution: Solution | None = None
    how: str = "solved"
    reason: str = ""

    @property
    def header(self) -> CelestialWcs | None:
        """The header's WCS, where it is kept."""
        return self.wcs if self.verdict in _KEEP else None


def refined_place(frame: Frame, refined: Refined, row: int, how: str) -> Place:
    """The place of a plate that was refined."""
    header = refined.plates[row].header(frame.shape)
    wcs = CelestialWcs.from_header(header, frame.shape)
    return Place(header, wcs, how, int(refined.n_ties[row]), float(refined.rms_px[row]))


def describe_coincidence(refined: Refined) -> str:
    """How well stars coincide, for a summary line."""
    if not np.isfinite(refined.rms_px).any():
        return ""
    return f", stars coincide to {np.nanmedian(refined.rms_px):.2f} px"


def solve_frames(frames: Sequence[MeasuredFrame], settings: Settings, run: Run) -> list[Place | LeftOut]:
    """A place for every frame that can have one; the others are announced with the reason.

    A header WCS is kept when the frame's stars agree with it, or are too few to tell. Frames without one, or with
    a wrong one, are solved with the packaged catalogue, then tied to their solved neighbours, and
    all solved frames are refined together.
    """
    catalogue = tycho2()
    advance = run.log.start("solve", len(frames))
    candidates = [_check_header(item.frame, item.measured, catalogue) for item in frames]
    _trust_an_unknown_sky(candidates, catalogue, settings, run)
    for done, candidate in enumerate(candidates, 1):
        run.cancel.check()
        if candidate.verdict not in _KEEP:
            _solve(candidate, catalogue, settings.solve, run)
        advance(done)
    _tie(candidates, settings.solve)
    _solve_blind(candidates, catalogue, settings.solve, run)
    refined, summary = _refine(candidates, catalogue, settings, run)
    n_header = sum(c.header is not None for c in candidates)
    n_solved = sum(c.solution is not None for c in candidates)
    run.log.end("solve", f"{n_header} header WCS kept, {n_solved} frames solved of {len(frames)}{summary}")
    _tell_readings(candidates, run)
    return [
        place or run.log.leave_out(candidate.frame, f"unsolved: {candidate.reason}")
        for place, candidate in zip(refined, candidates, strict=True)
    ]


def _tell_readings(candidates: Sequence[_Candidate], run: Run) -> None:
    """Say how header positions were understood: a camera's frames are all written in one way."""
    readings: Counter[str] = Counter()
    for camera in sorted({c.frame.camera for c in candidates}):
        solutions = [c.solution for c in candidates if c.frame.camera == camera and c.solution is not None]
        if reading := session_reading(solutions):
            readings[reading] += len(solutions)
    if readings:
        found = ", ".join(f"{name} ({n} frames)" for name, n in readings.items())
        run.log.notice(f"RA and Dec in the headers fit the stars when read as {found}")


def star_field(frame: Frame, found: Measurements, hint: PointingHint | None) -> StarField:
    """A frame's brightest stars."""
    stars = found.stars
    total = stars.flux.sum(axis=0).astype(float)
    order = np.argsort(-total, kind="stable")[:_MAX_STARS]
    xy = np.stack([stars.x, stars.y], axis=1)[order]
    return StarField(xy, total[order], frame.shape, hint, frame.epoch_year, frame.camera)


def _check_header(frame: Frame, found: Measurements, catalogue: Catalogue) -> _Candidate:
    """What the stars say of a frame's header WCS, if it has one."""
    field = star_field(frame, found, frame.hint)
    try:
        wcs = frame_wcs(frame)
    except FrameRejected as problem:
        return _Candidate(frame, field, reason=str(problem))
    check = check_wcs(wcs, field.xy, field.flux, catalogue)
    reason = f"the WCS in its header is {check.verdict}"
    if check.verdict == "shifted":
        reason += f" by {np.hypot(*check.shift_arcsec):.0f} arcsec"
    return _Candidate(frame, replace(field, hint=hint_from_wcs(wcs)), wcs, verdict=check.verdict, reason=reason)


def _trust_an_unknown_sky(candidates: Sequence[_Candidate], catalogue: Catalogue, settings: Settings, run: Run) -> None:
    """Keep headers that no star confirms where the catalogue seems to know nothing of this sky.

    A simulated sky, or one fainter than the catalogue, agrees with no header. When none of the headers is confirmed
    and the first few frames cannot be solved either, it is the catalogue that is at fault.
    """
    wrong = [c for c in candidates if c.verdict == "wrong"]
    if not wrong or any(c.verdict in {"right", "shifted"} for c in candidates):
        return
    for candidate in wrong[:_PROBES]:
        _solve(candidate, catalogue, settings.solve, run)
        if candidate.solution is not None:
            return
    for candidate in wrong:
        candidate.verdict = "unknown"
    run.log.notice(f"{catalogue.name} shows none of these stars: the WCS of {len(wrong)} headers is taken as it is")


def _solve(candidate: _Candidate, catalogue: Catalogue, settings: SolveSettings, run: Run) -> None:
    """Solve one frame, or note why not."""
    if candidate.solution is not None:
        return
    field = candidate.field

    def solve() -> Solution | str:
        try:
            return solve_field(
                field.xy, field.flux, field.shape, field.hint, catalogue, settings, epoch_year=field.epoch_year
            )
        except FrameRejected as problem:
            return str(problem)

    found = remember(run.store, make_key("solve", field, settings, catalogue.name), solve, (Solution, TanSip))
    if isinstance(found, str):
        candidate.reason = f"{candidate.reason}; {found}"
        return
    candidate.solution = found
    if candidate.wcs is not None:
        run.log.notice(f"{candidate.frame.name}: {candidate.reason}; it is solved again", "warning")


def _tie(candidates: Sequence[_Candidate], settings: SolveSettings) -> None:
    """Place unsolved frames of a camera by the stars they share with its solved ones."""
    for camera in sorted({c.frame.camera for c in candidates}):
        group = [c for c in candidates if c.frame.camera == camera and c.header is None]
        group.sort(key=lambda c: (c.frame.date_obs, c.frame.id))
        if all(c.solution is not None for c in group) or all(c.solution is None for c in group):
            continue
        tied = tie_frames([c.field for c in group], [c.solution for c in group], settings)
        for candidate, solution in zip(group, tied, strict=True):
            if candidate.solution is None:
                candidate.how = "tied"
            candidate.solution = solution


def _solve_blind(candidates: Sequence[_Candidate], catalogue: Catalogue, settings: SolveSettings, run: Run) -> None:
    """Frames whose header lacks a position or a scale, by blind solvers that are installed.

    A frame found in this way may tie the others of its camera; after a few vain attempts a camera is given up.
    """
    solvers = installed_solvers()
    vain: Counter[str] = Counter()
    for candidate in candidates if solvers else ():
        field, camera = candidate.field, candidate.frame.camera
        is_open = candidate.header is None and candidate.solution is None
        has_hint = field.hint is not None and field.hint.scale_arcsec is not None
        if not is_open or has_hint or vain[camera] >= _BLIND_ATTEMPTS or len(field.xy) < settings.min_matches:
            continue
        for solver in solvers:
            run.cancel.check()
            hint = solver.locate(field)
            if hint is not None:
                candidate.field, candidate.how = replace(field, hint=hint), f"solved, located by {solver.name}"
                _solve(candidate, catalogue, settings, run)
            if candidate.solution is not None:
                # What its header says of the position is not known.
                candidate.solution = replace(candidate.solution, hint_used=None, offset_deg={})
                _tie(candidates, settings)
                break
        else:
            vain[camera] += 1
            names = ", ".join(solver.name for solver in solvers)
            candidate.field, candidate.how = field, "solved"
            candidate.reason = f"{candidate.reason}; not located by {names} either"


def _refine(
    candidates: Sequence[_Candidate], catalogue: Catalogue, settings: Settings, run: Run
) -> tuple[list[Place | None], str]:
    """The final place of each frame; frames that keep their header's are not touched."""
    places: list[Place | None] = []
    for c in candidates:
        place = None
        if c.header is not None:
            place = kept_place(c.frame, c.header, "header" if c.verdict == "right" else "header, unchecked")
        elif c.solution is not None:
            plate = c.solution.plate
            header, wcs = plate.header(c.frame.shape), plate.celestial(c.frame.shape)
            rms_px = c.solution.rms_arcsec / plate.scale_arcsec
            place = Place(header, wcs, c.how, c.solution.n_matched, rms_px)
        places.append(place)
    solved = [(k, c, c.solution.plate) for k, c in enumerate(candidates) if c.solution is not None]
    if len(solved) < 2 or settings.refine.distortion_order == 0:
        return places, ""
    solved.sort(key=lambda item: item[1].frame.id)
    fields, plates = [c.field for _, c, _ in solved], [plate for _, _, plate in solved]
    refined = remember(
        run.store,
        make_key("refine", fields, plates, catalogue.name, settings.refine),
        lambda: refine(fields, plates, catalogue, settings.refine),
        (Refined, TanSip),
    )
    for row, (k, c, _) in enumerate(solved):
        places[k] = refined_place(c.frame, refined, row, c.how)
    return places, describe_coincidence(refined)
