"""The same mosaics by reproject."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.wcs import WCS
from reproject import reproject_exact, reproject_interp
from reproject.mosaicking import reproject_and_coadd

import zemosaic
from mosaic_cases import F4, draw_stars, noise, tan_wcs
from zemosaic.settings import load_settings

Piece = tuple[F4, WCS]


def smooth_sky(wcs: WCS, shape: tuple[int, int]) -> F4:
    """A well-sampled sky as surface brightness times pixel area of a 2 arcsec pixel."""
    ra, dec = wcs.pixel_to_world_values(*np.meshgrid(np.arange(shape[1]), np.arange(shape[0])))
    u, v = (ra - 150) * 3600 / 30, (dec - 30) * 3600 / 30
    return (1000 + 200 * np.sin(u) * np.cos(0.8 * v)).astype(np.float32)


def turned_frames() -> list[Piece]:
    frames = []
    for k in range(4):
        wcs = tan_wcs((110, 130), 150 + 0.01 * (k % 2), 30 + 0.01 * (k // 2), rotation_deg=8.0 * k)
        frames.append((smooth_sky(wcs, (110, 130)), wcs))
    return frames


@pytest.mark.parametrize(
    ("kernel", "theirs"),
    [
        ("nearest", lambda f, w, s: reproject_interp(f, w, s, order="nearest-neighbor")),
        ("bilinear", lambda f, w, s: reproject_interp(f, w, s, order="bilinear")),
        ("area", reproject_exact),
    ],
)
def test_one_frame_is_warped_as_reproject_does(kernel: str, theirs: object) -> None:
    (frame, grid) = turned_frames()[1], tan_wcs((150, 170))
    settings = load_settings(assignments=[f"warp.kernel={kernel}"])
    made = zemosaic.coadd([frame], grid, settings=settings)
    assert callable(theirs)
    other, _ = theirs(frame, grid, (150, 170))
    both = np.isfinite(made.data) & np.isfinite(other)
    assert both.sum() > 10_000
    difference = np.abs(made.data - other)[both]
    if kernel == "nearest":
        # Positions half way between two pixels may go either way.
        assert np.mean(difference > 0.1) < 1e-3
    else:
        assert difference.max() < 0.02


def test_the_mean_mosaic_is_that_of_reproject() -> None:
    frames, grid = turned_frames(), tan_wcs((150, 170))
    settings = load_settings(assignments=["stack.method=mean", "warp.kernel=bilinear", "warp.taper_px=0"])
    made = zemosaic.coadd(frames, grid, settings=settings)
    other, footprint = reproject_and_coadd(
        frames, grid, shape_out=(150, 170), reproject_function=reproject_interp, order="bilinear"
    )
    same = np.isfinite(made.data) & (footprint == made.coverage)
    assert same.sum() > 15_000
    assert np.abs(made.data - other)[same].max() < 0.02


def test_lanczos_keeps_sharp_stars_that_bilinear_blurs() -> None:
    grid, shape = tan_wcs((120, 120)), (110, 110)
    ra, dec = grid.pixel_to_world_values([40.3, 80.6], [60.2, 50.7])
    flux = np.array([50_000.0, 50_000.0])
    frames = []
    for k in range(4):
        wcs = tan_wcs(shape, 150 + 0.0002 * k, 30 + 0.0001 * k, rotation_deg=8.0 * k)
        frames.append((draw_stars(wcs, shape, ra, dec, flux, 5.2).astype(np.float32) + noise(shape, k, 1.0, 0.0), wcs))
    sky = draw_stars(grid, (120, 120), ra, dec, flux, fwhm_arcsec=5.2)
    worst = {}
    for kernel in ("bilinear", "lanczos3"):
        made = zemosaic.coadd(frames, grid, settings=load_settings(assignments=[f"warp.kernel={kernel}"]))
        worst[kernel] = np.nanmax(np.abs(made.data - sky)) / sky.max()
    assert worst["lanczos3"] < 0.02
    assert worst["bilinear"] > 0.05
