"""Frames registered to each other, where no catalogue or no header says where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zemosaic.engine.events import LeftOut
from zemosaic.errors import FrameRejected
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.model.sky.tan_sip import TanSip
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.solving.candidate import star_field
from zemosaic.pipelines.solving.places import Place
from zemosaic.pipelines.solving.solve_frames import describe_coincidence, refined_place
from zemosaic.settings import Settings
from zemosaic.stages.raw.cfa import superpixels
from zemosaic.stages.refine.refine import refine
from zemosaic.stages.solve.by_pixels import FftShift, find_shift, shift_overlap
from zemosaic.stages.solve.ties import plate_of_reference, register_frames
from zemosaic.text import message

__all__ = ["register_to_each_other"]

F4 = npt.NDArray[np.float32]

MAX_TRIES = 3
"""Placed frames that the pixels of a frame are compared with before it is given up."""


def register_to_each_other(
    frames: Sequence[MeasuredFrame], source: ImageSource, settings: Settings, run: Run
) -> list[Place | LeftOut]:
    """Places on a plane of their own: by the stars that frames share, else by their pixels; refined together.

    The plane is none of the sky's: about RA 0, Dec 0, with one arcsecond a pixel of the frame with the most stars.

    Parameters
    ----------
    frames : sequence of MeasuredFrame
    source : ImageSource
        Of the frames' pixels, wanted where stars do not do.
    settings : Settings
    run : Run

    Returns
    -------
    list of Place or LeftOut
        Why a frame has no place, as announced.
    """
    run.log.start("register", len(frames))
    fields = [star_field(item.frame, item.measured, None) for item in frames]
    plates = register_frames(fields, settings.solve)
    by_pixels = _by_pixels([item.frame for item in frames], plates, source, settings.solve.max_log_chance, run)
    found = {}
    for k, plate in enumerate(plates):
        start = plate or by_pixels.get(frames[k].frame.id)
        if start is not None:
            found[k] = start
    placed: dict[int, Place] = {}
    fit = None
    if found:
        # Without a catalogue a distortion cannot be told from a bend of the common plane.
        linear = settings.refine.model_copy(update={"distortion_order": 1})
        refined = refine([fields[k] for k in found], list(found.values()), None, linear)
        fit = describe_coincidence(refined.rms_px)
        for row, k in enumerate(found):
            how = "registered" if plates[k] is not None else "registered by pixels"
            placed[k] = refined_place(frames[k].frame, refined, row, how)
    beside = message("done.by-pixels", n=len(by_pixels)) if by_pixels else None
    n_found, n_frames = len(found), len(frames)
    run.log.end("register", message("done.register", n_found=n_found, n_frames=n_frames, beside=beside, fit=fit))
    return [placed.get(k) or _leave_out(item, run) for k, item in enumerate(frames)]


def _leave_out(item: MeasuredFrame, run: Run) -> LeftOut:
    return run.log.leave_out(
        item.frame,
        message("register.no-pattern", n_stars=len(item.measured.stars)),
    )


def _by_pixels(
    frames: Sequence[Frame], by_stars: Sequence[TanSip | None], source: ImageSource, max_log_chance: float, run: Run
) -> dict[str, TanSip]:
    """Plates, by id, of frames that a shift lays on frames with a place, nearest in time first.

    Where stars place no frame at all, the frame in the middle of the session is where the others are laid on.
    """
    order = sorted(range(len(frames)), key=lambda k: (frames[k].header.date_obs, frames[k].id))
    plates = {row: plate for row, k in enumerate(order) if (plate := by_stars[k]) is not None}
    seed = None
    if not plates and len(frames) > 1:
        seed = len(order) // 2
        plates[seed] = plate_of_reference(frames[order[seed]].shape)
    placed_by_stars = set(plates) - {seed}
    planes = _Planes(source)
    # From the placed ones outwards, so that each frame finds a neighbour.
    rest = sorted(set(range(len(order))) - set(plates), key=lambda row: min(abs(row - p) for p in plates or [0]))
    for row in rest:
        run.cancel.check()
        frame = frames[order[row]]
        near = [p for p in plates if _comparable(frames[order[p]], frame)]
        for p in sorted(near, key=lambda p: (abs(p - row), p))[:MAX_TRIES]:
            reference = frames[order[p]]
            shift = planes.shift(reference, frame)
            if shift is None or shift.log10_chance > max_log_chance:
                continue
            share = shift_overlap(frame.shape, shift).n_pixels / (frame.shape[0] * frame.shape[1])
            run.log.notice(
                message(
                    "register.by-pixels",
                    file=frame.name,
                    reference=reference.name,
                    dy_px=shift.dy,
                    dx_px=shift.dx,
                    share=share,
                    log10_chance=shift.log10_chance,
                )
            )
            plates[row] = _moved(plates[p], shift)
            break
    if seed is not None and len(plates) == 1:
        return {}
    return {frames[order[row]].id: plate for row, plate in plates.items() if row not in placed_by_stars}


def _comparable(one: Frame, other: Frame) -> bool:
    return (one.header.camera, one.shape, one.storage.bayer) == (other.header.camera, other.shape, other.storage.bayer)


def _moved(plate: TanSip, shift: FftShift) -> TanSip:
    """The plate of an image whose pixel (y, x) shows what the reference shows at (y + dy, x + dx)."""
    return replace(plate, crpix=(plate.crpix[0] - shift.dx, plate.crpix[1] - shift.dy))


class _Planes:
    """Frames as single planes of pixels; the last few are kept."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self._kept: dict[str, F4] = {}

    def shift(self, reference: Frame, frame: Frame) -> FftShift | None:
        """The shift between two frames in their own pixels; None where one shows nothing."""
        try:
            found = find_shift(self._plane(reference), self._plane(frame))
        except (FrameRejected, ValueError):
            return None
        step = 2 if frame.storage.bayer else 1
        return replace(found, dy=step * found.dy, dx=step * found.dx)

    def _plane(self, frame: Frame) -> F4:
        """Mean of the channels (of a raw frame's superpixels), NaN where there are no data."""
        if frame.id not in self._kept:
            data, weight = self._source.read_window(frame, Box.of_shape(frame.shape))
            if frame.storage.bayer:
                data, weight = superpixels(data[0], weight[0], frame.storage.bayer)
            while len(self._kept) > MAX_TRIES:
                self._kept.pop(next(iter(self._kept)))
            self._kept[frame.id] = np.where((weight > 0).all(axis=0), data.mean(axis=0), np.float32(np.nan))
        return self._kept[frame.id]
