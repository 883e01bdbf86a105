"""The task that matches all frames of a kind, unless the store knows its result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from zemosaic.engine.store import remember
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.frames.grading import name_sessions
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.settings import Settings
from zemosaic.stages.gauge.reference import ReferenceSky
from zemosaic.stages.match.match import ImageFacts, MatchSolution, channel_bytes, match

if TYPE_CHECKING:
    from zemosaic.pipelines.frames.pipeline import PlacedFrame

__all__ = ["match_frames"]


def match_frames(
    frames: Sequence[PlacedFrame],
    priors: np.ndarray,
    grid: SkyGrid,
    settings: Settings,
    run: Run,
    reference: ReferenceSky | None,
    *,
    of_cameras: bool,
) -> MatchSolution:
    """One sky solved for all frames; parameters are those of `correct_frames`, with the gains expected from headers."""
    measured, places = [item.measured for item in frames], [item.wcs for item in frames]
    # A flat has taken the sensor's response out; what would be solved for is noise.
    is_flat = all(item.frame.decided.is_flattened for item in frames)
    cameras = None if is_flat else [item.frame.header.camera for item in frames]
    nights = name_sessions([item.frame for item in frames])
    # Where the reference lies does not matter: its pixels are part of the key.
    wanted = settings.match.model_copy(update={"reference": ""} | ({} if of_cameras else {"response_order": 0}))
    key = make_key(
        "match", measured, places, grid, wanted, cameras, nights, priors, settings.input.pixel_values, reference
    )
    return remember(
        run.store,
        key,
        lambda: match(
            measured,
            places,
            grid,
            wanted,
            ImageFacts(cameras, nights, priors, settings.input.pixel_values),
            reference=reference,
            each=run.machine.executor_within(channel_bytes(measured)).map,
        ),
        MatchSolution,
    )
