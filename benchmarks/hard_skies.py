"""Skies, fields and cameras on which mosaics are said to go wrong: small sets with known truth, one figure a row.

    python benchmarks/hard_skies.py [--only KIND ...] [--seed 1] [--keep FOLDER] [--page FILE]

Frames are of 300 x 400 px with some 100 stars; sigma is the noise of one of their pixels. A figure is "short" where it
lies outside its limits. The page has date, commit and machine.
It is ``docs/measured/hard-skies.md`` unless told otherwise.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_dilation

from page import add_page_option, page_section
from small_sets import (
    PLAIN,
    SHAPE,
    SIGMA,
    Array,
    Figure,
    Header,
    around,
    build,
    high_pass,
    judge,
    leftover,
    panels,
    simulate,
    sky_of,
    spread_of_places,
)
from zemosaic.kernels.pixels.render import MOFFAT_CORE_PER_FWHM, MONO, add_stars
from zemosaic.simulate.exposure import add_trail
from zemosaic.simulate.score import score_plane, true_image
from zemosaic.simulate.sky import tangent_wcs, wcs_cards

Kind = Callable[[Path, int], Iterator[Figure]]
"""Makes its sets in a folder from a seed."""


def headers_off(folder: Path, seed: int) -> Iterator[Figure]:
    """Header WCSs 1 px off, and one of them 15 px."""
    sky = sky_of(seed)
    places = around(sky, panels(2, 2, 3))
    truth = simulate(folder / "true", sky, places)
    true = build(folder / "true")
    simulate(folder / "off", sky, places, replace(PLAIN, wcs_error_px=1.0))
    off = build(folder / "off")
    light = score_plane(off.data, off.wcs, truth).scale / score_plane(true.data, true.wcs, truth).scale
    yield Figure("1 px: light of stars beside true headers", light, 0.98, 1.02)
    yield Figure("1 px: frames off each other, px", spread_of_places(off, truth), 0, 0.1)

    def move(k: int, pixels: Array, header: Header) -> Array:
        header["CRPIX1"] += 15.0 * (k == 5)
        return pixels

    simulate(folder / "one", sky, places, change=move)
    one = build(folder / "one")
    yield Figure("one by 15 px: off the others (or left out), px", spread_of_places(one, truth), 0, 0.1)
    yield Figure("one by 15 px: told", one.told["solve.header-moved"] + sum(one.left_out.values()), 1, 99)


def wide(folder: Path, seed: int) -> Iterator[Figure]:
    """Mosaics of 17, 24 and 52 degrees: a star's flux by the documented sum, at the rim and in the middle."""
    rng = np.random.default_rng(seed)
    for n in (2, 3, 7):
        spot = folder / f"across_{n}"
        spot.mkdir(parents=True, exist_ok=True)
        centres = [100 + 7.4 * (k - (n - 1) / 2) for k in range(n)]
        ra, dec = rng.uniform(100 - 4.2 * n, 100 + 4.2 * n, 150 * n), rng.uniform(-4, 4, 150 * n)
        flux = 10 ** rng.uniform(4, 5, len(ra))
        for k, centre in enumerate(centres):
            frame = tangent_wcs(centre, 0.0, 1.0 * k, SHAPE, 90.0)
            near = np.abs(ra - centre) < 12
            image = rng.normal(1000, 3, SHAPE).astype(np.float32)
            core = np.full(int(near.sum()), MOFFAT_CORE_PER_FWHM * 2.6)
            place = frame.sky_to_pixel(ra[near], dec[near])
            add_stars(image, *place, flux[near][:, None], core, 0.003, MONO)
            fits.writeto(spot / f"{k}.fits", image, wcs_cards(frame), overwrite=True)
        made = build(spot, solve={"method": "header"})
        x, y = made.wcs.sky_to_pixel(ra, dec)
        share = made.wcs.pixel_area_deg2(x, y) / made.wcs.pixel_area_deg2()
        ratio, reach = np.full(len(ra), np.nan), 12
        for i, (cx, cy) in enumerate(zip(x, y, strict=True)):
            alone = np.sort(np.hypot(x - cx, y - cy))[1] > 2 * reach
            rows, columns = np.mgrid[
                round(cy) - reach : round(cy) + reach + 1, round(cx) - reach : round(cx) + reach + 1
            ]
            inside = rows.min() >= 0 and columns.min() >= 0
            inside &= rows.max() < made.data.shape[0] and columns.max() < made.data.shape[1]
            if alone and inside:
                cut, radius = made.data[rows, columns], np.hypot(rows - cy, columns - cx)
                ratio[i] = np.sum(cut[radius < 7] - np.median(cut[radius > 9])) * share[i] / flux[i]
        middle = np.abs(ra - 100) < 2.1 * n
        rim = np.nanmedian(ratio[~middle]) / np.nanmedian(ratio[middle])
        name = f"{np.ptp(centres) + 10:.0f} degrees, {made.wcs.wcs.wcs.ctype[0][-3:]}"
        yield Figure(f"{name}: flux at the rim over that in the middle", float(rim), 0.99, 1.01)


