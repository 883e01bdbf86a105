"""Measure a raw Bayer plane: on superpixels, reported in pixels of the plane."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zemosaic.model.box import Box
from zemosaic.model.measurements import Blocks, Measurements, Stars
from zemosaic.settings import MeasureSettings
from zemosaic.stages.measure.find_stars import well_measured
from zemosaic.stages.measure.frame import measure_frame
from zemosaic.stages.measure.hot_pixels import mask_defects
from zemosaic.stages.raw.cfa import (
    SUPERPIXEL_GAIN,
    SUPERPIXEL_NOISE,
    channel_map,
    fit_raw_stars,
    full_from_super,
    noise_by_phase,
    superpixels,
)

__all__ = ["measure_raw", "phase_noise"]

F4 = npt.NDArray[np.float32]

START_FWHM_PX = 3.0
"""Where the fit of a star's width begins: superpixels are too coarse to tell."""

MAX_SHIFT_PX = 2.0
"""Farthest a fitted centre may lie from where the superpixels had it."""


def phase_noise(noise: npt.NDArray[np.float64], pattern: str) -> F4:
    """Noise of a raw sample by the parity of its row and column, from that of each colour, shape (2, 2)."""
    return noise[channel_map(pattern)].astype(np.float32)


def measure_raw(
    raw: F4,
    weight: F4,
    pattern: str,
    settings: MeasureSettings,
    *,
    saturation_adu: float | None = None,
    defect_sigma: float = 6.0,
) -> Measurements:
    """Everything later stages need to know of a raw frame, in the coordinates and units of its full plane.

    Parameters
    ----------
    raw, weight : ndarray, float32, shape (1, h, w)
        The calibrated plane and its relative inverse variance.
    pattern : str
        Colours of the first four pixels.
    settings : MeasureSettings
    saturation_adu : float, optional
        Level at and above which a sample is saturated.
    defect_sigma : float
        Threshold of hot and cold pixels in sigma; 0 looks for none.

    Returns
    -------
    Measurements
        Of red, green and blue. `noise` is that of one raw sample of the colour; star fluxes are those of a
        full-density plane; block means are raw levels.

    Raises
    ------
    FrameRejected
        When no pixel has weight, or all have one and the same value.
    """
    clean, defects = weight[0], np.zeros(0, np.int32)
    if defect_sigma > 0:
        clean, codes = mask_defects(raw[0], weight[0], noise_by_phase(raw[0], weight[0]), n_sigma=defect_sigma)
        defects = np.flatnonzero(codes > 0).astype(np.int32)
    level = math.inf if saturation_adu is None else saturation_adu
    data, super_weight = superpixels(raw[0], clean, pattern, level)
    half = settings.model_copy(update={"block_px": max(settings.block_px // 2, 8)})
    found = measure_frame(data, super_weight, half, saturation_adu=SUPERPIXEL_GAIN * level)
    stars, fwhm_px, ellipticity = _full_stars(found, raw[0], clean, pattern)
    box = found.valid_box
    return replace(
        found.with_blocks(_full_blocks),
        shape=(raw.shape[1], raw.shape[2]),
        sky=found.sky / SUPERPIXEL_GAIN,
        noise=found.noise / np.array(SUPERPIXEL_NOISE),
        area_noise=found.area_noise / np.array(SUPERPIXEL_NOISE),
        valid_box=Box(2 * box.y0, 2 * box.y1, 2 * box.x0, 2 * box.x1),
        fwhm_px=fwhm_px,
        ellipticity=ellipticity,
        stars=stars,
        defects=defects,
    )


def _full_blocks(blocks: Blocks) -> Blocks:
    """Blocks of superpixels in pixels and units of the plane."""
    x, y = full_from_super(blocks.x, blocks.y)
    gain = np.float32(SUPERPIXEL_GAIN)
    return replace(
        blocks,
        x=x.astype(np.float32),
        y=y.astype(np.float32),
        mean=blocks.mean / gain,
        error=blocks.error / gain,
        size_px=2 * blocks.size_px,
    )


def _full_stars(found: Measurements, raw: F4, weight: F4, pattern: str) -> tuple[Stars, float, float]:
    """Stars in pixels of the plane; those that stand alone are centred and sized on the raw samples themselves."""
    stars = found.stars
    x, y = full_from_super(stars.x, stars.y)
    fwhm, ellipticity = 2 * stars.fwhm_px, stars.ellipticity.copy()
    clean = np.nonzero(~(stars.saturated | stars.blended))[0]
    typical = 2 * found.fwhm_px, found.ellipticity
    if len(clean):
        fit = fit_raw_stars(raw, weight, pattern, x[clean], y[clean], START_FWHM_PX)
        # A fit that wanders off has found a neighbour.
        near = np.hypot(fit.x - x[clean], fit.y - y[clean]) < MAX_SHIFT_PX
        good = clean[near]
        x[good], y[good] = fit.x[near], fit.y[near]
        fwhm[good], ellipticity[good] = fit.fwhm_px[near], fit.ellipticity[near]
        if near.any():
            told = well_measured(near, stars.snr()[clean])
            typical = float(np.median(fit.fwhm_px[told])), float(np.median(fit.ellipticity[told]))
    full = replace(
        stars,
        x=x,
        y=y,
        peak=stars.peak / np.float32(SUPERPIXEL_GAIN),
        fwhm_px=fwhm.astype(np.float32),
        ellipticity=ellipticity.astype(np.float32),
    )
    return full, *typical
