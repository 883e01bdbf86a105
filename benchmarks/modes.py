"""How far two mosaics of the same frames, made in different modes, show the same sky.

    python benchmarks/modes.py DIRECT/mosaic.fits OTHER/mosaic.fits [SIGMA]

After one global scale and a cubic over the mosaic: robust scatter of star fluxes in millimagnitudes, rms of the
background's difference in bins of 24 pixels in units of SIGMA (the noise of one pixel of one frame; default 14), and
the share of the first mosaic's pixels that the second fills. One line for each plane.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from scipy.ndimage import maximum_filter, uniform_filter
from scipy.spatial import cKDTree

F8 = npt.NDArray[np.float64]

BIN_PX = 24
APERTURE_PX, RING_PX = 6.0, (9.0, 13.0)
SNR = 300.0
"""Of stars that are compared: fainter ones tell more of their noise than of the modes."""


def planes(path: str) -> F8:
    """DATA as (c, h, w)."""
    data = np.asarray(fits.getdata(path), float)
    return data if data.ndim == 3 else data[None]


def find_isolated_stars(image: F8, noise: float) -> npt.NDArray[np.int64]:
    """Pixel positions (y, x) of bright peaks that stand alone."""
    smooth = uniform_filter(np.nan_to_num(image), 3) - uniform_filter(np.nan_to_num(image), 25)
    y, x = np.nonzero((smooth == maximum_filter(smooth, 9)) & (smooth > 6 * noise))
    margin = int(RING_PX[1]) + 2
    inside = (y > margin) & (x > margin) & (y < image.shape[0] - margin) & (x < image.shape[1] - margin)
    y, x = y[inside], x[inside]
    tree = cKDTree(np.stack([y, x], axis=1))
    alone = np.array([len(near) == 1 for near in tree.query_ball_point(tree.data, 2 * APERTURE_PX)], bool)
    return np.stack([y[alone], x[alone]], axis=1)


def star_fluxes(image: F8, stars: npt.NDArray[np.int64]) -> F8:
    """Aperture sums over the median of a ring; NaN where a pixel is missing."""
    half = int(RING_PX[1]) + 1
    dy, dx = np.mgrid[-half : half + 1, -half : half + 1]
    radius = np.hypot(dy, dx)
    aperture, ring = radius < APERTURE_PX, (radius >= RING_PX[0]) & (radius < RING_PX[1])
    found = []
    for y, x in stars:
        cut = image[y - half : y + half + 1, x - half : x + half + 1]
        found.append(np.sum(cut[aperture] - np.median(cut[ring])))
    return np.array(found)


def robust_sd(values: F8) -> float:
    """Half the central 68 %."""
    low, high = np.percentile(values, [15.865, 84.135])
    return float(high - low) / 2


def bins(image: F8) -> F8:
    """Medians of squares; NaN where more than a fifth is missing."""
    h, w = (n // BIN_PX for n in image.shape)
    cubes = image[: h * BIN_PX, : w * BIN_PX].reshape(h, BIN_PX, w, BIN_PX).transpose(0, 2, 1, 3).reshape(h, w, -1)
    full = np.isfinite(cubes).mean(axis=2) > 0.8
    out = np.full((h, w), np.nan)
    out[full] = np.nanmedian(cubes[full], axis=1)
    return out


def without_cubic(values: F8) -> F8:
    """Finite values less a robust cubic over the map."""
    y, x = np.nonzero(np.isfinite(values))
    v = values[y, x]
    u, w = 2 * x / values.shape[1] - 1, 2 * y / values.shape[0] - 1
    basis = np.stack([u**i * w**j for i in range(4) for j in range(4 - i)], axis=1)
    kept = np.ones(len(v), bool)
    for _ in range(4):
        left = v - basis @ np.linalg.lstsq(basis[kept], v[kept], rcond=None)[0]
        kept = np.abs(left) <= 4 * robust_sd(left[kept]) + 1e-12
    return np.asarray(left)


def main(first: str, second: str, sigma: float = 14.0) -> None:
    """Compare and print."""
    ours, theirs = planes(first), planes(second)
    filled = np.isfinite(theirs).all(axis=0).sum() / np.isfinite(ours).all(axis=0).sum()
    for one, two in zip(ours, theirs, strict=True):
        noise = robust_sd(np.diff(one, axis=1)[np.isfinite(np.diff(one, axis=1))]) / np.sqrt(2)
        stars = find_isolated_stars(one, noise)
        a, b = star_fluxes(one, stars), star_fluxes(two, stars)
        good = np.isfinite(a) & np.isfinite(b) & (a > SNR * noise * np.sqrt(np.pi) * APERTURE_PX)
        ratio = b[good] / a[good]
        scale = float(np.median(ratio))
        left = without_cubic(bins(two / scale - one))
        print(
            f"stars {1085.7 * robust_sd(ratio / scale):.2f} mmag ({good.sum()}), background {left.std() / sigma:.4f} "
            f"sigma (robust {robust_sd(left) / sigma:.4f}, worst bin {np.abs(left).max() / sigma:.3f}), "
            f"scale {scale:.5f}, filled {filled:.4f}"
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 14.0)
