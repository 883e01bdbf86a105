"""Between measuring and patches: noise, corrections and coordinates of every frame, as one list."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zemosaic.engine.events import LeftOut
from zemosaic.errors import FrameRejected
from zemosaic.model.frame import Frame
from zemosaic.model.measurements import Measurements
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.frames.pipeline import PlacedFrame
from zemosaic.pipelines.patches.jobs import BoxIndex, PatchInput
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.kept import Kept
from zemosaic.settings import Settings, WarpSettings
from zemosaic.stages.numeric.units import noise_unit
from zemosaic.stages.warp.lattice import Lattice, plan_lattice
from zemosaic.stages.warp.warp import WarpPlan, pixel_variance_ratio
from zemosaic.text import message

__all__ = [
    "frame_weight",
    "plan_input",
    "plan_inputs",
    "plan_witnesses",
    "stellar_width_px",
    "stellar_widths_px",
    "unit_of",
]

Array = npt.NDArray[np.float64]

LEAST_NOISE, MOST_NOISE = 6e-20, 1e16
"""Noise of one frame whose inverse variance the plane of weights holds in single precision: n frames over one place sum
n of them, so the least is the root of n times as much. At the upper end a rim's taper makes weights a hundred times
smaller."""


def stellar_widths_px(frames: Sequence[PlacedFrame], grid: SkyGrid) -> dict[str, float]:
    """FWHM of each frame in mosaic pixels, by its id; NaN where it shows no star."""
    return {f.frame.id: f.measured.fwhm_px * f.wcs.pixel_scale_arcsec() / grid.scale_arcsec for f in frames}


def stellar_width_px(frames: Sequence[PlacedFrame], grid: SkyGrid) -> float:
    """Median FWHM of the frames in mosaic pixels; 3 where no frame shows a star."""
    widths = [width for width in stellar_widths_px(frames, grid).values() if np.isfinite(width)]
    return float(np.median(widths)) if widths else 3.0


def plan_inputs(
    frames: Sequence[PlacedFrame],
    scales: Mapping[str, PhotoScale],
    grid: SkyGrid,
    settings: Settings,
    run: Run,
) -> Kept[PatchInput]:
    """Coordinates, corrections and noise of every frame that reaches the grid, sorted by FrameId.

    A frame whose coordinates cannot be interpolated to the asked precision, or that has no
    noise to weigh it by, is left out.
    """
    advance = run.log.start("plan", len(frames))
    planned: list[PatchInput] = []
    left_out: list[LeftOut] = []
    worst_px = 0.0
    for done, item in enumerate(sorted(frames, key=lambda f: f.frame.id), 1):
        run.cancel.check()
        frame, wcs = item.frame, item.wcs
        try:
            lattice = plan_lattice(wcs, grid, settings.warp.coordinate_error_px)
        except FrameRejected as problem:
            left_out.append(run.log.leave_out(frame, problem.told))
            continue
        if lattice.box.is_empty:
            left_out.append(run.log.leave_out(frame, message("grid.frame-beside")))
            continue
        worst_px = max(worst_px, lattice.error_px)
        planned.append(plan_input(item, lattice, scales[frame.id], grid, settings))
        advance(done)
    kept: list[PatchInput] = []
    for made, fits in zip(planned, _fit_planes(planned), strict=True):
        if fits:
            kept.append(made)
        else:
            left_out.append(run.log.leave_out(made.frame, message("grid.noise-too-far", noise=made.noise)))
    run.log.end("plan", message("done.plan", n_frames=len(kept), worst_px=worst_px))
    return Kept(kept, tuple(left_out))


def _fit_planes(inputs: Sequence[PatchInput]) -> list[bool]:
    """Whether single precision holds the weights of each frame, and their sums with those of the frames over it."""
    index = BoxIndex(item.plan.lattice.box for item in inputs)

    def fits(item: PatchInput) -> bool:
        n_over = len(index.meeting(item.plan.lattice.box)) if item.noise < len(inputs) * LEAST_NOISE else 1
        return LEAST_NOISE * math.sqrt(n_over) < item.noise < MOST_NOISE

    return [fits(item) for item in inputs]


def unit_of(inputs: Sequence[PatchInput]) -> float:
    """What to divide the samples of a mosaic by, so that their noise is near 1 (`noise_unit`)."""
    return noise_unit(float(np.median([item.noise for item in inputs])))


def plan_witnesses(
    frames: Sequence[PlacedFrame], scales: Mapping[str, PhotoScale], grid: SkyGrid, settings: Settings
) -> list[PatchInput]:
    """Frames that reach the grid, to judge the samples of other frames by; those that cannot are passed over."""
    planned = []
    for item in frames:
        try:
            lattice = plan_lattice(item.wcs, grid, settings.warp.coordinate_error_px)
        except FrameRejected:
            continue
        if not lattice.box.is_empty:
            made = plan_input(item, lattice, scales[item.frame.id], grid, settings)
            planned.append(replace(made, is_witness=True))
    return planned


def _to_mosaic(item: PlacedFrame, scale: PhotoScale, grid: SkyGrid) -> Array:
    """Mosaic units per input unit at the frame's centre, per channel."""
    return np.asarray(grid.area_ref_deg2 / (scale.gain * item.wcs.pixel_area_deg2()))


