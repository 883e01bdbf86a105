"""Time and memory of the tile photometry by the number of tiles.

    python benchmarks/tiles.py 25 100 400

Square grids of 288-pixel tiles of one sky with planted gains, offsets and gradients. Each count runs in a process of
its own. Seconds are processor time of one thread.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from page import add_page_option, page_section

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "cases"))


def run(n_side: int) -> None:
    """Print one row of the table."""
    from tile_cases import TiledSky
    from zemosaic.settings import MatchSettings
    from zemosaic.stages.survey.overlaps import build_tile_overlap_graph
    from zemosaic.stages.survey.solve import measure_steps, solve_tiles

    survey = TiledSky(n_y=n_side, n_x=n_side, size=288, overlap=64, sigma=4.0)
    seconds = {}
    clock = time.process_time()

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name] = time.process_time() - clock
        clock = time.process_time()

    measured = survey.measure()
    lap("measure")
    graph = build_tile_overlap_graph(survey.tiles)
    lap("graph")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    solution = solve_tiles(measured, survey.boxes, survey.shape, MatchSettings(), graph)
    lap("solve")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    steps = measure_steps(survey.tiles, graph, solution.scales)
    gain = np.array([scale.gain[0] for scale in solution.scales])
    error = gain / survey.gain
    print(
        f"{n_side**2:5d} tiles {len(graph.edges):5d} overlaps  measure {seconds['measure']:6.2f} s  "
        f"graph {seconds['graph']:6.2f} s  solve {seconds['solve']:6.2f} s (+{grown:.0f} MB)  "
        f"gain error {100 * np.std(np.log(error)):.3f} %  steps left {np.sqrt(np.mean(steps**2)):.3f} ADU (sigma 4)"
    )


def main() -> None:
    """One line a number of tiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", type=int, default=[25, 100, 400])
    parser.add_argument("--one", action="store_true", help="in this process")
    add_page_option(parser)
    given = parser.parse_args()
    if given.one:
        run(round(given.numbers[0] ** 0.5))
        return
    about = (__doc__ or "").split("\n\n")[-1]
    with page_section(given.page, __file__, "Photometry of tiles", about, is_table=False):
        for number in given.numbers:
            command = [sys.executable, __file__, "--one", str(number)]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")


if __name__ == "__main__":
    main()
