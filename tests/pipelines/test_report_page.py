"""The report of a finished folder: its numbers are those of report.json, names are text, nothing is from outside."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from browser_cases import find_barriers, open_browser
from report_cases import compare_numbers
from zemosaic.cli import main
from zemosaic.report.facts import Facts
from zemosaic.report.sky_grid import find_grid_lines
from zemosaic.stages.grid.plan import make_wcs

HOSTILE = "<img src=x onerror=alert(1)>.fit"


CATALOGUE = {
    "name": "Tycho-2", "n_known": 14, "n_found": 12, "error_arcsec": 0.3,
    "offset_east_arcsec": 0.12, "offset_north_arcsec": -0.05, "spread_arcsec": 0.31,
    "stars": {
        name: np.random.default_rng(k).uniform(*span, 12).tolist()
        for k, (name, span) in enumerate(
            {"x_px": (20, 300), "y_px": (20, 300), "east_arcsec": (-1, 1), "north_arcsec": (-1, 1)}.items()
        )
    },
}  # fmt: skip
"""What a run says that found the stars of the sky: those of the simulated one are in no catalogue."""


@pytest.fixture(scope="module")
def reported(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a frame left out whose name is markup, and stars of a catalogue; its report in both languages."""
    out = tmp_path_factory.mktemp("reported") / "out"
    shutil.copytree(exported, out, ignore=shutil.ignore_patterns("viewer", ".zemosaic", "*.tif", "mosaic_edit.fits"))
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    told = {"code": "map.unusable", "facts": {"kind": "weight", "file": HOSTILE, "problem": "?"}}
    gone = {"name": HOSTILE, **told, "reason": "", "path": "", "frame_id": ""}
    report["left_out"] = [gone]
    report["frames"] |= {"n_in": 9, "n_left_out": 1, "reasons": [{"code": "map.unusable", "n": 1, "rows": [0]}]}
    report["mosaic"]["catalogue"] = CATALOGUE
    (out / "report.json").write_text(json.dumps(report), encoding="utf-8")
    assert main(["report", str(out), "--language", "fr"]) == 0
    (out / "report.html").rename(out / "rapport.html")
    assert main(["report", str(out)]) == 0
    return out


@pytest.mark.parametrize(("page", "comma"), [("report.html", False), ("rapport.html", True)])
def test_every_number_is_that_of_the_report(reported: Path, page: str, comma: bool) -> None:
    report = json.loads((reported / "report.json").read_text(encoding="utf-8"))
    n, unlike = compare_numbers(report, (reported / page).read_text(encoding="utf-8"), comma)
    assert n > 80
    assert unlike == []
    report["frames"]["n_in"] += 1
    assert compare_numbers(report, (reported / page).read_text(encoding="utf-8"), comma)[1] != []


@pytest.mark.parametrize(("value", "form", "shown"), [(-0.001, ".2f", "0.00"), (-0.1, ".2f", "-0.10"), (0, "d", "0")])
def test_nothing_has_no_sign(value: float, form: str, shown: str) -> None:
    assert Facts({}, "en").write(value, form) == shown


def test_prose_holds_no_number_beside_the_marked_ones(reported: Path) -> None:
    """What a sentence says in figures is a fact, except for what the words themselves fix."""
    text = (reported / "report.html").read_text(encoding="utf-8")
    marked = r"<(style|svg|code|table|figcaption)\b.*?</\1>|<data.*?</data>|<span data-(fact-text|told).*?</span>"
    prose = html.unescape(re.sub(r"<[^>]*>", " ", re.sub(marked, "", text, flags=re.DOTALL)))
    fixed = {"2", "10", "report.json"}  # surveys that are yardsticks, the limit's box
    assert set(re.findall(r"\d+(?:\.\d+)?", prose)) <= fixed


def test_a_name_stays_text(reported: Path) -> None:
    text = (reported / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;.fit" in text
    assert "<script" not in text
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text) == []


def test_maps_show_the_slow_background_and_the_catalogue(reported: Path) -> None:
    text = (reported / "report.html").read_text(encoding="utf-8")
    for title in ("Map of the expected slow background", "Map of distances from the catalogue",
                  "Histograms of distances from the catalogue"):  # fmt: skip
        assert f'aria-label="{title}"' in text
    slow = json.loads((reported / "report.json").read_text(encoding="utf-8"))["mosaic"]["slow_map"]
    assert max(len(slow), len(slow[0])) == 24
    assert 0 < np.nanmedian(np.array(slow, float)) < 1


