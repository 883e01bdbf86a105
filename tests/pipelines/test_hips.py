"""The mosaic as a HiPS: valid to the standard's own checker, and right in its pixels, which that looks at none of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy_healpix import HEALPix
from PIL import Image

from product_cases import finished_folder
from zemosaic.io.write.hips_file import tile_path
from zemosaic.pipelines.products.folder import FinishedFolder
from zemosaic.pipelines.products.hips import write_hips
from zemosaic.pipelines.run.context import start_run
from zemosaic.stages.warp.healpix import TILE_PX, order_for, place_tile

ALADIN = Path("/usr/share/java/aladin.jar")
SCALE_ARCSEC = 60.0
ORDER = order_for(SCALE_ARCSEC)
PLACES = {"zero": ((0.0, 20.0), 3), "pole": ((40.0, 89.5), 1)}


@pytest.fixture(scope="module", params=sorted(PLACES))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FinishedFolder:
    """A smooth picture that no turn or flip maps onto itself, with a corner missing."""
    center, channels = PLACES[request.param]
    y, x = np.mgrid[:150, :220].astype(np.float32)
    data = np.stack([100 + x + 2 * y + 300 * np.exp(-((x - 60) ** 2 + (y - 90) ** 2) / 200) + 50 * k for k in range(3)])
    data[:, :40, :40] = np.nan
    data = data[:channels].astype(np.float32)
    out = tmp_path_factory.mktemp(request.param)
    folder = finished_folder(out, data, np.isfinite(data[0]).astype(np.int16), center, SCALE_ARCSEC)
    paths = write_hips(folder, start_run())
    assert set(paths) == ({"hips"} if channels == 1 else {"hips", "hips_r", "hips_g", "hips_b"})
    return folder


def science(made: FinishedFolder) -> Path:
    return made.out / ("hips" if made.mosaics[0].n_channels == 1 else "hips_r")


def cells_of(folder: Path, order: int) -> list[int]:
    return sorted(int(path.stem[4:]) for path in (folder / f"Norder{order}").glob("Dir*/Npix*.fits"))


def test_the_standards_checker_finds_no_fault(made: FinishedFolder) -> None:
    if not ALADIN.exists():
        pytest.skip(f"{ALADIN} is not installed")
    for folder in sorted(made.out.glob("hips*")):
        call = ["java", "-Djava.awt.headless=true", "-cp", ALADIN, "cds.allsky.HipsGen", f"out={folder}", "LINT"]
        said = subprocess.run(call, capture_output=True, text=True, check=False, cwd=made.out)
        assert "fully IVOA HiPS 1.0 compatible" in said.stdout + said.stderr, said.stdout + said.stderr


def test_tiles_hold_what_the_mosaic_holds_there(made: FinishedFolder) -> None:
    """Places of pixels by their HEALPix numbers, row and column of the file as the standard lays them out."""
    mosaic, folder = made.mosaics[0], science(made)
    fine = HEALPix(nside=TILE_PX << ORDER, order="nested")
    row, column = (v.ravel() for v in np.mgrid[3:TILE_PX:11, 5:TILE_PX:11])
    first, second = TILE_PX - 1 - row, column  # FITS: the last row of the picture comes first
    inside = sum((first >> k & 1) << 2 * k | (second >> k & 1) << (2 * k + 1) for k in range(9))
    n_seen = 0
    for cell in cells_of(folder, ORDER):
        lon, lat = fine.healpix_to_lonlat(cell * TILE_PX**2 + inside)
        x, y = mosaic.wcs.sky_to_pixel(lon.to_value(u.deg), lat.to_value(u.deg))
        got = fits.getdata(tile_path(folder, ORDER, cell, ".fits"))[row, column]
        seen = np.isfinite(got)
        want = 100 + x + 2 * y + 300 * np.exp(-((x - 60) ** 2 + (y - 90) ** 2) / 200)
        np.testing.assert_allclose(got[seen], want[seen], atol=0.6)  # bilinear in the blob: 300 / 200 / 4 at its top
        within = (x > 1) & (x < 218) & (y > 1) & (y < 148) & ((x > 41) | (y > 41))
        assert seen[within].all()
        n_seen += int(seen.sum())
    assert n_seen > 200


def test_parents_are_means_of_their_children(made: FinishedFolder) -> None:
    folder = science(made)
    for order in range(ORDER):
        for cell in cells_of(folder, order):
            parent = fits.getdata(tile_path(folder, order, cell, ".fits"))[::-1]
            for k in range(4):
                path = tile_path(folder, order + 1, 4 * cell + k, ".fits")
                part = parent[256 * (k & 1) :, 256 * (k >> 1) :][:256, :256]
                if not path.exists():
                    assert np.isnan(part).all()
                    continue
                four = fits.getdata(path)[::-1].reshape(256, 2, 256, 2).transpose(0, 2, 1, 3).reshape(256, 256, 4)
                known = np.isfinite(four)
                total = np.where(known, four, 0).sum(axis=-1, dtype=float)
                want = np.where(known.any(axis=-1), total / np.maximum(known.sum(axis=-1), 1), np.nan)
                np.testing.assert_allclose(part, want, rtol=1e-6)


def test_pictures_run_against_fits(made: FinishedFolder) -> None:
    folder = science(made)
    tiles = {c: fits.getdata(tile_path(folder, ORDER, c, ".fits")) for c in cells_of(folder, ORDER)}
    cell = max(tiles, key=lambda c: np.isfinite(tiles[c]).sum())
    values = tiles[cell]
    picture = np.asarray(Image.open(tile_path(made.out / "hips", ORDER, cell, ".jpg")).convert("L")).astype(float)
    assert np.mean((picture[::-1] > 8) == np.isfinite(values)) > 0.98
    seen = np.isfinite(values) & (picture[::-1] > 8)
    assert np.corrcoef(values[seen], picture[::-1][seen])[0, 1] > 0.8


def test_places_between_the_nodes_are_right(made: FinishedFolder) -> None:
    wcs = made.mosaics[0].wcs
    fine = HEALPix(nside=TILE_PX << ORDER, order="nested")
    for cell in cells_of(science(made), ORDER):
        nodes, step = place_tile(wcs, ORDER, cell)
        y = x = 7
        inside = sum((y >> k & 1) << 2 * k | (x >> k & 1) << (2 * k + 1) for k in range(9))
        lon, lat = fine.healpix_to_lonlat(cell * TILE_PX**2 + inside)
        want = wcs.sky_to_pixel(lon.to_value(u.deg), lat.to_value(u.deg))
        i, f = divmod(y, step)
        g = f / step
        a = nodes[:, i : i + 2, i : i + 2]
        got = a[:, 0, 0] * (1 - g) ** 2 + (a[:, 0, 1] + a[:, 1, 0]) * g * (1 - g) + a[:, 1, 1] * g * g
        np.testing.assert_allclose(got, np.ravel(want), atol=0.02)
