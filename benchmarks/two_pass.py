"""Gains of the second pass on tiles whose truth is known: noise, stars, nebula, planted gains, seeing.

    python benchmarks/two_pass.py --seeds 200 [--only stars]

Two tiles of 250 x 250 pixels share 100 columns; sky noise 1, stars of 500 to 5000 units. Printed for each kind: the
share of the seeds whose overlap tells a gain, the largest |gain / truth - 1|, the share within 1 % and what the stated
errors lead to expect of it, the shares within three stated errors and within 0.002 + 2 errors, how many seeds end at a
bound of the clip, and the median stated error.
Gains of 0.8 and 1.25 between two tiles are 0.89 and 1.12 about their mean, inside the clip.
"""

from __future__ import annotations

import argparse

import numpy as np
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter
from scipy.special import erf

from page import add_page_option, page_section
from zemosaic.stages.classic.two_pass import TwoPassDiagnostics, run_second_pass_coverage_renorm

SHAPE, SIDE, STEP = (250, 400), 250, 150
CLIP = 0.85, 1.18
KINDS = {
    "noise": {},
    "few stars": {"n_stars": 20},
    "stars": {"n_stars": 150},
    "nebula": {"nebula": 5.0},
    "stars and nebula": {"n_stars": 150, "nebula": 5.0},
    **{
        f"gain {gain}, {name}": {"gain": gain, **kind}
        for gain in (0.8, 0.9, 1.1, 1.25)
        for name, kind in (
            ("nebula", {"nebula": 12.0}),
            ("stars", {"n_stars": 150}),
            ("both", {"n_stars": 150, "nebula": 12.0}),
        )
    },
    **{f"seeing {100 * s - 100:.0f} % softer": {"n_stars": 150, "soft": s} for s in (1.05, 1.2, 1.35, 1.5)},
    "seeing 35 % softer, nebula": {"n_stars": 150, "nebula": 5.0, "soft": 1.35},
}  # fmt: skip


def make_wcs(x0: int) -> WCS:
    """A tile that begins at a column of the mosaic."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [150, 20], [-1e-3, 1e-3]
    wcs.wcs.crpix = [SHAPE[1] / 2 + 0.5 - x0, SHAPE[0] / 2 + 0.5]
    wcs.wcs.set()
    return wcs


def make_sky(seed: int, sigma: float, n_stars: int, nebula: float) -> np.ndarray:
    """The same stars and nebula in any seeing."""
    rng = np.random.default_rng(seed)
    image = np.full(SHAPE, 100.0)
    reach = int(6 * sigma) + 1
    for x, y, flux in zip(
        rng.uniform(0, SHAPE[1], n_stars),
        rng.uniform(0, SHAPE[0], n_stars),
        rng.uniform(500, 5000, n_stars),
        strict=True,
    ):
        rows = slice(max(int(y) - reach, 0), min(int(y) + reach, SHAPE[0]))
        columns = slice(max(int(x) - reach, 0), min(int(x) + reach, SHAPE[1]))
        part = rows, columns
        yy, xx = np.mgrid[part]
        image[part] += flux / (2 * np.pi * sigma**2) * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 2 / sigma**2)
    if nebula:
        texture = np.random.default_rng(seed + 10_000).normal(0, 1, (SHAPE[0] + 80, SHAPE[1] + 80))
        cloud = gaussian_filter(texture, np.hypot(10, sigma))[40:-40, 40:-40]
        image += nebula * cloud / 0.0279  # the scatter of such a cloud at sigma 1.7
    return image


def find(seed: int, gain: float = 1.0, soft: float = 1.0, n_stars: int = 0, nebula: float = 0.0) -> TwoPassDiagnostics:
    """The gains of two tiles, the second of which has the planted gain and the softer seeing."""
    rng = np.random.default_rng(seed + 20_000)
    tiles = []
    for sigma, g, x0 in ((1.7, 1.0, 0), (1.7 * soft, gain, STEP)):
        image = make_sky(seed, sigma, n_stars, nebula)[:, x0 : x0 + SIDE]
        tiles.append((100 + g * (image - 100) + rng.normal(0, 1, image.shape)).astype(np.float32))
    found = TwoPassDiagnostics()
    run_second_pass_coverage_renorm(
        tiles, [make_wcs(0), make_wcs(STEP)], make_wcs(0), np.ones(SHAPE), SHAPE,
        sigma_px=50, gain_clip=CLIP, debug_diag=found,
    )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    add_page_option(parser)
    options = parser.parse_args()
    about = " ".join((__doc__ or "").split("\n\n")[-1].split())
    with page_section(options.page, __file__, f"The second pass, {options.seeds} seeds", about, is_table=False):
        print_table(options)


def print_table(options: argparse.Namespace) -> None:
    """One line a kind."""
    n = options.seeds
    print(f"{'kind':<28} told   worst   <1 %  expected  <3 err  <2 mmag + 2 err  at clip  median error")
    for name, kind in KINDS.items():
        if options.only not in name:
            continue
        truth = float(kind.get("gain", 1.0))
        found = [find(seed, **kind).gains for seed in range(n)]  # type: ignore[arg-type]
        measured = np.array([g.measured[1] / g.measured[0] for g in found if g])
        # Two tiles share one difference: each is off by half of it.
        error, used = np.array([2 * g.error[1] for g in found if g]), np.array([g.gain for g in found if g])
        known = np.isfinite(error)
        off = np.where(known, np.abs(measured / truth - 1), 0.0)
        expected = erf(0.01 / np.maximum(error, 1e-9) / 2**0.5)
        at_clip = np.isclose(used, CLIP[0]) | np.isclose(used, CLIP[1])
        print(
            f"{name:<28} {known.mean():.3f}  {off.max():.4f}  {(off < 0.01).mean():.3f}  {expected.mean():.3f}   "
            f"  {(off <= 3 * error).mean():.3f}"
            f"   {(off < 0.002 + 2 * error).mean():.3f}            {int(at_clip.any(axis=1).sum()):3d}"
            f"      {np.median(error[known]) if known.any() else np.nan:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
