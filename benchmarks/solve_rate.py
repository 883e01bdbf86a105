"""How often, how fast and how safely the plate solver works: the tables of docs/measured/places.md.

    python benchmarks/solve_rate.py            # all tables, about two minutes on one core
    python benchmarks/solve_rate.py --only rate,wrong --n 50

Simulated frames hold the catalogue's own stars of a random place on the sky, a share of them
missing, others invented, with errors of position and brightness, a random rotation and parity
and a scale that is off by a few per cent. Times are processor time of the one thread at work, so
that other programs on the machine do not count.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from page import add_page_option, page_section
from zemosaic.errors import FrameRejected
from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.model.frame import PointingHint
from zemosaic.model.sky.celestial import unit_vectors
from zemosaic.model.sky.star_field import StarField
from zemosaic.model.sky.tan_sip import TanSip, plane_to_sky, sky_to_plane
from zemosaic.settings import SolveSettings
from zemosaic.stages.solve.check_header import check_wcs
from zemosaic.stages.solve.field import Solution, solve_field
from zemosaic.stages.solve.ties import tie_frames

SHAPE = (1920, 1080)
SCALE_ARCSEC = 2.42


@dataclass(frozen=True)
class SimulatedField:
    """A frame's star list with its truth."""

    plate: TanSip
    shape: tuple[int, int]
    xy: np.ndarray
    flux: np.ndarray
    hint: PointingHint
    n_real: int


def random_place(rng: np.random.Generator) -> tuple[float, float]:
    """Uniform on the sphere."""
    return rng.uniform(0, 360), float(np.rad2deg(np.arcsin(rng.uniform(-1, 1))))


def step_away(ra: float, dec: float, distance_deg: float, angle: float) -> tuple[float, float]:
    """The point at a distance and a direction from another."""
    plane = np.tan(np.deg2rad(distance_deg)) * np.array([[np.sin(angle), np.cos(angle)]])
    ra2, dec2 = plane_to_sky(np.rad2deg(plane), ra, dec)
    return float(ra2[0]), float(dec2[0])


def simulate_field(
    rng: np.random.Generator,
    ra: float,
    dec: float,
    shape: tuple[int, int] = SHAPE,
    completeness: float = 0.8,
    spurious: float = 0.3,
    hint_error_deg: float = 0.3,
    scale_error: float = 0.03,
) -> SimulatedField:
    """A frame of the catalogue's stars; `spurious` is the share of the detections that are invented."""
    scale = SCALE_ARCSEC / 3600
    turn, parity = rng.uniform(0, 2 * np.pi), rng.choice([-1.0, 1.0])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    plate = TanSip(ra, dec, centre, scale * rotation @ np.diag([1.0, parity]))
    stars = tycho2().cone(ra, dec, 0.51 * scale * float(np.hypot(*shape)))
    plane = sky_to_plane(stars.ra_deg, stars.dec_deg, ra, dec)
    xy = plane @ np.linalg.inv(plate.cd).T + centre
    seen = (xy >= 0).all(axis=1) & (xy <= [shape[1] - 1, shape[0] - 1]).all(axis=1)
    seen &= rng.random(len(xy)) < completeness
    n_false = rng.poisson(max(int(seen.sum()), 3) * spurious / (1 - spurious))
    mag = np.concatenate([stars.mag[seen], rng.choice(stars.mag, n_false)])
    xy = np.concatenate([xy[seen], rng.uniform(0, [shape[1] - 1, shape[0] - 1], (n_false, 2))])
    xy += rng.normal(0, 0.2, xy.shape)
    hint_ra, hint_dec = step_away(ra, dec, hint_error_deg, rng.uniform(0, 2 * np.pi))
    nominal = SCALE_ARCSEC * (1 + np.clip(rng.normal(0, scale_error), -0.08, 0.08))
    flux = 10 ** (-0.4 * (mag + rng.normal(0, 0.3, len(mag)) - 11))
    return SimulatedField(plate, shape, xy, flux, PointingHint(hint_ra, hint_dec, 2000.0, nominal), int(seen.sum()))


def worst_corner_arcsec(plate: TanSip, truth: TanSip, shape: tuple[int, int]) -> float:
    """Largest distance between two plates over the corners."""
    x, y = shape[1] - 1.0, shape[0] - 1.0
    corners = np.array([[0, 0], [x, 0], [0, y], [x, y]])
    apart = unit_vectors(*plate.pixel_to_sky(corners)) - unit_vectors(*truth.pixel_to_sky(corners))
    return float(np.rad2deg(np.linalg.norm(apart, axis=1).max()) * 3600)


