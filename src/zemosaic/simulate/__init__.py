"""A sky with known truth, exposures of it, and a score for mosaics of them."""

from __future__ import annotations

from zemosaic.simulate.frames import FrameRecipe, simulate_frames
from zemosaic.simulate.raws import RawRecipe, simulate_raws
from zemosaic.simulate.score import PlaneScore, score_mosaic, score_plane
from zemosaic.simulate.sky import SimulatedSky
from zemosaic.simulate.truth import ExposureTruth, SetTruth, read_truth

__all__ = [
    "ExposureTruth",
    "FrameRecipe",
    "PlaneScore",
    "RawRecipe",
    "SetTruth",
    "SimulatedSky",
    "read_truth",
    "score_mosaic",
    "score_plane",
    "simulate_frames",
    "simulate_raws",
]
