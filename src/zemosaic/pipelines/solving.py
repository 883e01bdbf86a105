"""Where measured frames point: headers checked against stars, the rest solved, all refined together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zemosaic.engine.store import make_key, remember
from zemosaic.errors import FrameRejected
from zemosaic.io.catalogue import tycho2
from zemosaic.io.headers import frame_wcs
from zemosaic.model.catalogue import Catalogue
from zemosaic.model.celestial import CelestialWcs
from zemosaic.model.frame import Frame
from zemosaic.model.measurements import Measurements
from zemosaic.model.star_field import StarField
from zemosaic.model.tan_sip import TanSip
from zemosaic.pipelines.context import Run
from zemosaic.pipelines.measuring import MeasuredFrame
from zemosaic.settings import Settings, SolveSettings
from zemosaic.stages.refine import Refined, refine
from zemosaic.stages.solve import Solution, solve_field
from zemosaic.stages.solve_check import check_wcs, hint_from_wcs
from zemosaic.stages.solve_ties import session_reading, tie_frames

__all__ = ["solve_frames", "trust_headers"]


_KEEP = {"right", "unknown"}
_MAX_STARS = 200
_PROBES = 3


@dataclass(slots=True, eq=False)
class _Candidate:
    """A frame on its way to a place: the header's WCS while it holds, else a solution."""

    frame: Frame
    field: StarField
    wcs: CelestialWcs | None = None
    verdict: str = "none"
    solution: Solution | None = None
    reason: str = ""

    @property
    def header(self) -> CelestialWcs | None:
        """The header's WCS, where it is kept."""
        return self.wcs if self.verdict in _KEEP else None


def trust_headers(frames: Sequence[MeasuredFrame], settings: Settings, run: Run) -> list[CelestialWcs | None]:
    """The WCS of each header, unchecked; frames without one are announced."""
    found: list[CelestialWcs | None] = []
    for item in frames:
        run.cancel.check()
        try:
            found.append(frame_wcs(item.frame))
        except FrameRejected as problem:
            run.leave_out(item.frame, problem)
            found.append(None)
    return found


def solve_frames(frames: Sequence[MeasuredFrame], settings: Settings, run: Run) -> list[CelestialWcs | None]:
    """A WCS for every frame that can have one; the others are announced with the reason.

    A header WCS is kept when the frame's stars agree with it, or are too few to tell. Frames without one, or with
    a wrong one, are solved with the packaged catalogue, then tied to their solved neighbours, and
    all solved frames are refined together.
    """
    catalogue = tycho2()
    advance = run.clock.start("solve", len(frames))
    candidates = [_check_header(item.frame, item.measured, catalogue) for item in frames]
    _trust_an_unknown_sky(candidates, catalogue, settings, run)
    for done, candidate in enumerate(candidates, 1):
        run.cancel.check()
        if candidate.verdict not in _KEEP:
            _solve(candidate, catalogue, settings.solve, run)
        advance(done)
    _tie(candidates, settings.solve)
    for candidate in candidates:
        if candidate.header is None and candidate.solution is None:
            run.leave_out(candidate.frame, f"unsolved: {candidate.reason}")
    refined, summary = _refine(candidates, catalogue, settings, run)
    n_header = sum(c.header is not None for c in candidates)
    n_solved = sum(c.solution is not None for c in candidates)
    run.clock.end("solve", f"{n_header} header WCS kept, {n_solved} frames solved of {len(frames)}{summary}")
    _tell_readings(candidates, run)
    return refined


def _tell_readings(candidates: Sequence[_Candidate], run: Run) -> None:
    """Say how header positions were understood: a camera's frames are all written in one way."""
    readings: Counter[str] = Counter()
    for camera in sorted({c.frame.camera for c in candidates}):
        solutions = [c.solution for c in candidates if c.frame.camera == camera and c.solution is not None]
        if reading := session_reading(solutions):
            readings[reading] += len(solutions)
    if readings:
        run.notice("header positions read as " + ", ".join(f"{name} ({n} frames)" for name, n in readings.items()))


def _check_header(frame: Frame, found: Measurements, catalogue: Catalogue) -> _Candidate:
    """What the stars say of a frame's header WCS, if it has one."""
    stars = found.stars
    total = stars.flux.sum(axis=0).astype(float)
    order = np.argsort(-total, kind="stable")[:_MAX_STARS]
    xy, flux = np.stack([stars.x, stars.y], axis=1)[order], total[order]
    try:
        wcs = frame_wcs(frame)
    except FrameRejected as problem:
        field = StarField(xy, flux, frame.shape, frame.hint, frame.epoch_year, frame.camera)
        return _Candidate(frame, field, reason=str(problem))
    check = check_wcs(wcs, xy, flux, catalogue)
    field = StarField(xy, flux, frame.shape, hint_from_wcs(wcs), frame.epoch_year, frame.camera)
    reason = f"the WCS in its header is {check.verdict}"
    if check.verdict == "shifted":
        reason += f" by {np.hypot(*check.shift_arcsec):.0f} arcsec"
    return _Candidate(frame, field, wcs, verdict=check.verdict, reason=reason)


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
    run.notice(f"{catalogue.name} shows none of these stars: the WCS of {len(wrong)} headers is taken as it is")


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
        run.notice(f"{candidate.frame.name}: {candidate.reason}; it is solved again", "warning")


def _tie(candidates: Sequence[_Candidate], settings: SolveSettings) -> None:
    """Place unsolved frames of a camera by the stars they share with its solved ones."""
    for camera in sorted({c.frame.camera for c in candidates}):
        group = [c for c in candidates if c.frame.camera == camera and c.header is None]
        group.sort(key=lambda c: (c.frame.date_obs, c.frame.id))
        if all(c.solution is not None for c in group) or all(c.solution is None for c in group):
            continue
        tied = tie_frames([c.field for c in group], [c.solution for c in group], settings)
        for candidate, solution in zip(group, tied, strict=True):
            candidate.solution = solution


def _refine(
    candidates: Sequence[_Candidate], catalogue: Catalogue, settings: Settings, run: Run
) -> tuple[list[CelestialWcs | None], str]:
    """The final WCS of each frame; frames that keep their header's are not touched."""
    solved = [c for c in candidates if c.solution is not None]
    plates: dict[str, TanSip] = {c.frame.id: c.solution.plate for c in solved if c.solution is not None}
    summary = ""
    if len(solved) > 1 and settings.refine.distortion_order > 0:
        order = sorted(solved, key=lambda c: c.frame.id)
        fields, start = [c.field for c in order], [plates[c.frame.id] for c in order]
        result = remember(
            run.store,
            make_key("refine", fields, start, catalogue.name, settings.refine),
            lambda: refine(fields, start, catalogue, settings.refine),
            (Refined, TanSip),
        )
        plates = {c.frame.id: plate for c, plate in zip(order, result.plates, strict=True)}
        if np.isfinite(result.rms_px).any():
            summary = f", stars coincide to {np.nanmedian(result.rms_px):.2f} px"
    return [
        c.header or (plates[c.frame.id].celestial(c.frame.shape) if c.frame.id in plates else None) for c in candidates
    ], summary