def try_field(field: SimulatedField, settings: SolveSettings) -> tuple[Solution | None, float, float]:
    """Solution or None, seconds, and the best log chance seen."""
    start = time.thread_time()
    try:
        solution = solve_field(field.xy, field.flux, field.shape, field.hint, tycho2(), settings)
    except FrameRejected as reason:
        best = reason.facts.get("best_log_chance", 0.0)
        return None, time.thread_time() - start, float(best)  # type: ignore[arg-type]
    return solution, time.thread_time() - start, solution.log_chance


def rate_row(name: str, places: list[tuple[float, float]], rng: np.random.Generator, **how: object) -> None:
    """One line of the solve-rate table."""
    right = wrong = n_rich = 0
    seconds, worst = [], 0.0
    for ra, dec in places:
        field = simulate_field(rng, ra, dec, **how)  # type: ignore[arg-type]
        solution, wall, _ = try_field(field, SolveSettings())
        seconds.append(wall)
        n_rich += field.n_real >= 6
        if solution is not None:
            off = worst_corner_arcsec(solution.plate, field.plate, field.shape)
            worst = max(worst, off)
            right, wrong = right + (off < 15), wrong + (off >= 15)
    print(
        f"| {name} | {len(places)} | {n_rich} | {right} | {wrong} | {worst:.1f} | {1e3 * np.median(seconds):.1f} "
        f"| {1e3 * max(seconds):.0f} |",
        flush=True,
    )


def rate_table(n: int, rng: np.random.Generator) -> None:
    """Solve rate of the fields that matter."""
    print("| field | frames | with 6 real stars | right | wrong | worst corner, arcsec | median ms | longest ms |")
    print("|---|---|---|---|---|---|---|---|")
    places = [random_place(rng) for _ in range(n)]
    rate_row("1.29 x 0.73 deg, 80 % complete, 30 % spurious", places, rng)
    polar = [(rng.uniform(0, 360), float(rng.choice([-89.5, 89.5]))) for _ in range(n)]
    rate_row("the same at declination +-89.5", polar, rng)
    rate_row("the same, hint 1 deg off", places, rng, hint_error_deg=1.0)
    rate_row("60 % complete, 60 % spurious", places, rng, completeness=0.6, spurious=0.6)
    rate_row("0.64 x 0.36 deg, 80 %, 30 %", places, rng, shape=(960, 540))
    rate_row("3.9 x 2.2 deg, 80 %, 30 %", places, rng, shape=(5760, 3240))


def wrong_table(n: int, rng: np.random.Generator) -> None:
    """Hints that are 5 degrees off: nothing may be accepted."""
    for shape in (SHAPE, (960, 540)):
        accepted, seconds, best = 0, [], []
        for _ in range(n):
            ra, dec = random_place(rng)
            field = simulate_field(rng, ra, dec, shape, hint_error_deg=5.0)
            solution, wall, log_chance = try_field(field, SolveSettings())
            accepted += solution is not None
            seconds.append(wall)
            best.append(log_chance)
        print(
            f"wrong hints, {shape[0]} x {shape[1]}: {accepted} of {n} accepted; best chance 1e{min(best):.1f}; "
            f"giving up: median {1e3 * np.median(seconds):.0f} ms, 99 % {1e3 * np.quantile(seconds, 0.99):.0f} ms, "
            f"longest {1e3 * max(seconds):.0f} ms"
        )


def tie_table(n_sets: int, rng: np.random.Generator) -> None:
    """Sets of 5 x 5 overlapping small frames, 0.64 x 0.36 degrees each."""
    alone = together = wrong = total = whole = 0
    start = time.thread_time()
    for _ in range(n_sets):
        fields = simulate_set(rng)
        solutions = [try_field(f, SolveSettings())[0] for f in fields]
        lists = [StarField(f.xy, f.flux, f.shape, f.hint) for f in fields]
        tied = tie_frames(lists, solutions, SolveSettings())
        off = [worst_corner_arcsec(s.plate, f.plate, f.shape) for s, f in zip(tied, fields, strict=True) if s]
        total += len(fields)
        alone += sum(s is not None for s in solutions)
        together += len(off)
        wrong += sum(o > 15 for o in off)
        whole += len(off) == len(fields)
    print(
        f"sets of 25 overlapping frames of 0.64 x 0.36 deg: alone {alone} of {total}, with ties {together}, "
        f"wrong {wrong}; whole sets {whole} of {n_sets}; {(time.thread_time() - start) / total * 1e3:.0f} ms a frame"
    )


