"""Frames that would harm the mosaic are left out, each with its reason; an edited table has the last word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zemosaic.engine.events import LeftOut
from zemosaic.errors import NothingToDo, SettingError
from zemosaic.io.tables.frame_list import read_frame_list
from zemosaic.model.frame import Frame
from zemosaic.model.kind import Kind
from zemosaic.model.measurements import Measurements
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.celestial import CelestialWcs, unit_vectors
from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.kept import Kept
from zemosaic.settings import Settings
from zemosaic.stages.quality.coarse import judge_sampling
from zemosaic.stages.quality.company import judge_company
from zemosaic.stages.quality.double import find_double
from zemosaic.stages.quality.triage import QualityTable, Verdict, cut_by_value, frame_score, keep_best, triage
from zemosaic.stages.tiles.group import NIGHT_GAP_S
from zemosaic.text import Message, message

__all__ = [
    "grade_company",
    "grade_matched",
    "grade_measured",
    "grade_sampling",
    "leave_out_stacks",
    "name_sessions",
    "obey_table",
    "quality_table",
]

F8 = npt.NDArray[np.float64]

LEAST_FRAMES = 8
"""Fewer frames are too precious, and too few to tell a bad one from the rest."""

LEAST_FOR_SHAPE = 12
"""In a session of fewer frames seeing alone makes some soft or long by comparison."""

LEAST_SIGNIFICANCE = 10.0
"""Fainter detections are too often noise or nebulosity to count."""

_SHAPE = {"soft", "trailed"}

_LATER = {"cloud", "wrong field"}
"""What gains and places add to a verdict; widths have been judged by then."""


def leave_out_stacks(frames: Sequence[Frame], run: Run) -> Kept[Frame]:
    """Leave out stacks that lie beside raw frames of their own camera, as smart telescopes write them.

    So are those beside a single frame of their camera from their own DATE-OBS, which is the first frame's.

    They are made of those frames or of ones like them, and each frame counts once. Other stacks among frames that are
    not raw are used: surveys state how many exposures each of their images holds.
    """
    raw = Counter(f.header.instrument for f in frames if f.storage.bayer is not None and f.header.instrument)
    single = {(f.header.instrument, f.header.time_s): f.name for f in frames if f.header.n_stacked == 1}
    kept, left_out = [], []
    for frame in frames:
        header = frame.header
        first = single.get((header.instrument, header.time_s))  # NaN, of no date, is equal to nothing
        n_raw = raw[header.instrument]
        if header.n_stacked > 1 and frame.storage.bayer is None and n_raw:
            facts = {"n_stacked": header.n_stacked, "n_raw": n_raw, "camera": header.instrument}
            left_out.append(run.log.leave_out(frame, message("frame.stack-beside-raws", **facts)))
        elif header.n_stacked > 1 and first:
            why = message("frame.stack-beside-frame", n_stacked=header.n_stacked, file=first)
            left_out.append(run.log.leave_out(frame, why))
        else:
            kept.append(frame)
    return Kept(kept, tuple(left_out))


def obey_table(frames: Sequence[Frame], table_path: Path, run: Run) -> Kept[Frame]:
    """Leave out the frames whose `use` is false in a table of frames that an earlier run wrote.

    Parameters
    ----------
    frames : sequence of Frame
    table_path : Path
        A list of paths (``.txt``, see `zemosaic.io.tables.frame_list`), or
        ECSV or CSV with the columns ``name``, ``path`` and ``use``. A row finds its frame by ``id`` where there is
        that column, else by path and name, else by a name that only one frame has. Frames that the table does not
        list are used.
    run : Run

    Returns
    -------
    Kept of Frame

    Raises
    ------
    SettingError
        When the file is not such a table.
    NothingToDo
        When no frame is left.
    """
    of_list = table_path.suffix.lower() == ".txt"
    asked = _asked_by_list(frames, table_path) if of_list else _asked_by_table(frames, table_path)
    if asked.is_of_others:
        told = message("frame.table-of-others", file=table_path.name, n_rows=asked.n_rows, first=asked.first)
        run.log.notice(told, "warning")
    kept = [frame for frame in frames if frame.id not in asked.out]
    why = message("frame.not-used", file=table_path.name)
    left_out = tuple(run.log.leave_out(frame, why) for frame in frames if frame.id in asked.out)
    if not kept:
        raise NothingToDo("frame.none-in-table", file=table_path.name, n_frames=len(frames))
    return Kept(kept, left_out)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a table asks.

    Attributes
    ----------
    out : set of FrameId
        Frames to leave out.
    n_rows : int
    first : str
        Path of the first row.
    is_of_others : bool
        No row names a frame of this run. Single ones may: files that are no frames have rows, too.
    """

    out: set[str]
    n_rows: int
    first: str
    is_of_others: bool


