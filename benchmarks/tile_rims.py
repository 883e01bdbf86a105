"""Master tiles of frames whose field turns: how much of the sky that frames reach is filled, and how true it is.

    python benchmarks/tile_rims.py /tmp/rims --seeds 51,52 [--zemosaic OTHER_PROGRAM]
    python benchmarks/tile_rims.py /tmp/rims --raw --seeds 5,6,7

Four panels of eight frames of 540 x 800 pixels, each panel turning by 20 degrees; with --raw, frames are Bayer mosaics.
"filled" is the share of the pixels that the direct mosaic fills; then, for each channel, the scatter of stars in mmag,
the background after a cubic, and the seams, both in sigma of a frame's pixel. "fringe" is the rms difference from the
direct mosaic, of means over 16 x 16 pixels within 16 pixels of its rim, in the same sigma; then the number of pixels
that have data in some channels only. A channel of a raw frame has a quarter (green: half) of its pixels, so the noise
of a channel is 2 (1.4) of these sigma.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import distance_transform_edt

from page import add_page_option, page_section
from zemosaic.io.write.mosaic_file import wcs_header
from zemosaic.simulate import (
    FrameRecipe,
    RawRecipe,
    SimulatedSky,
    read_truth,
    score_mosaic,
    simulate_frames,
    simulate_raws,
)

PANELS = (-0.18, -0.12), (0.18, -0.12), (-0.18, 0.12), (0.18, 0.12)
N_EACH = 8
SHAPE = 540, 800
RIM_PX = 16
WAYS = {
    "direct": ["--mode", "direct"],
    "master-tiles": ["--mode", "master-tiles"],
    "rim cut": ["--mode", "master-tiles", "--set", "tiles.altaz_nanize_threshold=0.01"],
    "no clean-up": ["--mode", "master-tiles", "--set", "tiles.cleanup=off"],
    "second pass": ["--mode", "master-tiles", "--set", "tiles.two_pass=true"],
}


def make_set(folder: Path, seed: int, turn_deg: float) -> None:
    """Panels whose fields turn evenly over the angle."""
    rng = np.random.default_rng(seed)
    pointings = []
    for across, up in PANELS:
        for k in range(N_EACH):
            dx, dy = rng.normal(0, 0.01, 2)
            turn = turn_deg * (k / (N_EACH - 1) - 0.5)
            pointings.append((83.8 + (across + dx) / np.cos(np.deg2rad(22.0)), 22.0 + up + dy, turn))
    sky = SimulatedSky(seed, size_deg=1.2)
    simulate_frames(folder, sky, len(pointings), FrameRecipe(shape=SHAPE), pointings=pointings)


def make_raw_set(folder: Path, seed: int, turn_deg: float) -> None:
    """Raw frames with their true WCS, panel after panel, while the field turns by the angle for each."""
    recipe = RawRecipe(shape=SHAPE, panels=(2, 2), rotation_deg=4 * turn_deg, cloud_fraction=0, soft_fraction=0)
    truth = simulate_raws(folder, SimulatedSky(seed, 314.7, 44.3, 1.6), 4 * N_EACH, recipe)
    for exposure in truth.exposures:
        with fits.open(folder / exposure.name, mode="update") as hdus:
            hdus[0].header.update(wcs_header(exposure.celestial))


def tell_fringe(made: np.ndarray, direct: np.ndarray, sigma: float) -> str:
    """Difference from the direct mosaic at its rim, a channel, and pixels that some channels fill and others not."""
    made, direct = (image.reshape(-1, *image.shape[-2:]) for image in (made, direct))
    both = np.isfinite(made).all(axis=0) & np.isfinite(direct).all(axis=0)
    depth = distance_transform_edt(np.pad(np.isfinite(direct).any(axis=0), 1))[1:-1, 1:-1]
    rim = both & (depth <= RIM_PX)
    y, x = np.nonzero(rim)
    block = np.unique(y // RIM_PX * made.shape[2] + x // RIM_PX, return_inverse=True)[1]
    number = np.bincount(block)
    rms = []
    for one, other in zip(made, direct, strict=True):
        means = np.bincount(block, (one - other)[rim])[number > RIM_PX] / number[number > RIM_PX]
        rms.append(float(np.sqrt(np.mean(means**2))) / sigma)
    filled = np.isfinite(made)
    n_partly = int((filled.any(axis=0) & ~filled.all(axis=0)).sum())
    return f"fringe {' '.join(f'{value:.3f}' for value in rms)}, {n_partly} px partly"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="51,52")
    parser.add_argument("--turn", type=float, default=20.0, help="degrees")
    parser.add_argument("--raw", action="store_true", help="Bayer frames")
    parser.add_argument("--ways", default=",".join(WAYS), help="which of: " + ", ".join(WAYS))
    parser.add_argument("--zemosaic", default=str(Path(sys.executable).with_name("zemosaic")))
    add_page_option(parser)
    options = parser.parse_args()
    title = f"The rim of a tile, {'raw' if options.raw else 'mono'} frames that turn by {options.turn:g} degrees"
    about = " ".join((__doc__ or "").split("\n\n")[-1].split())
    with page_section(options.page, __file__, title, about, is_table=False):
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """One line a seed and way."""
    for seed in map(int, options.seeds.split(",")):
        frames = options.folder / f"{'raws' if options.raw else 'frames'}_{seed}_{options.turn:g}"
        if not frames.exists():
            (make_raw_set if options.raw else make_set)(frames, seed, options.turn)
        direct = None
        for way in options.ways.split(","):
            out = options.folder / f"out_{seed}_{way.replace(' ', '_')}"
            assign = ["--fresh", "--set", "output.preview=false", "--set", "solve.method=header", *WAYS[way]]
            subprocess.run([options.zemosaic, "build", frames, "-o", out, *assign], check=True, capture_output=True)
            made = fits.getdata(out / "mosaic.fits").astype(float)
            direct = made if direct is None else direct
            reached = np.isfinite(direct)
            share = np.count_nonzero(np.isfinite(made) & reached) / np.count_nonzero(reached)
            score = score_mosaic(frames, out / "mosaic.fits")
            channels = ("red_", "green_", "blue_") if options.raw else ("",)
            figures = [
                f"{name} {' '.join(f'{score[channel + name]:.3g}' for channel in channels)}"
                for name in ("star_mmag", "background_sigma", "seam_sigma")
            ]
            fringe = tell_fringe(made, direct, read_truth(frames).sigma)
            print(f"seed {seed}, {way}: filled {share:.4f}, {', '.join(figures)}, {fringe}", flush=True)


if __name__ == "__main__":
    main()