def simulate_set(rng: np.random.Generator, n_side: int = 5) -> list[SimulatedField]:
    """Overlapping frames of one telescope that see, beside the catalogue's stars, four times as many fainter ones."""
    ra, dec = random_place(rng)
    shape, scale = (960, 540), SCALE_ARCSEC / 3600
    centre = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    bright = tycho2().cone(ra, dec, 2.5)
    n_faint = 4 * len(bright)
    radius, angle = 2.5 * np.sqrt(rng.random(n_faint)), rng.uniform(0, 2 * np.pi, n_faint)
    faint = plane_to_sky(np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1), ra, dec)
    all_ra, all_dec = np.concatenate([bright.ra_deg, faint[0]]), np.concatenate([bright.dec_deg, faint[1]])
    mag = np.concatenate([bright.mag, rng.uniform(11.5, 13.5, n_faint)])
    nominal = SCALE_ARCSEC * (1 + rng.normal(0, 0.03))
    fields = []
    for k in range(n_side * n_side):
        where = (np.array(divmod(k, n_side)) - n_side // 2) * [0.2, 0.36] + rng.normal(0, 0.02, 2)
        at_ra, at_dec = (float(v[0]) for v in plane_to_sky(where[None], ra, dec))
        turn = rng.normal(0, 0.05)
        cd = scale * np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        plate = TanSip(at_ra, at_dec, centre, cd)
        xy = sky_to_plane(all_ra, all_dec, at_ra, at_dec) @ np.linalg.inv(cd).T + centre
        inside = (xy >= 0).all(axis=1) & (xy <= [shape[1] - 1, shape[0] - 1]).all(axis=1)
        seen = np.flatnonzero(inside & (rng.random(len(xy)) < 0.8))
        n_false = int(0.3 / 0.7 * len(seen))
        xy = np.concatenate([xy[seen], rng.uniform(0, [shape[1] - 1, shape[0] - 1], (n_false, 2))])
        flux = 10 ** (-0.4 * np.concatenate([mag[seen], rng.uniform(10, 13.5, n_false)]))
        hint_ra, hint_dec = step_away(at_ra, at_dec, 0.3, rng.uniform(0, 2 * np.pi))
        hint = PointingHint(hint_ra, hint_dec, 2000.0, nominal)
        fields.append(SimulatedField(plate, shape, xy + rng.normal(0, 0.2, xy.shape), flux, hint, len(seen)))
    return fields


def check_table(n: int, rng: np.random.Generator) -> None:
    """What `check_wcs` says of right and of shifted header WCSs."""
    for shape in (SHAPE, (960, 540)):
        right: Counter[str] = Counter()
        shifted: Counter[str] = Counter()
        for _ in range(n):
            field = simulate_field(rng, *random_place(rng), shape)
            right[check_wcs(field.plate.celestial(shape), field.xy, field.flux, tycho2()).verdict] += 1
            ra, dec = step_away(field.plate.ra_deg, field.plate.dec_deg, 3 / 60, rng.uniform(0, 2 * np.pi))
            wrong = replace(field.plate, ra_deg=ra, dec_deg=dec).celestial(shape)
            shifted[check_wcs(wrong, field.xy, field.flux, tycho2()).verdict] += 1
        print(f"header WCS, {shape[0]} x {shape[1]}: right ones found {dict(right)}, off by 3 arcmin {dict(shifted)}")


ABOUT = """Random places on the sky; the stars of the catalogue with errors of 0.2 px and 0.3 mag; hint 0.3 degrees
off; the nominal scale wrong by 3 % rms; any rotation, both parities. Processor time of one thread, catalogue look-
up included."""


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="rate,wrong,tie,check")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--n-wrong", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    add_page_option(parser)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    try_field(simulate_field(rng, 30.0, 40.0), SolveSettings())  # compiles
    if "rate" in args.only:
        with page_section(args.page, __file__, "Solving", ABOUT):
            rate_table(args.n, rng)
    with page_section(args.page, __file__, "Wrong hints, ties, headers", is_table=False):
        if "wrong" in args.only:
            wrong_table(args.n_wrong, rng)
        if "tie" in args.only:
            tie_table(max(args.n // 20, 2), rng)
        if "check" in args.only:
            check_table(args.n, rng)


if __name__ == "__main__":
    main()
