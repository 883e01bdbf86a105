"""A person's way through the app in a real browser: from two folders of raw frames to a mosaic.

The browser and the server have a network with nothing but themselves in it, where the system allows that.
"""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from app_cases import Person, Server, network_alone, words
from browser_cases import CHROMIUM, find_barriers, open_browser
from mosaic_cases import mosaic_bytes
from zemosaic.app.output import OutputFolder
from zemosaic.app.runs import STOP_S
from zemosaic.cli import main
from zemosaic.settings import list_keys

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

N_FIRST, N_LATER = 8, 2
"""Frames of the two nights; of the first, one shows its stars twice."""

MACHINE_IS_BUSY_S = 10.0
"""What a page may take beyond the time that is promised: other tests run beside this one."""


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw frames of two nights, in two folders."""
    from zemosaic.io.astrometry.catalogue import tycho2
    from zemosaic.simulate import RawRecipe, SimulatedSky, simulate_raws

    folder = tmp_path_factory.mktemp("nights")
    known = tycho2().cone(83.8, 22.0, 2.0)
    sky = SimulatedSky(4, 83.8, 22.0, 1.0, (known.ra_deg, known.dec_deg, known.mag))
    recipe = RawRecipe(shape=(480, 720), panels=(1, 1), cloud_fraction=0, soft_fraction=0, hot_fraction=5e-4)
    simulate_raws(folder, sky, N_FIRST + N_LATER, recipe)
    for k, path in enumerate(sorted(folder.glob("*.fit"))):
        night = folder / f"M1 {1 + k // N_FIRST}"
        night.mkdir(exist_ok=True)
        path.rename(night / path.name)
    return folder


@pytest.fixture(scope="module")
def within() -> Iterator[list[str]]:
    with network_alone() as within:
        yield within


@pytest.fixture(scope="module")
def browser(within: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    start = tmp_path_factory.mktemp("browser") / "chromium"
    start.write_text(f'#!/bin/sh\nexec {" ".join(within)} {CHROMIUM} "$@"\n')
    start.chmod(start.stat().st_mode | stat.S_IXUSR)
    with open_browser(start) as browser:
        yield browser


class Walk:
    """One person at one server, in one language."""

    def __init__(self, page: Page, server: Server, language: str, *, by_keys: bool) -> None:
        self.page, self.server, self.words = page, server, words(language)
        self.person = Person(page, by_keys=by_keys)
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda problem: self.said.append(str(problem)))
        page.on("request", lambda request: self.asked.append(request.url))

    def word(self, key: str, **fields: object) -> str:
        return self.words[key].format(**fields)

    def find(self, role: Any, key: str, **fields: object) -> Locator:
        return self.page.get_by_role(role, name=self.word(key, **fields), exact=True)

    def see(self, key: str, within_ms: float | None = None, **fields: object) -> None:
        self.page.get_by_text(self.word(key, **fields), exact=True).first.wait_for(timeout=within_ms)

    def press(self, role: Any, key: str, **fields: object) -> None:
        self.person.press(self.find(role, key, **fields))

    def open_folder(self, *names: str) -> None:
        for name in names:
            self.person.press(self.page.get_by_role("button", name=name, exact=True))

    def count_used(self) -> int:
        return int(re.findall(r"\d+", self.page.locator("main > [role=status]").inner_text())[0])

    def look_for_faults(self) -> None:
        """What an automatic check of access finds, in light and dark colours, and words of the other language."""
        for theme in ("light", "dark"):
            self.page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
            found = find_barriers(self.page)
            assert [what for what in found if what[1] in {"serious", "critical"}] == [], self.page.url
        other = {"en": "fr", "fr": "en"}[self.page.evaluate("document.documentElement.lang")]
        shown = self.page.evaluate(SHOWN)
        assert set(WORD.findall(shown)) & foreign_words(other) == set(), self.page.url


SHOWN = """() => {
  const copy = document.body.cloneNode(true);
  for (const node of copy.querySelectorAll("code, pre, select, a[download]")) node.remove();
  document.body.append(copy);
  const text = copy.innerText;
  copy.remove();
  return text;
}"""
"""What a page says, without names of files and keys."""

WORD = re.compile(r"(?<![\w./-])[^\W\d_]{4,}(?![\w./-])")


def foreign_words(language: str) -> set[str]:
    """Words of the pages in a language which the pages in the other one do not have; values of settings are of none."""
    found = {name: {w for text in words(name).values() for w in WORD.findall(text)} for name in ("en", "fr")}
    values = {w for _, keys in list_keys().values() for key in keys for w in WORD.findall(key.allowed)}
    return found[language] - found[{"en": "fr", "fr": "en"}[language]] - values


@pytest.mark.parametrize(("language", "by_keys"), [("en", False), ("fr", True)])
def test_from_two_nights_to_a_mosaic(
    browser: Browser, within: list[str], nights: Path, tmp_path: Path, language: str, by_keys: bool
) -> None:
    """Looked at, frames left out, stopped, killed, gone on with, added to; in French by keys alone.

    The bytes are those that ``zemosaic build`` makes of the settings and the table of frames that the app keeps.
    """
    server = Server(nights, within)
    page = browser.new_page(viewport={"width": 1366, "height": 768}, locale=language)
    page.set_default_timeout(300_000)  # the first run of a machine compiles
    walk = Walk(page, server, language, by_keys=by_keys)
    try:
        out = nights / f"M1 {language}"
        choose_frames(walk, nights, out)
        stop_and_go_on(walk, out)
        add_a_night(walk, nights, out, tmp_path)
    finally:
        page.close()
        server.stop()
    assert walk.said == []
    own = ("http://127.0.0.1:", "data:", "blob:")
    assert [url for url in walk.asked if not url.startswith(own)] == []


def choose_frames(walk: Walk, root: Path, out: Path) -> None:
    """From the first page to the choice of frames: two are left out on the chart, one by a slider."""
    page, person = walk.page, walk.person
    page.goto(walk.server.link)
    walk.press("link", "page.settings")
    person.write(page.get_by_label("grid.scale_arcsec").first, "1.2")
    person.write(page.get_by_label("output.also").first, "viewer")
    walk.look_for_faults()
    walk.press("link", "page.start")
    walk.open_folder(str(root), "M1 1")
    walk.see("kind.light", n=N_FIRST)
    page.get_by_text(re.compile(r"\d+ x \d+ pixels, \d+[.,]\d+ G[Bo]")).wait_for()
    person.write(page.get_by_label(walk.word("start.out")), str(out))
    walk.look_for_faults()
    walk.press("button", "start.look")
    person.press(page.get_by_role("main").get_by_role("link", name=walk.word("run.frames"), exact=True))

    chart = page.get_by_role("application")
    chart.wait_for()
    walk.look_for_faults()
    begun_with = walk.count_used()
    blink_through(walk)
    if walk.person.by_keys:
        person.reach(chart)
        page.keyboard.press("Enter")
    else:
        chart.click()
    hits = page.locator(".hits").get_by_role("checkbox")
    for k in range(2):
        person.press(hits.nth(k))
    assert walk.count_used() == begun_with - 2
    slider = walk.find("slider", "quantity.sky")
    person.reach(slider) if walk.person.by_keys else slider.focus()
    while walk.count_used() > begun_with - 3:
        page.keyboard.press("ArrowLeft")
    assert walk.count_used() == begun_with - 3
    walk.press("button", "start.make")


def blink_through(walk: Walk) -> None:
    """The pictures of the frames, one after the other, by keys and by themselves."""
    shown = walk.page.locator(".blink img")
    names = []
    walk.person.reach(walk.page.locator(".blink")) if walk.person.by_keys else walk.page.locator(".blink").focus()
    for _ in range(N_FIRST):
        assert shown.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") > 100
        names.append(shown.get_attribute("alt"))
        walk.page.keyboard.press("ArrowRight")
        walk.page.wait_for_selector(f".blink img:not([alt='{names[-1]}'])")
    assert len(set(names)) == N_FIRST
    walk.page.keyboard.press("b")
    before = shown.get_attribute("alt")
    walk.page.wait_for_selector(f".blink img:not([alt='{before}'])")
    walk.page.keyboard.press("b")
    assert walk.page.locator(".thumb").count() == N_FIRST


def stop_and_go_on(walk: Walk, out: Path) -> None:
    """Stopped while frames are combined; the server is killed; the run goes on to its end."""
    walk.find("heading", "stage.stack").wait_for()
    walk.press("button", "run.stop")
    walk.see("run.stopped", within_ms=1e3 * (STOP_S + MACHINE_IS_BUSY_S))
    walk.look_for_faults()
    assert OutputFolder(out).last_end()["code"].startswith(("run.stopped", "run.interrupted"))  # type: ignore[index]
    walk.server.kill()
    walk.page.goto(walk.server.link)
    walk.person.press(walk.page.get_by_role("link", name=out.name, exact=True))
    walk.press("button", "run.go")
    walk.find("heading", "result.files").wait_for()
    walk.page.frame_locator("iframe").locator("canvas").first.wait_for()
    for theme in ("dark", "light"):
        walk.page.locator("header select").nth(1).select_option(theme)
        walk.page.frame_locator("iframe").locator(f"html[data-theme={theme}]").wait_for()
    walk.look_for_faults()


def add_a_night(walk: Walk, root: Path, out: Path, scratch: Path) -> None:
    """Frames of another night go into the finished mosaic; the engine is killed on the way."""
    first = OutputFolder(out).notes
    saved = ["--config", str(first / "settings.toml"), "--frames", str(first / "frames.csv")]
    if not walk.person.by_keys:
        assert main(["build", *saved, "-o", str(scratch / "again"), str(root / "M1 1")]) == 0
        assert (scratch / "again" / "mosaic.fits").read_bytes() == (out / "mosaic.fits").read_bytes()
    walk.press("link", "add.open")
    walk.open_folder(str(root), "M1 2")
    walk.see("add.new", n=N_LATER)
    walk.look_for_faults()
    walk.press("button", "add.go")
    walk.find("button", "run.stop").wait_for()
    walk.look_for_faults()
    os.kill(child_in(out), signal.SIGKILL)
    walk.see("run.died")
    walk.press("button", "run.go")
    walk.find("heading", "result.files").wait_for()
    if not walk.person.by_keys:
        command = ["build", *saved, "--header", str(out / "mosaic.fits"), "-o", str(scratch / "both")]
        assert main([*command, str(root / "M1 1"), str(root / "M1 2")]) == 0
        assert mosaic_bytes(scratch / "both" / "mosaic.fits") == mosaic_bytes(out / "mosaic.fits")


def child_in(out: Path) -> int:
    """Process id of the run in a folder."""
    (child,) = [p for p in psutil.process_iter(["cmdline"]) if f"--out={out}" in (p.info["cmdline"] or [])]
    return int(child.pid)
