"""The page of a mosaic, opened from disk in a browser: what it shows, and that it asks for nothing outside."""

from __future__ import annotations

import html
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from astropy.wcs import WCS
from PIL import Image

import zemosaic
from browser_cases import find_barriers, open_browser
from zemosaic.cli import main
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.pipelines.products.folder import open_folder
from zemosaic.pipelines.products.viewer import describe_wcs, frames_of
from zemosaic.pipelines.products.viewer_before import undo_match

HOSTILE = "<img src=x onerror=alert(1)>.fit"


@pytest.fixture(scope="module")
def viewed(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished folder of which only the products are made anew, with a frame whose name is markup."""
    out = tmp_path_factory.mktemp("viewed") / "out"
    shutil.copytree(exported, out, ignore=shutil.ignore_patterns("viewer", ".zemosaic", "mosaic_edit.fits", "*.tif"))
    table = Table.read(out / "frames.ecsv")
    table["name"] = [HOSTILE, *table["name"][1:]]
    table.write(out / "frames.ecsv", overwrite=True)
    assert main(["export", str(out), "--also", "viewer"]) == 0
    return out


@pytest.fixture(scope="module")
def page(viewed: Path) -> Iterator[Any]:
    """The page, from disk; afterwards: no message of the browser, no request but for files."""
    with open_browser() as browser:
        opened = browser.new_page(viewport={"width": 1200, "height": 800})
        said, asked = [], []
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda problem: said.append(str(problem)))
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto((viewed / "viewer" / "index.html").as_uri())
        opened.wait_for_function("() => zemosaic.viewer.world.getItemAt(0)?.getFullyLoaded()")
        yield opened
    assert said == []
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []


def shot_of(page: Any) -> np.ndarray:
    """What the picture's element shows."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return np.asarray(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB")).astype(float)


def test_the_picture_is_that_of_the_mosaic(page: Any, viewed: Path) -> None:
    """Not black, north up, where a pixel of the mosaic is bright the screen is bright."""
    shot = shot_of(page)
    assert shot.mean() > 20
    data = fits.getdata(viewed / "mosaic.fits")
    to = page.evaluate("() => zemosaic.picture.transform(zemosaic.viewer)")
    height, width = data.shape
    y, x = (v.ravel() for v in np.mgrid[40 : height - 40 : 20, 40 : width - 40 : 20])
    # Beside the navigator, which covers a corner.
    sx, sy = to["x"] + to["scale"] * x, to["y"] - to["scale"] * y
    seen = np.isfinite(data[y, x]) & ((sx < 0.75 * shot.shape[1]) | (sy > 0.3 * shot.shape[0]))
    shown = shot[np.rint(sy[seen]).astype(int), np.rint(sx[seen]).astype(int)].mean(axis=1)
    ranks = [np.argsort(np.argsort(v)) for v in (shown, data[y, x][seen])]
    assert np.corrcoef(*ranks)[0, 1] > 0.9


def header_of(projection: str, ra: float, dec: float, angle: float) -> fits.Header:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{projection}", f"DEC--{projection}"]
    wcs.wcs.crval, wcs.wcs.crpix = [ra, dec], [9000.5, 7000.5]
    s, turn = 3 / 3600, np.deg2rad(angle)
    wcs.wcs.cd = [[-s * np.cos(turn), s * np.sin(turn)], [s * np.sin(turn), s * np.cos(turn)]]
    header = wcs.to_header()
    header["RADESYS"] = "ICRS"
    return header


@pytest.mark.parametrize(
    ("projection", "ra", "dec", "angle"),
    [("TAN", 83.8, 22.0, 0.0), ("TAN", 0.1, 89.2, 30.0), ("ZEA", 359.9, -41.0, -100.0), ("ZEA", 120.0, 90.0, 0.0),
     ("SIN", 10.0, 5.0, 20.0), ("ARC", 10.0, -89.9, 0.0), ("STG", 200.0, 60.0, 10.0)],
)  # fmt: skip
def test_coordinates_are_those_of_astropy(page: Any, projection: str, ra: float, dec: float, angle: float) -> None:
    wcs = CelestialWcs.from_header(header_of(projection, ra, dec, angle), (14000, 18000))
    x, y = (v.ravel().tolist() for v in np.meshgrid([0.0, 8765.4, 17999.0], [0.0, 6543.2, 13999.0]))
    told = page.evaluate(
        "([wcs, places]) => places.map(([x, y]) => zemosaic.coordinates.pixelToSky(wcs, x, y))",
        [describe_wcs(wcs), list(zip(x, y, strict=True))],
    )
    back_x, back_y = wcs.sky_to_pixel(*np.transpose(told))
    assert np.hypot(back_x - x, back_y - y).max() < 1e-3
    again = page.evaluate(
        "([wcs, places]) => places.map(([ra, dec]) => zemosaic.coordinates.skyToPixel(wcs, ra, dec))",
        [describe_wcs(wcs), told],
    )
    assert np.abs(np.array(again) - np.transpose([x, y])).max() < 1e-3


def test_other_coordinates_are_left_alone() -> None:
    galactic = header_of("TAN", 83.8, 22.0, 0.0)
    galactic["CTYPE1"], galactic["CTYPE2"] = "GLON-TAN", "GLAT-TAN"
    assert describe_wcs(CelestialWcs.from_header(galactic, (100, 100))) is None
    assert describe_wcs(CelestialWcs.from_header(header_of("AIT", 0.0, 0.0, 0.0), (100, 100))) is None


def test_the_picture_before_the_match_is_that_of_an_unmatched_mosaic(exported: Path, small_set: Path) -> None:
    """Made of the mosaic and the table of frames alone; held against the mean of the frames as they are."""
    folder = open_folder(exported)
    (mosaic,), frames = folder.mosaics, folder.read_frames()
    data = fits.getdata(mosaic.path)
    here = np.isfinite(data)
    corners = np.stack(
        mosaic.wcs.sky_to_pixel(
            *(np.stack([frames[f"{name}{k}_deg"] for k in range(1, 5)], 1) for name in ("ra", "dec"))
        ),
        axis=-1,
    )
    before = undo_match(np.nan_to_num(data)[None], here, frames, corners)
    assert before is not None
    plain = zemosaic.coadd(small_set, mosaic.header, data.shape, settings={"stack": {"method": "mean"}}).data
    wrong, change = (before[0] - plain)[here], (plain - data)[here]
    assert robust_sigma(wrong) < 0.1 * robust_sigma(change)
    assert np.median(before[0][here] - data[here]) == pytest.approx(0, abs=0.01 * robust_sigma(change))


def robust_sigma(values: np.ndarray) -> float:
    """From the median distance to the median: trails stay in a plain mean."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def test_each_mosaic_of_a_folder_has_the_frames_of_its_kind() -> None:
    gains = {"gain": [1.0, 1.1, 1.2, 0.0, 0.0], "gain_r": [0.0, 0.0, 0.0, 1.3, 0.0]}
    columns = {name: MaskedColumn(values, mask=[v == 0 for v in values]) for name, values in gains.items()}
    table = Table(
        {"name": list("abcde"), "use": [True, True, False, True, False], "filter": ["Ha", "R", "R", "R", ""]} | columns
    )
    kinds = (("Ha", 1), ("R", 1), ("R", 3), (None, 3))
    assert ["".join(frames_of(table, *kind)["name"]) for kind in kinds] == ["a", "b", "d", "d"]


def test_a_click_tells_of_the_place_and_its_frames(page: Any, viewed: Path) -> None:
    """By the pointer and by its coordinates: the same pixel, the frames that lie over it, and no markup from names."""
    box = page.locator("#picture").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 400)
    page.mouse.click(box["x"] + 300, box["y"] + 400)
    page.locator("#place").wait_for()
    facts = page.locator("#facts").inner_text()
    x, y = map(int, re.search(r"(\d+), (\d+)", facts).groups())
    wcs = WCS(fits.getheader(viewed / "mosaic.fits"))
    ra, dec = wcs.pixel_to_world_values(x, y)
    told = re.search(r'"([\d.]+) ([+-][\d.]+)"', page.locator("#command").inner_text())
    to_px = wcs.world_to_pixel_values(*map(float, told.groups()))
    assert np.hypot(to_px[0] - x, to_px[1] - y) < 0.9  # the click is inside the pixel
    coverage = fits.getdata(viewed / "mosaic.fits", "COV")[y, x]
    names = page.locator("#rows button").all_inner_texts()
    assert len(names) == coverage
    page.fill("#where", f"{ra} {dec}")
    page.click("#go button")
    assert f"{x}, {y}" in page.locator("#facts").inner_text()
    page.fill("#name", "onerror")
    assert page.locator("#rows button").all_inner_texts() == [HOSTILE]
    assert page.locator("#rows img").count() == 0
    page.fill("#where", "here")
    page.click("#go button")
    assert "is no place" in page.locator("#answer").inner_text()


SET_SLIDER = """([id, value]) => {
  const slider = document.getElementById(id);
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
}"""


def shown(page: Any, is_right: Callable[[np.ndarray], bool]) -> bool:
    """Whether the picture becomes right: maps are read from disk, and a busy machine draws late."""
    for _ in range(100):
        if is_right(shot_of(page)):
            return True
        page.wait_for_timeout(50)
    return False


def test_maps_filter_and_keys_act(page: Any, viewed: Path) -> None:
    page.click("#all")
    page.wait_for_function(
        "() => Math.abs(zemosaic.viewer.viewport.getZoom(true) - zemosaic.viewer.viewport.getHomeZoom()) < 1e-9"
    )
    page.wait_for_function("() => zemosaic.viewer.world.getItemAt(0).getFullyLoaded()")
    plain = shot_of(page)
    for title in ("frames", "depth", "samples clipped"):
        page.select_option("#map", label=title)
        assert shown(page, lambda shot: np.abs(shot - plain).mean() > 5), title
    page.select_option("#map", label="none")
    page.evaluate(SET_SLIDER, ["brightness", 200])
    assert shown(page, lambda shot: shot.mean() > 1.3 * plain.mean())
    page.evaluate("() => document.getElementById('neutral').click()")
    page.evaluate(SET_SLIDER, ["split", 50])
    middle_x = plain.shape[1] // 2

    def is_split(shot: np.ndarray) -> bool:
        changed = np.abs(shot - plain)[:600]
        return bool(changed[:, : middle_x - 2].mean() > 5 > 0.2 > changed[:, middle_x + 4 : -250].mean())

    assert shown(page, is_split)
    page.evaluate(SET_SLIDER, ["split", 0])
    page.evaluate("() => { document.getElementById('place').hidden = true; }")
    page.locator("[role=application]").focus()
    page.keyboard.press("+")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => zemosaic.viewer.viewport.getZoom(true) > 1.05 * zemosaic.viewer.viewport.getHomeZoom()"
    )
    page.locator("#place").wait_for()
    middle = [n // 2 for n in reversed(fits.getdata(viewed / "mosaic.fits").shape)]
    x, y = map(int, re.search(r"(\d+), (\d+)", page.locator("#facts").inner_text()).groups())
    assert np.hypot(x - middle[0], y - middle[1]) < 3


@pytest.mark.parametrize("width", [1200, 390])
def test_axe_finds_no_barrier_and_nothing_scrolls_sideways(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.click("#all")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    barriers = find_barriers(page)
    page.set_viewport_size({"width": 1200, "height": 800})
    assert barriers == []


def test_every_word_of_the_page_is_known_in_french(viewed: Path) -> None:
    text = (viewed / "viewer/page/words.js").read_text(encoding="utf-8")
    known = set(re.findall(r'^  "(.*?)": "', text, re.MULTILINE))
    page = re.sub(r"<script.*", "", (viewed / "viewer/index.html").read_text(encoding="utf-8").split("<body>")[1])
    shown = {html.unescape(words).strip() for words in re.findall(r">([^<]+)<", page)}
    shown |= set(re.findall(r'(?:aria-label|placeholder)="(.*?)"', page))
    assert {words for words in shown if re.search("[A-Za-z]{2}", words)} - known == set()
    scripts = "".join(path.read_text(encoding="utf-8") for path in (viewed / "viewer/page").glob("[!o]*.js"))
    assert set(re.findall(r'\bsay\("(.*?)"', scripts)) <= known


def test_the_page_speaks_french(page: Any) -> None:
    """Last: the page stays French."""
    assert page.evaluate("document.documentElement.lang") == "en"
    page.goto(f"{page.url.split('?')[0]}?language=fr")
    assert page.evaluate("document.documentElement.lang") == "fr"
    assert page.locator("#all").inner_text() == "Tout"
    assert page.locator("#in").get_attribute("aria-label") == "Agrandir"
    assert page.locator("aside h2").last.inner_text() == "Brutes"
    assert page.evaluate("zemosaic.say('{n} of {total} shown', {n: 2, total: 9})") == "2 sur 9 affichées"
