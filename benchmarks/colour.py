"""CFA-direct resampling against demosaicing, on stacks of known truth: the tables of docs/measured/colour.md.

    python benchmarks/colour.py                          # depth 10 and 100, FWHM 2.7 px: about three minutes
    python benchmarks/colour.py --depth 40 --fwhm 2.0

Raw GRBG exposures of separate stars of many colours, dithered by 8 px and turned by 25 degrees in the course of the
set, seeing 0.92 to 1.15 of the nominal FWHM, with hot pixels, and a satellite trail in 6 % of them. Every exposure is
cleaned of hot pixels, warped once and stacked with rejection, as the pipeline does it. A second set with the sky
alone gives the noise; a third without defects and trails tells what rejection itself does to star cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.special import erf

from malvar import demosaic
from page import add_page_option, page_section
from zemosaic.kernels.resample.bayer import SAMPLE_DENSITY, resample_cfa
from zemosaic.kernels.resample.points import resample
from zemosaic.kernels.resample.window import Output, Window
from zemosaic.settings import StackSettings
from zemosaic.stages.measure.hot_pixels import mask_defects
from zemosaic.stages.raw.cfa import channel_map, noise_by_phase, pixel_variance
from zemosaic.stages.stack.stack import Cube, FrameNoise, StackedPatch, stack_cube

SHAPE = (384, 512)
STEP = 32
PATTERN = "GRBG"
SKY = np.array([1200.0, 1500.0, 1100.0])
READ_VARIANCE, ADU_PER_ELECTRON = 187.0, 0.25
SKY_VARIANCE = READ_VARIANCE + ADU_PER_ELECTRON * SKY
EDGE = 48
METHODS = ("cfa lanczos3", "cfa lanczos2", "cfa drizzle", "demosaic lanczos3")
MMAG = 1085.7


@dataclass(frozen=True)
class Exposure:
    """One raw frame; output pixel p falls on frame position ``matrix @ p + shift``."""

    raw: np.ndarray
    matrix: np.ndarray
    shift: np.ndarray
    fwhm: float


@dataclass(frozen=True)
class Stars:
    """Places on the output, fluxes in each colour."""

    xy: np.ndarray
    flux: np.ndarray
    colour: np.ndarray


def draw_stars(rng: np.random.Generator) -> Stars:
    """A jittered grid of stars; colours t as in (1 + t, 1, 1 - t)."""
    y, x = np.mgrid[20 : SHAPE[0] - 20 : 32, 20 : SHAPE[1] - 20 : 32].reshape(2, -1)
    xy = np.stack([x, y], axis=1) + rng.uniform(-3, 3, (x.size, 2))
    t = rng.normal(0, 0.25, x.size)
    flux = 10 ** rng.uniform(3.6, 5.6, x.size) * np.stack([1 + t, np.ones_like(t), 1 - t]).clip(0.3)
    return Stars(xy, flux, t)


def bell(n: int, centre: float, fwhm: float) -> np.ndarray:
    """Gaussian integrated over n pixels."""
    return np.diff(erf((np.arange(n + 1) - 0.5 - centre) * 2.3548 / (np.sqrt(2) * fwhm))) / 2


def expose(
    rng: np.random.Generator, stars: Stars | None, n: int, fwhm: float, *, is_spoiled: bool = True
) -> list[Exposure]:
    """Simulate raw frames, with hot pixels and trails when spoiled; without stars, the sky alone."""
    h, w = SHAPE
    hot = is_spoiled * (rng.random(SHAPE) < 4e-4) * rng.uniform(800, 20000, SHAPE)
    y, x = np.mgrid[:h, :w]
    channel = channel_map(PATTERN)[y % 2, x % 2]
    middle, out = np.array([w / 2, h / 2]), []
    for k in range(n):
        angle = np.deg2rad(25 * k / n - 12 + rng.normal(0, 0.15))
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shift, seeing = middle + rng.normal(0, 8, 2) - matrix @ middle, fwhm * rng.uniform(0.92, 1.15)
        light = np.repeat(SKY[:, None, None], h, 1).repeat(w, 2)
        places, fluxes = ([], []) if stars is None else (stars.xy @ matrix.T + shift, stars.flux.T)
        for place, flux in zip(places, fluxes, strict=True):
            light += flux[:, None, None] * np.outer(bell(h, place[1], seeing), bell(w, place[0], seeing))
        raw = np.take_along_axis(light, channel[None], 0)[0]
        if is_spoiled and stars is not None and rng.random() < 0.06:
            turn, cx, cy = rng.uniform(0, np.pi), *(rng.uniform(0.3, 0.7, 2) * (w, h))
            raw = raw + rng.uniform(300, 900) * np.exp(
                -(((x - cx) * np.sin(turn) - (y - cy) * np.cos(turn)) ** 2) / 3.4
            )
        raw = raw + rng.normal(size=SHAPE) * np.sqrt(READ_VARIANCE + ADU_PER_ELECTRON * raw) + hot
        out.append(Exposure(np.clip(np.rint(raw), 0, 65535).astype(np.float32), matrix, shift, seeing))
    return out


def warp(exposure: Exposure, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, weights and alpha of one exposure on the output grid."""
    how, kernel = method.split()
    raw, ones = exposure.raw, np.ones(SHAPE, np.float32)
    noise = noise_by_phase(raw, ones)
    weight, _ = mask_defects(raw, ones, noise)
    inverse = np.array([1 / np.mean(noise[channel_map(PATTERN) == c] ** 2) for c in range(3)])
    ny, nx = (-(-n // STEP) + 1 for n in SHAPE)
    y, x = np.mgrid[:ny, :nx] * float(STEP)
    xy = np.tensordot(exposure.matrix, np.stack([x, y]), 1) + exposure.shift[:, None, None]
    out = np.zeros((3, *SHAPE), np.float32), np.zeros((3, *SHAPE), np.float32), np.zeros(SHAPE, np.uint8)
    window = Window(
        raw[None], weight[None], origin=(0, 0), nodes_xy=xy, nodes_scale=np.ones((3, ny, nx)),
        nodes_offset=np.zeros((3, ny, nx)), step=STEP, start=(0, 0), inverse_variance=inverse,
        taper_box=(0, SHAPE[0], 0, SHAPE[1]), taper_px=8.0,
    )  # fmt: skip
    if how == "cfa":
        resample_cfa(window, Output(*out), PATTERN, kernel)
    else:
        data, weight = demosaic(raw, weight, PATTERN)
        colour = window._replace(data=data, weight=weight[None], inverse_variance=inverse * SAMPLE_DENSITY)
        resample(colour, Output(*out), kernel)
    return out


def stack(exposures: list[Exposure], method: str, combine: str = "kappa_sigma") -> StackedPatch:
    """The stack of all exposures."""
    n = len(exposures)
    values, weights = np.zeros((2, 3, n, *SHAPE), np.float32)
    alpha = np.zeros((3, n, *SHAPE), np.uint8)
    for k, exposure in enumerate(exposures):
        values[:, k], weights[:, k], alpha[:, k] = warp(exposure, method)
    how, kernel = method.split()
    share = np.ones(3)
    if how == "cfa" and kernel != "drizzle":
        share = np.array([pixel_variance(kernel, channel) for channel in range(3)])
    noise = [np.repeat(a[:, None], n, 1).astype(np.float32) for a in (share, SKY, ADU_PER_ELECTRON / SKY_VARIANCE)]
    cube = Cube(values, weights, alpha, FrameNoise(*noise), np.ones(n, np.float32), np.zeros(n, bool))
    return stack_cube(cube, 2.8, StackSettings(method=combine))


def fit_width(cut: np.ndarray, x: float, y: float) -> float:
    """FWHM of a round Gaussian integrated over pixels."""
    n = len(cut)

    def residual(p: np.ndarray) -> np.ndarray:
        return (p[0] * np.outer(bell(n, p[2], p[3]), bell(n, p[1], p[3])) + p[4] - cut).ravel()

    return float(least_squares(residual, [cut.sum(), x, y, 2.8, 0.0]).x[3])


def measure(data: np.ndarray, stars: Stars) -> dict[str, np.ndarray]:
    """Flux within 6.5 px and 1.5 px over the true flux, and FWHM, of every star and colour; NaN near the edges."""
    n = len(stars.xy)
    found = {name: np.full((3, n), np.nan) for name in ("flux", "core", "fwhm")}
    y, x = np.mgrid[-9:10, -9:10]
    for k, (sx, sy) in enumerate(stars.xy):
        i, j = round(sx), round(sy)
        if min(i, j) < EDGE or i >= SHAPE[1] - EDGE or j >= SHAPE[0] - EDGE:
            continue
        distance = np.hypot(x + i - sx, y + j - sy)
        for c in range(3):
            cut = data[c, j - 9 : j + 10, i - 9 : i + 10] - SKY[c]
            found["flux"][c, k] = cut[distance < 6.5].sum() / stars.flux[c, k]
            found["core"][c, k] = cut[distance < 1.5].sum() / stars.flux[c, k]
            if stars.flux[c, k] > 3e4:
                found["fwhm"][c, k] = fit_width(cut[2:-2, 2:-2], sx - i + 7, sy - j + 7)
    return found


def scatter(values: np.ndarray) -> float:
    """Half the range of the middle 68 %."""
    low, high = np.nanpercentile(values, [15.865, 84.135])
    return float((high - low) / 2)


def judge(method: str, exposures: list[Exposure], clean: list[Exposure], blank: list[Exposure], stars: Stars) -> None:
    """Print one method's figures."""
    stacked = stack(exposures, method)
    found, width = measure(stacked.data, stars), np.mean([e.fwhm for e in exposures])
    bright = stars.flux[1] > 3e4
    ratio = {name: [found[name][c] / found[name][1] for c in (0, 2)] for name in ("flux", "core")}
    rejecting, plain = (measure(stack(clean, method, how).data, stars) for how in ("kappa_sigma", "mean"))
    core = rejecting["core"] / plain["core"] - 1
    sky = stack(blank, method).data[:, EDGE:-EDGE, EDGE:-EDGE].astype(float)
    h, w = (n // 16 * 16 for n in sky.shape[1:])
    area = sky[:, :h, :w].reshape(3, h // 16, 16, w // 16, 16).mean((2, 4)).std((1, 2)) * 16
    ideal = np.sqrt(SKY_VARIANCE / np.array(SAMPLE_DENSITY) / len(blank))

    def show(name: str, values: object) -> None:
        print(f"    {name:42s} {np.array2string(np.asarray(values, float), precision=3, suppress_small=True)}")

    print(f"{method}, depth {len(exposures)}, mean FWHM {width:.2f} px")
    show("star flux R G B, scatter of bright, mmag", [MMAG * scatter(f[bright]) for f in found["flux"]])
    show("star flux R G B, median / truth - 1, %", [100 * (np.nanmedian(f[bright]) - 1) for f in found["flux"]])
    show("star colour R/G B/G, scatter, %", [100 * scatter(q[bright]) for q in ratio["flux"]])
    for name, group in (
        ("red", stars.colour > 0.25),
        ("white", abs(stars.colour) < 0.1),
        ("blue", stars.colour < -0.25),
    ):
        show(f"core colour R/G B/G over truth, {name}", [np.nanmedian(q[group & bright]) for q in ratio["core"]])
        show(f"FWHM R G B over truth, {name}", [np.nanmedian(f[group]) / width for f in found["fwhm"]])
    show("core bias of rejection R G B, median, mmag", MMAG * np.nanmedian(core[:, bright], axis=1))
    show("  95 % of stars within", MMAG * np.nanpercentile(abs(core[:, bright]), 95, axis=1))
    show("noise of 16 px areas R G B over ideal", area / ideal)
    show("pixel noise over that of areas R G B", sky.std((1, 2)) / area)


def time_kernels(report: Callable[[str], None] = print) -> None:
    """Processor time of both ways for one 1080 x 1920 frame, best of five."""
    global SHAPE
    SHAPE, small = (1920, 1080), SHAPE
    exposure = expose(np.random.default_rng(1), None, 1, 2.7)[0]
    for method in METHODS:
        best = np.inf
        for _ in range(6):
            begin = time.process_time()
            warp(exposure, method)
            best = min(best, time.process_time() - begin)
        report(f"{method}: {1e3 * best:.0f} ms a frame of 2.07 Mpix, hot pixels included")
    SHAPE = small


ABOUT = """Separate stars of many colours, seeing 0.92 to 1.15 of the nominal FWHM, field rotation, hot pixels,
trails; every frame is warped once and stacked with kappa-sigma rejection. The rival is the demosaic of Malvar, He &
Cutler (2004). Depth is the number of frames."""


def main() -> None:
    """Parse arguments and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--fwhm", type=float, default=2.7)
    parser.add_argument("--methods", nargs="*", default=METHODS)
    add_page_option(parser)
    arguments = parser.parse_args()
    title = f"Ways to resample, FWHM {arguments.fwhm:g} px"
    with page_section(arguments.page, __file__, title, ABOUT, is_table=False):
        time_kernels()
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """All methods at all depths."""
    for depth in arguments.depth:
        rng = np.random.default_rng(5)
        stars = draw_stars(rng)
        exposures = expose(rng, stars, depth, arguments.fwhm)
        clean = expose(rng, stars, depth, arguments.fwhm, is_spoiled=False)
        blank = expose(rng, None, depth, arguments.fwhm)
        for method in arguments.methods:
            judge(method, exposures, clean, blank, stars)


if __name__ == "__main__":
    main()
