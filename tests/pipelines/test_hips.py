"""The mosaic as a HiPS: valid to the standard's own checker, and right in its pixels, which that looks at none of."""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from astropy_healpix import HEALPix
from PIL import Image
from reproject import reproject_interp
from reproject.hips import hips_as_dask_array
from scipy.ndimage import binary_erosion, map_coordinates

from browser_cases import find_barriers, open_browser
from mosaic_cases import digests_of
from product_cases import finished_folder
from zemosaic.cli import main
from zemosaic.engine.store import Store
from zemosaic.io.write.hips_file import find_cells, tile_path
from zemosaic.pipelines.products.folder import FinishedFolder
from zemosaic.pipelines.products.hips import write_hips
from zemosaic.pipelines.run.context import start_run
from zemosaic.stages.warp.healpix import TILE_PX, order_for, place_tile

ALADIN = Path("/usr/share/java/aladin.jar")
SCALE_ARCSEC = 60.0
ORDER = order_for(SCALE_ARCSEC)
SIGMA = 10.0
SHAPE = 150, 220
STARS = ((60.3, 90.2), (110.6, 40.1), (180.4, 120.7), (150.0, 75.5))
"""x and y."""
PLACES = {"zero": ((0.0, 20.0), 3), "pole": ((40.0, 89.5), 1)}


@pytest.fixture(scope="module", params=sorted(PLACES))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FinishedFolder:
    """Noise, stars and a slope, which no turn or flip maps onto itself, with a corner missing."""
    center, channels = PLACES[request.param]
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    data = 100.0 + x + 2 * y + SIGMA * np.random.default_rng(1).standard_normal((channels, *SHAPE))
    data += sum(3000 * np.exp(-((x - sx) ** 2 + (y - sy) ** 2) / 4.5) for sx, sy in STARS)
    data[:, :40, :40] = np.nan
    out = tmp_path_factory.mktemp(request.param)
    folder = finished_folder(out, data.astype(np.float32), np.isfinite(data[0]).astype(np.int16), center, SCALE_ARCSEC)
    paths = write_hips(folder, start_run())
    assert set(paths) == ({"hips"} if channels == 1 else {"hips", "hips_r", "hips_g", "hips_b"})
    assert list((out / ".zemosaic").iterdir()) == []
    return folder


def science(made: FinishedFolder) -> Path:
    return made.out / ("hips" if made.mosaics[0].n_channels == 1 else "hips_r")


def plane(made: FinishedFolder) -> np.ndarray:
    """The first channel of the mosaic."""
    return np.atleast_3d(fits.getdata(made.out / "mosaic.fits").T).T[0].astype(float)


def tile_of(folder: Path, order: int, cell: int) -> np.ndarray:
    return np.asarray(fits.getdata(tile_path(folder, order, cell, ".fits")), float)


