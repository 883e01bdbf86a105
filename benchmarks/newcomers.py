"""The commands of three newcomers, typed as the guide has them, in an empty home folder and a new virtual environment.

    python benchmarks/newcomers.py [--page FILE]

The owner of a smart telescope (raw frames), an astrophotographer (calibrated panels), an astronomer (tiles with weight
maps, and Python). Frames are simulated. The package is installed from this checkout; its dependencies come from where
pip is used to take them. Told of each step: minutes by the clock, seconds of the processor, and how it ended.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from page import ROOT, add_page_option, page_section

PREPARED = """
from pathlib import Path
import numpy as np
from astropy.io import fits
from zemosaic.simulate import FrameRecipe, SimulatedSky, simulate_frames
simulate_frames(Path("panels"), SimulatedSky(3, size_deg=0.9), 6, FrameRecipe(shape=(600, 900)))
simulate_frames(Path("tiles"), SimulatedSky(4, size_deg=0.7), 4, FrameRecipe(shape=(400, 600)))
for path in sorted(Path("tiles").glob("*.fits")):
    weight = np.isfinite(fits.getdata(path)).astype(np.float32)
    fits.writeto(path.with_suffix(".weight.fits"), weight)
"""
"""Frames as the second and the third bring them; outside of what is timed."""

PYTHON = """
import zemosaic
result = zemosaic.coadd(sorted(str(p) for p in __import__("pathlib").Path("tiles").glob("*[0-9].fits")))
print(result.data.shape, result.left_out)
"""

WALKS = {
    "smart telescope": (
        "zemosaic demo",
        "zemosaic build zemosaic-demo/frames -o M1",
    ),
    "calibrated panels": (
        "zemosaic scan panels",
        "zemosaic build panels -o mosaic",
        "zemosaic report mosaic",
    ),
    "tiles, weights, Python": (
        "zemosaic scan tiles",
        "zemosaic coadd tiles -o out --set stack.method=mean",
        "python coadd.py",
    ),
}


def type_command(words: list[str], home: Path) -> tuple[float, float, int, str]:
    """Minutes, seconds of the processor, exit code, and the last line that was said."""
    environment = {"HOME": str(home), "PATH": f"{home}/env/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True, check=False)
    after, minutes = resource.getrusage(resource.RUSAGE_CHILDREN), (time.perf_counter() - begun) / 60
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return minutes, spent, done.returncode, (last or ["nothing"])[-1]


def walk(home: Path) -> None:
    """All steps, one row each."""
    print("| who | command | minutes | processor, s | exit code |\n|---|---|---|---|---|")

    def step(who: str, shown: str, *words: str) -> None:
        minutes, spent, code, last = type_command(list(words), home)
        print(f"| {who} | `{shown}` | {minutes:.1f} | {spent:.0f} | {code} |", flush=True)
        if code:
            print(f"{who}: {shown}: {last}", file=sys.stderr)

    step("all", "python -m venv env", sys.executable, "-m", "venv", "env")
    step("all", "python -m pip install .", f"{home}/env/bin/python", "-m", "pip", "install", "-q", str(ROOT))
    (home / "coadd.py").write_text(PYTHON, encoding="utf-8")
    subprocess.run([f"{home}/env/bin/python", "-c", PREPARED], cwd=home, check=True, env={**os.environ})
    for who, commands in WALKS.items():
        for command in commands:
            step(
                who,
                command,
                *[f"{home}/env/bin/{word}" if n == 0 else word for n, word in enumerate(shlex.split(command))],
            )


ABOUT = """Commands of three newcomers, in an empty home folder and a new virtual environment. The load says how much
else the cores had to do: where it is high, only the seconds of the processor say what a quiet machine needs."""


def main() -> None:
    """Walk three times, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_page_option(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, page_section(given.page, __file__, "Three walks", ABOUT):
        walk(Path(home))


if __name__ == "__main__":
    main()
