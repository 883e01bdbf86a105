"""Whole runs without a fault, over seeds: what the report's verdict says of them, beside their true seams.

    python benchmarks/verdicts.py [--seeds 1,2,3,4,5]

Small frames are the hardest to judge: few squares of their borders tell how sure a step is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from page import add_page_option, page_section
from zemosaic import build
from zemosaic.report.verdict import judge
from zemosaic.simulate import FrameRecipe, SimulatedSky, simulate_frames
from zemosaic.simulate.score import score_mosaic

SETS = ((8, (300, 400), 0.45), (12, (400, 500), 0.6), (16, (540, 960), 1.2))
"""Frames, their shape in pixels, and the side of their sky in degrees."""

ABOUT = """Simulated frames before a nebula, matched and coadded. Step is the root mean square of all steps at borders
as the report knows it, sure what is left of it, of the worst place and of the worst frame beyond their errors, all over
the noise of a pixel of the mosaic; the true seam is that of the scorer, which knows the sky."""


def main() -> None:
    """A row a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="1,2,3,4,5")
    add_page_option(parser)
    given = parser.parse_args()
    with page_section(given.page, __file__, "Verdicts of clean runs", ABOUT), tempfile.TemporaryDirectory() as scratch:
        print("| seed | frames | verdict | step | sure | place | frame | step before | true seam |")
        print("|---:|---|---|---:|---:|---:|---:|---:|---:|")
        for seed in map(int, given.seeds.split(",")):
            for n_frames, shape, size_deg in SETS:
                frames, out = (Path(scratch) / f"{name}_{seed}_{n_frames}" for name in ("frames", "out"))
                simulate_frames(frames, SimulatedSky(seed, size_deg=size_deg), n_frames, FrameRecipe(shape=shape))
                with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                    build(frames, out, settings={"output": {"also": []}})
                borders = json.loads((out / "report.json").read_text(encoding="utf-8"))["mosaic"]["borders"]
                names = ("step", "sure_step", "sure_place", "sure_frame", "step_before")
                told = " | ".join(f"{borders[name] or 0:.3f}" for name in names)
                seam = score_mosaic(frames, out / "mosaic.fits")["seam_sigma"]
                kind = f"{n_frames} of {shape[0]} x {shape[1]}"
                print(f"| {seed} | {kind} | {judge(borders).grade} | {told} | {seam:.3f} |")


if __name__ == "__main__":
    main()
