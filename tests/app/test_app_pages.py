"""The app's pages by their text, and the chart's sky in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from app_cases import PAGES, Client, words
from browser_cases import open_browser
from zemosaic.cli.show import tell_left
from zemosaic.engine.events import TimeLeft
from zemosaic.pipelines.products.make import PRODUCTS
from zemosaic.text import say

if TYPE_CHECKING:
    from playwright.sync_api import Page

SOURCE = PAGES.parents[1]
OWN = sorted(PAGES.glob("*.js"))


def test_both_languages_have_all_words_and_the_same_fields() -> None:
    english, french = words("en"), words("fr")
    assert list(english) == list(french)
    fields = {key: (set(re.findall(r"{\w+}", english[key])), set(re.findall(r"{\w+}", french[key]))) for key in english}
    assert [key for key, (one, other) in fields.items() if one != other] == []


def test_every_word_that_a_page_says_is_known_and_no_other() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in OWN)
    said = set(re.findall(r"\bt\(\"([\w.-]+)\"", text))
    families = set(re.findall(r"\bt\(`([\w-]+)\.\$", text))
    known = {key.removesuffix(".one") for key in words("en")}
    assert said - known == set()
    assert [key for key in known - said if key.split(".")[0] not in families] == []


def test_every_stage_of_a_run_has_words() -> None:
    texts = [path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")]
    stages = {stage for text in texts for stage in re.findall(r"log\.start\(\"([\w-]+)\"", text)} | set(PRODUCTS)
    assert {f"stage.{stage}" for stage in stages - {"simulate", "score"}} - set(words("en")) == set()


def test_pages_ask_for_nothing_outside_and_write_no_markup() -> None:
    for path in OWN:
        text = path.read_text(encoding="utf-8")
        assert "http:" not in text, path.name
        assert "https:" not in text, path.name
        assert "innerHTML" not in text, path.name


@pytest.fixture(scope="module")
def page(client: Client) -> Iterator[Page]:
    with open_browser() as browser:
        opened = browser.new_page(viewport={"width": 1366, "height": 768}, locale="en")
        opened.set_default_timeout(300_000)
        opened.goto(f"http://127.0.0.1:{client.port}/?token={client.token}")
        yield opened


def in_page(page: Page, script: str, values: Any, module: str = "sky") -> Any:
    """What a function of one of the pages' modules gives."""
    path = f"/static/{module}.js"
    return page.evaluate(f"async (values) => {{ const m = await import('{path}'); return {script}; }}", values)


def test_a_lasso_takes_frames_whose_middle_lies_in_it(page: Page) -> None:
    lasso = [[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]]  # with a bay from above
    shapes = [
        [[x - 1, y - 1], [x + 1, y - 1], [x + 1, y + 1], [x - 1, y + 1]]
        for x, y in ((0.5, 1), (2, 3), (3.8, 3), (5, 1))
    ]
    found = in_page(page, "values[0].map((shape) => m.inOutline(shape, values[1]))", [[*shapes, None], lasso], "choice")
    assert found == [True, False, True, False, False]
    frames = [{"date_obs": text} for text in ("2026-03-26T21:20:46", "2026-03-27T03:00:00", "2026-03-27T20:00:00Z", "")]
    nights = ["2026-03-26", "2026-03-26", "2026-03-27", ""]
    assert in_page(page, "values.map(m.nightOf)", frames, "choice") == nights


