"""Master tiles of frames whose field turns: how much of the sky that frames reach is filled, and how true it is.

    python benchmarks/tile_rims.py /tmp/rims --seeds 51,52 [--zemosaic OTHER_PROGRAM]

Four panels of eight frames of 540 x 800 pixels, each panel turning by 20 degrees. "filled" is the share of the pixels
that the direct mosaic fills; stars scatter in mmag; background after a cubic, and seams, in sigma of a frame's pixel.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from astropy.io import fits

from zemosaic.simulate import FrameRecipe, SimulatedSky, score_mosaic, simulate_frames

PANELS = (-0.18, -0.12), (0.18, -0.12), (-0.18, 0.12), (0.18, 0.12)
WAYS = {
    "direct": ["--mode", "direct"],
    "master-tiles": ["--mode", "master-tiles"],
    "rim cut": ["--mode", "master-tiles", "--set", "tiles.altaz_nanize_threshold=0.01"],
    "no clean-up": ["--mode", "master-tiles", "--set", "tiles.cleanup=off"],
}


def make_set(folder: Path, seed: int, turn_deg: float, n_each: int = 8) -> None:
    """Panels whose fields turn evenly over the angle."""
    rng = np.random.default_rng(seed)
    pointings = []
    for across, up in PANELS:
        for k in range(n_each):
            dx, dy = rng.normal(0, 0.01, 2)
            turn = turn_deg * (k / (n_each - 1) - 0.5)
            pointings.append((83.8 + (across + dx) / np.cos(np.deg2rad(22.0)), 22.0 + up + dy, turn))
    sky = SimulatedSky(seed, size_deg=1.2)
    simulate_frames(folder, sky, len(pointings), FrameRecipe(shape=(540, 800)), pointings=pointings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="51,52")
    parser.add_argument("--turn", type=float, default=20.0, help="degrees")
    parser.add_argument("--zemosaic", default=str(Path(sys.executable).with_name("zemosaic")))
    options = parser.parse_args()
    for seed in map(int, options.seeds.split(",")):
        frames = options.folder / f"frames_{seed}_{options.turn:g}"
        if not frames.exists():
            make_set(frames, seed, options.turn)
        reached = None
        for way, assign in WAYS.items():
            out = options.folder / f"out_{seed}_{way.replace(' ', '_')}"
            command = [
                options.zemosaic,
                "build",
                frames,
                "-o",
                out,
                "--fresh",
                "--set",
                "output.preview=false",
                *assign,
            ]
            subprocess.run(command, check=True, capture_output=True)
            filled = np.isfinite(fits.getdata(out / "mosaic.fits"))
            reached = filled if reached is None else reached
            share = np.count_nonzero(filled & reached) / np.count_nonzero(reached)
            score = score_mosaic(frames, out / "mosaic.fits")
            figures = ", ".join(
                f"{name} {score[name]:.3g}"
                for name in ("star_rms_mmag", "background_sigma", "seam_sigma")
                if name in score
            )
            print(f"seed {seed}, {way}: filled {share:.4f}, {figures}", flush=True)


if __name__ == "__main__":
    main()
