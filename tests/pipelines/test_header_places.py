"""Headers that lie about the place, through the command line: mended, or left out with the number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs.utils import fit_wcs_from_points

from mosaic_cases import run_cli
from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.simulate import FrameRecipe, SimulatedSky, read_truth, simulate_frames
from zemosaic.simulate.sky import tangent_wcs, wcs_cards

Capture = pytest.CaptureFixture[str]
Lie = Callable[[int, fits.Header, CelestialWcs], None]

SCALE = 4.8
WCS_KEYS = ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")


@pytest.fixture(scope="module")
def true_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six calibrated frames of a field rich in catalogue stars, every header right; not to be changed."""
    folder = tmp_path_factory.mktemp("true_set")
    known = tycho2().cone(83.8, 22.0, 2.0)
    sky = SimulatedSky(5, 83.8, 22.0, 1.6, (known.ra_deg, known.dec_deg, known.mag), stars_per_deg2=300, nebula_adu=0)
    simulate_frames(folder, sky, 6, FrameRecipe(shape=(400, 500), scale_arcsec=SCALE, trail_fraction=0, sigma_adu=3.0))
    return folder


def lie(true_set: Path, folder: Path, change: Lie) -> Path:
    """A copy of the set with changed headers."""
    folder.mkdir()
    truth = {exposure.name: exposure.celestial for exposure in read_truth(true_set).exposures}
    for k, path in enumerate(sorted(true_set.glob("*.fits"))):
        with fits.open(path) as hdus:
            header = hdus[0].header
            change(k, header, truth[path.name])
            fits.writeto(folder / path.name, hdus[0].data, header)
    return folder


def errors_px(true_set: Path, table: Table) -> dict[str, float]:
    """How far the places of a table of frames are from the truth, in the middle."""
    found = {}
    for exposure in read_truth(true_set).exposures:
        rows = table[[Path(str(path)).name == exposure.name for path in table["path"]]]
        if len(rows):
            height, width = exposure.shape
            x, y = exposure.celestial.sky_to_pixel(float(rows["ra_deg"][0]), float(rows["dec_deg"][0]))
            found[exposure.name] = float(np.hypot(x - (width - 1) / 2, y - (height - 1) / 2))
    return found


def add_hints(header: fits.Header, wcs: CelestialWcs) -> None:
    ra, dec = wcs.pixel_to_sky((wcs.shape[1] - 1) / 2, (wcs.shape[0] - 1) / 2)
    header["RA"], header["DEC"] = float(ra) + 0.1, float(dec)
    header["FOCALLEN"], header["XPIXSZ"] = 250.0, SCALE * 250 / 206.265


def put(header: fits.Header, wcs: CelestialWcs) -> None:
    for key in WCS_KEYS:
        header.remove(key, ignore_missing=True)
    header.update(wcs_cards(wcs))


def of_another_field(k: int, header: fits.Header, wcs: CelestialWcs) -> None:
    ra, dec = (float(v) for v in wcs.pixel_to_sky(249.5, 199.5))
    add_hints(header, wcs)
    put(header, tangent_wcs(ra + 3, dec - 2, 10.0 * k, wcs.shape, SCALE))


def of_twice_the_size(k: int, header: fits.Header, wcs: CelestialWcs) -> None:
    add_hints(header, wcs)
    for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        header[key] /= 2


def of_nowhere_in_half_of_them(k: int, header: fits.Header, wcs: CelestialWcs) -> None:
    header["FOCALLEN"] = 250.0
    if k % 2:
        for key in WCS_KEYS:
            header.remove(key, ignore_missing=True)


def off_by_pixels(k: int, header: fits.Header, wcs: CelestialWcs) -> None:
    if k == 2:
        header["CRPIX1"] += 15
        header["CRPIX2"] -= 6
    if k == 3:
        header["CRPIX1"] += 1.1


