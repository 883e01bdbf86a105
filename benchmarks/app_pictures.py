"""Pictures of every page of the app, wide and narrow, in both languages, light and dark, and the clicks of a newcomer.

    python benchmarks/app_pictures.py FRAMES --out pictures

FRAMES is a folder of frames; the mosaic is made in a scratch folder. One person, with a pointer, chooses the folder,
makes the mosaic, and opens each page; then the engine is killed once, for the page that says so.
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
from pathlib import Path

import psutil
from playwright.sync_api import Page, sync_playwright

SIZES = {"wide": (1366, 768), "narrow": (390, 844)}
LONGEST_MS = 600_000


def shoot(page: Page, name: str, out: Path) -> None:
    """The page as it is: two sizes, two languages, two themes; tells where it is wider than the screen."""
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for language in ("en", "fr"):
            page.locator("header select").nth(0).select_option(language)
            for theme in ("light", "dark"):
                page.locator("header select").nth(1).select_option(theme)
                page.wait_for_timeout(400)
                page.screenshot(path=out / f"{name}-{size}-{language}-{theme}.png", full_page=True)
        wanted = page.evaluate("document.documentElement.scrollWidth")
        if wanted > width:
            print(f"{name}: {wanted} px wide on a screen of {width}")
    page.set_viewport_size({"width": 1366, "height": 768})
    page.locator("header select").nth(0).select_option("en")


def kill_engine(out: Path) -> None:
    """As a crash would."""
    for process in psutil.process_iter(["cmdline"]):
        if f"--out={out}" in (process.info["cmdline"] or []):
            os.kill(process.pid, signal.SIGKILL)


def walk(page: Page, root: Path, out: Path) -> None:
    """From the first page to the last."""
    begun = time.monotonic()
    page.get_by_role("button", name=str(root)).click()
    page.get_by_role("button", name="frames", exact=True).click()
    page.get_by_role("button", name="Make the mosaic").wait_for()
    page.wait_for_timeout(5000)
    shoot(page, "start", out)
    page.get_by_role("button", name="Make the mosaic").click()
    page.get_by_role("button", name="Stop").wait_for()
    page.locator("h2", has_text="Matching").wait_for()
    shoot(page, "run", out)
    page.get_by_role("heading", name="Files").wait_for()
    print(f"3 clicks from the link to the picture, {time.monotonic() - begun:.0f} s with the pictures of two pages")
    page.frame_locator("iframe").locator("canvas").first.wait_for()
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
    page.go_back()
    page.locator("main").get_by_role("link", name="Choose frames").click()
    page.get_by_role("button", name="Make the mosaic").click()
    page.get_by_role("button", name="Stop").wait_for()
    kill_engine(root / "frames-mosaic")
    begun = time.monotonic()
    page.get_by_role("button", name="Go on").wait_for()
    print(f"engine killed: the page offers Go on after {time.monotonic() - begun:.1f} s")
    shoot(page, "died", out)
    (root / "frames").rename(root / "unplugged")
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("does not exist").wait_for()
    shoot(page, "failed", out)


def main() -> None:
    """Serve, walk, and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("--out", type=Path, default=Path("pictures"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "pictures"
        shutil.copytree(args.frames, root / "frames")
        command = [sys.executable, "-m", "zemosaic", "serve", f"--root={root}"]
        env = {**os.environ, "XDG_CONFIG_HOME": f"{scratch}/config"}
        server = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        try:
            link = re.findall(r"http\S+", server.stderr.readline())[0]
            with sync_playwright() as running:
                browser = running.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1366, "height": 768}, locale="en")
                page.set_default_timeout(LONGEST_MS)
                page.goto(link)
                walk(page, root, args.out)
                browser.close()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


if __name__ == "__main__":
    main()
