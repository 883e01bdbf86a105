"""Stars across a seam between tiles of unlike seeing: how far blending changes their fluxes.

    python benchmarks/blend_seams.py

Two tiles, stars of sigma 1.8 pixels in one and 2.3 in the other, without noise, overlap by so many pixels. A star is
moved across the overlap; fluxes in apertures of 12 pixels, in mmag off the truth: the worst, what is predicted of it,
and the scatter; along a straight ramp, and along one that is bent.
"""

from __future__ import annotations

import argparse

import numpy as np

from page import add_page_option, page_section
from zemosaic.stages.tiles.blend import (
    bend_shares,
    blend_pyramid,
    border_weights,
    levels_for_overlap,
    normalise_weights,
    predict_flux_change_mmag,
)

SIGMAS = 1.8, 2.3
FWHM_PX = 2.3548 * SIGMAS[0], 2.3548 * SIGMAS[1]
FLUX = 1e4
MARGIN_PX, HEIGHT_PX, APERTURE_PX = 80, 96, 12
Y = 48.3


def measure(overlap_px: int, x: float, *, is_bent: bool) -> float:
    """Flux of a star at column x after blending, mmag off."""
    shape = HEIGHT_PX, overlap_px + 2 * MARGIN_PX
    r2 = np.add.outer((np.arange(shape[0]) - Y) ** 2, (np.arange(shape[1]) - x) ** 2)
    stars = [FLUX / (2 * np.pi * s**2) * np.exp(-r2 / 2 / s**2) for s in SIGMAS]
    valid = np.zeros((2, *shape), bool)
    valid[0, :, : MARGIN_PX + overlap_px], valid[1, :, MARGIN_PX:] = True, True
    images = np.where(valid, stars, 0)[:, None].astype(np.float32)
    sides = (False, False, False, True), (False, False, True, False)
    shares = normalise_weights(np.array([border_weights(v, None, s) for v, s in zip(valid, sides, strict=True)]))
    blended = blend_pyramid(images, bend_shares(shares) if is_bent else shares, levels_for_overlap(overlap_px))[0]
    return float(2500 * np.log10(blended[r2 < APERTURE_PX**2].sum() / FLUX))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_page_option(parser)
    about = " ".join((__doc__ or "").split("\n\n")[-1].split())
    title = "Stars of unlike seeing on a seam"
    with page_section(parser.parse_args().page, __file__, title, about, is_table=False):
        print_lines()


def print_lines() -> None:
    """Two for each overlap."""
    for overlap_px in (16, 24, 32, 48, 64, 128):
        for is_bent in (False, True):
            off = np.array([measure(overlap_px, x, is_bent=is_bent) for x in np.arange(70, overlap_px + 90, 2.37)])
            told = predict_flux_change_mmag(FWHM_PX, overlap_px, is_bent=is_bent)
            print(
                f"overlap {overlap_px} px, {'bent' if is_bent else 'straight'}: worst {np.abs(off).max():.1f} mmag, "
                f"predicted {told:.1f}, rms {off.std():.1f}"
            )


if __name__ == "__main__":
    main()
