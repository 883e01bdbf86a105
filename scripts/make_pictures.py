"""Make the pictures of the documents from simulated frames: python scripts/make_pictures.py [WORK].

Needs the extra `test` (playwright) and an installed Chromium. WORK keeps frames and mosaics between runs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from method_pictures import draw_all
from PIL import Image

from zemosaic.cli import main as zemosaic

PICTURES = Path(__file__).parents[1] / "docs/pictures"
CHROMIUM = "/usr/bin/chromium"
LONGEST_SIDE_PX = 1200
"""Of a picture: what a page shows at once on a large screen."""

SEED, N_FRAMES, FIELD_DEG = 5, 40, 3.0
"""A sky, the frames laid over it, and the side of their field."""


def make_mosaics(work: Path) -> None:
    """A mosaic of simulated raws (the demo), and one set of panels with and without the match."""
    if not (work / "demo/mosaic/mosaic.fits").exists():
        _run("demo", "-o", work / "demo")
    if not (work / "panels").exists():
        _run("simulate", "-o", work / "panels", "-n", N_FRAMES, "--seed", SEED, "--size", FIELD_DEG)
    for command, out in (("coadd", "before"), ("build", "after")):
        if not (work / out / "mosaic.fits").exists():
            _run(command, work / "panels", "-o", work / out)


def _run(*words: object) -> None:
    if zemosaic([str(word) for word in words]) != 0:
        raise SystemExit(f"zemosaic {' '.join(map(str, words))} failed")


def write_picture(name: str, picture: Image.Image) -> None:
    """Save a JPEG of the documents."""
    picture.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX), Image.Resampling.LANCZOS)
    picture.convert("RGB").save(PICTURES / f"{name}.jpg", quality=82, optimize=True)


def draw_before_and_after(work: Path) -> Image.Image:
    """The plain mean of the frames beside the matched mosaic, by one stretch."""
    planes = [_read_small(work / out / "mosaic.fits") for out in ("before", "after")]
    sky = planes[1][np.isfinite(planes[1])]
    noise = 1.4826 * np.median(np.abs(sky - np.median(sky)))
    # The matched sky is dark grey; sixty times its noise, which bright parts of nebulae reach, is white.
    seen = [np.arcsinh((plane - np.nanmedian(plane)) / noise / 3 + 2) / np.arcsinh(22) for plane in planes]
    tones = [np.nan_to_num(np.clip(view, 0, 1)) for view in seen]
    gap = np.zeros((tones[0].shape[0], 8))
    return Image.fromarray((255 * np.hstack([tones[0], gap, tones[1]])).astype(np.uint8))


def _read_small(path: Path) -> npt.NDArray[np.float64]:
    data = fits.getdata(path).astype(np.float64)
    step = max(data.shape) // (LONGEST_SIDE_PX // 2)
    height, width = (side // step * step for side in data.shape)
    blocks = data[:height, :width].reshape(height // step, step, width // step, step)
    return np.asarray(np.nanmean(blocks, axis=(1, 3))[::-1])


@contextmanager
def open_browser(width: int = 1366, height: int = 768) -> Iterator[Any]:
    """A page of a headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": width, "height": height})
        browser.close()


def take_pages(work: Path) -> None:
    """The report and the viewer of the demo, as a browser shows them."""
    with open_browser() as page, tempfile.TemporaryDirectory() as folder:
        for name, file in (("report", "report.html"), ("viewer", "viewer/index.html")):
            page.goto((work / "demo/mosaic" / file).resolve().as_uri())
            page.wait_for_timeout(2000)
            shot = Path(folder) / "page.png"
            page.screenshot(path=shot)
            write_picture(name, Image.open(shot))


def main() -> None:
    """Make all pictures."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("work", nargs="?", type=Path, default=Path("build/pictures"))
    asked.add_argument("--method", action="store_true", help="only the figures of the pages on the method")
    given = asked.parse_args()
    work = given.work
    work.mkdir(parents=True, exist_ok=True)
    PICTURES.mkdir(exist_ok=True)
    draw_all(work, PICTURES)
    if given.method:
        return
    make_mosaics(work)
    write_picture("demo", Image.open(work / "demo/mosaic/preview.png"))
    write_picture("before-and-after", draw_before_and_after(work))
    take_pages(work)


if __name__ == "__main__":
    main()
