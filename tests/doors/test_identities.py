"""What must come out whatever the pixels: pictures cut up, constant skies, fluxes, one answer on every path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from astropy.wcs import WCS

import zemosaic
from mosaic_cases import F4, F8, cut, digest_of, draw_stars, noise, report_of, run_cli, tan_wcs
from zemosaic.engine.memory import resident_bytes
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.settings import StackSettings, WarpSettings, load_settings

Capture = pytest.CaptureFixture[str]


Piece = tuple[F4, WCS]

METHODS = get_args(StackSettings.model_fields["method"].annotation)
KERNELS = get_args(WarpSettings.model_fields["kernel"].annotation)


def pieces_of(image: F4, wcs: WCS) -> list[Piece]:
    """Five overlapping pieces that cover a 200 x 260 image, most of it twice and more."""
    boxes = [(0, 130, 0, 170), (0, 130, 90, 260), (70, 200, 0, 170), (70, 200, 90, 260), (30, 170, 40, 220)]
    return [cut(image, wcs, *box) for box in boxes]


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_cut_up_comes_back(method: str) -> None:
    # Values are counts per area of the central pixel; over so small a field a tangent plane's area varies by 2e-7.
    wcs, image = tan_wcs((200, 260), scale_arcsec=0.5), noise((200, 260), 1)
    settings = load_settings(assignments=[f"stack.method={method}"])
    made = zemosaic.coadd(pieces_of(image, wcs), wcs, settings=settings)
    assert np.isfinite(made.data).all()
    assert np.abs(made.data / image - 1).max() < 1e-6
    assert made.coverage.max() == 5
    if method != "minmax":
        assert not made.rejected.any()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_constant_sky_stays_constant(kernel: str) -> None:
    """Turned, shifted frames of any noise, through any kernel; values are counts, so the area law acts too."""
    grid = tan_wcs((150, 190))
    frames = []
    for k in range(5):
        shape = (120, 140)
        wcs = tan_wcs(shape, 150 + 0.004 * k, 30 - 0.003 * k, scale_arcsec=2.0 + 0.1 * k, rotation_deg=31.0 * k)
        area = CelestialWcs(wcs, shape).pixel_area_deg2(*np.meshgrid(np.arange(140.0), np.arange(120.0)))
        frames.append(((1000.0 * area / area[60, 70] * (1 + 0.05 * k) ** 2).astype(np.float32), wcs))
    settings = load_settings(assignments=[f"warp.kernel={kernel}"])
    made = zemosaic.coadd(frames, grid, settings=settings)
    seen = np.isfinite(made.data)
    assert seen.sum() > 10_000
    # Coordinates are exact to 0.01 px only, and the area's polynomial to 1e-6; float32 leaves 1e-7.
    assert np.abs(made.data[seen] / 1000 - 1).max() < 2e-5


def test_alike_frames_of_unlike_noise_keep_the_level() -> None:
    wcs = tan_wcs((100, 120))
    frames = [(noise((100, 120), k, sigma=s, level=500.0), wcs) for k, s in enumerate((1.0, 3.0, 20.0))]
    made = zemosaic.coadd(frames, wcs, settings=load_settings(assignments=["stack.method=mean", "warp.taper_px=0"]))
    weights = np.array([1, 1 / 9, 1 / 400])
    assert made.data.mean() == pytest.approx(500, abs=0.05)
    assert made.data.std() == pytest.approx(weights.sum() ** -0.5, rel=0.05)
    assert np.median(made.variance) == pytest.approx(1 / weights.sum(), rel=0.1)


def aperture_fluxes(image: F8, x: F8, y: F8, radius: float) -> F8:
    """Sums over generous apertures of an image without background."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([image[np.hypot(rows - b, columns - a) < radius].sum() for a, b in zip(x, y, strict=True)])


