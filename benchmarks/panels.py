"""How true the match is on bright structure: an image cut into panels whose gains and surfaces are known.

    python benchmarks/panels.py [IMAGE.fits ...] [--skies core galaxy globular] [--width 500] [--seed 1] [--apart]

An image is a FITS mosaic with a celestial WCS; skies are drawn here. Panels overlap by a fifth, are turned by up to 6
degrees, have gains of +-20 %, quadratic surfaces, and noise twice the image's own. Needs no mosaic: panels are
measured and matched, and what the corrections leave is computed as in ``match_truth.py``. ``--apart`` adds one line
for the match without the sky's structure as a witness of gains (stars alone), and one without growth curves.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import map_coordinates

from match_truth import MMAG, FrameTruth, compare
from page import add_page_option, page_section
from zemosaic.model.measurements import Measurements
from zemosaic.model.photo_scale import surface_basis
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.settings import Settings
from zemosaic.stages.match import match as solver
from zemosaic.stages.match import star_ties
from zemosaic.stages.match.match import ImageFacts
from zemosaic.stages.measure.block_means import sky_and_noise
from zemosaic.stages.measure.frame import measure_frame

F8 = npt.NDArray[np.float64]
OVERLAP, TURN_DEG, GAIN_SPREAD = 0.2, 6.0, 0.2
SURFACE_SD = np.array([10.0, 5.0, 5.0, 2.0, 2.0, 2.0])
"""Spread of the surfaces' terms, in units of the image's noise."""
ASPECT = 0.9
"""Height of a panel over its width."""
SKY_ADU, NOISE_ADU, FWHM_PX = 50.0, 2.0, 2.6


@dataclass(frozen=True)
class Picture:
    """An image to cut: values (h, w), NaN where there are none, its WCS and a pixel's noise."""

    name: str
    values: F8
    wcs: CelestialWcs
    noise: float


def read_picture(path: Path) -> Picture:
    """A FITS mosaic's first plane."""
    with fits.open(path) as hdus:
        hdu = next(h for h in hdus if h.data is not None)
        values = np.asarray(hdu.data, float)
        values = values.reshape(-1, *values.shape[-2:])[0]
        wcs = CelestialWcs.from_header(hdu.header, values.shape)
    missing = (~np.isfinite(values)).astype(np.uint8)
    filled = np.where(missing, 0, values).astype(np.float32)
    return Picture(path.name, values, wcs, float(sky_and_noise(filled, missing, 64, 8)[1]))