def test_a_stage_that_ends_beside_another_leaves_that_one_shown(page: Page) -> None:
    """The report is made beside the other products, and kernels are compiled beside stages."""
    lines = [
        {"event": "TimeLeft", "seconds": 9.0, "share": 0.5, "at_s": 9.0},
        {"event": "StageStarted", "stage": "report", "total": None, "at_s": 10.0},
        {"event": "StageStarted", "stage": "viewer", "total": 4, "at_s": 10.5},
        {"event": "StageStarted", "stage": "compile", "total": 3, "at_s": 11.0},
        {"event": "Progress", "stage": "viewer", "done": 1, "at_s": 11.5},
        {"event": "Progress", "stage": "compile", "done": 2, "at_s": 11.6},
        {"event": "StageEnded", "stage": "viewer", "seconds": 1.5, "at_s": 12.0},
        {"event": "StageEnded", "stage": "report", "seconds": 2.5, "at_s": 12.5},
        {"event": "StageEnded", "stage": "compile", "seconds": 2.5, "at_s": 13.5},
    ]
    script = (
        "values.map(((run) => (e) => { run = m.addEvent(run, e);"
        " return [run.stage, run.done, m.secondsLeft(run)]; })(m.emptyRun()))"
    )
    shown = in_page(page, script, lines, "progress")
    stages = ["", "report", "viewer", "viewer", "viewer", "viewer", "report", "compile", ""]
    assert [stage for stage, _, _ in shown] == stages
    assert [done for _, done, _ in shown] == [0, 0, 0, 0, 1, 1, 0, 2, 0]
    assert [left for _, _, left in shown] == pytest.approx([9.0, 8.0, 7.5, 7.0, 6.5, 6.4, 6.0, 5.5, 4.5])


def test_the_page_and_the_console_tell_the_time_left_as_coarsely(page: Page) -> None:
    seconds = [0, 4.9, 5, 59.6, 89, 91, 5000, 7000]
    script = "(await (await import('/static/words.js')).loadWords('en'), values.map(m.spellLeft))"
    told = in_page(page, script, seconds, "numbers")
    assert told == [
        "a few seconds left", "a few seconds left", "about 5 seconds left", "about 60 seconds left",
        "about 89 seconds left", "about 2 minutes left", "about 83 minutes left", "about 1 h 57 min left",
    ]  # fmt: skip
    console = [say(tell_left(TimeLeft(s, 0.5))) for s in seconds]
    assert console == [
        "a few seconds left", "a few seconds left", "about 5 s left", "about 60 s left",
        "about 89 s left", "about 2 min left", "about 83 min left", "about 1 h 57 min left",
    ]  # fmt: skip
    assert say(tell_left(TimeLeft(60.0, 0.04)), "fr") == "temps restant : estimation en cours"


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 20.0), (200.0, 89.5)])
def test_lines_of_the_chart_lie_where_their_labels_say(page: Page, ra: float, dec: float) -> None:
    """Also round RA 0h, and about the pole, where all right ascensions are seen."""
    lines = in_page(page, "m.gridLines([-1, 1, -1, 1], values)", [ra, dec], "grid")
    kinds = [line["kind"] for line in lines]
    assert kinds.count("ra") >= 4
    assert kinds.count("dec") >= 3
    for line in lines:
        sky = np.array(
            in_page(page, "values[0].map(([x, y]) => m.toSky(x, y, values[1]))", [line["points"], [ra, dec]])
        )
        off = sky[:, 0 if line["kind"] == "ra" else 1] - float(line["label"].rstrip("°"))
        np.testing.assert_allclose((off + 180) % 360 - 180, 0, atol=0.006)


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 20.0), (123.0, -40.0), (200.0, 89.0)])
def test_frames_lie_where_they_are_and_are_counted(page: Page, ra: float, dec: float) -> None:
    """The chart's plane against astropy's, also round RA 0h and near the pole; counts against each frame looked at."""
    from astropy.wcs import WCS

    rng = np.random.default_rng(4)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.cdelt, wcs.wcs.crpix = [ra, dec], [1.0, 1.0], [1.0, 1.0]
    centres, turns = rng.uniform(-1, 1, (40, 1, 2)), rng.uniform(0, 2 * np.pi, 40)
    turn = np.moveaxis(np.array([[np.cos(turns), -np.sin(turns)], [np.sin(turns), np.cos(turns)]]), -1, 0)
    shapes = centres + np.array([[-0.5, -0.3], [0.5, -0.3], [0.5, 0.3], [-0.5, 0.3]]) @ turn
    shapes[::3] = shapes[::3, ::-1]  # of a mirrored frame corners go the other way round
    corners = wcs.wcs_pix2world(shapes.reshape(-1, 2), 0).reshape(40, 4, 2)
    found = in_page(page, "m.layOut(values)", [{"corners": shape.tolist()} for shape in corners])
    own = np.array(found["shapes"])
    middle = WCS(naxis=2)
    middle.wcs.ctype, middle.wcs.crval, middle.wcs.cdelt = ["RA---TAN", "DEC--TAN"], found["middle"], [1.0, 1.0]
    middle.wcs.crpix = [1.0, 1.0]
    wanted = middle.wcs_world2pix(corners.reshape(-1, 2), 0).reshape(40, 4, 2)
    np.testing.assert_allclose(own, wanted, atol=1e-9)

    box = [-2.0, 2.0, -2.0, 2.0]
    script = "Array.from(m.coverage(m.pack(values[0]), values[1], 200, 160))"
    counts = np.array(in_page(page, script, [own.tolist(), box]))
    x, y = np.meshgrid((np.arange(200) + 0.5) / 50 - 2, (np.arange(160) + 0.5) / 40 - 2)
    edges = np.roll(own, -1, axis=1) - own
    side = [
        edges[:, k, 0, None, None] * (y - own[:, k, 1, None, None])
        - edges[:, k, 1, None, None] * (x - own[:, k, 0, None, None])
        for k in range(4)
    ]
    inside = (np.array(side) > 0).all(axis=0) | (np.array(side) < 0).all(axis=0)
    assert counts.max() >= 5
    np.testing.assert_array_equal(counts.reshape(160, 200), inside.sum(axis=0))
    sky = np.array(
        in_page(page, "values[0].map(([x, y]) => m.toSky(x, y, values[1]))", [own[0].tolist(), found["middle"]])
    )
    difference = sky - corners[0]
    difference[:, 0] = (difference[:, 0] + 180) % 360 - 180
    np.testing.assert_allclose(difference * [np.cos(np.deg2rad(dec)), 1], 0, atol=1e-9)