def starry_frames(grid: WCS, scales: Sequence[float], turns: Sequence[float]) -> tuple[list[Piece], F8, F8, F8]:
    gx, gy = (v.ravel().astype(float) for v in np.meshgrid([60.3, 130.8, 199.1], [50.6, 110.2, 170.9]))
    ra, dec = grid.pixel_to_world_values(gx, gy)
    flux = np.linspace(20_000, 90_000, 9)
    frames = []
    for k, (scale, turn) in enumerate(zip(scales, turns, strict=True)):
        side = int(640 / scale)
        wcs = tan_wcs((side, side), 150.0005, 29.9993, scale_arcsec=scale, rotation_deg=turn)
        image = draw_stars(wcs, (side, side), ra, dec, flux, fwhm_arcsec=9.0)
        # Just enough noise to weigh the frames by; its sky is the same in surface brightness.
        image += np.random.default_rng(k).normal(0, 0.05 * scale**2, image.shape)
        frames.append((image.astype(np.float32), wcs))
    return frames, gx, gy, flux


def test_a_star_keeps_its_flux_whatever_the_scale_of_its_frames() -> None:
    """Half of the frames at 1.6 times the scale."""
    grid = tan_wcs((220, 260), scale_arcsec=2.0)
    scales, turns = [2.0, 2.0, 2.0, 3.2, 3.2, 3.2], [0.0, 40.0, 100.0, 10.0, 65.0, 200.0]
    frames, x, y, flux = starry_frames(grid, scales, turns)
    for part in (frames[:3], frames[3:], frames):
        made = zemosaic.coadd(part, grid)
        seen = aperture_fluxes(np.nan_to_num(made.data), x, y, 16.0)
        assert np.abs(seen / flux - 1).max() < 1e-3


def test_a_coarser_grid_keeps_fluxes_too() -> None:
    fine = tan_wcs((220, 260), scale_arcsec=2.0)
    frames, *_ = starry_frames(fine, [2.0, 2.0, 2.0], [0.0, 40.0, 100.0])
    grid = tan_wcs((120, 140), scale_arcsec=4.0)
    x, y = grid.world_to_pixel_values(*fine.pixel_to_world_values([60.3, 130.8, 199.1], [50.6, 110.2, 170.9]))
    settings = load_settings(assignments=["warp.kernel=area"])
    made = zemosaic.coadd(frames, grid, settings=settings)
    seen = aperture_fluxes(np.nan_to_num(made.data), x, y, 9.0)
    assert seen == pytest.approx([20_000, 55_000, 90_000], rel=2e-3)


def test_workers_memory_and_store_do_not_change_a_byte(
    capfd: Capture, small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_cli(capfd, "build", small_set, "-o", tmp_path / "a", "--workers", 2).code == 0
    # What is left for patches: the process and an eighth of the cap for the reader's cache are taken off.
    caps = [int((resident_bytes() + mb * 2**20) * 8 / 7) for mb in (30, 12)]
    patch_px = [report_of(tmp_path / "a")["mosaic"]["patch_px"]]
    for name, cap, workers in (("b", caps[0], 1), ("c", caps[1], 2)):
        ran = run_cli(capfd, "build", small_set, "-o", tmp_path / name, "--workers", workers, "--ram", cap)
        assert ran.code == 0
        patch_px.append(report_of(tmp_path / name)["mosaic"]["patch_px"])
    assert patch_px[0] > patch_px[1] > patch_px[2]
    monkeypatch.setattr(
        "zemosaic.pipelines.measuring.measure_task.measure_frame", None
    )  # the store knows all measurements
    assert run_cli(capfd, "build", small_set, "-o", tmp_path / "a").code == 0
    for file in ("mosaic.fits", "match.ecsv", "preview.png"):
        assert len({digest_of(tmp_path / name / file) for name in "abc"}) == 1, file


def test_the_order_of_inputs_does_not_change_a_byte(small_set: Path) -> None:
    paths = sorted(small_set.glob("*.fits"))[:5]
    one, two = zemosaic.coadd(paths), zemosaic.coadd(reversed(paths))
    assert np.array_equal(one.data, two.data, equal_nan=True)


def test_inputs_are_not_changed() -> None:
    frames = pieces_of(noise((200, 260), 3), tan_wcs((200, 260)))
    before = [image.copy() for image, _ in frames]
    for image, _ in frames:
        image.flags.writeable = False
    zemosaic.coadd(frames, match=True)
    assert all(np.array_equal(image, old) for (image, _), old in zip(frames, before, strict=True))
