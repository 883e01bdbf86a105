"""From solved channels to one correction an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import N_TERMS, PhotoScale
from zemosaic.stages.gauge.fix_gauge import GaugedSurfaces
from zemosaic.stages.match.gains import GainSolution
from zemosaic.stages.match.notes import image_note
from zemosaic.stages.match.sky_nodes import BlockTable

__all__ = ["Channel", "make_scales", "padded", "patterns_of"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """What is found of one channel.

    Attributes
    ----------
    gain : GainSolution
    surfaces : GaugedSurfaces
    patterns : ndarray, shape (n, 15)
        What each image's sensor adds, as terms of its surface.
    """

    gain: GainSolution
    surfaces: GaugedSurfaces
    patterns: F8


def padded(coefficients: F8, n: int) -> F8:
    """Coefficients of a polynomial of higher order, shape (rows, n)."""
    return np.pad(coefficients, ((0, 0), (0, max(n - coefficients.shape[1], 0))))


def patterns_of(found: Sequence[Channel]) -> F8:
    """Patterns of all channels, shape (n, c, 15)."""
    return np.stack([channel.patterns for channel in found], axis=1)


def make_scales(
    table: BlockTable, component: npt.NDArray[np.int32], found: Sequence[Channel], camera: Ints
) -> tuple[PhotoScale, ...]:
    """The correction of each image, its sensor's pattern included.

    Parameters
    ----------
    table : BlockTable
    component : ndarray, shape (n,), int32
        Group of images that share sky.
    found : sequence of Channel
    camera : ndarray, shape (n,), int64
        Number of what shares a response.
    """
    gains, surfaces = [channel.gain for channel in found], [channel.surfaces for channel in found]
    total, patterns = _total_errors(table, found), patterns_of(found)
    n_response = max(gain.response.shape[1] for gain in gains)
    responses = np.stack([padded(gain.response, n_response) for gain in gains], axis=1)
    scales = []
    for i in range(table.n_images):
        surface = np.zeros((len(found), N_TERMS))
        for own, channel in zip(surface, surfaces, strict=True):
            own[: channel.surfaces.shape[1]] = channel.surfaces[i]
        response = responses[camera[i]]
        scale = PhotoScale(
            gain=np.exp([gain.log_gain[i] for gain in gains]),
            surface=surface,
            response=response if response.any() else None,
            gain_error=np.array([gain.log_gain_error[i] for gain in gains]),
            level_error=total[:, i],
            component=int(component[i]),
            note=image_note(i, component, gains, surfaces),
        )
        scales.append(scale.plus_surface(patterns[i]) if patterns.any() else scale)
    return tuple(scales)


def _total_errors(table: BlockTable, found: Sequence[Channel]) -> F8:
    """Errors of the surfaces' levels, shape (c, n): of the solve, and of the gain that scales the whole background."""
    out = []
    for mean, channel in zip(table.mean, found, strict=True):
        level = np.nan_to_num(table.medians(mean)) * np.exp(-channel.gain.log_gain)
        out.append(np.hypot(channel.surfaces.level_error, channel.gain.log_gain_error * level))
    return np.array(out)
