"""How near each step comes to what this machine can do, on one core.

``python benchmarks/roofline.py`` measures two ceilings, how fast memory is copied and how fast the inner sum of the
Lanczos kernel runs from the cache, then each step beside the least time that either ceiling allows for it. The table
goes to ``docs/measured/roofline.md`` (``--page`` for another), with machine and commit.
``python benchmarks/roofline.py --compare OLD NEW --allowed 0.1`` compares two such tables: steps that reach a smaller
share of their ceiling than they did, by more than the share allowed, are named, and the exit code is 1. Shares are
compared, not times, so that tables of two machines can be.

Times are processor time of the calling thread, the least of several turns: what else runs hardly counts. As in a run
of the command, freed memory is handed out again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
from astropy.io import fits

from page import add_page_option, page_section
from zemosaic.engine.memory import keep_freed_memory
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.scan import scan
from zemosaic.io.write.mosaic_file import MosaicFile, Plane
from zemosaic.kernels.resample.bayer import resample_cfa
from zemosaic.kernels.resample.lanczos import WIDTH, dots6, lanczos_table
from zemosaic.kernels.resample.points import resample
from zemosaic.kernels.resample.window import Output, Window
from zemosaic.kernels.stack.combine import combine_rows
from zemosaic.kernels.stack.samples import FrameNoise
from zemosaic.model.box import Box
from zemosaic.pipelines.patches.strips import gather_strips
from zemosaic.settings import InputSettings, Settings
from zemosaic.simulate.sky import tangent_wcs
from zemosaic.stages.measure.frame import measure_frame, measure_sky
from zemosaic.stages.measure.raw import measure_raw
from zemosaic.stages.raw.window import calibrate_window
from zemosaic.stages.stack.methods import METHODS
from zemosaic.stages.stack.passes import Channel, find_spans, make_template
from zemosaic.stages.stack.stack import StackedPatch

SIDE, DEPTH = 512, 16
"""Pixels of a patch's side, and frames in its stack: 38 MB of samples, more than a cache holds."""

TURNS = 9
"""Of each step."""

F4 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Step:
    """A step as it was measured.

    Attributes
    ----------
    name, unit : str
        What is done, to one of what.
    ns : float
        Time for one.
    n_bytes : float
        What must be read and written for one at least.
    ceiling_ns : float
        The least time the machine needs for that.
    """

    name: str
    unit: str
    ns: float
    n_bytes: float
    ceiling_ns: float

    @property
    def share(self) -> float:
        """Share of the ceiling that is reached."""
        return self.ceiling_ns / self.ns

    def row(self) -> str:
        """As a line of the table."""
        return (
            f"| {self.name} | {self.unit} | {self.ns:.2f} | {self.n_bytes:.1f} | {self.ceiling_ns:.2f} "
            f"| {100 * self.share:.1f} |"
        )


def least_ns(work: Callable[[], object], n: int, before: Callable[[], object] = lambda: None) -> float:
    """Least processor time of a piece of work over the number of units done; `before` is not counted."""
    times = []
    for _ in range(TURNS + 1):  # the first compiles, and touches memory
        before()
        begun = time.thread_time()
        work()
        times.append(time.thread_time() - begun)
    return 1e9 * min(times[1:]) / n


@numba.njit(nogil=True, error_model="numpy")
def sum_from_cache(pixels: F4, taps: F4, places: npt.NDArray[np.int64], out: F4) -> None:
    """Inner sums over a window of 64 x 64 pixels, again and again."""
    for i in range(0, out.size, WIDTH):
        dots6(pixels, 64, taps, places, i, out)