def draw_picture(name: str, side_px: int, rng: np.random.Generator) -> Picture:
    """A square sky: `core` (100 x the sky, filaments), `galaxy` (fills a panel) or `globular` (a crowded core)."""
    y, x = np.mgrid[:side_px, :side_px].astype(float)
    radius = np.hypot(x - 0.45 * side_px, y - 0.55 * side_px)
    values = np.full(x.shape, SKY_ADU)
    stars = rng.uniform(0, side_px, (2, side_px**2 // 1500))
    if name == "core":
        folds = np.sin(x / 23 + 2 * np.sin(y / 41)) * np.sin(y / 31 + 2 * np.sin(x / 37))
        values += 100 * SKY_ADU / (1 + (radius / (0.06 * side_px)) ** 2) * (1 + 0.3 * folds)
    elif name == "galaxy":
        values += 40 * SKY_ADU * np.exp(-radius / (0.08 * side_px))
    elif name == "globular":
        far = rng.normal(size=(2, 3000)) * 0.05 * side_px * rng.uniform(0.3, 3, 3000)
        stars = np.hstack([stars, far + np.array([[0.45], [0.55]]) * side_px])
    else:
        raise ValueError(f"no sky of the name {name!r}: core, galaxy, globular")
    flux = 300 * rng.uniform(1e-4, 1, stars.shape[1]) ** -0.8
    _add_stars(values, *stars, np.minimum(flux, 2e5))
    values += rng.normal(0, NOISE_ADU, values.shape)
    return Picture(name, values, _tan(83.8, -5.4, 1 / 3600, 0.0, values.shape), NOISE_ADU)


def _add_stars(values: F8, xs: F8, ys: F8, fluxes: F8) -> None:
    sigma, reach = FWHM_PX / 2.3548, 8
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    for x, y, flux in zip(xs, ys, fluxes, strict=True):
        x0, y0 = round(x), round(y)
        if min(x0, y0) < reach or max(x0, y0) >= len(values) - reach:
            continue
        disc = np.exp(-((dx + x0 - x) ** 2 + (dy + y0 - y) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
        values[y0 - reach : y0 + reach + 1, x0 - reach : x0 + reach + 1] += flux * disc


def _tan(ra_deg: float, dec_deg: float, scale_deg: float, turn_deg: float, shape: tuple[int, int]) -> CelestialWcs:
    """A tangential projection, north up but for a turn."""
    wcs = WCS(naxis=2)
    cos, sin = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra_deg, dec_deg]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cd = scale_deg * np.array([[-cos, sin], [sin, cos]])
    return CelestialWcs(wcs, shape)


def cut_panels(picture: Picture, width: int, rng: np.random.Generator) -> Iterator[tuple[F8, FrameTruth]]:
    """Panels with their truth; those with less than half of their pixels are left out."""
    shape = round(ASPECT * width), width
    height_px, width_px = picture.values.shape
    scale = picture.wcs.pixel_scale_arcsec() / 3600
    for cy in np.arange(shape[0] / 2, height_px, shape[0] * (1 - OVERLAP)):
        for cx in np.arange(width / 2, width_px, width * (1 - OVERLAP)):
            ra, dec = (float(q) for q in picture.wcs.pixel_to_sky(cx, cy))
            wcs = _tan(ra, dec, scale, rng.uniform(-TURN_DEG, TURN_DEG), shape)
            y, x = np.mgrid[: shape[0], :width].astype(float)
            px, py = picture.wcs.sky_to_pixel(*wcs.pixel_to_sky(x, y))
            light = map_coordinates(picture.values, [py, px], order=1, cval=np.nan)
            gain = float(np.exp(rng.uniform(-GAIN_SPREAD, GAIN_SPREAD)))
            terms = rng.normal(0, 1, 6) * picture.noise * SURFACE_SD

            def background(x: F8, y: F8, terms=terms) -> F8:
                return np.asarray(np.tensordot(terms, surface_basis(x, y, shape, 2), 1))

            sigma = 2 * picture.noise * gain
            values = gain * light + background(x, y) + rng.normal(0, sigma, shape)
            if np.isfinite(values).mean() > 0.5:
                area = float(wcs.pixel_area_deg2() / picture.wcs.pixel_area_deg2())
                yield values, FrameTruth(gain, sigma, area, wcs, lambda x, y: np.ones(x.shape), background)


def bound_gains(picture: Picture, truths: Sequence[FrameTruth]) -> F8:
    """Errors of ln gain, (panels,), that the panels' noise alone leaves, pixel by pixel of a light that is the same.

    No match can be better: stars and nebula are followed exactly and surfaces are free within their true spread.
    """
    n, terms = len(truths), 1 + len(SURFACE_SD)
    y, x = (q[::2, ::2].astype(float) for q in np.mgrid[: picture.values.shape[0], : picture.values.shape[1]])
    light = picture.values[::2, ::2]
    sky, level = picture.wcs.pixel_to_sky(x, y), np.nanmedian(light)
    places = [truth.wcs.sky_to_pixel(*sky) for truth in truths]
    seen = [
        np.isfinite(light) & (px > 0) & (py > 0) & (px < t.wcs.shape[1] - 1) & (py < t.wcs.shape[0] - 1)
        for (px, py), t in zip(places, truths, strict=True)
    ]

    def columns(k: int, which: npt.NDArray[np.bool_]) -> F8:
        px, py = places[k]
        return np.vstack([light[which] - level, surface_basis(px[which], py[which], truths[k].wcs.shape, 2)])

    normal = np.zeros((n, terms, n, terms))
    for i, j in zip(*np.tril_indices(n, -1), strict=True):
        if not (both := seen[i] & seen[j]).any():
            continue
        # Every second row and column is looked at: a pixel stands for four.
        weight = 4 / sum((truths[k].sigma / truths[k].gain) ** 2 for k in (i, j))
        rows = np.stack([columns(i, both), -columns(j, both)])
        pair = np.array([i, j])
        normal[np.ix_(pair, range(terms), pair, range(terms))] += weight * np.einsum("akp,blp->akbl", rows, rows)
    prior = np.concatenate([[1.0], 1 / (picture.noise * SURFACE_SD) ** 2])
    flat = normal.reshape(n * terms, -1) + np.diag(np.tile(prior, n))
    covariance = np.linalg.inv(flat)[::terms, ::terms]
    centre = np.eye(n) - 1 / n
    return np.asarray(np.sqrt(np.diag(centre @ covariance @ centre)))


@contextmanager
def stars_alone() -> Iterator[None]:
    """The match without the sky's structure as a witness of gains."""
    fit = solver.fit_surfaces
    with mock.patch.object(
        solver, "fit_surfaces", lambda value, error, sd, *rest: fit(value, error, np.zeros_like(sd), *rest)
    ):
        yield


@contextmanager
def no_growth() -> Iterator[None]:
    """The match without growth curves."""
    fit = star_ties.fit_growth

    def flat(*given: Any) -> star_ties.Growth:
        growth = fit(*given)
        return replace(growth, coefficients=np.zeros_like(growth.coefficients))

    with mock.patch.object(star_ties, "fit_growth", flat):
        yield


def score(
    name: str, measured: Sequence[Measurements], truths: Sequence[FrameTruth], grid: SkyGrid, least: float
) -> str:
    """Match, and one row a connected group; `least` is what noise alone leaves of the worst gain."""
    wcs = [t.wcs for t in truths]
    found = solver.match(measured, wcs, grid, Settings().match, ImageFacts(cameras=["one"] * len(wcs)))
    error = np.log([s.gain[0] for s in found.scales]) - np.log([t.gain for t in truths])
    # The zero is that of most panels: a few wrong ones must not shift the others.
    error -= np.median(error)
    stated = np.array([s.gain_error[0] for s in found.scales])
    worst = int(np.argmax(np.abs(error)))
    return "\n".join(
        f"| {name} | {f.n} | {MMAG * error[worst]:+.2f} ({MMAG * stated[worst]:.2f}) | {MMAG * least:.2f} "
        f"| {f.gain_mmag:.2f} | {f.gain_over_stated:.2f} | {np.max(np.abs(error / stated)):.1f} "
        f"| {f.bg:.3f} | {f.bg2:.3f} | {f.bg3:.3f} | {f.seam:.3f} |"
        for f in compare(found, truths, grid)
    )


ABOUT = """Pictures cut into panels that overlap by a fifth, with known gains and surfaces. Bound: the largest error
of a gain that noise alone would leave a perfect match. Most: the largest error over its stated one. Backgrounds and
seams in sigma of a panel."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--skies", nargs="*", default=[], choices=["core", "galaxy", "globular"])
    parser.add_argument("--width", type=int, default=500, help="of a panel, px")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--apart", action="store_true", help="also without one term after the other")
    add_page_option(parser)
    options = parser.parse_args()
    title = f"Panels of {options.width} px on bright structure, seed {options.seed}"
    with page_section(options.page, __file__, title, ABOUT):
        print_table(options)


def print_table(options: argparse.Namespace) -> None:
    """One row a picture, more with terms left out."""
    rng = np.random.default_rng(options.seed)
    print(
        "| sky | panels | worst gain (stated), mmag | bound | rms | over stated | most "
        "| bg | after a quadratic | after a cubic | seam |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    pictures = [(read_picture, path) for path in options.images]
    pictures += [(lambda name: draw_picture(name, round(2.8 * options.width), rng), name) for name in options.skies]
    for make, what in pictures:
        picture = make(what)
        values, truths = zip(*cut_panels(picture, options.width, rng), strict=True)
        measured = [
            measure_frame(
                np.nan_to_num(v, nan=0.0)[None].astype(np.float32), np.isfinite(v)[None].astype(np.float32),
                Settings().measure,
            )
            for v in values
        ]  # fmt: skip
        grid, least = SkyGrid(picture.wcs), float(np.max(bound_gains(picture, truths)))
        print(score(picture.name, measured, truths, grid, least), flush=True)
        if options.apart:
            with stars_alone():
                print(score(f"{picture.name}, stars alone", measured, truths, grid, least), flush=True)
            with no_growth():
                print(score(f"{picture.name}, no growth curves", measured, truths, grid, least), flush=True)
            with stars_alone(), no_growth():
                print(score(f"{picture.name}, neither", measured, truths, grid, least), flush=True)


if __name__ == "__main__":
    main()
