"""What a mosaic will take, before anything is measured: by headers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zemosaic.model.frame import Frame
from zemosaic.model.kind import Kind
from zemosaic.pipelines.patches.planes import file_planes
from zemosaic.pipelines.run.timetable import FRAMES, Work, whole_s
from zemosaic.pipelines.solving.header_corners import wcs_by_header
from zemosaic.settings import Settings
from zemosaic.stages.grid.plan import find_strays, plan_grid

__all__ = ["Forecast", "forecast_mosaic"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected.

    Attributes
    ----------
    n_frames : int
    n_values : int
        In all frames together.
    shape : (height, width) or None
        Of the mosaic; None where no header tells a place and a pixel scale.
    output_bytes : int
        Of the files of all mosaics, one a kind of frames; 0 where the shape is not known.
    seconds : float
        Of the whole run.
    """

    n_frames: int
    n_values: int
    shape: tuple[int, int] | None
    output_bytes: int
    seconds: float


def forecast_mosaic(frames: Sequence[Frame], settings: Settings, paces: Mapping[str, float]) -> Forecast:
    """What a mosaic of frames will take.

    Parameters
    ----------
    frames : sequence of Frame
        Pictures of the sky. Those whose header tells no place are taken to lie where the others lie.
    settings : Settings
        A grid that a header file fixes is not read.
    paces : mapping
        Of this machine; see `zemosaic.pipelines.run.timetable.Timetable`.
    """
    n_values = sum(frame.n_values for frame in frames)
    n_samples = sum(frame.n_samples for frame in frames)
    places = [wcs for wcs in map(wcs_by_header, frames) if wcs is not None]
    strays = find_strays(places)
    near = [wcs for k, wcs in enumerate(places) if k not in strays]
    kinds = {Kind.of(frame) for frame in frames}
    work = Work.of_frames(len(frames), n_values, n_samples)
    if not near:
        seconds = whole_s(work, FRAMES, settings.output.also, paces)
        return Forecast(len(frames), n_values, None, 0, seconds)
    height, width = plan_grid(near, settings.grid).shape
    planes = [plane for kind in kinds for plane in file_planes(settings.output, kind.n_channels)]
    a_pixel = sum(plane.n_channels * np.dtype(plane.dtype).itemsize for plane in planes)
    n_out = height * width * sum(kind.n_channels for kind in kinds)
    seconds = whole_s(replace(work, n_out=n_out, n_mosaics=len(kinds)), FRAMES, settings.output.also, paces)
    return Forecast(len(frames), n_values, (height, width), height * width * a_pixel, seconds)
