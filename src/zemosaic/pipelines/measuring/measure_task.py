"""The task that measures a frame, unless the store knows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zemosaic.engine.store import Store, make_key, remember
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.model.measurements import Measurements
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.run.keys import frame_identity
from zemosaic.pipelines.run.need import Measuring
from zemosaic.settings import Settings
from zemosaic.stages.measure.frame import measure_frame, measure_sky
from zemosaic.stages.measure.no_data import drop_runs, find_no_data
from zemosaic.stages.measure.raw import measure_raw

__all__ = ["measure"]

F4 = npt.NDArray[np.float32]


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
    """
    whole = frame.bayer is not None or need == "match"
    defects = settings.input.defect_sigma if frame.bayer else None
    key = make_key("measure", frame_identity(frame), settings.measure if whole else None, defects)
    return remember(store, key, lambda: _measure(frame, source, settings, whole), Measurements)


def _measure(frame: Frame, source: ImageSource, settings: Settings, whole: bool) -> Measurements:
    data, weight = source.read_window(frame, Box.of_shape(frame.shape))
    masked_share = 1 - np.count_nonzero(weight[0]) / weight[0].size
    no_data = find_no_data(data, weight, frame.data_box)
    if len(no_data):
        weight = weight.copy()
        drop_runs(weight, no_data, Box.of_shape(frame.shape))
    measured = _measure_pixels(frame, data, weight, settings, whole)
    return replace(measured, no_data=no_data, masked_share=masked_share)


def _measure_pixels(frame: Frame, data: F4, weight: F4, settings: Settings, whole: bool) -> Measurements:
    saturation = frame.saturation_adu
    if frame.bayer:
        defects = settings.input.defect_sigma
        return measure_raw(data, weight, frame.bayer, settings.measure, saturation_adu=saturation, defect_sigma=defects)
    if not whole:
        return measure_sky(data, weight)
    return measure_frame(data, weight, settings.measure, saturation_adu=saturation)
