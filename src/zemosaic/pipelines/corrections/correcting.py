"""The correction of every frame: from the one-sky solve, from a table, or from headers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zemosaic.model.frame import Frame
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.frames.pipeline import PlacedFrame
from zemosaic.pipelines.outputs.catalogue_facts import describe_catalogue
from zemosaic.pipelines.outputs.match_facts import describe_match
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.solving.known_sky import known_sky
from zemosaic.settings import Settings
from zemosaic.stages.numeric.robust import mad_sigma
from zemosaic.text import message

if TYPE_CHECKING:
    from zemosaic.stages.gauge.reference import ReferenceSky

__all__ = ["Corrections", "correct_frames", "gain_priors", "given_corrections", "header_corrections"]


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """The correction of every frame, and where it comes from.

    Attributes
    ----------
    scales : mapping
        FrameId -> PhotoScale.
    method : str
        One line for headers and the report.
    facts : mapping
        Figures for the report.
    fwhm_px : float or None
        Width of stars in mosaic pixels to stack with; None takes that of the frames.
    """

    scales: Mapping[str, PhotoScale]
    method: str
    facts: Mapping[str, Any]
    fwhm_px: float | None = None


FEWEST_TO_DOUBT = 4
"""Of fewer frames nobody can say which one is odd."""

FEWEST_ALIKE = 3
"""Frames of one stated exposure that tell what is usual."""

ODD_GAIN = float(np.log(1.5))
"""ln of the light missing or too much that haze, airmass and vignetting do not explain."""

ODD_SIGMA = 4.0
"""And how far beyond the spread of all frames it must lie: nights of clouds spread."""


def gain_priors(frames: Sequence[Frame]) -> np.ndarray:
    """Gains expected from headers, with median 1; 1 for frames whose keyword the others do not share."""
    keys = [frame.decided.gain_prior_key for frame in frames]
    common = max(sorted(set(keys)), key=keys.count)
    known = np.array([key == common != "" for key in keys])
    priors = np.where(known, [frame.decided.gain_prior for frame in frames], 1.0)
    return np.where(known, priors / np.median(priors[known]), 1.0) if known.any() else priors


def header_corrections(frames: Sequence[PlacedFrame]) -> Corrections:
    """What headers tell: gains, no surfaces."""
    plain = [item.frame for item in frames]
    scales = {
        str(frame.id): replace(
            PhotoScale.neutral(frame.n_channels, "header only"), gain=np.full(frame.n_channels, prior)
        )
        for frame, prior in zip(plain, gain_priors(plain), strict=True)
    }
    return Corrections(scales, "none (gains from headers)", {})


def given_corrections(
    frames: Sequence[PlacedFrame], given: Mapping[str, PhotoScale], name: str, run: Run
) -> Corrections:
    """Corrections read from the table `name`; frames that it does not hold keep the header's gain."""
    ids = [str(item.frame.id) for item in frames]
    known = {frame_id: given[frame_id] for frame_id in ids if frame_id in given}
    told = message("match.given", n_known=len(known), n_frames=len(frames), file=name)
    run.log.notice(told, "info" if len(known) == len(frames) else "warning")
    return Corrections({**header_corrections(frames).scales, **known}, f"given in {name}", {})


def correct_frames(
    frames: Sequence[PlacedFrame],
    grid: SkyGrid,
    settings: Settings,
    run: Run,
    reference: ReferenceSky | None = None,
    *,
    of_cameras: bool = True,
) -> Corrections:
    """Gains and surfaces of all frames from the one-sky solve.

    Parameters
    ----------
    frames : sequence of PlacedFrame
    grid : SkyGrid
    settings : Settings
    run : Run
    reference : ReferenceSky, optional
        A picture that fixes the slow background.
    of_cameras : bool
        Whether the frames of a camera share its response, which is then solved for.
    """
    # Here, so that runs that match nothing do not wait for what matches.
    from zemosaic.pipelines.corrections.match_frames import match_frames

    frames = sorted(frames, key=_place)
    plain = [item.frame for item in frames]
    run.log.start("match")
    found = match_frames(frames, gain_priors(plain), grid, settings, run, reference, of_cameras=of_cameras)
    for notice in found.notices:
        run.log.notice(notice)
    _tell_odd_gains(plain, found.scales, run)
    n_groups = len({scale.component for scale in found.scales})
    apart = message("done.groups", n=n_groups) if n_groups > 1 else None
    run.log.end("match", message("done.match", n_stars=found.n_ties, apart=apart))
    facts = describe_match(found, frames, grid)
    facts["catalogue"] = describe_catalogue(frames, grid, known_sky().catalogue)
    return Corrections(dict(zip((f.id for f in plain), found.scales, strict=True)), "one sky, solved once", facts)


def _place(item: PlacedFrame) -> tuple[float, float, str]:
    """What frames are matched in the order of.

    The solve draws random numbers image by image. Ids, which come from pixels, would deal them anew in another unit.
    """
    height, width = item.wcs.shape
    ra, dec = item.wcs.pixel_to_sky((width - 1) / 2, (height - 1) / 2)
    return float(ra), float(dec), str(item.frame.id)


def _larger_group(away: np.ndarray, usual: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Of two groups of frames of one camera with a wide gap between them the larger, the brighter of equal ones.

    A gain of the camera that headers do not state makes such groups. All of `usual` where there is no such gap; two
    telescopes that see unlike amounts of light are no groups of one.
    """
    order = np.flatnonzero(usual)[np.argsort(away[usual], kind="stable")]
    gaps = np.diff(away[order])
    if not len(gaps) or np.max(gaps) < ODD_GAIN:
        return usual
    low, high = np.split(order, [int(np.argmax(gaps)) + 1])
    spread = max(mad_sigma(away[low]), mad_sigma(away[high]))
    if ODD_SIGMA * spread > np.median(away[high]) - np.median(away[low]) or not set(camera[low]) & set(camera[high]):
        return usual
    return np.isin(np.arange(len(away)), low if len(low) > len(high) else high)


def _tell_odd_gains(frames: Sequence[Frame], scales: Sequence[PhotoScale], run: Run) -> None:
    """Say which frames hold another amount of light than their exposure in the header promises, and whom we believe."""
    known = np.array([np.isfinite(scale.gain_error[0]) for scale in scales])
    if known.sum() < FEWEST_TO_DOUBT:
        return
    priors = gain_priors(frames)
    away = np.log([float(scale.gain[0]) for scale in scales] / priors)
    # Frames of one stated exposure tell what is usual and how it scatters, though half of all headers are false.
    values, count = np.unique(priors[known], return_counts=True)
    alike = known & (priors == values[np.argmax(count)])
    usual = alike if np.count_nonzero(alike) >= FEWEST_ALIKE else known
    usual = _larger_group(away, usual, np.array([frame.header.camera for frame in frames]))
    away -= np.median(away[usual])
    odd = np.flatnonzero(known & (np.abs(away) > max(ODD_GAIN, ODD_SIGMA * mad_sigma(away[usual]))))
    if len(odd):
        names = [f"{frames[k].name} {np.exp(away[k]):.2g}" for k in odd[:3]]
        more = message("frame.and-more", n=len(odd) - 3) if len(odd) > 3 else None
        key = frames[odd[0]].decided.gain_prior_key or message("calibrate.exposure")
        told = message("match.odd-gains", n_odd=len(odd), n_frames=len(frames), card=key, names=names, more=more)
        run.log.notice(told, "warning")
