"""How far a match is from the truth of simulated frames: the first table of docs/measured/match.md.

    python benchmarks/match_truth.py SET... [--reference PICTURE ARCSEC]

A set is a folder that ``zemosaic simulate`` made, or one whose ``truth.json`` lists the frames as
``{"name", "gain", "off", "grad", "sigma", "area", "wcs_true"}``: offset and the terms u, v, u^2, uv, v^2 of a
gradient in ADU, with u and v from -1/2 to 1/2 over the frame. Frames with "moffat_beta" have vignetting and gradients
of third degree besides, which are drawn again from the set's seed (`real_terms`). Needs no mosaic: what the corrections
alone leave is computed at the match's own sky nodes. One line a connected group.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header, getheader
from scipy.ndimage import binary_erosion

from page import add_page_option, page_section
from zemosaic.model.photo_scale import PhotoScale, surface_basis
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.corrections.correcting import gain_priors
from zemosaic.pipelines.corrections.reference import read_reference
from zemosaic.pipelines.frames.pipeline import PlacedFrame, measure_and_place, open_inputs
from zemosaic.pipelines.modes.session import Guide, plan_sky
from zemosaic.pipelines.run.context import RunOptions, start_run
from zemosaic.pipelines.run.need import Need
from zemosaic.settings import Settings
from zemosaic.simulate import read_truth
from zemosaic.stages.match.match import ImageFacts, MatchSolution, match

F8 = npt.NDArray[np.float64]
MMAG = 2500 / np.log(10)
BORDER_PX = 64
"""Width of the strip along a frame's border where its step is looked at."""
REAL_GRADIENT_ADU, REAL_FALL = 80.0, 0.3
"""Of sets with "moffat_beta": scatter of a frame's slopes, and what its corners lose of u^2 + v^2."""
N_LISTED = 10
"""Terms of a cubic, by degree: 1, u, v, u^2, uv, v^2, u^3, u^2 v, u v^2, v^3."""
REAL_HITS = 150
"""Cosmic hits that such a frame's draws go through before its place."""


@dataclass(frozen=True)
class FrameTruth:
    """What is true of a frame: ``d = response (gain area S + background) + noise``, S in ADU a reference pixel.

    Attributes
    ----------
    gain, sigma : float
    area : float
        Of a pixel, over the sky's reference pixel.
    wcs : CelestialWcs
    response, background : callable
        Of pixels x and y.
    """

    gain: float
    sigma: float
    area: float
    wcs: CelestialWcs
    response: Callable[[F8, F8], F8]
    background: Callable[[F8, F8], F8]


@dataclass(frozen=True)
class Figures:
    """How far one connected group is from the truth; backgrounds in sigma of one frame.

    Attributes
    ----------
    gain_mmag, gain_over_stated : float
        Rms error of the gains, and rms of error over stated error.
    bg, bg_expected, bg2, bg3 : float
        Rms of the background that the corrections leave: after a plane, what the solve expects of it, after a
        quadratic, after a cubic.
    seam : float
        Rms over the frames' borders of the step that a frame's end leaves in the weighted mean.
    level_over_stated : float
        Rms of the surfaces' level errors (gauge modes apart) over the stated ones.
    """

    n: int
    gain_mmag: float
    gain_over_stated: float
    bg: float
    bg_expected: float
    bg2: float
    bg3: float
    seam: float
    level_over_stated: float


def read_frames(folder: Path, shapes: dict[str, tuple[int, int]]) -> dict[str, FrameTruth]:
    """The truth of every frame, by name."""
    facts = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    if isinstance(facts, list):
        beyond = real_terms(folder, facts) if facts and "moffat_beta" in facts[0] else np.zeros((len(facts), N_LISTED))
        return {
            item["name"]: _listed(item, terms, shapes[item["name"]])
            for item, terms in zip(facts, beyond, strict=True)
            if item["name"] in shapes
        }
    out = {}
    for e in read_truth(folder).exposures:

        def response(x: F8, y: F8, e=e) -> F8:
            u, v = surface_basis(x, y, e.shape, 1)[1:]
            return np.asarray(np.exp(e.vignetting * (1 / 3 - (u**2 + v**2) / 2)))

        def background(x: F8, y: F8, e=e) -> F8:
            return np.asarray(np.tensordot(e.surface[0], surface_basis(x, y, e.shape, 3), 1))

        out[e.name] = FrameTruth(e.gain[0], e.sigma, e.area, e.celestial, response, background)
    return out


