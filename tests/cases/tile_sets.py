"""Simulated sets for the modes that work with tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zemosaic.simulate import FrameRecipe, SetTruth, SimulatedSky, simulate_frames

PANELS = ((-0.1, 0.0), (0.1, 0.0))
"""Offsets of two panels in degrees; they overlap by a quarter."""


def rotating_panels(folder: Path, n_each: int = 8, seed: int = 8) -> SetTruth:
    """Frames of 300 x 400 pixels in two panels; in each the field turns by 50 degrees, as on an alt-az mount."""
    rng = np.random.default_rng(seed)
    pointings = []
    for k in range(2 * n_each):
        across, up = PANELS[k // n_each] + rng.normal(0, 0.004, 2)
        turn = 50 * (k % n_each) / (n_each - 1) - 25
        pointings.append((83.8 + across / np.cos(np.deg2rad(22.0)), 22.0 + up, turn))
    sky = SimulatedSky(seed, size_deg=0.75)
    return simulate_frames(folder, sky, 2 * n_each, FrameRecipe(shape=(300, 400)), pointings=pointings)