def frame_weight(item: PlacedFrame, scale: PhotoScale, grid: SkyGrid) -> Array:
    """Weight of a frame's pixels at its centre, per channel: the inverse variance in mosaic units."""
    return np.asarray((_to_mosaic(item, scale, grid) * item.measured.area_noise) ** -2)


def plan_input(item: PlacedFrame, lattice: Lattice, scale: PhotoScale, grid: SkyGrid, settings: Settings) -> PatchInput:
    """A frame as the patch task needs it: its lattice, correction and noise in one value."""
    frame, wcs, measured = item.frame, item.wcs, item.measured
    plan = WarpPlan(
        lattice=lattice,
        wcs=wcs,
        scale=scale,
        sigma=measured.area_noise,
        valid_box=measured.valid_box,
        saturation_adu=_saturation(item),
        area_ref_deg2=grid.area_ref_deg2,
        pixel_values=settings.input.pixel_values,
        bayer=frame.storage.bayer,
    )
    to_mosaic = _to_mosaic(item, scale, grid)
    return PatchInput(
        frame,
        plan,
        sky=(to_mosaic * measured.sky - scale.surface[:, 0]).astype(np.float32),
        light=_light(item, to_mosaic).astype(np.float32),
        own_share=_own_share(frame, settings.warp) * _independence(measured),
        outside=measured.outside,
    )


def _saturation(item: PlacedFrame) -> float | None:
    """Level from which samples count as saturated: the header's, else the plateau that the pixels show."""
    stated, shown = item.frame.decided.saturation_adu, item.measured.plateau
    return shown if stated is None and math.isfinite(shown) else stated


def _light(item: PlacedFrame, to_mosaic: Array) -> Array:
    """By how much of itself the noise's variance grows for a mosaic unit above the sky; 0 where that is not known."""
    if item.photon_slope is None:
        return np.zeros(len(to_mosaic))
    light: Array = item.photon_slope / (np.square(item.measured.area_noise) * to_mosaic)
    return light


def _independence(measured: Measurements) -> npt.NDArray[np.float32]:
    """Variance of one sample over that as it adds up over areas: 1 where samples are independent."""
    return np.square(measured.noise / measured.area_noise).astype(np.float32)


def _own_share(frame: Frame, settings: WarpSettings) -> npt.NDArray[np.float32]:
    """How much of the variance that a frame's weight states a single sample shows, for each channel."""
    # A drizzled frame has gaps between its samples; those there are have the noise that is stated.
    if frame.storage.bayer is None or settings.kernel == "drizzle":
        return np.ones(frame.n_channels, np.float32)
    return np.array([pixel_variance_ratio(settings, channel) for channel in range(3)], np.float32)