def real_terms(folder: Path, facts: Sequence[dict]) -> F8:
    """What frames with "moffat_beta" have beyond their listed gradients, (frames, 10): terms of a cubic, in ADU.

    Their generator's draws are made again from the set's seed, in its order: a part common to all frames, then for
    each frame four terms of third degree, its cosmic hits, and by how much its header's place is off.

    Raises
    ------
    ValueError
        Where a header's place is not off by what was drawn: another generator made the set.
    """
    draws = np.random.default_rng(int(np.load(folder / "truth.npz")["seed"]) + 77)
    common, out = draws.normal(0, 0.4 * REAL_GRADIENT_ADU, 9), []
    for item in facts:
        header = getheader(folder / item["name"])
        third = draws.normal(0, 0.3 * REAL_GRADIENT_ADU, 4)
        for _ in range(REAL_HITS):
            for axis in (2, 1):
                draws.integers(8, header[f"NAXIS{axis}"] - 8)
            length = draws.integers(1, 7)
            draws.uniform(0, np.pi)
            draws.uniform(200, 8000, length)
        off, true = draws.normal(0, 0.2, 2), Header.fromstring(item["wcs_true"])
        if not np.allclose([header[f"CRPIX{k}"] - true[f"CRPIX{k}"] for k in (1, 2)], off, atol=1e-6):
            raise ValueError(f"{folder}: {item['name']} does not lie where its seed puts it")
        u, v, uu, vv = common[:4]
        out.append([0, u, v, uu, 0, vv, *third])
    return np.array(out)


def _listed(item: dict, beyond: F8, shape: tuple[int, int]) -> FrameTruth:
    """Truth of a frame of a list; `beyond` (10,) are terms of a cubic beside its gradient's."""
    real = "moffat_beta" in item
    terms = beyond + np.pad([item["off"], *item["grad"]], (0, N_LISTED - 6))

    def place(x: F8, y: F8) -> tuple[F8, F8]:
        return x / shape[1] - 0.5, y / shape[0] - 0.5

    def background(x: F8, y: F8) -> F8:
        u, v = place(x, y)
        return np.asarray(np.tensordot(terms, [u ** (d - j) * v**j for d in range(4) for j in range(d + 1)], 1))

    def response(x: F8, y: F8) -> F8:
        u, v = place(x, y)
        return np.asarray(1 - REAL_FALL * real * (u**2 + v**2))

    wcs = CelestialWcs.from_header(Header.fromstring(item["wcs_true"]), shape)
    return FrameTruth(item["gain"], item["sigma"], item["area"], wcs, response, background)


def measure(folder: Path, settings: Settings) -> tuple[list[PlacedFrame], SkyGrid]:
    """Measure and place the frames of a set; plan the grid."""
    run = start_run(RunOptions(yes=True))
    need = Need("match", settings.solve.method)
    placed = measure_and_place(open_inputs([folder], settings, run), need, settings, run).frames
    return placed, plan_sky(placed, Guide(solved=True), settings, run)


def solve(placed: Sequence[PlacedFrame], grid: SkyGrid, settings: Settings) -> MatchSolution:
    """Match as ``zemosaic build`` does."""
    return match(
        [item.measured for item in placed],
        [item.wcs for item in placed],
        grid,
        settings.match,
        ImageFacts(
            cameras=[item.frame.header.camera for item in placed],
            gain_priors=gain_priors([item.frame for item in placed]),
            pixel_values=settings.input.pixel_values,
        ),
        reference=read_reference(settings.match),
    )


def compare(solution: MatchSolution, truths: Sequence[FrameTruth], grid: SkyGrid) -> list[Figures]:
    """Figures of every connected group of at least two frames."""
    component = np.array([scale.component for scale in solution.scales])
    groups = [np.flatnonzero(component == c) for c in np.unique(component)]
    return [_compare_group(solution, truths, grid, group) for group in groups if len(group) > 1]