@cache
def places_of(made: FinishedFolder, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the pixels of a tile's file by their HEALPix numbers, laid out as the standard says."""
    fine = HEALPix(nside=TILE_PX << ORDER, order="nested")
    row, column = np.mgrid[:TILE_PX, :TILE_PX]
    first, second = TILE_PX - 1 - row, column  # FITS: the last row of the picture comes first
    inside = sum((first >> k & 1) << 2 * k | (second >> k & 1) << (2 * k + 1) for k in range(9))
    lon, lat = fine.healpix_to_lonlat(cell * TILE_PX**2 + inside)
    return made.mosaics[0].wcs.sky_to_pixel(lon.to_value(u.deg), lat.to_value(u.deg))


def run_hipsgen(*words: str, cwd: Path) -> str:
    """What the standard's own program says; the test is skipped where it is not installed."""
    if not ALADIN.exists() or shutil.which("java") is None:
        pytest.skip(f"java or {ALADIN} is not installed")
    call = ["java", "-Xmx512m", "-Djava.awt.headless=true", "-cp", ALADIN, "cds.allsky.HipsGen", *words]
    said = subprocess.run(call, capture_output=True, text=True, check=False, cwd=cwd)
    return said.stdout + said.stderr


def test_the_standards_checker_finds_no_fault(made: FinishedFolder) -> None:
    for folder in sorted(made.out.glob("hips*")):
        said = run_hipsgen(f"out={folder}", "LINT", cwd=made.out)
        assert "fully IVOA HiPS 1.0 compatible" in said, said


def test_tiles_hold_what_the_mosaic_holds_there(made: FinishedFolder) -> None:
    """Bilinear between its pixels, at exact places, to 0.01 of its noise."""
    folder, data = science(made), plane(made)
    n_seen = 0
    for cell in find_cells(folder, ORDER):
        x, y = places_of(made, cell)
        got = tile_of(folder, ORDER, cell)
        within = (x > 1) & (x < SHAPE[1] - 2) & (y > 1) & (y < SHAPE[0] - 2) & ((x > 41) | (y > 41))
        want = map_coordinates(np.nan_to_num(data), [y[within], x[within]], order=1)
        blurred = np.hypot(*np.gradient(np.nan_to_num(data)))  # beside stars an error of a place costs more
        allowed = 0.01 * SIGMA + 2e-3 * map_coordinates(blurred, [y[within], x[within]], order=1)
        assert (np.abs(got[within] - want) < allowed).all()
        assert np.isnan(got[(x < -1) | (x > SHAPE[1]) | (y < -1) | (y > SHAPE[0]) | ((x < 38) & (y < 38))]).all()
        n_seen += int(within.sum())
    assert n_seen > 20_000


def test_tiles_are_those_of_hipsgen(made: FinishedFolder, tmp_path: Path) -> None:
    """Of the same plane; it treats the outermost pixels otherwise, and so what parents have along the rim."""
    (tmp_path / "in").mkdir()
    header = fits.getheader(made.out / "mosaic.fits")
    header = WCS(header, naxis=2).to_header()
    fits.PrimaryHDU(plane(made).astype(np.float32), header).writeto(tmp_path / "in" / "plane.fits")
    words = [f"in={tmp_path / 'in'}", f"out={tmp_path / 'out'}", "creator_did=ivo://nobody/plane"]
    said = run_hipsgen(*words, f"hips_order={ORDER}", "INDEX", "TILES", cwd=tmp_path)
    for order in range(ORDER + 1):
        cells = find_cells(science(made), order)
        assert cells == find_cells(tmp_path / "out", order), said
        for cell in cells:
            mine, other = tile_of(science(made), order, cell), tile_of(tmp_path / "out", order, cell)
            seen = np.isfinite(mine) & np.isfinite(other)
            assert seen.sum() > 0.9 * np.isfinite(other).sum()
            assert np.corrcoef(mine[seen], other[seen])[0, 1] > 0.99
            if order == ORDER:
                inside = binary_erosion(seen, np.ones((3, 3)))
                assert np.abs(mine - other)[inside].max() < 0.01 * SIGMA


def test_parents_are_means_of_their_children(made: FinishedFolder) -> None:
    folder = science(made)
    for order in range(ORDER):
        for cell in find_cells(folder, order):
            parent = tile_of(folder, order, cell)[::-1]
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


def test_an_overview_has_each_tile_in_its_place(made: FinishedFolder) -> None:
    sheet = fits.getdata(science(made) / "Norder3" / "Allsky.fits")[::-1]
    picture = np.asarray(Image.open(made.out / "hips" / "Norder3" / "Allsky.jpg").convert("L")).astype(float)
    assert sheet.shape == picture.shape == (29 * 64, 27 * 64)
    cells = find_cells(science(made), 3)
    for cell in cells:
        tile = tile_of(science(made), 3, cell)[::-1].reshape(64, 8, 64, 8)
        row, column = divmod(cell, 27)
        place = np.s_[64 * row : 64 * row + 64, 64 * column : 64 * column + 64]
        whole = np.isfinite(tile).all(axis=(1, 3))
        np.testing.assert_allclose(sheet[place][whole], tile.mean(axis=(1, 3))[whole], rtol=1e-5)
        assert (picture[place][whole] > 20).mean() > 0.98
    assert np.isfinite(sheet).sum() < 64 * 64 * len(cells)


def test_pictures_run_against_fits(made: FinishedFolder) -> None:
    cell = max(find_cells(science(made), ORDER), key=lambda c: np.isfinite(tile_of(science(made), ORDER, c)).sum())
    values = tile_of(science(made), ORDER, cell)
    picture = np.asarray(Image.open(tile_path(made.out / "hips", ORDER, cell, ".jpg")).convert("L")).astype(float)
    assert np.mean((picture[::-1] > 8) == np.isfinite(values)) > 0.98
    seen = np.isfinite(values) & (picture[::-1] > 8)
    assert np.corrcoef(values[seen], np.log(1 + picture[::-1][seen]))[0, 1] > 0.5
    ranks = [np.argsort(np.argsort(v)) for v in (values[seen], picture[::-1][seen])]
    assert np.corrcoef(*ranks)[0, 1] > 0.9


def test_places_between_the_nodes_are_right(made: FinishedFolder) -> None:
    for cell in find_cells(science(made), ORDER):
        nodes, step = place_tile(made.mosaics[0].wcs, ORDER, cell)
        y = x = 7
        want = [v[TILE_PX - 1 - y, x] for v in places_of(made, cell)]
        i, f = divmod(y, step)
        g = f / step
        a = nodes[:, i : i + 2, i : i + 2]
        got = a[:, 0, 0] * (1 - g) ** 2 + (a[:, 0, 1] + a[:, 1, 0]) * g * (1 - g) + a[:, 1, 1] * g * g
        np.testing.assert_allclose(got, want, atol=0.004)


def test_another_reader_finds_stars_and_sky_where_they_were(made: FinishedFolder) -> None:
    header = WCS(fits.getheader(made.out / "mosaic.fits"), naxis=2).to_header()
    back, _ = reproject_interp(hips_as_dask_array(science(made)), header, shape_out=SHAPE)
    data = plane(made)
    inside = binary_erosion(np.isfinite(data) & np.isfinite(back), np.ones((3, 3)), iterations=3)
    assert inside.sum() > 0.7 * data.size  # it joins no tiles at the pole
    assert abs(np.median((back - data)[inside])) < 0.02 * SIGMA
    for x, y in STARS:
        part = np.s_[int(y) - 5 : int(y) + 7, int(x) - 5 : int(x) + 7]
        (y0, x0), (y1, x1) = (centroid(v[part] - np.median(v[part])) for v in (data, back))
        assert np.hypot(y1 - y0, x1 - x0) < 0.1


def centroid(values: np.ndarray) -> tuple[float, float]:
    """Of what stands out by a tenth of the peak."""
    light = np.where(values > 0.1 * values.max(), values, 0)
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    return float((light * y).sum() / light.sum()), float((light * x).sum() / light.sum())


EXPORT_THAT_IS_KILLED = """
import os, signal, sys
from pathlib import Path
from zemosaic.cli import main
from zemosaic.engine.events import CancelToken
from zemosaic.pipelines.products import hips

out, tiles = Path(sys.argv[1]), sys.argv[2]
hips.TASK_ORDERS = 0

def check(self):
    if len(list(out.glob(tiles))) >= 2:
        os.kill(os.getpid(), signal.SIGKILL)

CancelToken.check = check
main(["export", str(out), "--also", "hips"])
"""
"""A process that dies when two of the deepest tiles are there."""


def test_one_that_was_killed_goes_on_to_the_same_bytes(
    made: FinishedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole branches are not made again; half-written files, and what is left of another mosaic, are no trap."""
    monkeypatch.setattr("zemosaic.pipelines.products.hips.TASK_ORDERS", 0)
    out = tmp_path / made.out.name  # the name is the title
    shutil.copytree(made.out, out, ignore=shutil.ignore_patterns("hips*"))
    (out / ".zemosaic" / "hips.0123.new" / "hips" / "Norder3").mkdir(parents=True)
    tiles = f".zemosaic/hips.*.new/hips/Norder{ORDER}/Dir*/*.jpg"
    killed = subprocess.run([sys.executable, "-c", EXPORT_THAT_IS_KILLED, str(out), tiles], check=False)
    assert killed.returncode == -signal.SIGKILL
    (begun,) = [path for path in (out / ".zemosaic").glob("hips.*.new") if path.name != "hips.0123.new"]
    store = Store(out / ".zemosaic" / "store")
    n_whole = len(list(store.entries()))
    missing = [cell for cell in find_cells(science(made), ORDER) if cell not in find_cells(begun / "hips", ORDER)]
    torn = tile_path(begun / "hips", ORDER, missing[0], ".jpg")
    torn.parent.mkdir(parents=True, exist_ok=True)
    torn.write_bytes(b"\xff\xd8")
    write_hips(replace(made, out=out), start_run(store=store))
    assert store.found()["hips"] == n_whole >= 1
    assert list(store.entries()) == []
    for name in sorted(path.name for path in made.out.glob("hips*")):
        assert digests_of(out / name) == digests_of(made.out / name), name


def test_png_shows_what_jpeg_shows_and_is_clear_where_nothing_is(made: FinishedFolder) -> None:
    assert main(["export", str(made.out), "--also", "hips-png"]) == 0
    folder = made.out / "hips_png"
    assert find_cells(folder, ORDER) == find_cells(made.out / "hips", ORDER)
    assert "hips_tile_format       = png\n" in (folder / "properties").read_text(encoding="utf-8")
    for cell in find_cells(folder, ORDER):
        clear = np.asarray(Image.open(tile_path(folder, ORDER, cell, ".png"))).astype(float)
        lossy = np.asarray(Image.open(tile_path(made.out / "hips", ORDER, cell, ".jpg"))).astype(float)
        values = tile_of(science(made), ORDER, cell)
        assert np.array_equal(clear[::-1, :, -1] == 255, np.isfinite(values))
        assert set(np.unique(clear[..., -1])) <= {0, 255}
        shown = clear[..., :-1].reshape(lossy.shape)
        assert np.abs(shown - lossy)[clear[..., -1] > 0].mean() < 6


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


def test_the_page_shows_the_sky_from_disk_and_asks_for_nothing_outside(made: FinishedFolder, browser: Any) -> None:
    """Stars shine where their places are, north up and east left; dark where the mosaic has a corner missing."""
    page = browser.new_page(viewport={"width": 900, "height": 700})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda problem: said.append(str(problem)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((made.out / "hips" / "index.html").as_uri())
    page.wait_for_function("() => zemosaic.atlas.isDrawn()")
    shot = np.asarray(Image.open(io.BytesIO(page.locator("#sky").screenshot())).convert("L")).astype(float)
    ra, dec = made.mosaics[0].wcs.pixel_to_sky(*np.transpose([*STARS, (20, 20)]))
    find = """(places) => places.map(([ra, dec]) =>
        zemosaic.atlas.toScreen(...zemosaic.coordinates.skyToPixel(zemosaic.atlas.WCS, ra, dec)))"""
    *stars, corner = np.rint(page.evaluate(find, list(zip(ra.tolist(), dec.tolist(), strict=True)))).astype(int)
    around = [float(shot[y - 2 : y + 3, x - 2 : x + 3].mean()) for x, y in stars]
    assert min(around) > 3 * np.median(shot[shot > 8])
    assert shot[corner[1] - 5 : corner[1] + 6, corner[0] - 5 : corner[0] + 6].max() < 8
    assert stars[0][0] < stars[2][0]
    assert stars[1][1] > stars[0][1]
    barriers = find_barriers(page)
    page.close()
    assert (said, barriers) == ([], [])
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []


def test_a_folder_without_pictures_says_how_it_is_opened(made: FinishedFolder) -> None:
    if made.mosaics[0].n_channels == 1:
        return
    text = (science(made) / "index.html").read_text(encoding="utf-8")
    assert 'src="preview.jpg"' in text
    assert "http" not in text
    assert "<script" not in text
