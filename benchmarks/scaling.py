"""Memory, scratch and time of one mosaic against the number of its frames.

``python benchmarks/scaling.py WORK --kind frames --numbers 250 500 1000 2000 --ram 2G``: copies of a few simulated
frames, each with its own cards and cut out at its own place, are built once for each number.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from astropy.io import fits

from machine import store_bytecode
from page import add_page_option, page_section
from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.simulate import FrameRecipe, RawRecipe, SimulatedSky, simulate_frames, simulate_raws

N_BASE = 12

MOST_SHIFT_PX = 20
"""Pixels that a copy is cut out away from the middle of a base frame, at most: whole pairs of them give 441 places."""


def make_base(folder: Path, kind: str, shape: tuple[int, int]) -> list[Path]:
    """A few simulated frames: small calibrated ones, or raw ones of a smart telescope with a sensor of some shape.

    They are larger than their copies by `MOST_SHIFT_PX` on each side.
    """
    height, width = (side + 2 * MOST_SHIFT_PX for side in ((400, 600) if kind == "frames" else shape))
    if kind == "frames":
        simulate_frames(folder, SimulatedSky(3, size_deg=0.7), N_BASE, FrameRecipe(shape=(height, width)))
    else:
        known = tycho2().cone(83.8, 22.0, 3.0)
        size_deg = 2.0 * max(shape) / max(RawRecipe().shape)
        sky = SimulatedSky(4, 83.8, 22.0, size_deg, (known.ra_deg, known.dec_deg, known.mag))
        simulate_raws(folder, sky, N_BASE, RawRecipe(shape=(height, width), cloud_fraction=0, soft_fraction=0))
    return sorted(path for path in folder.iterdir() if path.suffix in {".fit", ".fits"})


def write_copies(base: list[Path], folder: Path, number: int) -> None:
    """Parts of the base frames, each cut out at its own whole pairs of pixels; the WCS follows.

    Not the same frame rolled round: where its opposite borders meet stands an edge that no camera makes.
    """
    folder.mkdir()
    # No two alike: frames of the same pixels count once.
    most = MOST_SHIFT_PX
    starts = np.random.default_rng(1).permutation(np.stack(np.mgrid[: most + 1, : most + 1], axis=-1).reshape(-1, 2))
    for k in range(number):
        with fits.open(base[k % len(base)]) as hdus:
            data, header = hdus[0].data, hdus[0].header.copy()
        y, x = (2 * starts[k // len(base)]).tolist()
        height, width = (side - 2 * most for side in data.shape[-2:])
        if "CRPIX1" in header:
            header["CRPIX1"] -= x
            header["CRPIX2"] -= y
        header["COPY"] = k
        fits.writeto(folder / f"{k:05d}.fits", data[..., y : y + height, x : x + width], header)


class Watch:
    """Largest memory (PSS of a process and its children) and scratch of a run."""

    def __init__(self, process: psutil.Process, out: Path) -> None:
        self.peak_bytes = self.scratch_bytes = 0
        self._process, self._out, self._done = process, out, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._done.wait(0.2):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                self.peak_bytes = max(self.peak_bytes, sum(p.memory_full_info().pss for p in family))
                files = [p for p in (self._out / ".zemosaic").rglob("*") if p.is_file()]
                self.scratch_bytes = max(self.scratch_bytes, sum(p.stat().st_blocks * 512 for p in files))
            except (psutil.Error, OSError):
                continue

    def end(self) -> None:
        """Stop looking."""
        self._done.set()
        self._thread.join()


ABOUT = """Copies of twelve simulated frames, each cut out at its own place, no two alike. The peak
is the largest PSS of all processes; scratch is the output folder's own, the mosaic in the making included."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--kind", choices=["frames", "raws"], default="frames")
    parser.add_argument("--shape", type=int, nargs=2, default=[1920, 1080], help="height and width of raw frames")
    parser.add_argument("--numbers", type=int, nargs="+", default=[250, 500, 1000, 2000])
    parser.add_argument("--ram", default="2G", help="or default, for what the machine offers")
    parser.add_argument("--executor", default="threads")
    parser.add_argument("--workers", default="2")
    add_page_option(parser)
    given = parser.parse_args()
    title = f"Number of {given.kind}, {given.workers} workers, executor {given.executor}, cap {given.ram}"
    with page_section(given.page, __file__, title, ABOUT):
        print_table(given)


def print_table(given: argparse.Namespace) -> None:
    """Make frames, build; one row a number."""
    store_bytecode()
    given.work.mkdir(parents=True, exist_ok=True)
    base = make_base(given.work / "base", given.kind, tuple(given.shape))
    print(
        "| frames | input, MB | wall, s | processor, s | a frame, ms | system, % | measure, match, stack, s | peak, MB "
        "| scratch, MB |",
        flush=True,
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for number in given.numbers:
        frames, out = given.work / "frames", given.work / "out"
        write_copies(base, frames, number)
        n_bytes = sum(path.stat().st_size for path in frames.iterdir())
        command = [sys.executable, "-m", "zemosaic", "build", str(frames), "-o", str(out)]
        command += ["--ram", given.ram] if given.ram != "default" else []
        command += ["--executor", given.executor, "--workers", given.workers, "--set", "quality.triage=off"]
        begun = time.perf_counter()
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        watch = Watch(psutil.Process(run.pid), out)
        before = psutil.Process().cpu_times()
        _, said = run.communicate()
        watch.end()
        after = psutil.Process().cpu_times()
        wall = time.perf_counter() - begun
        if run.returncode != 0:
            sys.exit(said)
        user, system = (getattr(after, n) - getattr(before, n) for n in ("children_user", "children_system"))
        seconds = json.loads((out / "report.json").read_text())["seconds"]
        stages = ", ".join(f"{seconds.get(stage, 0):.0f}" for stage in ("measure", "match", "stack"))
        print(
            f"| {number} | {n_bytes / 1e6:.0f} | {wall:.1f} | {user + system:.1f} "
            f"| {1000 * (user + system) / number:.0f} | {100 * system / (user + system):.0f} | {stages} "
            f"| {watch.peak_bytes / 1e6:.0f} | {watch.scratch_bytes / 1e6:.0f} |",
            flush=True,
        )
        shutil.rmtree(frames)
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