def _asked_by_list(frames: Sequence[Frame], list_path: Path) -> _Asked:
    """What a list of paths asks; it finds frames by path, or by a name that only one file has."""
    listed = read_frame_list(list_path)
    n_called = Counter(Path(file).name for file in {frame.storage.path for frame in frames})
    named = {name for name in listed.paths if n_called[name] == 1}
    paths = {str(frame.id): frame.storage.path for frame in frames}
    found = {key for key, path in paths.items() if path in listed.paths or Path(path).name in named}
    out = set(paths) - found if listed.used else found
    return _Asked(out, len(listed.paths), next(iter(listed.paths), ""), bool(listed.paths) and not found)


_NO = frozenset({"false", "0", "no", "faux", "falsch", "falso"})
"""What table programs write for false, by their language."""


def _read_table(path: Path) -> Table:
    """A table of frames; CSV also as table programs of other languages save it: byte order mark, semicolons."""
    if path.suffix.lower() == ".ecsv":
        return Table.read(path, format="ascii.ecsv")
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    semicolons = lines[:1] and ";" in lines[0] and "," not in lines[0]
    return Table.read(lines, format="ascii.csv", delimiter=";" if semicolons else ",")


def _asked_by_table(frames: Sequence[Frame], table_path: Path) -> _Asked:
    """What a table asks: frames whose `use` is false are left out."""
    try:
        table = _read_table(table_path)
        rows = list(zip(table["path"], table["name"], table["use"], strict=True))
    except (OSError, ValueError, KeyError) as problem:
        raise SettingError("frame.no-table", path=table_path, problem=problem) from problem
    ids = [str(value) for value in table["id"]] if "id" in table.colnames else [""] * len(rows)
    n_called = Counter(frame.name for frame in frames)
    by_key: dict[object, str] = {}
    for frame in frames:
        by_key |= {frame.id: frame.id, (frame.storage.path, frame.name): frame.id}
        if n_called[frame.name] == 1:
            by_key[frame.name] = frame.id
    found = [
        by_key.get(frame_id) or by_key.get((str(path), str(name))) or by_key.get(str(name))
        for frame_id, (path, name, _) in zip(ids, rows, strict=True)
    ]
    out = {key for key, (*_, use) in zip(found, rows, strict=True) if key and str(use).strip().lower() in _NO}
    return _Asked(out, len(rows), str(rows[0][0]) if rows else "", bool(rows) and not any(found))


def quality_table(
    frames: Sequence[Frame],
    measured: Sequence[Measurements],
    transparency: F8 | None = None,
    places: Sequence[CelestialWcs] | None = None,
) -> QualityTable:
    """What is known of each frame, as triage wants it; colours are taken together.

    Parameters
    ----------
    frames : sequence of Frame
    measured : sequence of Measurements
    transparency : ndarray, shape (n,), optional
        See `QualityTable`.
    places : sequence of CelestialWcs, optional
        The WCS of each frame, where it is known.
    """
    n = len(frames)
    time = np.array([frame.header.time_s for frame in frames])
    counts = []
    for m in measured:
        signal = m.stars.flux.sum(axis=0)
        error = np.sqrt((m.stars.flux_error.astype(float) ** 2).sum(axis=0))
        counts.append(np.count_nonzero(signal > LEAST_SIGNIFICANCE * error))
    return QualityTable(
        session=name_sessions(frames),
        time_s=np.where(np.isfinite(time), time, 0.0),
        fwhm_px=np.array([m.fwhm_px for m in measured]),
        ellipticity=np.array([m.ellipticity for m in measured]),
        n_stars=np.array(counts, float),
        sky=np.array([m.sky.mean() for m in measured]),
        noise=np.array([np.sqrt((m.noise**2).mean()) for m in measured]),
        transparency=np.full(n, np.nan) if transparency is None else transparency,
        distance_field=np.full(n, np.nan) if places is None else _distances(places),
    )


