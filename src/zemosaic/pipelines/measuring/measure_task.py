"""The task that measures a frame, unless the store knows it. It is the same in this process and in others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zemosaic.engine.store import Store, remember
from zemosaic.errors import FrameRejected
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.measurements import Measurements
from zemosaic.model.runs import Runs, drop_runs
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.run.keys import make_key
from zemosaic.pipelines.run.need import Measuring
from zemosaic.settings import Settings
from zemosaic.stages.measure.frame import measure_frame, measure_sky
from zemosaic.stages.measure.hot_pixels import Residuals, residuals_of
from zemosaic.stages.measure.no_data import find_no_data, find_outside
from zemosaic.stages.measure.raw import measure_raw, phase_noise
from zemosaic.stages.numeric.units import noise_unit, sample_noise

__all__ = ["MeasureRequest", "MeasureTask", "Seen", "measure"]

F4 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MeasureRequest:
    """What is asked of a frame.

    Attributes
    ----------
    frame : Frame
    needs : tuple of {"match", "weigh"}
        Tried in this order, until one of them can be met.
    with_residuals : bool
        Whether a raw frame's residuals are wanted too, for the defects of its camera.
    """

    frame: Frame
    needs: tuple[Measuring, ...]
    with_residuals: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a frame tells.

    Attributes
    ----------
    found : Measurements or FrameRejected
        The latter says why the frame cannot be used.
    residuals : ndarray or None
        See `zemosaic.stages.measure.hot_pixels.residuals_of`; None where they were not asked for.
    """

    found: Measurements | FrameRejected
    residuals: Residuals | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MeasureTask:
    """Measures frames; each is read once at most, whatever is asked of it.

    Attributes
    ----------
    source : ImageSource
    settings : Settings
    store : Store or None
    """

    source: ImageSource
    settings: Settings
    store: Store | None

    def __call__(self, request: MeasureRequest) -> Seen:
        """Measure a frame as the first of its needs that can be met."""
        once, frame = _ReadOnce(self.source), request.frame
        for need in request.needs:
            try:
                found = measure(frame, once, self.settings, self.store, need=need)
            except FrameRejected as problem:
                rejected = problem
            else:
                return Seen(found, _residuals(frame, once, found) if request.with_residuals else None)
        return Seen(rejected)


class _ReadOnce:
    """A source of one frame that reads each window once, for a task that looks at the pixels more than once."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self._read: dict[tuple[FrameId, Box], tuple[F4, F4]] = {}

    def read_window(self, frame: Frame, box: Box) -> tuple[F4, F4]:
        """As the source's; the arrays are not to be changed."""
        key = frame.id, box
        if key not in self._read:
            self._read[key] = self._source.read_window(frame, box)
        return self._read[key]


def measure(
    frame: Frame,
    source: ImageSource,
    settings: Settings,
    store: Store | None,
    *,
    need: Measuring = "match",
) -> Measurements:
    """Measurements of a frame, from the store when they are there.

    To weigh it, neither stars nor blocks are measured. Raw frames are
    always measured whole: their noise is known only when stars and defects are.

    Raises
    ------
    FrameRejected
        When the frame cannot be read, or holds nothing to measure.
    """
    whole = frame.storage.bayer is not None or need == "match"
    defects = settings.input.defect_sigma if frame.storage.bayer else None
    key = make_key("measure", frame, settings.measure if whole else None, defects)
    return remember(store, key, lambda: _measure(frame, source, settings, whole), Measurements)


def _measure(frame: Frame, source: ImageSource, settings: Settings, whole: bool) -> Measurements:
    data, weight = source.read_window(frame, Box.of_shape(frame.shape))
    masked_share = 1 - np.count_nonzero(weight[0] != 0) / weight[0].size  # numpy counts booleans fast
    no_data = find_no_data(data, weight, frame.header.data_box)
    weight = _without(weight, no_data)
    unit = noise_unit(sample_noise(data, weight))
    if unit != 1:
        data = data * np.float32(1 / unit)
    saturation = None if frame.decided.saturation_adu is None else frame.decided.saturation_adu / unit
    found = _measure_pixels(frame, data, weight, settings, whole, saturation)
    outside = find_outside(weight, found.valid_box)
    in_own_unit = found if unit == 1 else found.times(unit)
    return replace(in_own_unit, no_data=no_data, outside=outside, masked_share=masked_share)


def _without(weight: F4, no_data: Runs) -> F4:
    """A whole frame's weight with 0 where there is no data; the one given is not changed."""
    if not len(no_data):
        return weight
    weight = weight.copy()
    drop_runs(weight, no_data, Box.of_shape(weight.shape[1:]))
    return weight


def _measure_pixels(
    frame: Frame, data: F4, weight: F4, settings: Settings, whole: bool, saturation: float | None
) -> Measurements:
    if frame.storage.bayer:
        defects = settings.input.defect_sigma
        return measure_raw(
            data, weight, frame.storage.bayer, settings.measure, saturation_adu=saturation, defect_sigma=defects
        )
    if not whole:
        return measure_sky(data, weight)
    return measure_frame(data, weight, settings.measure, saturation_adu=saturation)


def _residuals(frame: Frame, source: ImageSource, measured: Measurements) -> Residuals | None:
    if frame.storage.bayer is None:
        return None
    data, weight = source.read_window(frame, Box.of_shape(frame.shape))
    weight = _without(weight, measured.no_data)
    return residuals_of(data[0], weight[0], phase_noise(measured.noise, frame.storage.bayer))
