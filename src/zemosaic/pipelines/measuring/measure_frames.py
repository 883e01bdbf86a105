"""Measure all frames, each once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zemosaic.engine.events import LeftOut
from zemosaic.engine.values import digest_of
from zemosaic.errors import FrameRejected, NothingToDo
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.measurements import Measurements
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.measuring.defects import DefectWatch
from zemosaic.pipelines.measuring.measure_remotely import measure_remotely
from zemosaic.pipelines.measuring.measure_task import MeasureRequest, MeasureTask
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.need import Measuring
from zemosaic.settings import Settings
from zemosaic.text import message

MEASURE_BYTES_PER_VALUE = 24
"""Measuring a frame: its data and weights, 8, what the steps hold beside them, up to 13 (16 where pixels are
missing), and the file's own bytes."""

MUCH_MASKED = 0.03
"""Share of pixels above which a mask of unknown meaning is told: bad pixels and cosmic rays rarely are as many."""

__all__ = ["Measured", "MeasuredFrame", "measure_frames"]

SEEING_FRAMES = 6
"""Frames whose stars are measured where only the typical seeing is wanted."""


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredFrame:
    """A frame with what was measured on it."""

    frame: Frame
    measured: Measurements


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What was measured.

    Attributes
    ----------
    kept : list of MeasuredFrame
        Sorted by FrameId.
    known : mapping
        FrameId -> all that could be measured, also frames that are left out.
    left_out : tuple of LeftOut
    """

    kept: list[MeasuredFrame]
    known: Mapping[FrameId, MeasuredFrame]
    left_out: tuple[LeftOut, ...]


def measure_frames(
    frames: Sequence[Frame],
    source: ImageSource,
    settings: Settings,
    run: Run,
    *,
    watch: DefectWatch,
    need: Measuring = "match",
    seeing: bool = False,
) -> Measured:
    """Measure every frame once; those that cannot be read or hold nothing are left out.

    To weigh frames, stars are measured on a few of them where the typical `seeing` is wanted. The residuals of raw
    frames are shown to `watch`.

    Raises
    ------
    NothingToDo
        When no frame is left.
    """
    advance = run.log.start("measure", len(frames))
    requests = _request_all(frames, watch, need, seeing)
    done, left_out = _measure_all(requests, MeasureTask(source, settings, run.store), watch, run, advance)
    known = {item.frame.id: item for item in done}
    if need == "match":
        done, copies = _without_copies(done, run)
        left_out += copies
    done, noiseless = _with_noise(done, run)
    left_out += noiseless
    _tell_no_data(done, run)
    _tell_masks(done, run)
    _tell_correlated_noise(done, run)
    if not done:
        raise NothingToDo("measure.none", n_frames=len(frames))
    whole = {request.frame.id for request in requests if "match" in request.needs}
    n_stars = int(np.median([len(m.measured.stars) for m in done if m.frame.id in whole] or [0]))
    stars = message("done.median-stars", n=n_stars) if whole else None
    run.log.end("measure", message("done.measure", n_frames=len(done), stars=stars))
    return Measured(sorted(done, key=lambda m: m.frame.id), known, tuple(left_out))


def _request_all(frames: Sequence[Frame], watch: DefectWatch, need: Measuring, seeing: bool) -> list[MeasureRequest]:
    """What is asked of each frame."""
    every = 1 if need == "match" else max(-(-len(frames) // SEEING_FRAMES), 1)
    whole = {frame.id for frame in frames[::every]} if need == "match" or seeing else set()
    # Where stars are a luxury, a frame on which they cannot be measured is still weighed.
    needs: tuple[Measuring, ...] = ("match",) if need == "match" else ("match", "weigh")
    return [MeasureRequest(f, needs if f.id in whole else ("weigh",), watch.wants(f)) for f in frames]


def _measure_all(
    requests: Sequence[MeasureRequest], task: MeasureTask, watch: DefectWatch, run: Run, advance: Callable[[int], None]
) -> tuple[list[MeasuredFrame], list[LeftOut]]:
    """What could be measured, and what could not; their residuals are shown to `watch`."""
    task_bytes = max(MEASURE_BYTES_PER_VALUE * request.frame.n_values for request in requests)
    elsewhere = measure_remotely(requests, task, watch, run, advance, task_bytes)

    def gather(request: MeasureRequest) -> Measurements | FrameRejected:
        run.cancel.check()
        if request.frame.id in elsewhere:
            return elsewhere[request.frame.id]
        seen = task(replace(request, with_residuals=watch.wants(request.frame)))
        if seen.residuals is not None:
            watch.add(request.frame, seen.residuals)
        return seen.found

    done: list[MeasuredFrame] = []
    left_out: list[LeftOut] = []
    for count, (request, found) in enumerate(run.machine.executor_for(task_bytes).run(gather, requests), 1):
        if isinstance(found, FrameRejected):
            left_out.append(run.log.leave_out(request.frame, found.told))
        else:
            done.append(MeasuredFrame(request.frame, found))
        advance(count)
    return done, left_out


def _without_copies(frames: list[MeasuredFrame], run: Run) -> tuple[list[MeasuredFrame], list[LeftOut]]:
    """Frames whose pixels are not those of another one, whatever their headers say: the same stars and blocks tell."""
    seen: dict[str, Frame] = {}
    kept, left_out = [], []
    for item in sorted(frames, key=lambda m: m.frame.id):
        first = seen.setdefault(digest_of(item.measured), item.frame)
        if first is item.frame or not (len(item.measured.stars) or len(item.measured.blocks)):
            kept.append(item)
        else:
            left_out.append(run.log.leave_out(item.frame, message("frame.same-pixels", path=first.storage.path)))
    return kept, left_out


def _of_equal_weight(measured: Measurements) -> Measurements:
    one = np.ones_like(measured.noise)
    return replace(measured, noise=one, area_noise=one)


def _tell_no_data(frames: Sequence[MeasuredFrame], run: Run) -> None:
    """Say how much of the frames is given no weight because its values are no measurement."""
    shares = [
        float(np.sum(item.measured.no_data[:, 2] - item.measured.no_data[:, 1])) / np.prod(item.measured.shape)
        for item in frames
    ]
    some = [share for share in shares if share > 0]
    if some:
        worst = frames[int(np.argmax(shares))].frame.storage.path
        run.log.notice(
            message(
                "measure.no-data",
                n_some=len(some),
                n_frames=len(frames),
                mean_share=np.mean(some),
                worst_share=max(some),
                worst=worst,
            )
        )


def _tell_masks(frames: Sequence[MeasuredFrame], run: Run) -> None:
    """Say which frames lose much to masks whose bits nobody explained."""
    costly = [
        item
        for item in frames
        if (mask := item.frame.storage.mask) is not None
        and not mask.is_known
        and item.measured.masked_share > MUCH_MASKED
    ]
    if costly:
        worst = max(costly, key=lambda item: item.measured.masked_share)
        run.log.notice(
            message(
                "measure.mask-costs",
                n_costly=len(costly),
                n_frames=len(frames),
                limit=MUCH_MASKED,
                worst_share=worst.measured.masked_share,
                path=worst.frame.storage.path,
            ),
            "warning",
        )


def _tell_correlated_noise(frames: Sequence[MeasuredFrame], run: Run) -> None:
    """Say which cameras' frames were debayered, resampled or smoothed before, by their noise."""
    excess: dict[str, list[float]] = {}
    for item in frames:
        ratio = float(np.max(item.measured.area_noise / item.measured.noise))
        if ratio > 1:
            excess.setdefault(item.frame.header.instrument or "one camera", []).append(ratio)
    for camera, ratios in sorted(excess.items()):
        run.log.notice(message("measure.area-noise", n_frames=len(ratios), camera=camera, ratio=np.median(ratios)))


def _with_noise(frames: list[MeasuredFrame], run: Run) -> tuple[list[MeasuredFrame], list[LeftOut]]:
    """Frames that have noise to weigh them by; where all were made, not observed, all weigh the same."""
    observed = [item for item in frames if np.all(item.measured.noise > 0)]
    if not observed:
        return [replace(m, measured=_of_equal_weight(m.measured)) for m in frames], []
    return observed, [
        run.log.leave_out(item.frame, message("measure.no-noise", sky=item.measured.sky[0]))
        for item in frames
        if not np.all(item.measured.noise > 0)
    ]
