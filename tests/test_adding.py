"""Frames of several nights, added one night after the other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from astropy.io import fits

from mosaic_cases import digest_of, digests_of, noise, run_cli, tan_wcs, write_frame
from test_resume import Puts, puts
from zemosaic.model.celestial import CelestialWcs
from zemosaic.model.sky import SkyGrid, footprint_box
from zemosaic.stages.grid import grow_grid

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
    assert digest_of(whole / "mosaic.fits") == digest_of(out / "mosaic.fits")
    assert [digests_of(night) for night in nights] == before
    # Adding what is there already changes nothing.
    assert run_cli(capfd, "build", nights[1], "-o", out, "--add").code == 0
    assert digest_of(whole / "mosaic.fits") == digest_of(out / "mosaic.fits")


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
    assert ran.last_line == f"zemosaic: {tmp_path / 'a'} does not exist"
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