def _compare_group(
    solution: MatchSolution, truths: Sequence[FrameTruth], grid: SkyGrid, group: npt.NDArray[np.int64]
) -> Figures:
    scales, truths = [solution.scales[i] for i in group], [truths[i] for i in group]
    gain_error = np.log([s.gain[0] for s in scales]) - np.log([t.gain for t in truths])
    # What a response misses at the centre all gains take up: the one scale that a mosaic is free to have.
    common = float(
        np.exp(gain_error.mean()) / np.mean([_response_ratio(*pair) for pair in zip(scales, truths, strict=True)])
    )
    gain_error -= gain_error.mean()
    stated = np.array([s.gain_error[0] for s in scales])
    x, y = solution.nodes.positions()
    sky = common * solution.sky[0]
    # The pedestal that the mosaic keeps is no light: it does not scale with the gains.
    pedestal = np.mean([t.background(*_centre(t)) / t.gain / _area(t, grid) for t in truths])
    errors, weights, border = _left_by_corrections(scales, truths, grid, x, y, sky - pedestal, common)
    total = weights.sum(axis=0)
    # Nodes at the outermost rim hang on a sliver of one frame: none of a mosaic's background is judged there.
    inside = binary_erosion((total > 0) & np.isfinite(sky), iterations=1)
    mean = np.sum(weights * errors, axis=0)[inside] / total[inside]
    u, v = (2 * (q - q.min()) / (q.max() - q.min()) - 1 for q in (x[inside], y[inside]))
    sigma = float(np.median([t.sigma for t in truths]))
    slow = _trend(u, v, mean, 2)
    everywhere = np.zeros(x.shape)
    everywhere[inside] = slow
    levels = []
    for scale, truth, weight in zip(scales, truths, weights, strict=True):
        seen = inside & (weight > 0)
        px, py = truth.wcs.sky_to_pixel(*grid.wcs.pixel_to_sky(x[seen], y[seen]))
        off = common * scale.surface_at(px, py, truth.wcs.shape)[0]
        off -= truth.background(px, py) / truth.gain / _area(truth, grid)
        # A trend that the gauge put into the sky is missing in the surfaces: it is no error of one frame's level.
        levels.append(float(np.mean(off + everywhere[seen])))
    level_stated = np.array([s.level_error[0] for s in scales]) * common
    off = np.array(levels) - np.mean(levels)
    return Figures(
        len(group),
        float(MMAG * gain_error.std()),
        float(np.sqrt(np.mean((gain_error / stated) ** 2))),
        float(np.std(mean - _trend(u, v, mean, 1)) / sigma),
        float(solution.slow_rms[0] * common / sigma),
        float(np.std(mean - slow) / sigma),
        float(np.std(mean - _trend(u, v, mean, 3)) / sigma),
        float(np.sqrt(np.mean(_steps(errors, weights, border) ** 2)) / sigma),
        float(np.sqrt(np.mean((off / level_stated) ** 2))),
    )


def _left_by_corrections(
    scales: Sequence[PhotoScale],
    truths: Sequence[FrameTruth],
    grid: SkyGrid,
    x: F8,
    y: F8,
    sky: F8,
    common: float,
) -> tuple[F8, F8, npt.NDArray[np.bool_]]:
    """Corrected frame minus sky, weight, and whether near the border, of every frame at grid positions x and y.

    Shapes are (frames, *x.shape).
    """
    place = grid.wcs.pixel_to_sky(x, y)
    errors, weights, border = (np.zeros((len(scales), *x.shape), kind) for kind in (float, float, bool))
    for k, (scale, truth) in enumerate(zip(scales, truths, strict=True)):
        px, py = truth.wcs.sky_to_pixel(*place)
        height, width = truth.wcs.shape
        seen = (px > 0) & (py > 0) & (px < width - 1) & (py < height - 1) & np.isfinite(sky)
        px, py = px[seen], py[seen]
        area = truth.wcs.pixel_area_deg2(px, py) / grid.area_ref_deg2
        light = truth.gain * _area(truth, grid) * sky[seen] + truth.background(px, py)
        flat = scale.gain[0] * scale.response_at(px, py, truth.wcs.shape)[0] * area
        corrected = truth.response(px, py) * light / flat - scale.surface_at(px, py, truth.wcs.shape)[0]
        errors[k][seen] = common * corrected - sky[seen]
        weights[k][seen] = (truth.gain * truth.area / truth.sigma) ** 2
        border[k][seen] = np.minimum.reduce([px, width - 1 - px, py, height - 1 - py]) < BORDER_PX
    return errors, weights, border