def measure_ceilings() -> tuple[float, float]:
    """Bytes a nanosecond, read and written, of a copy that no cache holds; nanoseconds of one inner sum."""
    source, target = np.ones(1 << 26, np.float32), np.empty(1 << 26, np.float32)
    per_byte = least_ns(lambda: np.copyto(target, source), 2 * source.nbytes)
    pixels, out = np.ones(72 * 72, np.float32), np.empty(1 << 16, np.float32)
    taps, i = np.ascontiguousarray(lanczos_table(3)).reshape(-1), np.arange(out.size)
    places = np.stack([(i // 48 % 48) * 64 + i % 48, i % 1024 * WIDTH, i * 7 % 1024 * WIDTH])
    return 1 / per_byte, least_ns(lambda: sum_from_cache(pixels, taps, places, out), out.size)


def make_window(n_channels: int) -> Window:
    """A window under a patch that is turned by 6 degrees: a sky with noise, nothing missing, nothing saturated."""
    side, step, turn = int(SIDE * 1.12) + 24, 32, 0.1
    nodes = SIDE // step + 2
    row, column = np.mgrid[:nodes, :nodes] * float(step)
    x = np.cos(turn) * column - np.sin(turn) * row + SIDE * np.sin(turn) + 10
    corrections = np.ones((n_channels, nodes, nodes))
    data = np.random.default_rng(1).normal(1000, 10, (1, side, side)).astype(np.float32)
    return Window(
        data, np.ones_like(data), (0, 0), np.stack([x, np.sin(turn) * column + np.cos(turn) * row + 10]), corrections,
        corrections, step, (0, 0), np.full(n_channels, 0.01), (0, side, 0, side), 32.0, 6e4,
    )  # fmt: skip


def measure_warps() -> Iterator[tuple[str, str, float, float, bool]]:
    """Name, unit, nanoseconds, least bytes, and whether it sums, of the warps."""
    for name, n_channels in (("warp plain", 1), ("warp raw", 3)):
        window, shape = make_window(n_channels), (n_channels, SIDE, SIDE)
        out = Output(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty((SIDE, SIDE), np.uint8))
        n = n_channels * SIDE * SIDE
        if n_channels == 1:
            ns = least_ns(lambda window=window, out=out: resample(window, out, "lanczos3", dering=True), n)  # type: ignore[misc]
        else:
            ns = least_ns(lambda window=window, out=out: resample_cfa(window, out, "RGGB", "lanczos3"), n)  # type: ignore[misc]
        yield name, "sample", ns, (8 + 1) / n_channels + 8, True


def measure_stack() -> Iterator[tuple[str, str, float, float, bool]]:
    """The same of the passes over the samples of a patch."""
    rng, shape, settings = np.random.default_rng(2), (DEPTH, SIDE, SIDE), Settings().stack
    values = rng.normal(0, 1, shape).astype(np.float32)
    values[rng.random(shape) < 1e-4] += 50
    weights, alpha = np.ones(shape, np.float32), np.full(shape, 127, np.uint8)
    channel = Channel.of(values, weights, alpha, FrameNoise.of_sky((DEPTH,)))
    patch = StackedPatch.empty((1, SIDE, SIDE))
    exposures, n, clip = np.ones(DEPTH, np.float32), values.size, METHODS[settings.method].clip

    counts = np.empty((SIDE, DEPTH, 2), np.int32)

    def nothing() -> None:
        """No one stops this."""

    def build() -> None:
        make_template(channel, 2.5, settings, False, nothing, map)

    def renew() -> None:
        np.abs(weights, out=weights)
        build()

    find_spans(channel, [Box.of_shape((SIDE, SIDE))] * DEPTH, nothing, map)
    yield "template", "sample", least_ns(build, n), 9, False
    if clip is not None:
        yield "clip", "sample", least_ns(lambda: clip(channel, settings, 0, SIDE), n, renew), 9, False

    def combine() -> None:
        combine_rows(channel.samples, exposures, 0, SIDE, (0, 0), patch.planes(0), counts)

    yield "combine", "sample", least_ns(combine, n), 9, False


def measure_reading() -> Iterator[tuple[str, str, float, float, bool]]:
    """The same of reading frames: single precision, and the whole numbers of a camera."""
    values = np.random.default_rng(4).normal(1000, 10, (1080, 1920))
    with tempfile.TemporaryDirectory() as folder:
        for name, kind, n_bytes in (("read", np.float32, 4), ("read raw", np.uint16, 2)):
            path = Path(folder) / f"{name}.fits"
            fits.writeto(path, values.astype(kind))
            (frame,), reader = scan([path], InputSettings()).frames, FrameReader(1 << 20)
            whole = Box.of_shape(frame.shape)
            ns = least_ns(lambda reader=reader, frame=frame, whole=whole: reader.read_window(frame, whole), values.size)  # type: ignore[misc]
            yield name, "pixel", ns, n_bytes + 8, False


def measure_frames() -> Iterator[tuple[str, str, float, float, bool]]:
    """The same of what is done to frames, and to the finished planes (written as a run does, in whole rows)."""
    data = np.random.default_rng(3).normal(1000, 10, (1, 1080, 1920)).astype(np.float32)
    ones, settings = np.ones_like(data), Settings().measure
    dark, flat = np.full(data.shape[1:], 100, np.float32), ones[0]
    yield (
        "calibrate",
        "pixel",
        least_ns(lambda: calibrate_window(data[0], ones[0], dark=dark, flat=flat), data.size),
        24,
        False,
    )
    yield "weigh", "pixel", least_ns(lambda: measure_sky(data, ones), data.size), 8, False
    yield "measure", "pixel", least_ns(lambda: measure_frame(data, ones, settings), data.size), 8, False
    raw = np.rint(data)
    yield "measure raw", "pixel", least_ns(lambda: measure_raw(raw, ones, "RGGB", settings), data.size), 8, False
    wcs = tangent_wcs(10.0, 20.0, 0.0, (4 * SIDE, 4 * SIDE), 2.0)
    boxes = [Box(y, y + SIDE, x, x + SIDE) for y in range(0, 4 * SIDE, SIDE) for x in range(0, 4 * SIDE, SIDE)]
    values = np.ones((SIDE, SIDE), np.float32)
    planes = [Plane("DATA")]
    with tempfile.TemporaryDirectory() as folder, MosaicFile(Path(folder) / "m.fits", wcs, planes) as file:

        def write() -> None:
            with gather_strips(file, planes, boxes) as strips:
                for box in boxes:
                    strips.write("DATA", box, values)
                    strips.end(box, lambda: None)

        yield "write", "pixel", least_ns(write, len(boxes) * values.size), 8, False


def measure_steps(bytes_per_ns: float, sum_ns: float) -> list[Step]:
    """All steps beside what two ceilings allow."""
    steps = []
    for measured in (measure_warps, measure_stack, measure_reading, measure_frames):
        for name, unit, ns, n_bytes, sums in measured():
            ceiling = max(n_bytes / bytes_per_ns, sum_ns if sums else 0.0)
            steps.append(Step(name, unit, ns, n_bytes, ceiling))
            print(steps[-1].row(), flush=True)
    return steps


ABOUT = """How near each step comes to what the machine can do, on one core; the module tells what is measured. The
ceiling is the larger of the time to move the least bytes and, in a warp, of one inner sum."""


def read_shares(path: Path) -> dict[str, float]:
    """Share of the ceiling by step, in percent, of a page that was written."""
    rows = [[cell.strip() for cell in line.split("|")] for line in path.read_text(encoding="utf-8").splitlines()]
    cells = [row[1:-1] for row in rows if len(row) == 8]
    return {row[0]: float(row[5]) for row in cells if row[5].replace(".", "").isdigit()}


def compare(old: Path, new: Path, allowed: float) -> list[str]:
    """Print two tables side by side; returns what regressed or is missing."""
    before, after = read_shares(old), read_shares(new)
    slips = [f"{name} is not in {new}" for name in before if name not in after]
    for name, share in after.items():
        was = before.get(name)
        print(f"{name:<12}{'' if was is None else f'{was:.1f}':>8}{share:>8.1f}")
        if was is not None and share < was * (1 - allowed):
            slips.append(f"{name} reaches {share:.1f} % of its ceiling instead of {was:.1f} %")
    return slips


def main() -> int:
    """Measure, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_page_option(parser, "roofline.md")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"))
    parser.add_argument("--allowed", type=float, default=0.1, help="share of a share that may be lost")
    given = parser.parse_args()
    if given.compare:
        old, new = given.compare
        slips = compare(old, new, given.allowed)
        print("\n".join(slips), file=sys.stderr)
        return int(bool(slips))
    keep_freed_memory()
    with page_section(given.page, __file__, "Steps", ABOUT):
        bytes_per_ns, sum_ns = measure_ceilings()
        print(f"- copy: {bytes_per_ns:.1f} GB/s, read and written\n- inner sum of 6 x 6 taps: {sum_ns:.2f} ns\n")
        print("| step | of a | ns | least bytes | ceiling, ns | share of the ceiling, % |\n|---|---|---|---|---|---|")
        measure_steps(bytes_per_ns, sum_ns)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
