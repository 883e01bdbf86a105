"""Time and memory of the match against the number of images, on measurements made without pixels.

``python benchmarks/match_scale.py 100 1000 10000``: each number in a process of its own; one row each.
The measurements are those of the tests (`tests/cases/simulated_measurements.py`), about 50 images deep everywhere.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from page import add_page_option, page_section

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "cases"))

DEPTH = 50
FRAME_DEG2 = 540 * 960 * (4.0 / 3600) ** 2
STARS_PER_DEG2 = 240


def survey_of(n: int):
    """Frames on a square, as many stars a square degree whatever the number of frames."""
    from simulated_measurements import Survey

    class Wide(Survey):
        def _stars(self, rng, wcs, gain):
            x, y = self.grid.wcs.sky_to_pixel(*wcs.pixel_to_sky(wcs.shape[1] / 2, wcs.shape[0] / 2))
            everything = self.star_x, self.star_y, self.star_flux
            near = (np.abs(self.star_x - x) < 700) & (np.abs(self.star_y - y) < 700)
            self.star_x, self.star_y, self.star_flux = (q[near] for q in everything)
            found = super()._stars(rng, wcs, gain)
            self.star_x, self.star_y, self.star_flux = everything
            return found

    side, pitch = round(n**0.5), (FRAME_DEG2 / DEPTH) ** 0.5
    return Wide(n_side=side, pitch_deg=pitch, n_stars=int(STARS_PER_DEG2 * (side * pitch + 1.4) ** 2))


def peak_mb() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(n: int, workers: int) -> dict[str, float]:
    """One match of about `n` images, as a run with so many workers makes it."""
    from zemosaic.engine.executor import make_executor
    from zemosaic.engine.memory import keep_freed_memory
    from zemosaic.settings import MatchSettings
    from zemosaic.stages.match.match import match

    # As the command does at its start.
    keep_freed_memory()
    settings, each = MatchSettings(response_order=0), make_executor(workers).map
    small = survey_of(9)
    # Kernels are compiled or read from their cache.
    match(small.measurements, small.wcs, small.grid, settings, each=each)
    survey = survey_of(n)
    before_mb, start, cpu = peak_mb(), time.perf_counter(), time.process_time()
    found = match(survey.measurements, survey.wcs, survey.grid, settings, each=each)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    error = survey.log_gain_error(found)
    stated = np.array([s.gain_error[0] for s in found.scales])
    return {
        "images": len(survey.wcs),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_mb": round(peak_mb()),
        "before_mb": round(before_mb),
        "gain_mmag": round(float(1085.7 * error.std()), 2),
        "over_stated": round(float(np.sqrt(np.mean((error / stated) ** 2))), 2),
        "node_px": found.nodes.spacing_px,
    }


ABOUT = """Simulated measurements, about 50 images deep, one channel; each number of images in a process of its own,
whose peak before the match (interpreter and measurements) stands beside that after it."""


def main() -> None:
    """One row a number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="+", type=int)
    parser.add_argument("--one", action="store_true", help="in this process, as JSON")
    parser.add_argument("--workers", type=int, default=2)
    add_page_option(parser)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.numbers[0], given.workers)))
        return
    with page_section(given.page, __file__, f"Number of images, {given.workers} workers", ABOUT):
        print("| images | wall, s | processor, s | peak, MiB | before, MiB | gains, mmag | over stated | nodes, px |")
        print("|---|---|---|---|---|---|---|---|")
        for number in given.numbers:
            command = [sys.executable, __file__, "--one", str(number), "--workers", str(given.workers)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(f"| {' | '.join(str(value) for value in json.loads(said).values())} |", flush=True)


if __name__ == "__main__":
    main()