def test_ids_are_unique_and_all_that_is_named_is_there(reported: Path) -> None:
    text = (reported / "report.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#|labelledby=")([^)"]+)', text)) <= set(ids)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.mark.parametrize(("page", "width", "scheme"), [("report.html", 390, "dark"), ("rapport.html", 1200, "light")])
def test_a_browser_shows_it_from_disk_and_asks_for_nothing(
    reported: Path, browser: Any, page: str, width: int, scheme: str
) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}, offline=True)
    opened = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda problem: said.append(str(problem)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto((reported / page).as_uri())
    assert opened.locator("h1").is_visible()
    assert opened.evaluate("() => document.documentElement.scrollWidth") <= width
    # Figures take the colours of the theme, and each has a name for those who do not see it.
    ink = opened.locator("figure svg text").first.evaluate("(text) => getComputedStyle(text).fill")
    assert (int(re.findall(r"\d+", ink)[0]) > 128) == (scheme == "dark")
    assert opened.locator("figure svg:not([aria-label])").count() == 0
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []


@pytest.mark.parametrize(("page", "width", "scheme"), [("report.html", 390, "dark"), ("rapport.html", 1200, "light")])
def test_axe_finds_no_barrier(reported: Path, browser: Any, page: str, width: int, scheme: str) -> None:
    opened = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    opened.goto((reported / page).as_uri())
    assert find_barriers(opened) == []
    opened.close()


def test_20000_frames_are_a_small_page(reported: Path, tmp_path: Path) -> None:
    """Densities instead of points; three nights; a tenth left out. Nothing is loaded that the page does not need."""
    out = tmp_path / "many"
    shutil.copytree(reported, out)
    rng = np.random.default_rng(1)
    n = 20_000
    hour = np.sort(rng.uniform(0, 7, n))
    columns: dict[str, Any] = {
        "name": [f"f{k}.fit" for k in range(n)],
        "use": rng.uniform(size=n) > 0.1,
        "date_obs": [
            f"2026-03-{1 + 3 * k // n:02d}T{int(h):02d}:{int(h * 60) % 60:02d}:00" for k, h in enumerate(hour)
        ],
        "fwhm_px": rng.normal(3, 0.3, n),
        "ellipticity": rng.uniform(0, 0.1, n),
        "n_stars": rng.poisson(200, n),
        "sky": rng.normal(1000, 100, n),
        "place_rms_px": rng.gamma(3, 0.02, n),
        "gain": rng.normal(1, 0.1, n),
        "gain_error": np.full(n, 1e-3),
    }
    with (out / "frames.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    # Half the time of the command would go to the compiler of kernels, which no report needs where there is a preview.
    code = "import sys; from zemosaic.cli import main; main(sys.argv[1:]); print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "report", out], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"
    assert (out / "report.html").stat().st_size < 3e6


def test_the_same_folder_gives_the_same_bytes(reported: Path) -> None:
    before = (reported / "report.html").read_bytes()
    assert main(["report", str(reported)]) == 0
    assert (reported / "report.html").read_bytes() == before


def test_what_a_run_does_not_know_is_left_out(reported: Path, tmp_path: Path) -> None:
    """Not matched, no plane but the image, no time in any header: the page says that nothing is known."""
    out = tmp_path / "bare"
    shutil.copytree(reported, out)
    with fits.open(reported / "mosaic.fits") as hdus:
        fits.HDUList(hdus[:1]).writeto(out / "mosaic.fits", overwrite=True)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    (out / "report.json").write_text(
        json.dumps({**report, "mosaic": {"match": "none", "n_frames": 8}}), encoding="utf-8"
    )
    (out / "frames.csv").write_text("name,use\na.fits,True\n", encoding="utf-8")
    assert main(["report", str(out)]) == 0
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "Nobody measured whether borders can be seen." in text
    assert text.count("<figure>") == 1


def test_an_unknown_language_is_an_error(reported: Path) -> None:
    assert main(["report", str(reported), "--language", "tlh"]) == 2


@pytest.mark.parametrize("center", [(0.01, 20.0), (83.0, -45.0), (200.0, 89.6)])
def test_numbers_along_a_map_stand_where_they_say(center: tuple[float, float]) -> None:
    """Also round RA 0h and about the pole; north is not up."""
    wcs = make_wcs(center, 6.0, (900, 1400), rotation_deg=30.0)
    ra_lines, dec_lines = find_grid_lines(wcs)
    assert ra_lines.ticks
    assert dec_lines.ticks
    for x, text in ra_lines.ticks:
        hours, minutes, seconds = (
            float(part or 0) for part in re.fullmatch(r"(\d+)h(?:(\d+)m)?(?:(\d+)s)?", text).groups()
        )
        off = wcs.pixel_to_sky(x, -0.5)[0] - 15 * (hours + minutes / 60 + seconds / 3600)
        assert abs((off + 180) % 360 - 180) * np.cos(np.deg2rad(center[1])) < 3 / 3600  # half a pixel
    for y, text in dec_lines.ticks:
        sign, *parts = re.fullmatch(r"([+−])(\d+)°(?:(\d+)′)?(?:(\d+)″)?", text).groups()
        degrees, minutes, seconds = (float(part or 0) for part in parts)
        wanted = (degrees + minutes / 60 + seconds / 3600) * (1 if sign == "+" else -1)
        assert abs(wcs.pixel_to_sky(-0.5, y)[1] - wanted) < 3 / 3600