def _steps(errors: F8, weights: F8, border: npt.NDArray[np.bool_]) -> F8:
    """What the mean jumps by where a frame ends: its share times its difference to the mean of the others."""
    total, summed = weights.sum(axis=0), (weights * errors).sum(axis=0)
    image, y, x = np.nonzero(border & (weights < total))
    own, all_weights = weights[image, y, x], total[y, x]
    others = (summed[y, x] - own * errors[image, y, x]) / (all_weights - own)
    return own / all_weights * (errors[image, y, x] - others)


def _response_ratio(scale: PhotoScale, truth: FrameTruth) -> float:
    """True over found response, mean over the frame."""
    height, width = truth.wcs.shape
    x, y = (q.ravel() for q in np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 9)))
    return float(np.mean(truth.response(x, y) / scale.response_at(x, y, truth.wcs.shape)[0]))


def _centre(truth: FrameTruth) -> tuple[F8, F8]:
    height, width = truth.wcs.shape
    return np.array((width - 1) / 2), np.array((height - 1) / 2)


def _area(truth: FrameTruth, grid: SkyGrid) -> float:
    """Area of the frame's central pixel, in pixels of the grid."""
    return float(truth.wcs.pixel_area_deg2() / grid.area_ref_deg2)


def _trend(u: F8, v: F8, values: F8, degree: int) -> F8:
    """The polynomial of a degree that fits best."""
    terms = np.stack([u ** (d - j) * v**j for d in range(degree + 1) for j in range(d + 1)], axis=1)
    return np.asarray(terms @ np.linalg.lstsq(terms, values, rcond=None)[0])


def report(name: str, figures: Sequence[Figures]) -> str:
    """Rows of the table."""
    return "\n".join(
        f"| {name} | {f.n} | {f.gain_mmag:.2f} | {f.gain_over_stated:.2f} | {f.bg:.3f} | {f.bg_expected:.3f} | "
        f"{f.bg3:.3f} | {f.seam:.3f} | {f.level_over_stated:.2f} |"
        for f in figures
    )


ABOUT = """What the corrections alone leave, in sigma of one frame: bg after a plane (expected: what the solve
states of it), after a cubic, and the rms step where frames end. "Over stated" is the rms of error over stated
error."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--reference", nargs=2, metavar=("PICTURE", "ARCSEC"), help="gauge, and its resolution")
    add_page_option(parser)
    options = parser.parse_args()
    with page_section(options.page, __file__, "Sets with known truth", ABOUT):
        print_table(options)


def print_table(options: argparse.Namespace) -> None:
    """One row a connected group of each set."""
    settings = Settings()
    if options.reference:
        gauge = {"reference": options.reference[0], "reference_arcsec": float(options.reference[1])}
        settings = settings.model_copy(update={"match": settings.match.model_copy(update=gauge)})
    print("| set | frames | gain, mmag | over stated | bg | expected | after a cubic | seam | level over stated |")
    print("|---|---|---|---|---|---|---|---|---|")
    everything = []
    for folder in options.sets:
        placed, grid = measure(folder, settings)
        truths = read_frames(folder, {item.frame.name: item.frame.shape for item in placed})
        figures = compare(solve(placed, grid, settings), [truths[item.frame.name] for item in placed], grid)
        everything += figures
        print(report(folder.name, figures), flush=True)
    ratio = np.array([f.bg / f.bg_expected for f in everything])
    width = np.array([f.gain_over_stated for f in everything])
    levels = np.array([f.level_over_stated for f in everything])
    print(
        f"\nrms over all groups: bg over expected {np.sqrt(np.mean(ratio**2)):.2f}, gain error over stated "
        f"{np.sqrt(np.mean(width**2)):.2f}, level error over stated {np.sqrt(np.mean(levels**2)):.2f}"
    )


if __name__ == "__main__":
    main()
