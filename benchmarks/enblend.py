"""Two tiles blended by this package and by enblend, side by side: figures, and a picture of both.

    python benchmarks/enblend.py OUT_FOLDER

Needs tifffile, and enblend (Debian: ``apt-get install enblend``), without which only the first two are made. Two tiles
of one sky (stars, noise of their own) meet in 128 pixels; the right one is 60 ADU (6 sigma) brighter and has a hole in
the overlap.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from zemosaic.stages.tiles.blend import (
    blend_feather,
    blend_pyramid,
    border_weights,
    levels_for_overlap,
    normalise_weights,
)

SHAPE, LEFT, OVERLAP = (512, 1024), 576, 128
STEP, SIGMA = 60.0, 10.0
HOLE = np.s_[200:240, 500:530]


def make_tiles(seed: int = 1) -> tuple[np.ndarray, np.ndarray, list[tuple[float, float]]]:
    """Images and masks ``(2, h, w)``, and where the stars of the overlap are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    sky = np.full(SHAPE, 1000.0)
    # One star every 40 rows, alone; two are cut by a tile's edge.
    stars = [(40.0 * k + 30, LEFT - OVERLAP + 2 + 11.2 * k) for k in range(12)]
    others = [(rng.uniform(0, 511), rng.uniform(0, 1023)) for _ in range(150)]
    others = [o for o in others if min(np.hypot(o[0] - s[0], o[1] - s[1]) for s in stars) > 25]
    for k, (sy, sx) in enumerate(stars + others):
        flux = 2e4 if k < len(stars) else 4e3 * (rng.pareto(1.2) + 1)
        sky += flux / (2 * np.pi * 1.3**2) * np.exp(-((y - sy) ** 2 + (x - sx) ** 2) / (2 * 1.3**2))
    images = np.stack([sky + rng.normal(0, SIGMA, SHAPE), sky + STEP + rng.normal(0, SIGMA, SHAPE)])
    valid = np.stack([x < LEFT, x >= LEFT - OVERLAP])
    valid[1][HOLE] = False
    return np.where(valid, images, 0).astype(np.float32), valid, stars


def run_enblend(images: np.ndarray, valid: np.ndarray, folder: Path) -> np.ndarray:
    """The same tiles as 16-bit TIFF files with alpha through enblend."""
    paths = []
    for k, (image, seen) in enumerate(zip(images, valid, strict=True)):
        grey = np.clip(np.round(image), 0, 65535).astype(np.uint16)
        rgba = np.stack([grey, grey, grey, np.where(seen, 65535, 0).astype(np.uint16)], axis=-1)
        paths.append(folder / f"tile{k}.tif")
        tifffile.imwrite(paths[-1], rgba, photometric="rgb", extrasamples=["unassalpha"])
    out = folder / "enblend.tif"
    subprocess.run(
        ["enblend", "--compression=packbits", "-o", str(out), *map(str, paths)], check=True, capture_output=True
    )
    return tifffile.imread(out)[..., 0].astype(float)


def judge(image: np.ndarray, stars: list[tuple[float, float]]) -> dict[str, float]:
    """Figures of a blend."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    errors = []
    for sy, sx in stars:
        r = np.hypot(y - sy, x - sx)
        level = np.median(image[(r > 9) & (r < 14)])
        errors.append(2.5 * np.log10(np.sum(image[r < 6] - level) / 2e4) * 1000)
    profile = np.median(image[:180], axis=0)
    smooth = gaussian_filter(profile, 4)
    seam = np.s_[LEFT - OVERLAP - 30 : LEFT + 30]
    ring = np.zeros(SHAPE, bool)
    ring[HOLE[0].start - 4 : HOLE[0].stop + 4, HOLE[1].start - 4 : HOLE[1].stop + 4] = True
    inside = np.median(image[HOLE])
    ring[HOLE] = False
    return {
        "star scatter, mmag": float(np.std(errors)),
        "steepest ADU/px": float(np.abs(np.diff(smooth[seam])).max()),
        "sharpest bend ADU/px2": float(np.abs(np.diff(smooth[seam], 2)).max()),
        "noise in the overlap, ADU": float(1.4826 * np.median(np.abs(np.diff(image[:, LEFT - 80 : LEFT - 48]))))
        / 2**0.5,
        "step at the hole, ADU": float(abs(inside - np.median(image[ring]))),
    }


def main() -> None:
    """Print a table and write ``enblend.png``: feathered, pyramid, enblend, one under the other."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    images, valid, stars = make_tiles()
    # Only the sides that face each other are borders.
    weights = normalise_weights(np.stack([border_weights(seen, sides=(False,) * 4) for seen in valid]))
    cube = images[:, None]
    results = {
        "feather": blend_feather(cube, weights)[0],
        "pyramid": blend_pyramid(cube, weights, levels_for_overlap(OVERLAP))[0],
    }
    if shutil.which("enblend"):
        results["enblend"] = run_enblend(images, valid, folder)
    for name, image in results.items():
        print(name, {key: round(value, 3) for key, value in judge(image, stars).items()})
    stretched = [np.clip((image - 970) / 130, 0, 1) for image in results.values()]
    Image.fromarray((255 * np.concatenate(stretched)).astype(np.uint8)).save(folder / "enblend.png")


if __name__ == "__main__":
    main()