@pytest.mark.parametrize("change", [of_another_field, of_twice_the_size, of_nowhere_in_half_of_them, off_by_pixels])
def test_lies_about_the_place_are_mended(capfd: Capture, true_set: Path, tmp_path: Path, change: Lie) -> None:
    ran = run_cli(capfd, "match", lie(true_set, tmp_path / "in", change), "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    table = Table.read(tmp_path / "out/frames.ecsv")
    assert table["use"].sum() == 6
    assert max(errors_px(true_set, table).values()) < 0.3


def test_right_headers_stay_as_they_are(capfd: Capture, true_set: Path, tmp_path: Path) -> None:
    ran = run_cli(capfd, "match", true_set, "-o", tmp_path)
    assert ran.code == 0, ran.err
    assert max(errors_px(true_set, Table.read(tmp_path / "frames.ecsv")).values()) < 0.06


def test_headers_of_another_field_without_hints_are_left_out(capfd: Capture, true_set: Path, tmp_path: Path) -> None:
    def without_hints(k: int, header: fits.Header, wcs: CelestialWcs) -> None:
        of_another_field(k, header, wcs)
        for key in ("RA", "DEC", "FOCALLEN", "XPIXSZ"):
            del header[key]

    ran = run_cli(capfd, "match", lie(true_set, tmp_path / "in", without_hints), "-o", tmp_path / "out")
    # Catalogue and frames contradict the headers: where these stars are nobody knows.
    assert ran.code == 3
    assert "no frame has a place on the sky" in ran.err
    assert "stars of Tycho-2 where it has them" in ran.err


@pytest.fixture(scope="module")
def unknown_sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of stars that no catalogue has, where the catalogue has others; not to be changed."""
    folder = tmp_path_factory.mktemp("unknown_sky")
    sky = SimulatedSky(6, 83.8, 22.0, 1.6, stars_per_deg2=300, nebula_adu=0)
    simulate_frames(folder, sky, 6, FrameRecipe(shape=(400, 500), scale_arcsec=SCALE, trail_fraction=0, sigma_adu=3.0))
    return folder


def test_without_a_catalogue_the_frames_judge_each_other(capfd: Capture, unknown_sky: Path, tmp_path: Path) -> None:
    ran = run_cli(capfd, "match", lie(unknown_sky, tmp_path / "in", off_by_pixels), "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    table = Table.read(tmp_path / "out/frames.ecsv")
    assert table["use"].sum() == 6
    assert max(errors_px(unknown_sky, table).values()) < 0.2
    assert "frame_0002.fits: its WCS lies 16." in ran.err
    assert "px off the frames that it overlaps" in ran.err
    assert "headers is moved by" in ran.err


def off_alike(k: int, header: fits.Header, wcs: CelestialWcs) -> None:
    header["CRVAL1"] += 5.8 / 3600 / np.cos(np.deg2rad(header["CRVAL2"]))
    header["CRVAL2"] -= 3.4 / 3600


def turned_alike(k: int, header: fits.Header, wcs: CelestialWcs) -> None:
    """By 0.15 degrees, about the middle of the first frame."""
    turned = tangent_wcs(83.8, 22.0, 0.15, wcs.shape, SCALE)
    plain = tangent_wcs(83.8, 22.0, 0.0, wcs.shape, SCALE)
    x, y = np.meshgrid(np.linspace(0, wcs.shape[1] - 1, 3), np.linspace(0, wcs.shape[0] - 1, 3))
    sky = turned.pixel_to_sky(*plain.sky_to_pixel(*wcs.pixel_to_sky(x.ravel(), y.ravel())))
    fitted = fit_wcs_from_points((x.ravel(), y.ravel()), SkyCoord(*sky, unit="deg"))
    put(header, CelestialWcs(fitted, wcs.shape))


@pytest.mark.parametrize(("change", "most_px"), [(off_alike, "1.4"), (turned_alike, "1.")])
def test_headers_that_are_off_alike_are_moved_onto_the_catalogue(
    capfd: Capture, true_set: Path, tmp_path: Path, change: Lie, most_px: str
) -> None:
    ran = run_cli(capfd, "match", lie(true_set, tmp_path / "in", change), "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert f"the WCS of 6 headers is off alike, by up to {most_px}" in " ".join(ran.err.split())
    assert max(errors_px(true_set, Table.read(tmp_path / "out/frames.ecsv")).values()) < 0.06