def grade_measured(frames: Sequence[MeasuredFrame], settings: Settings, run: Run) -> Kept[MeasuredFrame]:
    """Frames that pass triage and the user's own cuts, judged by what was measured on them.

    Comparison with neighbours in time acts on raw frames unless the settings, or a table of frames, say otherwise.

    Raises
    ------
    NothingToDo
        When no frame is left.
    """
    wanted = settings.quality
    table = quality_table([m.frame for m in frames], [m.measured for m in frames])
    verdicts = [_triaged([m.frame for m in frames], table, settings)]
    if _judges_all(settings):
        doubles = [find_double(m.measured.stars) for m in frames]
        verdicts.append([Verdict("double", why) if why else Verdict() for why in doubles])
    if wanted.fwhm_max_px > 0:
        verdicts.append(cut_by_value("FWHM", table.fwhm_px, high=wanted.fwhm_max_px))
    if wanted.ellipticity_max < 1:
        verdicts.append(cut_by_value("ellipticity", table.ellipticity, high=wanted.ellipticity_max))
    if wanted.best_fraction < 1:
        passed = np.array([all(v.use for v in row) for row in zip(*verdicts, strict=True)])
        verdicts.append(keep_best("quality", np.where(passed, frame_score(table), np.nan), wanted.best_fraction))
    kept, left_out = [], []
    for item, row in zip(frames, zip(*verdicts, strict=True), strict=True):
        why = next((verdict.why for verdict in row if not verdict.use), None)
        if why is None:
            kept.append(item)
        else:
            left_out.append(run.log.leave_out(item.frame, why))
    if not kept:
        raise NothingToDo("quality.none-passes", n_frames=len(frames))
    return Kept(kept, tuple(left_out))


def grade_matched(
    frames: Sequence[Frame],
    measured: Sequence[Measurements],
    places: Sequence[CelestialWcs],
    scales: Mapping[str, PhotoScale],
    settings: Settings,
    run: Run,
) -> tuple[LeftOut, ...]:
    """Frames that clouds or a wrong field rule out, now that gains and places are known.

    Clouds are told by comparison, so they never rule out all.
    """
    exposure = np.array([frame.decided.exposure_s or 1.0 for frame in frames])
    gain = np.array([float(np.mean(scales[frame.id].gain)) for frame in frames])
    table = quality_table(frames, measured, gain / exposure, places)
    return tuple(
        run.log.leave_out(frame, verdict.why)
        for frame, verdict in zip(frames, _triaged(frames, table, settings), strict=True)
        if verdict.why and verdict.kind in _LATER
    )


def grade_company(
    frames: Sequence[Frame],
    measured: Sequence[Measurements],
    places: Sequence[CelestialWcs],
    log_prior: F8,
    settings: Settings,
    run: Run,
) -> tuple[LeftOut, ...]:
    """Frames of one kind that the stars of those round them rule out: also calibrated ones, and in small sets.

    Parameters
    ----------
    frames, measured, places : sequences of one length
    log_prior : ndarray, shape (n,)
        ln of the gain that each header lets expect.
    settings : Settings
    run : Run
    """
    if not _judges_all(settings):
        return ()
    cameras = [frame.header.camera for frame in frames]
    return _leave_out(frames, judge_company(measured, places, cameras, log_prior), run)


