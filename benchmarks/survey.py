"""Time and memory of whole survey runs by the number of tiles.

    python benchmarks/survey.py WORK 25 100 400

Square skies of 25, 100, 400 tiles of 256 pixels, under frames of 300 x 400 pixels of one density (about four deep), in
mode grid with the frames matched and not matched, threads as the machine has, memory cap 2 GiB. Each run is a process
of its own; seconds are its processor time, stage by stage; the peak is its largest resident memory.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

from page import add_page_option, page_section

FRAMES_A_TILE = 1.9
PITCH_PX, SHARED_PX, SCALE_ARCSEC = 232, 24, 2.39


def simulate(folder: Path, n_side: int) -> int:
    """Frames that cover a square of tiles; how many."""
    from zemosaic.simulate import FrameRecipe, SimulatedSky, simulate_frames

    n = round(FRAMES_A_TILE * n_side**2)
    if not folder.exists():
        size_deg = (n_side * PITCH_PX + 300) * SCALE_ARCSEC / 3600
        sky = SimulatedSky(3, size_deg=size_deg, stars_per_deg2=4000)
        simulate_frames(folder, sky, n, FrameRecipe(shape=(300, 400), trail_fraction=0))
    return n


def run(work: Path, n_side: int, match: str) -> None:
    """Print one row of the table."""
    from zemosaic.engine.events import Event, StageEnded
    from zemosaic.pipelines.modes.survey import build_grid
    from zemosaic.pipelines.run.context import RunOptions, start_run
    from zemosaic.settings import load_settings

    frames = work / f"frames{n_side}"
    n_frames = simulate(frames, n_side)
    spent: dict[str, float] = {}

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    clock = cpu()

    def see(event: Event) -> None:
        nonlocal clock
        if isinstance(event, StageEnded):
            spent[event.stage], clock = cpu() - clock, cpu()

    side = n_side * PITCH_PX + SHARED_PX - 4
    settings = load_settings(assignments=[
        f"match.method={match}", "survey.tile_fields=0.5", f"grid.size_px={side},{side}", "output.preview=false",
    ])  # fmt: skip
    build_grid([frames], work / f"out{n_side}", settings, start_run(RunOptions(ram_bytes=2 << 30, fresh=True), see))
    wanted = ("measure", "match", "stack tiles", "match tiles", "blend")
    stages = "  ".join(f"{name} {spent.get(name, 0.0):6.1f}" for name in wanted)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{n_side**2:4d} tiles {n_frames:5d} frames  match {match:8s}  {stages}  all {cpu():6.1f} s  {peak:.0f} MB")


def main() -> None:
    """Lines for all counts, matched and not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("numbers", nargs="*", type=int, default=[25, 100, 400])
    parser.add_argument("--one", metavar="MATCH", help="in this process, with this match")
    add_page_option(parser)
    given = parser.parse_args()
    if given.one:
        run(given.work, round(given.numbers[0] ** 0.5), given.one)
        return
    about = (__doc__ or "").split("\n\n")[-1]
    with page_section(given.page, __file__, "Whole runs of the survey mode", about, is_table=False):
        for number in given.numbers:
            n_side = round(number**0.5)
            simulate(given.work / f"frames{n_side}", n_side)  # not in the process that is measured
            for match in ("one-sky", "none"):
                command = [sys.executable, __file__, str(given.work), str(number), "--one", match]
                print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="", flush=True)


if __name__ == "__main__":
    main()
