"""Frames of several nights, added one night after the other."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from test_resume import Puts, puts

from mosaic_cases import digest_of, digests_of, mosaic_bytes, noise, run_cli, tan_wcs, write_frame
from zemosaic.model.photo_scale import PhotoScale, surface_basis
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid, footprint_box
from zemosaic.stages.gauge.frozen import correction_change, freeze_gauge
from zemosaic.stages.grid.plan import grow_grid

__all__ = ["puts"]

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def nights(small_set: Path, tmp_path: Path) -> list[Path]:
    """The frames of the small set in three folders."""
    folders = []
    paths = sorted(small_set.glob("*.fits"))
    for k, part in enumerate((paths[:3], paths[3:6], paths[6:])):
        folder = tmp_path / f"night {k}"
        folder.mkdir()
        for path in part:
            shutil.copy(path, folder)
        folders.append(folder)
    return folders


def test_three_nights_added_are_one_run(capfd: Capture, nights: list[Path], tmp_path: Path, puts: Puts) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    before = [digests_of(night) for night in nights]
    assert run_cli(capfd, "build", nights[0], "-o", out, "--set", "stack.kappa_high=4").code == 0
    puts.taken()
    for k, n_new in ((1, 3), (2, 2)):
        ran = run_cli(capfd, "build", nights[k], "-o", out, "--add")
        assert ran.code == 0, ran.err
        assert sum(key.startswith("measure/") for key in puts.taken()[0]) == n_new
    mosaic = fits.getheader(out / "mosaic.fits")
    assert mosaic["NCOMBINE"] == 8
    assert any("kappa 3 4" in line for line in mosaic["HISTORY"])
    # The same frames in one run onto the grid that was frozen in the first night and has grown since.
    options = ("--header", out / "mosaic.fits", "--set", "stack.kappa_high=4")
    assert run_cli(capfd, "build", *reversed(nights), "-o", whole, *options).code == 0
    assert mosaic_bytes(whole / "mosaic.fits") == mosaic_bytes(out / "mosaic.fits")
    assert [digests_of(night) for night in nights] == before
    # Adding what is there already changes nothing.
    assert run_cli(capfd, "build", nights[1], "-o", out, "--add").code == 0
    assert mosaic_bytes(whole / "mosaic.fits") == mosaic_bytes(out / "mosaic.fits")


def patches_of(puts: Puts) -> int:
    """Patches that were made since the last call."""
    return sum(key.startswith("patch/") for key in puts.taken()[0])


def test_within_the_tolerance_frames_and_their_patches_stay(
    capfd: Capture, small_set: Path, tmp_path: Path, puts: Puts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zemosaic.pipelines.patches.stacking.PATCH_SIZES", (64,))
    whole, out, exact = (tmp_path / name for name in ("whole", "out", "exact"))
    assert run_cli(capfd, "build", small_set, "-o", whole).code == 0
    # Two frames of one side come later.
    paths = sorted(small_set.glob("*.fits"))
    later, first = paths[1:3], [paths[0], *paths[3:]]
    puts.taken()
    for folder in (out, exact):
        assert run_cli(capfd, "build", *first, "-o", folder, "--header", whole / "mosaic.fits").code == 0
    n_patches = patches_of(puts) // 2
    with fits.open(out / "mosaic.fits") as hdus:
        data, coverage = hdus[0].data, hdus["COV"].data
    ran = run_cli(capfd, "build", *later, "-o", out, "--add", "--tolerance", 50)
    assert ran.code == 0, ran.err
    assert "6 of 6 frames stay as they are, within a tolerance of 50" in ran.err
    assert 0 < patches_of(puts) < 0.9 * n_patches
    with fits.open(out / "mosaic.fits") as hdus:
        alone = (hdus["COV"].data == coverage) & np.isfinite(data)
        assert np.mean(alone) > 0.05
        # Right beside new frames rejection may see older ones in another light.
        assert np.mean(hdus[0].data[alone] == data[alone]) > 0.9
        assert hdus["COV"].data.sum() > coverage.sum()
    # Without a tolerance all patches are made anew.
    assert run_cli(capfd, "build", *later, "-o", exact, "--add").code == 0
    assert patches_of(puts) == n_patches
    assert mosaic_bytes(exact / "mosaic.fits") == mosaic_bytes(whole / "mosaic.fits")


def test_a_frozen_gauge_does_not_depend_on_how_many_nights_there_were(
    capfd: Capture, small_set: Path, nights: list[Path], tmp_path: Path
) -> None:
    """A tolerance that nothing stays within freezes the gauge alone."""
    whole = tmp_path / "whole"
    assert run_cli(capfd, "build", small_set, "-o", whole).code == 0
    for name, parts in (("one by one", [[1], [2]]), ("at once", [[1, 2]])):
        assert run_cli(capfd, "build", nights[0], "-o", tmp_path / name, "--header", whole / "mosaic.fits").code == 0
        for part in parts:
            new = [nights[k] for k in part]
            ran = run_cli(capfd, "build", *new, "-o", tmp_path / name, "--add", "--tolerance", 1e-9)
            assert ran.code == 0, ran.err
            assert "0 of " in ran.err
    assert digest_of(tmp_path / "one by one/mosaic.fits") == digest_of(tmp_path / "at once/mosaic.fits")
    assert mosaic_bytes(tmp_path / "at once/mosaic.fits") != mosaic_bytes(whole / "mosaic.fits")


def test_a_tolerance_is_about_what_is_there(capfd: Capture, nights: list[Path], tmp_path: Path) -> None:
    ran = run_cli(capfd, "build", nights[0], "-o", tmp_path / "out", "--tolerance", 0.1)
    assert ran.code == 2
    assert "a tolerance is about frames that a mosaic holds already; it needs --add" in ran.last_line


def test_a_gauge_is_frozen_and_what_differences_tell_is_not() -> None:
    rng = np.random.default_rng(5)
    grid = SkyGrid(CelestialWcs(tan_wcs((900, 900), 150, 30), (900, 900)))
    shape = (200, 300)
    centres = [(ra, dec) for ra in (149.8, 150.0, 150.2) for dec in (29.85, 30.05)]
    places = [CelestialWcs(tan_wcs(shape, *at, rotation_deg=7.0 * k), shape) for k, at in enumerate(centres)]
    anchor = [PhotoScale(rng.uniform(0.8, 1.2, 2), rng.normal(0, 30, (2, 6))) for _ in places]
    # The same corrections in another gauge: 5 % in all gains of a channel, and a trend over the sky.
    trend = rng.normal(0, 40, (2, 6))
    x, y = (v.ravel() for v in np.meshgrid(np.linspace(0, 299, 9), np.linspace(0, 199, 9)))
    other = []
    for scale, place in zip(anchor, places, strict=True):
        over_sky = surface_basis(*grid.wcs.sky_to_pixel(*place.pixel_to_sky(x, y)), grid.shape)
        moved = np.linalg.lstsq(surface_basis(x, y, shape).T, (trend @ over_sky).T, rcond=None)[0].T
        other.append(PhotoScale(scale.gain * 1.05, (scale.surface + moved) / 1.05))
    noise, area = np.full(2, 10.0), places[0].pixel_area_deg2() / grid.area_ref_deg2
    assert correction_change(other[0], anchor[0], shape, np.full(2, 500.0), noise, area)[0] > 1
    frozen = freeze_gauge(other, [*anchor[:4], None, None], places, grid, 2)
    for got, wanted in zip(frozen, anchor, strict=True):
        sky_sigma, flux = correction_change(got, wanted, shape, np.full(2, 500.0), noise, area)
        assert sky_sigma < 1e-3
        assert flux < 1e-9
    # One image that has truly changed still differs, by what it changed.
    brighter = [replace(other[0], surface=other[0].surface + np.eye(6)[0] * 10), *other[1:]]
    changed = freeze_gauge(brighter, anchor, places, grid, 0)[0]
    assert correction_change(changed, anchor[0], shape, np.full(2, 500.0), noise, area)[0] > 0.5
    # A group of images that holds none of the earlier ones has a gauge of its own.
    apart = [replace(scale, component=1) for scale in other]
    assert freeze_gauge([*other[:3], *apart[3:]], [*anchor[:3], None, None, None], places, grid, 2)[3:] == apart[3:]


def test_there_must_be_something_to_add_to(capfd: Capture, nights: list[Path], tmp_path: Path) -> None:
    ran = run_cli(capfd, "build", nights[0], "-o", tmp_path / "out", "--add")
    assert ran.code == 3
    assert "build one without --add first" in ran.last_line


def test_nights_that_are_gone_are_said(capfd: Capture, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(2):
            wcs = tan_wcs((100, 120), 150 + 0.01 * k)
            write_frame(tmp_path / name / f"{k}.fits", noise((100, 120), ord(name) + k), wcs)
    assert run_cli(capfd, "build", tmp_path / "a", "-o", tmp_path / "out").code == 0
    shutil.rmtree(tmp_path / "a")
    mosaic = digest_of(tmp_path / "out/mosaic.fits")
    ran = run_cli(capfd, "build", tmp_path / "b", "-o", tmp_path / "out", "--add")
    assert ran.code == 3
    assert ran.last_line == f"zemosaic: {tmp_path / 'a'} does not exist; plug its disk in, or correct the path"
    assert digest_of(tmp_path / "out/mosaic.fits") == mosaic


def test_a_grid_grows_by_whole_pixels_and_keeps_its_own() -> None:
    grid = SkyGrid(CelestialWcs(tan_wcs((200, 300), 150, 30), (200, 300)))
    inside = CelestialWcs(tan_wcs((50, 50), 150, 30), (50, 50))
    assert grow_grid(grid, [inside]).shape == (200, 300)
    outside = CelestialWcs(tan_wcs((50, 60), 150.1, 30.1, rotation_deg=30), (50, 60))
    grown = grow_grid(grid, [inside, outside])
    ra, dec = grid.wcs.pixel_to_sky(17.0, 23.0)
    x, y = grown.wcs.sky_to_pixel(ra, dec)
    shift = float(x) - 17, float(y) - 23
    assert shift == pytest.approx([round(v) for v in shift], abs=1e-6)
    box = footprint_box(outside, grown, margin_px=0)
    corners = grown.wcs.sky_to_pixel(*outside.outline(4))
    for values, low, high in zip(corners, (box.x0, box.y0), (box.x1, box.y1), strict=True):
        assert low - 0.5 <= values.min()
        assert values.max() <= high - 0.5
    assert grow_grid(grown, [inside, outside]).shape == grown.shape