@pytest.mark.parametrize("dots", [1, 2])
@pytest.mark.parametrize("dec", [20.0, 89.5])
def test_labels_of_the_chart_do_not_lie_over_each_other(page: Page, dots: int, dec: float) -> None:
    """On a small canvas, which is as sharp as the screen; the size of its text is that of the page."""
    ras = (83.0, 85.0, 87.0) if dec < 80 else (0.0, 120.0, 240.0)
    frames = [
        {"path": f"{ra}", "corners": [[ra, dec], [ra + 2, dec], [ra + 2, dec + 0.4], [ra, dec + 0.4]]} for ra in ras
    ]
    script = """(async ([frames, dots]) => {
      const s = await import("/static/sky.js"), canvas = document.createElement("canvas");
      Object.defineProperty(window, "devicePixelRatio", { value: dots, configurable: true });
      canvas.style.cssText = "position: fixed; width: 300px; height: 220px";
      document.body.append(canvas);
      const boxes = [], pen = canvas.getContext("2d");
      pen.fillText = (text, x, y) => boxes.push([x, y - 10, x + pen.measureText(text).width, y + 2]);
      const sky = s.layOut(frames);
      m.draw(canvas, { sky, seen: s.boundsOf(sky.shapes), packed: s.pack(sky.shapes), lines: [] });
      canvas.remove();
      return { boxes, size: [canvas.width, canvas.height] };
    })(values)"""
    found = in_page(page, script, [frames, dots], "draw")
    assert found["size"] == [300 * dots, 220 * dots]
    boxes = np.array(found["boxes"])
    assert len(boxes) >= 4
    assert (boxes[:, 0] >= 0).all()
    assert (boxes[:, 2] <= 300).all()
    x0, y0, x1, y1 = boxes.T
    over = (x0[:, None] < x1) & (x0 < x1[:, None]) & (y0[:, None] < y1) & (y0 < y1[:, None])
    assert over.sum() == len(boxes)
