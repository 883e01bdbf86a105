"""A newcomer's clicks and seconds in the app, and pictures of all its pages and of what goes wrong.

    python benchmarks/app_pictures.py FRAMES [--out pictures] [--page docs/measured/newcomers.md]

FRAMES is a folder of frames; the mosaic is made in a scratch folder, of a person whom the app does not know yet. She
chooses the folder and makes the mosaic, with a pointer; counted are her clicks, and seconds from one to the next.
With ``--out`` pictures are taken after that: of each page, wide and narrow, in both languages, light and dark; then of
an engine that is killed, a full disk, a disk that may not be written, a folder that is gone, and frames that show no
stars. Disks are mounted, for which one must be root.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from astropy.io import fits
from playwright.sync_api import Page, sync_playwright

from page import add_page_option, page_section

SIZES = {"wide": (1366, 768), "narrow": (390, 844)}
LONGEST_MS = 600_000

ABOUT = """Raw frames of a telescope, from the link that `zemosaic gui` opens to the finished mosaic in the viewer, with
a pointer. What comes before, to install and to start, is in the table of the three walks."""


def set_language(page: Page, language: str) -> None:
    page.locator("header select").nth(0).select_option(language)


def shoot(page: Page, name: str, out: Path, languages: tuple[str, ...] = ("en", "fr")) -> None:
    """The page as it is: two sizes, languages, two themes; tells where it is wider than the screen."""
    for language in languages:
        set_language(page, language)
        page.wait_for_timeout(2000)  # the viewer is loaded anew in the other language
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            for theme in ("light", "dark"):
                page.locator("header select").nth(1).select_option(theme)
                page.wait_for_timeout(300)
                page.screenshot(path=out / f"{name}-{size}-{language}-{theme}.png", full_page=True)
            wanted = page.evaluate("document.documentElement.scrollWidth")
            if wanted > width:
                print(f"{name}: {wanted} px wide on a screen of {width}")
    page.set_viewport_size({"width": 1366, "height": 768})
    set_language(page, "en")


def kill_engine(out: Path) -> None:
    """As a crash would."""
    for process in psutil.process_iter(["cmdline"]):
        if f"--out={out}" in (process.info["cmdline"] or []):
            os.kill(process.pid, signal.SIGKILL)


def walk(page: Page, link: str, root: Path) -> None:
    """A newcomer's way, and the table of it."""
    print("| step | clicks | seconds |\n|---|--:|--:|")
    n_clicks, begun = 0, time.monotonic()

    def step(words: str, clicks: int) -> None:
        nonlocal n_clicks, begun
        n_clicks, now = n_clicks + clicks, time.monotonic()
        print(f"| {words} | {clicks} | {now - begun:.1f} |")
        begun = now

    whole = time.monotonic()
    page.goto(link)
    page.get_by_role("button", name=str(root)).wait_for()
    step("the first page is there", 0)
    page.get_by_role("button", name=str(root)).click()
    page.get_by_role("button", name="frames", exact=True).click()
    page.get_by_role("button", name="Make the mosaic").wait_for()
    page.get_by_text("about").first.wait_for()
    step("her folder is chosen; frames, space and time are told", 2)
    page.get_by_role("button", name="Make the mosaic").click()
    page.get_by_role("button", name="Stop").wait_for()
    step("the run has begun", 1)
    page.get_by_role("heading", name="Files").wait_for()
    page.frame_locator("iframe").locator("canvas").first.wait_for()
    step("the mosaic is in the viewer", 0)
    print(f"| in all | {n_clicks} | {time.monotonic() - whole:.1f} |")


def start(page: Page, folder: str, out: Path) -> None:
    """A run of a folder below the root."""
    page.goto("/")
    page.get_by_role("button", name=str(out.parent), exact=True).click()
    page.get_by_role("button", name=folder, exact=True).click()
    page.locator("section[aria-live] input").fill(str(out))
    page.locator("section[aria-live] button.primary").click()


