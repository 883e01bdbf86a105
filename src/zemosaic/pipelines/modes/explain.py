"""Why a pixel of a finished mosaic is what it is: every frame over a place, and what became of its samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zemosaic.engine.events import CancelToken, EventSink
from zemosaic.errors import NothingToDo, SettingError
from zemosaic.io.headers.hints import parse_angle
from zemosaic.model.box import Box
from zemosaic.model.sky.grid import Patch, SkyGrid
from zemosaic.pipelines.corrections.adding import read_record, restore_frames
from zemosaic.pipelines.frames.pipeline import KindGroup, measure_and_place
from zemosaic.pipelines.modes.mosaics import make_job, plan_group
from zemosaic.pipelines.modes.session import Corrected, Guide, Session, lay_out, open_frames
from zemosaic.pipelines.patches.jobs import FrameVisit, MosaicJob
from zemosaic.pipelines.patches.make_patch import warp_cube
from zemosaic.pipelines.products.folder import FolderMosaic, open_folder
from zemosaic.pipelines.run.context import Run, RunOptions, output_folder, start_run
from zemosaic.pipelines.run.log import ignore_event
from zemosaic.pipelines.run.need import need_of_frames
from zemosaic.settings import GridSettings, Settings
from zemosaic.stages.stack.stack import border_px, bytes_per_sample
from zemosaic.stages.stack.trace import PixelTrace, trace_pixel
from zemosaic.text import message

__all__ = [
    "ChannelHere",
    "Explanation",
    "FrameHere",
    "MosaicHere",
    "SampleHere",
    "explain",
    "explain_places",
    "parse_place",
]

AGREES_SIGMA = 1e-3
"""How far, in its noise, a pixel that is made again may lie from the file's before a word is said."""


@dataclass(frozen=True, slots=True)
class SampleHere:
    """What one frame has for one channel of a pixel; numbers in mosaic units, None where there is none.

    Attributes
    ----------
    value, weight : float
        After the frame's correction; the weight is an inverse variance.
    gain : float
        The frame's response in this channel.
    sigma : float or None
        Noise of this one sample at the level of the stack.
    clipped_by : str
        "" for a sample that was kept; else what judged it: "sample" (for itself), "pair" (the higher of two frames
        alone), "region" (with its surroundings), "rim" (beside what was clipped), "saturated" (others say more).
    lowest, highest : float or None
        Between them a sample is not clipped for itself.
    """

    value: float
    weight: float
    gain: float
    sigma: float | None
    clipped_by: str
    lowest: float | None
    highest: float | None


@dataclass(frozen=True, slots=True)
class FrameHere:
    """One frame over a place: one sample a channel, None where the frame has none (a masked pixel, its rim)."""

    name: str
    path: str
    id: str
    samples: tuple[SampleHere | None, ...]


@dataclass(frozen=True, slots=True)
class ChannelHere:
    """One channel of a pixel.

    Attributes
    ----------
    value : float or None
        Of the mosaic's file; None where it has no data.
    noise : float or None
        Square root of its variance.
    mean : float or None
        Weighted mean of the samples that were kept.
    centre : float or None
        Of the samples, as they were clipped.
    n_kept, n_clipped : int
        Samples.
    """

    value: float | None
    noise: float | None
    mean: float | None
    centre: float | None
    n_kept: int
    n_clipped: int


