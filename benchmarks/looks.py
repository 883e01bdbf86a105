"""How the picture and the report of finished folders are seen: greys, colour, place on the sky; a browser's view.

    python benchmarks/looks.py NAME=OUT... [--shots FOLDER]

Each OUT is a folder that a build left. The report is made anew in English and French in a scratch folder, and opened
from disk in an installed Chromium without a network; ``--shots`` keeps pictures of both, light and dark, wide and
narrow, to be looked at.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from pyavm import AVM

from page import add_page_option, page_section

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "cases"))

from browser_cases import CHROMIUM, find_barriers
from report_cases import compare_numbers

BLOCK_PX = 16
"""Side of the blocks whose medians tell the sky of a picture without its stars."""

DARK_SHARES = (0.25, 0.1)
"""Of the blocks, the darkest are sky: a nebula may fill most of a picture."""

WIDTHS = {"wide": 1200, "narrow": 390}

ABOUT = """Sky is the median of the darkest quarter of a picture's blocks of 16 px, as a share of white; cast is how far
its channels are apart there, and in the darkest tenth; white is the share of pixels that are 255 in all channels. AVM
is the longest way, in pixels of the picture, between a place by its tags (read by PyAVM) and the mosaic's WCS. The
report is opened from disk without a network, at 390 and 1200 px, light and dark: barriers are what axe calls serious or
critical, width is how far the page reaches on a screen of 390 px, unlike are numbers that report.json holds
otherwise."""


def figure_picture(out: Path) -> str:
    """A row of the pictures' table."""
    picture = np.asarray(Image.open(out / "preview.png").convert("RGBA"))
    height, width = (n // BLOCK_PX for n in picture.shape[:2])
    cells = picture[: height * BLOCK_PX, : width * BLOCK_PX].reshape(height, BLOCK_PX, width, BLOCK_PX, 4)
    whole = (cells[..., 3] == 255).all(axis=(1, 3))
    blocks = np.median(cells[..., :3], axis=(1, 3))[whole] / 255
    blocks = blocks[np.argsort(blocks.sum(axis=1), kind="stable")]
    skies = [np.median(blocks[: max(int(share * len(blocks)), 1)], axis=0) for share in DARK_SHARES]
    casts = " | ".join(f"{100 * np.ptp(sky):.1f}" for sky in skies)
    white = (picture[picture[..., 3] == 255][:, :3] == 255).all(axis=1).mean()
    off = " and ".join(f"{compare_places(out, suffix):.3f}" for suffix in (".png", ".jpg"))
    size = f"{picture.shape[1]} x {picture.shape[0]}"
    return f"{size} | {100 * skies[0].mean():.1f} | {casts} | {100 * white:.5f} | {off}"


def compare_places(out: Path, suffix: str) -> float:
    """Longest way between the sky by a picture's tags and by the mosaic, at nine places, in pixels of the picture."""
    with Image.open(out / f"preview{suffix}") as image:
        width, height = image.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyAVM's own
        by_tags = AVM.from_image(str(out / f"preview{suffix}")).to_wcs()
    header = fits.getheader(out / "mosaic.fits")
    factor = -(-max(header["NAXIS1"], header["NAXIS2"]) // max(width, height))
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(0, width - 1, 3), np.linspace(0, height - 1, 3)))
    there = WCS(header, naxis=2).all_world2pix(np.transpose(by_tags.all_pix2world(x, y, 0)), 0).T
    middle = (factor - 1) / 2
    return float(np.hypot(there[0] - factor * x - middle, there[1] - factor * y - middle).max() / factor)


def figure_page(out: Path, name: str, browser: Browser, shots: Path | None) -> list[str]:
    """Rows of the reports' table: English and French."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "out"
        shutil.copytree(
            out, copy, ignore=shutil.ignore_patterns("viewer", "hips*", ".zemosaic", "*.tif", "*_edit.fits")
        )
        report = json.loads((copy / "report.json").read_text(encoding="utf-8"))
        for language in ("en", "fr"):
            command = [sys.executable, "-m", "zemosaic", "report", copy, "--language", language]
            subprocess.run(command, check=True, capture_output=True)
            text = (copy / "report.html").read_text(encoding="utf-8")
            n, unlike = compare_numbers(report, text, language == "fr")
            seen = [
                open_page(copy / "report.html", browser, size, scheme, shots and shots / f"{name}-{language}")
                for size in WIDTHS
                for scheme in ("light", "dark")
            ]
            asked, said, barriers, widest = (max(values) for values in zip(*seen, strict=True))
            rows.append(f"{language} | {asked} | {said} | {barriers} | {widest} | {n} | {len(unlike)}")
    return rows


def open_page(page: Path, browser: Browser, size: str, scheme: Any, shot: Path | None) -> tuple[int, int, int, int]:
    """Requests to elsewhere, messages of the console, barriers, and the page's width, 0 where it fits a wide screen."""
    viewport = {"width": WIDTHS[size], "height": 844}
    context = browser.new_context(color_scheme=scheme, viewport=viewport, offline=True)  # type: ignore[arg-type]
    opened, asked, said = context.new_page(), [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda problem: said.append(str(problem)))
    opened.goto(page.as_uri())
    width = opened.evaluate("() => document.documentElement.scrollWidth") if size == "narrow" else 0
    n_asked = sum(not url.startswith(("file://", "data:")) for url in asked)
    n_said = len(said)
    if shot:
        opened.screenshot(path=shot.with_name(f"{shot.name}-{size}-{scheme}.png"), full_page=True)
    bad = [found for found in find_barriers(opened) if found[1] in {"serious", "critical"}]
    context.close()
    return n_asked, n_said, len(bad), width


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("named", nargs="+", metavar="NAME=OUT")
    parser.add_argument("--shots", type=Path, help="folder for pictures of the pages; made when missing")
    add_page_option(parser)
    given = parser.parse_args()
    folders = {name: Path(out) for name, _, out in (text.partition("=") for text in given.named)}
    if given.shots:
        given.shots.mkdir(parents=True, exist_ok=True)
    with page_section(given.page, __file__, "How pictures and reports are seen", ABOUT):
        print("| mosaic | picture | sky, % | cast, % | of the darkest tenth, % | white, % | AVM of PNG and JPEG, px |")
        print("|---|---|---:|---:|---:|---:|---:|")
        for name, out in folders.items():
            print(f"| {name} | {figure_picture(out)} |")
        print("\n| report | language | outside requests | console messages | barriers | width, px | numbers | unlike |")
        print("|---|---|---:|---:|---:|---:|---:|---:|")
        with sync_playwright() as running:
            browser = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
            for name, out in folders.items():
                for row in figure_page(out, name, browser, given.shots):
                    print(f"| {name} | {row} |")
            browser.close()


if __name__ == "__main__":
    main()