def picture_pages(page: Page, root: Path, out: Path) -> None:
    """Every page; the mosaic is there."""
    shoot(page, "result", out)
    page.locator("main").get_by_role("link", name="Choose frames").click()
    page.locator("canvas.chart").click()
    shoot(page, "frames", out)
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("heading", name="Settings", exact=True).wait_for()
    shoot(page, "settings", out)
    page.go_back()
    page.get_by_role("link", name="Run").click()
    page.get_by_role("link", name="Add frames").click()
    page.locator("canvas.chart").wait_for()
    shoot(page, "add", out)
    page.goto("/")
    page.get_by_role("button", name=str(root), exact=True).click()
    page.get_by_role("button", name="frames", exact=True).click()
    page.get_by_text("about").first.wait_for()
    shoot(page, "start", out)
    start(page, "frames", root / "at work")
    page.locator("h2", has_text="Combining").wait_for()
    shoot(page, "run", out)
    if page.get_by_role("button", name="Stop").count():
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="Go on").wait_for()
        shoot(page, "stopped", out)


@contextmanager
def disk(folder: Path, *options: str) -> Iterator[None]:
    """A disk of its own."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], check=True)
    try:
        yield
    finally:
        while subprocess.run(["umount", folder], check=False, capture_output=True).returncode:
            time.sleep(0.1)
        folder.rmdir()


def picture_failures(page: Page, root: Path, out: Path) -> None:
    """What goes wrong, each in both languages: some of it is told where the run is asked for."""
    rng = np.random.default_rng(1)
    for k in range(2):
        (root / "blank").mkdir(exist_ok=True)
        sky = rng.normal(1000, 10, (300, 400)).astype(np.float32)
        fits.writeto(root / "blank" / f"{k}.fits", sky, fits.Header({"EXPTIME": 10.0}))

    def fail(name: str, folder: str, target: Path) -> None:
        for language in ("en", "fr"):
            set_language(page, language)
            start(page, folder, target)
            page.locator("[role=alert]").wait_for()
            shoot(page, name, out, (language,))

    with disk(root / "full", "size=100k"):
        fail("full", "frames", root / "full")
    with disk(root / "shut", "size=1m", "ro"):
        fail("shut", "frames", root / "shut")
    fail("unsolved", "blank", root / "unsolved")
    start(page, "frames", root / "killed")
    page.get_by_role("button", name="Stop").wait_for()
    kill_engine(root / "killed")
    begun = time.monotonic()
    page.get_by_role("button", name="Go on").wait_for()
    print(f"engine killed: the page offers Go on after {time.monotonic() - begun:.1f} s")
    shoot(page, "died", out)
    (root / "frames").rename(root / "unplugged")
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("does not exist").wait_for()
    shoot(page, "unplugged", out)


def main() -> None:
    """Serve, walk, and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("--out", type=Path)
    add_page_option(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "pictures"
        shutil.copytree(args.frames, root / "frames")
        command = [sys.executable, "-m", "zemosaic", "serve", f"--root={root}"]
        env = {**os.environ, "XDG_CONFIG_HOME": f"{scratch}/config"}
        (Path(scratch) / "config").mkdir()
        server = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        try:
            link = re.findall(r"http\S+", server.stderr.readline())[0]
            with sync_playwright() as running:
                browser = running.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
                page = browser.new_page(
                    viewport={"width": 1366, "height": 768}, locale="en", base_url=link.split("/?")[0]
                )
                page.set_default_timeout(LONGEST_MS)
                with page_section(args.page, __file__, "A newcomer in the app", ABOUT):
                    walk(page, link, root)
                if args.out:
                    args.out.mkdir(parents=True, exist_ok=True)
                    picture_pages(page, root, args.out)
                    picture_failures(page, root, args.out)
                browser.close()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


if __name__ == "__main__":
    main()
