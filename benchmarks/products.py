"""Viewer and HiPS of a large mosaic: how fast they are written, in what memory, and how smoothly a browser pans.

    python benchmarks/products.py make /tmp/large --also viewer|hips --side 20000 [--channels 3] [--ram-bytes N]
    python benchmarks/products.py pan /tmp/large
    python benchmarks/products.py report OUT

``make`` writes a mosaic of noise, stars and a slow background, 1.6 GB a plane of 20,000 x 20,000, if it is not there,
and exports a product of it; ``pan`` opens the page in an installed Chromium, headless, without a GPU, and moves and
zooms about for some seconds. ``report`` makes and opens the page of a finished folder whose table of frames is repeated
to 20,000 rows.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from page import add_page_option, page_section
from zemosaic.io.write.mosaic_file import MosaicFile, Plane
from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.pipelines.products.make import export_products
from zemosaic.pipelines.run.context import RunOptions, start_run
from zemosaic.settings import Settings, load_settings

CHROMIUM = "/usr/bin/chromium"

N_FRAMES = 2000


def write_folder(out: Path, side: int, n_channels: int) -> None:
    """A finished folder as a build leaves it, without a build."""
    out.mkdir(parents=True, exist_ok=True)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [83.8, 22.0]
    wcs.wcs.crpix, wcs.wcs.cdelt = [side / 2, side / 2], [-2 / 3600, 2 / 3600]
    grid = CelestialWcs(wcs, (side, side))
    rng = np.random.default_rng(1)
    planes = [Plane("DATA", "f4", n_channels), Plane("COV", "i2", 1)]
    if n_channels == 1:  # the other planes of a colour mosaic of this size would fill the disk
        planes += [Plane("WHT", "f4", 1), Plane("REJ", "i2", 1)]
    wave = np.arange(side) / 900
    with MosaicFile(out / "mosaic.fits", grid, planes) as file:
        for y0 in range(0, side, 500):
            box = Box(y0, min(y0 + 500, side), 0, side)
            shape = (n_channels, *box.shape)
            level = 1000 + 100 * np.sin(wave) + 100 * np.cos(wave[box.y0 : box.y1])[:, None]
            data = level + 20 * rng.standard_normal(shape, np.float32)
            data[:, rng.integers(0, box.height, 3000), rng.integers(0, side, 3000)] += rng.exponential(3000, 3000)
            file.write("DATA", box, data.astype(np.float32))
            file.write("COV", box, np.full((1, *box.shape), 40, np.int16))
            if n_channels == 1:
                file.write("WHT", box, np.full(shape, 0.1, np.float32))
                file.write("REJ", box, rng.binomial(1, 0.02, shape).astype(np.int16))
        file.finish()
    x, y = rng.uniform(0, side - 1500, (2, N_FRAMES))
    names = [f"frame_{k:05d}.fits" for k in range(N_FRAMES)]
    columns: dict[str, object] = {"name": names, "use": np.ones(N_FRAMES, bool)}
    for k, (dx, dy) in enumerate(((0, 0), (1500, 0), (1500, 1000), (0, 1000)), 1):
        columns[f"ra{k}_deg"], columns[f"dec{k}_deg"] = grid.pixel_to_sky(x + dx, y + dy)
    Table(columns | {"gain": rng.normal(1, 0.1, N_FRAMES)}).write(out / "frames.ecsv", overwrite=True)
    (out / "report.json").write_text(json.dumps({"mosaic": {}}), encoding="utf-8")


def make(out: Path, also: str, ram_bytes: int | None) -> None:
    """Time the export of a product."""
    settings: Settings = load_settings(overrides={"output": {"also": also}})
    height, width = fits.getheader(out / "mosaic.fits")["NAXIS2"], fits.getheader(out / "mosaic.fits")["NAXIS1"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start, cpu = time.perf_counter(), time.process_time()
    paths = export_products(out, settings.output, start_run(RunOptions(ram_bytes=ram_bytes)))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    files = [path for page in paths.values() for path in page.parent.rglob("*.*")]
    size = sum(path.stat().st_size for path in files) / 1e6
    speeds = " or ".join(f"{height * width / t / 1e6:.2f}" for t in (seconds, cpu / 2))
    print(f"{also} of {width} x {height}: {seconds:.1f} s, {cpu:.1f} s of processor; {speeds} Mpix/s by the clock or")
    print(
        f"by the processor on two cores; {len(files)} files, {size:.0f} MB; peak {peak:.2f} GiB ({before:.2f} before)"
    )


TOUR = """async () => {
  const view = zemosaic.viewer.viewport, times = [], sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  let going = true;
  const tick = (now) => { times.push(now); if (going) requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
  for (const zoom of [4, 12, 30, 8]) {
    view.zoomTo(zoom);
    await sleep(600);
    for (const [dx, dy] of [[0.6, 0], [0, 0.6], [-0.6, -0.3], [0.2, -0.4]]) {
      view.panBy(new OpenSeadragon.Point(dx / zoom, dy / zoom));
      await sleep(500);
    }
  }
  view.goHome();
  await sleep(800);
  going = false;
  return times;
}"""
"""Frames are counted while springs move the view: panning by over half a screen twice a second, at four zooms."""


def pan(out: Path) -> None:
    """Count the frames that the browser draws while the view moves."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        start = time.perf_counter()
        page.goto((out / "viewer" / "index.html").absolute().as_uri())
        page.wait_for_function("() => zemosaic.viewer.world.getItemAt(0)?.getFullyLoaded()")
        print(f"first picture after {time.perf_counter() - start:.1f} s")
        for name in ("plain", "with a map over it"):
            if name != "plain":
                page.select_option("#map", "0")
            steps = np.diff(page.evaluate(TOUR))
            rate, slow = 1000 / steps.mean(), np.quantile(steps, 0.99)
            print(f"{name}: {rate:.0f} frames/s, longest pause {steps.max():.0f} ms, 99 % below {slow:.0f} ms")
        browser.close()


def report(out: Path, n_rows: int = 20_000) -> None:
    """Time the page of many frames: the whole command, and a browser that opens it."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as scratch:
        many = Path(scratch) / "many"
        shutil.copytree(out, many, ignore=shutil.ignore_patterns(".zemosaic", "viewer", "hips*", "*.tif"))
        with (out / "frames.csv").open(newline="", encoding="utf-8") as file:
            names, *rows = csv.reader(file)
        when = names.index("date_obs")
        with (many / "frames.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            for k, row in enumerate(itertools.islice(itertools.cycle(rows), n_rows)):
                night, second = divmod(10 * k, 7 * 3600)
                time_of_day = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
                writer.writerow([*row[:when], f"2026-03-{1 + night:02d}T{time_of_day}", *row[when + 1 :]])
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "zemosaic", "report", many], check=True, stdout=subprocess.DEVNULL)
        seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        page = many / "report.html"
        print(f"{n_rows} frames: {seconds:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of processor,")
        print(f"{page.stat().st_size / 1e6:.2f} MB, peak {used.ru_maxrss / 2**20:.2f} GiB")
        with sync_playwright() as running:
            browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            opened = browser.new_page(viewport={"width": 1280, "height": 800})
            start = time.perf_counter()
            opened.goto(page.as_uri())
            opened.screenshot()
            print(f"opened and drawn in {time.perf_counter() - start:.2f} s")
            browser.close()


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["make", "pan", "report"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--also", default="viewer")
    parser.add_argument("--side", type=int, default=20000)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--ram-bytes", type=int)
    add_page_option(parser)
    given = parser.parse_args()
    if given.what == "make" and not (given.out / "mosaic.fits").exists():
        write_folder(given.out, given.side, given.channels)
    made = f"{given.also} of {given.channels} channels" if given.what == "make" else given.out.name
    titles = {"make": f"Written: {made}", "pan": f"Panned: {made}", "report": "The report of 20,000 frames"}
    with page_section(given.page, __file__, titles[given.what], is_table=False):
        measure(given)


def measure(given: argparse.Namespace) -> None:
    """What is asked for."""
    if given.what == "make":
        make(given.out, given.also, given.ram_bytes)
    elif given.what == "pan":
        pan(given.out)
    else:
        report(given.out)


if __name__ == "__main__":
    main()