def grade_sampling(
    frames: Sequence[Frame],
    measured: Sequence[Measurements],
    places: Sequence[CelestialWcs],
    settings: Settings,
    run: Run,
) -> tuple[LeftOut, ...]:
    """Raw frames too coarse for their stars that finer ones of their kind cover: before a grid is planned for all."""
    if not _judges_all(settings):
        return ()
    kinds = [Kind.of(frame) for frame in frames]
    verdicts = [Verdict()] * len(frames)
    for kind in sorted(set(kinds)):
        members = [k for k, other in enumerate(kinds) if other == kind]
        is_raw = [frames[k].storage.bayer is not None for k in members]
        found = judge_sampling([measured[k] for k in members], [places[k] for k in members], is_raw)
        for k, verdict in zip(members, found, strict=True):
            verdicts[k] = verdict
    return _leave_out(frames, verdicts, run)


def _leave_out(frames: Sequence[Frame], verdicts: Sequence[Verdict], run: Run) -> tuple[LeftOut, ...]:
    """Announce frames that a verdict rules out, and tell of those that are used though it doubts them."""
    left_out = []
    for frame, verdict in zip(frames, verdicts, strict=True):
        if verdict.why and not verdict.use:
            left_out.append(run.log.leave_out(frame, verdict.why))
        elif verdict.why:
            run.log.notice(_used_all_the_same(frame, verdict.why), "warning")
    return tuple(left_out)


def _used_all_the_same(frame: Frame, why: Message) -> Message:
    """What is told of a frame that is doubted and used."""
    if why.code == "quality.coarse":
        return message("quality.kept-though-coarse", file=frame.name, **why.facts)
    if why.code == "quality.dimmed":
        return message("quality.kept-though-dimmed", file=frame.name, **why.facts)
    return message("quality.kept-though-blocked", file=frame.name, **why.facts)


def _judges_all(settings: Settings) -> bool:
    """Whether calibrated frames are judged too, by what needs no neighbours in time; a table of frames is obeyed."""
    return settings.quality.triage == "on" or (settings.quality.triage == "auto" and not settings.input.frames)


def _triaged(frames: Sequence[Frame], table: QualityTable, settings: Settings) -> list[Verdict]:
    """What triage says, where it is asked; else all are good."""
    asked = settings.quality.triage
    acts = np.array([
        asked == "on" or (asked == "auto" and frame.storage.bayer is not None and not settings.input.frames)
        for frame in frames
    ])
    if acts.sum() < LEAST_FRAMES:
        return [Verdict()] * len(frames)
    size = Counter(table.session)
    short = [size[name] < LEAST_FOR_SHAPE for name in table.session]
    return [
        Verdict() if not act or (few and v.kind in _SHAPE) else v
        for v, act, few in zip(triage(table), acts, short, strict=True)
    ]


def name_sessions(frames: Sequence[Frame]) -> list[str]:
    """A name for each frame: those of a camera and filter without a long pause between them share it."""
    time = np.array([frame.header.time_s for frame in frames])
    kinds = [f"{frame.header.camera} {frame.decided.filter} {frame.decided.exposure_s}" for frame in frames]
    names = list(kinds)
    for kind in set(kinds):
        rows = np.flatnonzero([name == kind for name in kinds])
        rows = rows[np.argsort(time[rows], kind="stable")]
        number = np.concatenate([[0], np.cumsum(np.diff(time[rows]) > NIGHT_GAP_S)])
        for row, k in zip(rows, number, strict=True):
            names[row] = f"{kind} {k}"
    return names


def _distances(places: Sequence[CelestialWcs]) -> F8:
    """Of each centre from the nearest other one, in diagonals of its field; NaN for a single frame."""
    if len(places) < 2:
        return np.full(len(places), np.nan)
    ra_dec = [p.pixel_to_sky((p.shape[1] - 1) / 2, (p.shape[0] - 1) / 2) for p in places]
    centers = np.array([unit_vectors(float(ra), float(dec)) for ra, dec in ra_dec])
    found = np.empty(len(places))
    for k, place in enumerate(places):
        chord = np.linalg.norm(centers - centers[k], axis=1)
        chord[k] = np.inf
        distance_deg = np.rad2deg(2 * np.arcsin(min(float(chord.min()) / 2, 1.0)))
        found[k] = distance_deg * 3600 / (np.hypot(*place.shape) * place.pixel_scale_arcsec())
    return found
