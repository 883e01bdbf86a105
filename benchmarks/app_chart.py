"""How fast the app's sky chart and table are with many frames, in a headless Chromium without a GPU.

    python benchmarks/app_chart.py --frames 20000

The page is the real one; its frames are synthetic, turned at random round RA 0h. "redraw" is the time from one frame of
the screen to the next while the wheel zooms, "processor" what of it the page's main thread computes; "hit" that of
finding the frames under a point; "brush" from a key that chooses all frames to the next picture of chart and table.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import tempfile
import threading
from pathlib import Path

import numpy as np
import uvicorn
from playwright.sync_api import CDPSession, sync_playwright

from zemosaic.app.guard import Access
from zemosaic.app.history import Home
from zemosaic.app.output import OutputFolder
from zemosaic.app.roots import Roots
from zemosaic.app.runs import Runs
from zemosaic.app.server import make_app, page_policy

N_WARM = 5
"""Redraws that do not count: scripts are compiled in them."""

PACE = """() => new Promise((done) => {
  const chart = document.querySelector("canvas.chart"), times = [];
  let last = performance.now(), n = 0;
  const next = (now) => {
    times.push(now - last); last = now;
    if (++n > 60) return done(times.slice(N_WARM));
    const deltaY = n % 40 < 20 ? -1 : 1;
    chart.dispatchEvent(new WheelEvent("wheel", { deltaY, clientX: 500, clientY: 400, bubbles: true }));
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
})""".replace("N_WARM", str(N_WARM))

HIT = """async (rows) => {
  const m = await import("/static/sky.js");
  const frames = rows.map((row) => ({ corners: [1, 2, 3, 4].map((k) => [+row[`ra${k}_deg`], +row[`dec${k}_deg`]]) }));
  const { shapes } = m.layOut(frames), begun = performance.now();
  for (let i = 0; i < 20; i++) shapes.filter((shape) => m.isInside(shape, 0.1 * i - 1, 0.2));
  return (performance.now() - begun) / 20;
}"""

BRUSH = """() => new Promise((done) => {
  const rows = document.querySelector(".rows"), begun = performance.now();
  rows.dispatchEvent(new KeyboardEvent("keydown", { key: "a", bubbles: true }));
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begun)));
})"""


def make_rows(n: int) -> list[dict[str, str]]:
    """Rows of a table of frames, as the server gives them."""
    rng = np.random.default_rng(1)
    centres, turns = rng.normal(0, 4, (n, 1, 2)), rng.uniform(0, 2 * np.pi, n)
    turn = np.moveaxis(np.array([[np.cos(turns), -np.sin(turns)], [np.sin(turns), np.cos(turns)]]), -1, 0)
    corners = centres + np.array([[-0.36, -0.64], [0.36, -0.64], [0.36, 0.64], [-0.36, 0.64]]) @ turn
    return [
        {"name": f"Light_{i:05d}.fit", "path": f"/f/Light_{i:05d}.fit", "use": "True", "reason": "", "fwhm_px": "3.1",
         "ellipticity": "0.1", "n_stars": "90", "sky": f"{100 + i % 7}", "noise": "3", "date_obs": "2026-01-01"}
        | {f"ra{k + 1}_deg": str(shape[k, 0] % 360) for k in range(4)}
        | {f"dec{k + 1}_deg": str(shape[k, 1]) for k in range(4)}
        for i, shape in enumerate(corners)
    ]  # fmt: skip


def busy_s(devtools: CDPSession) -> float:
    """Processor time that the page's main thread has used."""
    metrics = devtools.send("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20000)
    parser.add_argument("--shot", help="Write a screenshot here.")
    args = parser.parse_args()
    rows = make_rows(args.frames)
    with tempfile.TemporaryDirectory() as scratch:
        folder, home = OutputFolder(Path(scratch) / "run"), Home(Path(scratch) / "home")
        folder.write_request({"look": True, "command": ""})
        folder.events.write_text(json.dumps({"event": "Done", "outputs": {}}) + "\n")
        home.remember(folder)
        listener, token = socket.create_server(("127.0.0.1", 0)), secrets.token_urlsafe(32)
        port = listener.getsockname()[1]
        access = Access(port, token, frozenset({"127.0.0.1"}), page_policy())
        server = uvicorn.Server(
            uvicorn.Config(make_app(access, Roots([Path(scratch)]), Runs(), home), log_level="warning", lifespan="off")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        with sync_playwright() as running:
            browser = running.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1366, "height": 768})
            page.route("**/frames", lambda route: route.fulfill(json=rows), times=2)
            page.goto(f"http://127.0.0.1:{port}/?token={token}")
            page.get_by_role("link", name="run").click()
            page.locator("main").get_by_role("link").first.click()
            page.locator("canvas.chart").wait_for()
            if args.shot:
                page.screenshot(path=args.shot, full_page=True)
            devtools = page.context.new_cdp_session(page)
            devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
            before = busy_s(devtools)
            times = np.array(page.evaluate(PACE))
            processor_ms = 1000 * (busy_s(devtools) - before) / (len(times) + N_WARM)
            hit_ms, brush_ms = page.evaluate(HIT, rows), page.evaluate(BRUSH)
            browser.close()
        server.should_exit = True
        thread.join()
    print(f"frames      {args.frames}")
    print(f"redraw ms   median {np.median(times):.0f}, p95 {np.quantile(times, 0.95):.0f}, worst {times.max():.0f}")
    print(f"  processor {processor_ms:.0f} ms each")
    print(f"hit ms      {hit_ms:.2f}")
    print(f"brush ms    {brush_ms:.0f}")


if __name__ == "__main__":
    main()