def rings(folder: Path, seed: int) -> Iterator[Figure]:
    """Stars of FWHM 1.3 px under Lanczos, and stars that saturate."""
    sky = sky_of(seed, nebula_adu=0.0)
    places = around(sky, panels(1, 1, 4))
    truth = simulate(folder / "narrow", sky, places, replace(PLAIN, fwhm_px=1.3))
    made = build(folder / "narrow")
    left, stars = leftover(made, truth)
    deep = made.planes["COV"] == 4
    level = np.median(left[deep & (stars < 1)])
    lowest = float(level - np.min((left + stars)[deep])) / SIGMA
    yield Figure("FWHM 1.3 px: lowest pixel under the sky, sigma of a frame", lowest, 0, 10)
    truth = simulate(folder / "saturated", sky, places, replace(PLAIN, saturation_adu=4000.0))
    made = build(folder / "saturated")
    left, stars = leftover(made, truth)
    deep = made.planes["COV"] == 4
    full = made.planes["SAT"] > 0
    ring = binary_dilation(full, iterations=6) & ~full & deep
    dark = left + stars - np.median(left[deep & (stars < 1)]) < -5 * SIGMA
    yield Figure("saturated stars: dark pixels around", float(np.count_nonzero(ring & dark)), 0, 0)


def beside_a_plane(image: Array, known: Array) -> Array:
    """An image less the plane through some of its pixels, those far from it left out: its slope no overlap tells."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    terms = np.stack([np.ones(image.shape), x, y])
    for _ in range(2):
        plane = np.linalg.lstsq(terms[:, known].T, image[known], rcond=None)[0]
        left = image - np.tensordot(plane, terms, 1)
        known = known & (np.abs(left) < np.percentile(np.abs(left[known]), 99))
    return left


def trail(folder: Path, seed: int) -> Iterator[Figure]:
    """A satellite of 20 sigma in one frame of two and of three, and where there is but one.

    Beside a plane: round a nebula a slope of all is known to several sigma only, and the tiles that show dark sky
    change with any change of the frames.
    """
    sky = sky_of(seed)
    line = (200.0, 150.0, 0.4, 20 * SIGMA)

    def cross(k: int, pixels: Array, _: Header) -> Array:
        image = pixels.astype(np.float32)
        if k == 0:
            add_trail(image, line)
        return image

    for depth, offsets in ((1, panels(2, 1, 1, 0.3)), (2, panels(1, 1, 2)), (3, panels(1, 1, 3))):
        places = around(sky, offsets)
        truth = simulate(folder / f"clean_{depth}", sky, places)
        clean = build(folder / f"clean_{depth}")
        simulate(folder / f"trail_{depth}", sky, places, change=cross)
        made = build(folder / f"trail_{depth}")
        x, y = made.positions_in(truth.exposures[0].celestial)
        across = (y - line[1]) * np.cos(line[2]) - (x - line[0]) * np.sin(line[2])
        inside = (x > 20) & (y > 20) & (x < SHAPE[1] - 21) & (y < SHAPE[0] - 21) & (made.planes["COV"] == depth)
        change = (made.data - clean.data) / score_plane(clean.data, clean.wcs, truth).scale
        core, beside = inside & (np.abs(across) < 6), inside & (np.abs(across) > 15)
        change = beside_a_plane(change, beside)
        light = line[3] / truth.exposures[0].gain[0] * np.exp(-0.5 * (across[core] / 1.6) ** 2)
        share = np.sum(change[core] - np.median(change[beside])) / np.sum(light) * depth
        limits = (0.8, 1.2) if depth == 1 else (-0.05, 0.05)
        yield Figure(f"depth {depth}: share of a trail that is left", float(share), *limits)
        low, high = np.percentile(change[beside], [15.865, 84.135])
        yield Figure(f"depth {depth}: change beside it and a plane, sigma", float(high - low) / 2 / SIGMA, 0, 0.1)


def islands(folder: Path, seed: int) -> Iterator[Figure]:
    """Two groups without common sky, their levels far apart."""
    from PIL import Image

    sky = sky_of(seed, 1.2)
    places = around(sky, [(-450, 0)] * 3 + [(450, 100)] * 3)
    simulate(folder / "set", sky, places, change=lambda k, pixels, _: pixels + 4000 * (k > 2))
    made = build(folder / "set")
    picture = np.asarray(Image.open(made.out / "preview.png").convert("L"), float)[::-1]
    if picture.shape != made.data.shape:
        raise ValueError("the preview was reduced")
    left = np.arange(made.data.shape[1]) < made.data.shape[1] / 2
    grey = [np.quantile(picture[np.isfinite(made.data) & side], 0.3) for side in (left, ~left)]
    yield Figure("grey of the dark third: the darker island over the other", float(min(grey) / max(grey)), 0.7, 1)
    yield Figure("told", float(made.told["match.groups"]), 1, 9)


def changes(folder: Path, seed: int) -> Iterator[Figure]:
    """A comet that creeps, a star that varies, a nova that stays: what most frames show is kept."""
    sky = sky_of(seed)
    places = around(sky, panels(1, 1, 8))
    truth = simulate(folder / "clean", sky, places)
    clean = build(folder / "clean")
    first = truth.exposures[0].celestial
    comet = [first.pixel_to_sky(120 + 1.5 * k, 150 + 0.8 * k) for k in range(8)]
    star, nova = first.pixel_to_sky(220.0, 100.0), first.pixel_to_sky(300.0, 200.0)
    swing = 1 + 0.4 * np.sin(2.1 * np.arange(8))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]

    def add(k: int, pixels: Array, _: Header) -> Array:
        lights = [(comet[k], 8.0, 80000.0), (star, 1.2, 20000.0 * swing[k]), (nova, 1.2, 20000.0 * (k >= 3))]
        for (ra, dec), width, flux in lights:
            cx, cy = truth.exposures[k].celestial.sky_to_pixel(ra, dec)
            profile = np.exp(-0.5 * ((x - cx) ** 2 + (y - cy) ** 2) / width**2) / (2 * np.pi * width**2)
            pixels = pixels + truth.exposures[k].gain[0] * flux * profile
        return pixels

    simulate(folder / "changed", sky, places, change=add)
    made = build(folder / "changed")
    rows, columns = np.mgrid[: made.data.shape[0], : made.data.shape[1]]
    difference = (made.data - clean.data) / score_plane(clean.data, clean.wcs, truth).scale
    for name, (ra, dec), radius, flux, most in (
        ("comet of FWHM 19 px that creeps by 12 px", comet[4], 40, 80000.0, 1.05),
        ("star that varies by 40 %", star, 8, 20000 * float(swing.mean()), 1.05),
        ("nova in 5 of 8, of the mean", nova, 8, 12500.0, 1.65),
    ):
        cx, cy = made.wcs.sky_to_pixel(ra, dec)
        away = np.hypot(columns - cx, rows - cy)
        ring = (away > radius) & (away < 1.5 * radius)
        light = np.sum(difference[away < radius] - np.nanmedian(difference[ring]))
        yield Figure(f"{name}: light kept", float(light / flux), 0.95, most)


def sensors(folder: Path, seed: int) -> Iterator[Figure]:
    """No flats: vignetting of 40 % under a bright sky, glow in a corner, a ring of dust."""
    sky = sky_of(seed, 1.0)
    places = around(sky, panels(3, 2, 4))
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]] / np.array(SHAPE)[:, None, None] * 2 - 1
    fall = 1 - 0.4 * (u**2 + v**2) / 2
    glow = 200 * np.exp((u + v - 2) / 0.35)
    away = np.hypot((u - 0.3) * SHAPE[1] / 2, (v + 0.2) * SHAPE[0] / 2)
    dust = 1 - 0.04 * np.exp(-0.5 * ((away - 14) / 4) ** 2)
    for name, factor, offset in (
        ("vignetting", fall, fall * 2000),
        ("glow", np.ones(SHAPE), glow),
        ("dust", dust, np.zeros(SHAPE)),
    ):

        def spoil(_: int, pixels: Array, header: Header, factor: Array = factor, offset: Array = offset) -> Array:
            header["INSTRUME"] = "camera"
            return pixels * factor + offset

        truth = simulate(folder / name, sky, places, change=spoil)
        yield from judge(build(folder / name), truth, f"{name}: ")


def units(folder: Path, seed: int) -> Iterator[Figure]:
    """The same frames in other units."""
    sky = sky_of(seed)
    places = around(sky, panels(2, 2, 3))
    simulate(folder / "plain", sky, places)
    plain = build(folder / "plain").data
    for factor in (1e-11, 1e-15, 1e-19, 1e6):
        simulate(folder / "scaled", sky, places, change=lambda _k, pixels, _h, factor=factor: pixels * factor)
        made = build(folder / "scaled").data / factor
        change = float(np.nanstd(made - plain)) / SIGMA if made.shape == plain.shape else np.inf
        yield Figure(f"times {factor:g}: change, sigma", change, 0, 0.01)


def geometry(folder: Path, seed: int) -> Iterator[Figure]:
    """Mixed scales, mirrored frames, poles, RA 0, one frame and two."""

    def mirror(k: int, pixels: Array, header: Header) -> Array:
        if k % 2 == 0:
            return pixels
        header["CD1_1"], header["CD2_1"] = -header["CD1_1"], -header["CD2_1"]
        header["CRPIX1"] = SHAPE[1] + 1 - header["CRPIX1"]
        return pixels[:, ::-1]

    here, four = sky_of(seed), panels(2, 2, 2)
    large = replace(PLAIN, shape=(600, 800))
    for name, sky, offsets, recipe, change in (
        ("scales 1 and 2", here, panels(2, 2, 3), replace(PLAIN, coarse_scale=2.0, fwhm_px=4.0), None),
        ("every second mirrored", here, four, PLAIN, mirror),
        ("north pole", sky_of(seed, place_deg=(40.0, 89.95)), four, PLAIN, None),
        ("south pole", sky_of(seed, place_deg=(40.0, -90.0)), four, PLAIN, None),
        ("RA 0", sky_of(seed, place_deg=(0.0, -5.0)), four, PLAIN, None),
        # Of a small frame too few stars tell the score by what its light is multiplied.
        ("one frame", sky_of(seed, 1.2), panels(1, 1, 1), large, None),
        ("two frames", sky_of(seed, 1.2), [(2 * x, y) for x, y in panels(2, 1, 1)], large, None),
    ):
        truth = simulate(folder / "set", sky, around(sky, offsets), recipe, change)
        yield from judge(build(folder / "set"), truth, f"{name}: ")


def galaxy(folder: Path, seed: int) -> Iterator[Figure]:
    """A galaxy that fills the mosaic, one frame deep and four."""
    for depth in (1, 4):
        sky = sky_of(seed)
        n = len(sky.nebula)
        y, x = np.mgrid[:n, :n] - (n - 1) / 2
        away = np.hypot(0.8 * x + 0.6 * y, (0.8 * y - 0.6 * x) / 0.35)
        sky.nebula = (1500 * np.exp(-away / (0.22 * n))).astype(np.float32)
        truth = simulate(folder / "set", sky, around(sky, panels(2, 2, depth)))
        made = build(folder / "set")
        left, stars = leftover(made, truth)
        halo = true_image(truth, made.wcs, faintest_left_out=0)
        clean = np.isfinite(left) & (stars < 2)
        dark = np.median(left[clean & (halo < np.percentile(halo[clean], 3))])
        for low, high in ((50, 400), (400, 1500)):
            part = clean & (halo > low) & (halo < high)
            lost = float(np.median((dark - left[part]) / halo[part]))
            yield Figure(f"{depth} deep: share of {low} to {high} ADU that is lost", lost, -0.03, 0.03)
        yield from judge(made, truth, f"{depth} deep: ")


def overlaps(folder: Path, seed: int) -> Iterator[Figure]:
    """Panels that share 3 %, a chain of ten, a hole in one frame, two cameras of unlike noise."""

    def hole(k: int, pixels: Array, _: Header) -> Array:
        pixels[100:200, 130:260] = np.nan if k == 1 else pixels[100:200, 130:260]
        return pixels

    def two_cameras(k: int, pixels: Array, header: Header) -> Array:
        header["INSTRUME"] = "ab"[k % 2]
        return pixels + np.random.default_rng(1000 + k).normal(0, 2 * SIGMA * (k % 2), pixels.shape)

    here = sky_of(seed, 1.0)
    for name, sky, offsets, change in (
        ("3 % overlap", here, panels(2, 1, 3, 0.03), None),
        ("chain of ten", sky_of(seed, 2.2), panels(10, 1, 2), None),
        ("hole", here, panels(2, 2, 2), hole),
        ("two cameras", here, panels(1, 1, 8), two_cameras),
    ):
        truth = simulate(folder / "set", sky, around(sky, offsets), change=change)
        made = build(folder / "set")
        yield from judge(made, truth, f"{name}: ")
    left, stars = leftover(made, truth)
    deep = (made.planes["COV"] == 8) & (stars < 1)
    pull = high_pass(left, deep) / np.sqrt(made.planes["VAR"] * made.header["VARRATIO"])
    low, high = np.percentile(pull[deep], [15.865, 84.135])
    yield Figure("two cameras: scatter over VAR", float((high - low) / 2) ** 2, 0.8, 1.25)


def rims(folder: Path, seed: int) -> Iterator[Figure]:
    """Turned footprints: no line along an edge."""
    sky = sky_of(seed)
    truth = simulate(folder / "set", sky, around(sky, panels(2, 2, 1, 0.45), [17.0, -12.0, 31.0, 5.0]))
    made = build(folder / "set")
    left, stars = leftover(made, truth)
    clean = np.isfinite(left) & (stars < 2)
    worst = 0.0
    for exposure in truth.exposures:
        x, y = made.positions_in(exposure.celestial)
        depth = np.minimum(np.minimum(x, SHAPE[1] - 1 - x), np.minimum(y, SHAPE[0] - 1 - y))
        sides = [np.median(left[clean & (lo < depth) & (depth < lo + 22)]) for lo in (-30, 8)]
        for at in range(-4, 6):
            line = clean & (depth > at) & (depth <= at + 1)
            beyond = abs(np.median(left[line]) - np.mean(sides)) - abs(sides[0] - sides[1]) / 2
            worst = max(worst, float(beyond))
    yield Figure("line along an edge, sigma", worst / SIGMA, 0, 0.25)
    yield from judge(made, truth)


KINDS: tuple[Kind, ...] = (
    headers_off, wide, rings, trail, islands, changes, sensors, units, geometry, galaxy, overlaps, rims,
)  # fmt: skip


ABOUT = """The module tells how. Sigma is the noise of a pixel of one frame; background, seams and stars are those
of `zemosaic.simulate.score_mosaic`."""


def row_of(kind: str, figure: Figure) -> str:
    """One line of the table."""
    limits = f"{figure.low:g} to {figure.high:g}"
    verdict = "**short**" if figure.is_short else ""
    return f"| {kind.replace('_', ' ')} | {figure.what} | {figure.value:.3g} | {limits} | {verdict} |"


def main() -> None:
    """Make the sets, print the rows, write the page when all kinds were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [kind.__name__ for kind in KINDS]
    parser.add_argument("--only", nargs="*", default=names, choices=names)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder in which sets and mosaics stay")
    add_page_option(parser, "hard-skies.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    page = options.page if options.only == names else None
    with (
        tempfile.TemporaryDirectory() as scratch,
        page_section(page, __file__, f"Twelve kinds, seed {options.seed}", ABOUT),
    ):
        print("| kind | figure | measured | limits | |\n|---|---|---|---|---|")
        for kind in (k for k in KINDS if k.__name__ in options.only):
            folder = (options.keep or Path(scratch)) / kind.__name__
            folder.mkdir(parents=True, exist_ok=True)
            for figure in kind(folder, options.seed):
                print(row_of(kind.__name__, figure), flush=True)


if __name__ == "__main__":
    main()