@dataclass(frozen=True, slots=True)
class MosaicHere:
    """The pixel of one mosaic at a place, x and y zero-based; its channels, and the frames that reach it."""

    file: str
    x: int
    y: int
    channels: tuple[ChannelHere, ...]
    frames: tuple[FrameHere, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A place on the sky (ICRS degrees) in each mosaic of a folder."""

    ra_deg: float
    dec_deg: float
    mosaics: tuple[MosaicHere, ...]


def parse_place(text: str) -> tuple[float, float]:
    """Right ascension and declination, ICRS degrees, of two numbers in degrees, or sexagesimal hours and degrees.

    ``"83.82 -5.39"``, ``"5:35:17 -5:23:28"``, ``"5 35 17 -5 23 28"`` and ``"05h35m17s -05d23m28s"`` are all read.

    Raises
    ------
    SettingError
        For what is no place.
    """
    words = text.replace(",", " ").split()
    half = len(words) // 2
    if len(words) in {2, 4, 6}:
        ra, dec = " ".join(words[:half]), " ".join(words[half:])
        ra_deg, dec_deg = parse_angle(ra, in_hours=True), parse_angle(dec, in_hours=False)
        if ra_deg is not None and dec_deg is not None and 0 <= ra_deg <= 360 and -90 <= dec_deg <= 90:
            return ra_deg % 360, dec_deg
    raise SettingError("explain.no-place", text=text)


def explain(
    out: str | Path,
    at: str | tuple[float, float],
    *,
    on_event: EventSink | None = None,
    cancel: CancelToken | None = None,
) -> Explanation:
    """Tell of every frame over a place of a finished mosaic its value, weight and gain, and whether it was clipped.

    The pixel is made again from the frames, by the code that made it and with what was applied then. Nothing is
    written but results of measuring that are no longer stored.

    Parameters
    ----------
    out : path
        The output folder of a build of mode direct.
    at : str or (ra, dec)
        A text that `parse_place` reads, or ICRS degrees.
    on_event, cancel
        As for `build`.

    Raises
    ------
    SettingError
        For what is no place, a place outside of the mosaic, or a mosaic of another mode.
    NothingToDo
        When there is no finished mosaic, none of its frames is left, or nothing tells how they were applied.
    EnvironmentProblem
        When another run is at work in the folder.
    """
    place = parse_place(at) if isinstance(at, str) else at
    (found,) = explain_places(Path(out), [place], start_run(RunOptions(), on_event or ignore_event, cancel))
    return found


def explain_places(out: Path, places: Sequence[tuple[float, float]], run: Run) -> list[Explanation]:
    """Explain several places (ICRS degrees) of one folder, whose frames are looked up once; otherwise as `explain`."""
    record, folder = read_record(out), open_folder(out)
    if record.mode != "direct":
        raise SettingError("explain.other-mode", folder=out, mode=record.mode)
    grid = SkyGrid(folder.mosaics[0].wcs)
    pixels = [_pixel_at(grid, place) for place in places]
    # The grid is that of the file, whatever header it was once taken from.
    settings = folder.read_settings().model_copy(update={"grid": GridSettings()})
    with output_folder(out, run) as run:
        opened = open_frames(record.inputs, settings, run)
        need = need_of_frames(settings, solved=record.solved)
        placed = measure_and_place(opened, need, settings, run)
        session = lay_out(opened, Guide(solved=record.solved), need, placed, grid, run)
        jobs = {session.tag(group): _job_as_applied(group, session, settings, run) for group in session.groups}
        explained = ([_explain_pixel(jobs[m.tag], m, pixel, run) for m in folder.mosaics] for pixel in pixels)
        return [Explanation(*place, tuple(told)) for place, told in zip(places, explained, strict=True)]


def _pixel_at(grid: SkyGrid, place: tuple[float, float]) -> tuple[int, int]:
    """The pixel ``(y, x)`` of a place."""
    x, y = (float(v) for v in grid.wcs.sky_to_pixel(*place))
    height, width = grid.shape
    if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
        ra, dec = grid.wcs.pixel_to_sky((width - 1) / 2, (height - 1) / 2)
        raise SettingError(
            "explain.outside",
            ra_deg=place[0],
            dec_deg=place[1],
            middle_ra_deg=float(ra),
            middle_dec_deg=float(dec),
            x=x,
            y=y,
        )
    return round(y), round(x)


def _job_as_applied(group: KindGroup, session: Session, settings: Settings, run: Run) -> MosaicJob:
    """The mosaic of one kind of frames as it was made."""
    restored = restore_frames(group.frames, run)
    if restored is None:
        raise NothingToDo("explain.nothing-applied")
    corrected = Corrected(*restored)
    return make_job(group.kind, plan_group(corrected, session, settings, run).frames, corrected, session, settings)


def _explain_pixel(job: MosaicJob, mosaic: FolderMosaic, pixel: tuple[int, int], run: Run) -> MosaicHere:
    """One pixel made again, and told."""
    y, x = pixel
    inner = Box(y, y + 1, x, x + 1)
    outer = inner.expand(border_px(job.stack, job.fwhm_px)).intersect(job.grid.box)
    work = job.plan(Patch(inner, outer))
    block = np.zeros(outer.n_pixels * len(work.visits) * bytes_per_sample(job.kind.n_channels), np.uint8)
    cube = warp_cube(job, work, block)
    stacked, traces = trace_pixel(cube, (y - outer.y0, x - outer.x0), job.fwhm_px, job.stack)
    stacked, traces = stacked.times(job.unit), [trace.times(job.unit) for trace in traces]
    values, noise = mosaic.read("DATA", inner)[:, 0, 0], np.sqrt(stacked.variance[:, 0, 0])
    apart = np.abs(values - stacked.data[:, 0, 0]) / np.where(noise > 0, noise, np.nan)
    if (apart > AGREES_SIGMA).any():
        told = message("explain.differs", file=mosaic.path.name, sigma=float(np.nanmax(apart)))
        run.log.notice(told, level="warning")
    channels = [_channel_here(*told) for told in zip(traces, values, noise, strict=True)]
    return MosaicHere(mosaic.path.name, x, y, tuple(channels), tuple(_frames_here(work.visits, traces)))


def _channel_here(trace: PixelTrace, value: float, noise: float) -> ChannelHere:
    clipped = np.array([bool(word) for word in trace.clipped_by], bool)
    kept = (trace.weights > 0) & ~clipped
    weights = trace.weights[kept].astype(np.float64)
    mean = float(weights @ trace.values[kept].astype(np.float64) / weights.sum()) if kept.any() else None
    known = _known(noise) if kept.any() else None
    return ChannelHere(_known(value), known, mean, _known(trace.centre), int(kept.sum()), int(clipped.sum()))


def _frames_here(visits: Sequence[FrameVisit], traces: Sequence[PixelTrace]) -> Iterator[FrameHere]:
    """The frames that have a sample in some channel."""
    for i, visit in enumerate(visits):
        frame, gain = visit.item.frame, visit.item.plan.scale.gain
        if any(trace.weights[i] > 0 for trace in traces):
            samples = tuple(_sample_here(trace, i, float(gain[c])) for c, trace in enumerate(traces))
            yield FrameHere(frame.name, frame.storage.path, str(frame.id), samples)


def _sample_here(trace: PixelTrace, i: int, gain: float) -> SampleHere | None:
    if trace.weights[i] == 0:
        return None
    limits = _known(trace.lowest[i]), _known(trace.highest[i])
    value, weight = float(trace.values[i]), float(trace.weights[i])
    return SampleHere(value, weight, gain, _known(trace.sigma[i]), trace.clipped_by[i], *limits)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
