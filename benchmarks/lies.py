"""Plausible lies: one wrong fact in one, half or all frames of a tiny set, and what the mosaic makes of it.

    python benchmarks/lies.py [--runs 300] [--first 0] [--only KIND ...] [--seed 1] [--keep FOLDER]
                              [--record FILE] [--page FILE]

A run is *silent* when its mosaic is wrong (star fluxes by more than 5 %, places by more than 1 px, or a tenth of the
sky or of the stars missing, always beside the same set without the lie) and yet the run said nothing that it does not
say of the set without the lie, and left no frame out. The table has one row a kind.
`--record` appends a line of JSON a run; `--page` writes the table of all that are recorded there (a run that was made
again counts as it came out last), with the day, the commits of the runs and the machine. `--runs 0 --page` only writes.
Sets: six calibrated frames of 300 x 420 px with a WCS, and six raw Bayer frames of 480 x 640 px with hints alone, both
of a sky that holds the catalogue's stars. Another unit in all frames is no lie.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy
from astropy.io import fits

import zemosaic
from machine import find_commit, machine_facts
from page import add_page_option, write_section
from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.simulate import FrameRecipe, RawRecipe, SimulatedSky, read_truth, simulate_frames, simulate_raws

Header = fits.Header
Pixels = npt.NDArray[np.generic]
Draw = np.random.Generator
Lie = Callable[[Header, Pixels, Draw], "Pixels | None"]
"""Changes the header; returns other pixels, or None where they stay. The draw is the same for all frames of a run."""

FLUX_TOLERANCE, PLACE_TOLERANCE_PX, MISSING = 0.05, 1.0, 0.1
SCALE_ARCSEC = 5.0
"""Coarse, so that a tiny frame holds some twenty stars of the catalogue."""
APERTURE_PX, RING_PX = 4, (7, 10)
FAINTEST = 60.0
"""Stars are measured where their aperture's noise is below 1 / this of their flux: it must not pass for an error."""


def set_card(name: str, *values: object) -> Lie:
    """One of some values in a card, in place of the true one."""

    def lie(header: Header, _: Pixels, rng: Draw) -> None:
        header[name] = values[int(rng.integers(len(values)))]

    return lie


def multiply_card(name: str, *factors: float) -> Lie:
    """A number in a card times one of some factors."""

    def lie(header: Header, _: Pixels, rng: Draw) -> None:
        header[name] = float(header[name]) * factors[int(rng.integers(len(factors)))]

    return lie


def drop_card(*names: str) -> Lie:
    """Cards that are missing."""

    def lie(header: Header, _: Pixels, __: Draw) -> None:
        for name in names:
            header.remove(name, ignore_missing=True)

    return lie


def scale_matrix(header: Header, _: Pixels, rng: Draw) -> None:
    """A header WCS of another scale: a binning that was not carried over, or a wrong focal length."""
    factor = float(rng.choice([0.5, 0.9, 0.98, 1.02, 1.1, 2.0]))
    for card in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        header[card] *= factor


def turn_matrix(header: Header, _: Pixels, rng: Draw) -> None:
    """A header WCS that is turned."""
    angle = np.deg2rad(float(rng.choice([0.5, 3.0, 30.0, 90.0, 180.0])))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    cd = np.array([[header[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)]) @ turn
    for i, j in np.ndindex(2, 2):
        header[f"CD{i + 1}_{j + 1}"] = float(cd[i, j])


def mirror_matrix(header: Header, _: Pixels, __: Draw) -> None:
    """A header WCS of the mirrored image."""
    header["CD1_1"], header["CD2_1"] = -header["CD1_1"], -header["CD2_1"]


def move_place(header: Header, _: Pixels, rng: Draw) -> None:
    """A header WCS beside the truth by pixels to degrees."""
    off_deg = float(rng.choice([0.002, 0.02, 0.2, 2.0]))
    header["CRVAL1"] = (header["CRVAL1"] + off_deg) % 360
    header["CRVAL2"] += off_deg * 0.7


def move_hint(header: Header, _: Pixels, rng: Draw) -> None:
    """A pointing beside the truth."""
    off_deg = float(rng.choice([0.3, 1.0, 4.0, 20.0]))
    header["RA"] = (header["RA"] + off_deg) % 360
    header["DEC"] = float(np.clip(header["DEC"] - off_deg, -90, 90))


def hours_for_degrees(header: Header, _: Pixels, __: Draw) -> None:
    """RA in hours in a card that held degrees."""
    header["RA"] /= 15


def fill_half(pixels: Pixels, rng: Draw, fill: Callable[[Pixels], Pixels]) -> Pixels:
    """One of the four halves of the pixels changed."""
    changed = pixels.copy()
    height, width = pixels.shape
    halves = np.s_[: height // 2, :], np.s_[height // 2 :, :], np.s_[:, : width // 2], np.s_[:, width // 2 :]
    where = halves[int(rng.integers(4))]
    changed[where] = fill(changed[where]).astype(pixels.dtype)
    return changed


def black_half(_: Header, pixels: Pixels, rng: Draw) -> Pixels:
    """Half a frame was not read out: one value."""
    value = float(rng.choice([0, 1000]))
    return fill_half(pixels, rng, lambda part: np.full_like(part, value))


def noisy_black_half(_: Header, pixels: Pixels, rng: Draw) -> Pixels:
    """Half a frame without light, with the noise of reading."""
    noise = np.random.default_rng(5)
    return fill_half(pixels, rng, lambda part: np.rint(300 + noise.normal(0, 8, part.shape)))


def dim_half(_: Header, pixels: Pixels, rng: Draw) -> Pixels:
    """Half a frame behind an obstacle: 40 % of its light."""
    return fill_half(pixels, rng, lambda part: part * 0.4)


def shifted_half(_: Header, pixels: Pixels, rng: Draw) -> Pixels:
    """Half a frame whose rows are shifted."""
    return fill_half(pixels, rng, lambda part: np.roll(part, 34, axis=1))


def shifted_rows(_: Header, pixels: Pixels, rng: Draw) -> Pixels:
    """A band of rows, or all from one on, that a broken transfer shifted round the end of the rows."""
    height = len(pixels)
    first = int(height * rng.uniform(0.2, 0.7))
    last = int(rng.choice([height, first + height // 5]))
    changed = pixels.copy()
    changed[first:last] = np.roll(changed[first:last], 2 * int(rng.integers(3, 100)), axis=1)
    return changed


def slow_shutter(_: Header, pixels: Pixels, rng: Draw) -> Pixels:
    """A shutter out of focus that covered a part of the frame while it was exposed: light falls off to a fifth."""
    down = np.linspace(0, 1, len(pixels))[:: int(rng.choice([-1, 1])), None]
    return np.asarray(np.rint(pixels * (1 - 0.8 * np.clip((down - 0.4) / 0.4, 0, 1)))).astype(pixels.dtype)


def unit_values(_: Header, pixels: Pixels, __: Draw) -> Pixels:
    """Values of 0 to 1 where others count to 65535."""
    return (pixels / 65535).astype(np.float32)


def twelve_bits(_: Header, pixels: Pixels, __: Draw) -> Pixels:
    """Values of 12 bits where others were stretched to 16."""
    return (pixels / 16).astype(pixels.dtype)


def binned(header: Header, pixels: Pixels, __: Draw) -> Pixels:
    """A raw frame binned 2 x 2 by its camera, cards of the pattern and the pixel left as they were."""
    height, width = pixels.shape
    return np.rint(pixels.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))).astype(pixels.dtype)


CALIBRATED: dict[str, dict[str, Lie]] = {
    "scale": {"matrix": scale_matrix, "PIXSCALE": set_card("PIXSCALE", 2.5, 10.0, 0.0)},
    "place": {"moved": move_place},
    "angle": {"turned": turn_matrix, "mirrored": mirror_matrix},
    "filter": {"FILTER": set_card("FILTER", "Ha", "", "Clear", "L-Pro")},
    "exposure": {
        "EXPTIME": multiply_card("EXPTIME", 0.0, 0.1, 2.0, 1000.0, -1.0),
        "text": set_card("EXPTIME", "10 s", "unknown"),
        "none": drop_card("EXPTIME"),
    },
    "pattern": {"BAYERPAT": set_card("BAYERPAT", "RGGB", "GBRG")},
    "gain": {"EGAIN": set_card("EGAIN", 0.1, 40.0, 0.0, -1.0, "high")},
    "saturation": {"SATURATE": set_card("SATURATE", 255.0, 1600.0, 5000.0, 0.0, "full")},
    "units": {"0..1": unit_values, "12 bit": twelve_bits, "BUNIT": set_card("BUNIT", "electron/s", "Jy/beam")},
    "half a frame": {
        "one value": black_half, "no light": noisy_black_half, "obstacle": dim_half, "shifted": shifted_half,
        "rows": shifted_rows, "shutter": slow_shutter,
    },
}  # fmt: skip
RAW: dict[str, dict[str, Lie]] = {
    "scale": {"FOCALLEN": multiply_card("FOCALLEN", 0.5, 0.8, 0.95, 2.0, 10.0), "XPIXSZ": multiply_card("XPIXSZ", 2.0)},
    "place": {"moved": move_hint, "hours": hours_for_degrees, "0, 0": set_card("RA", 0.0)},
    "filter": {"FILTER": set_card("FILTER", "LP", "dark")},
    "exposure": {"EXPTIME": multiply_card("EXPTIME", 0.0, 0.1, 2.0, 1000.0)},
    "pattern": {
        "BAYERPAT": set_card("BAYERPAT", "RGGB", "BGGR", "GBRG", "TRUE"),
        "none": drop_card("BAYERPAT"),
        "binned": binned,
    },
    "gain": {"EGAIN": set_card("EGAIN", 0.1, 40.0, 0.0), "GAIN": set_card("GAIN", 0, 300)},
    "saturation": {"SATURATE": set_card("SATURATE", 255, 1500, 4095)},
    "units": {"12 bit": twelve_bits},
    "half a frame": {
        "one value": black_half,
        "no light": noisy_black_half,
        "obstacle": dim_half,
        "shifted": shifted_half,
        "rows": shifted_rows,
        "shutter": slow_shutter,
    },
}


@dataclass(frozen=True)
class Outcome:
    """What a run came to: fluxes over truth by star (NaN where none), places off, sky filled, and its words."""

    flux: npt.NDArray[np.float64]
    off_px: float
    filled: float
    words: Counter[str]
    error: str = ""
    crash: str = ""


NO_WORD = (
    "noise of light", "mosaic of", "neighbouring pixels of", "overlaps do not determine", "slow trends",
    "saturate at #",
)  # fmt: skip
"""Parts of messages that name no fault of a frame: they do not count as told."""


def template(message: str) -> str:
    """A message without its numbers and names, so that two runs can be compared."""
    return re.sub(r"[-+]?\d[\d.e+-]*", "#", re.sub(r"\S*(frame|Light)_\S*", "FILE", message))


def build(folder: Path, out: Path) -> Outcome:
    """Make the mosaic and measure the stars of the truth on it."""
    words: Counter[str] = Counter()

    def listen(event: object) -> None:
        if isinstance(event, zemosaic.events.LeftOut):
            words["left out: " + template(event.reason)] += 1
        elif isinstance(event, zemosaic.events.Notice):
            words[template(event.message)] += 1

    try:
        made = zemosaic.build([folder / "set"], out, on_event=listen)
    except zemosaic.ZeMosaicError as error:
        return Outcome(np.zeros(0), 0.0, 0.0, words, template(str(error)))
    except Exception as error:  # noqa: BLE001 - a crash is what this program looks for
        return Outcome(np.zeros(0), 0.0, 0.0, words, crash=repr(error))
    truth = read_truth(folder)
    first = max(made.mosaics.values(), key=lambda path: np.isfinite(fits.getdata(path)).sum())
    data, header = fits.getdata(first, header=True)
    planes = data.reshape(-1, *data.shape[-2:])
    wcs = CelestialWcs.from_header(header, planes.shape[1:])
    plane = planes[len(planes) // 2].astype(float)
    true = truth.sky.star_fluxes(truth.n_channels)[:, truth.n_channels // 2]
    flux, off = measure_stars(plane, *wcs.sky_to_pixel(truth.sky.star_ra, truth.sky.star_dec), true)
    area_deg2 = np.isfinite(plane).sum() * wcs.pixel_area_deg2(*(np.array(plane.shape[::-1]) / 2))
    return Outcome(flux / true, off, float(area_deg2), words)


def is_alone(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], true: npt.NDArray[np.float64]) -> np.ndarray:
    """Of each star whether those that are near enough to reach its ring hold less than a tenth of its light."""
    stars = scipy.spatial.cKDTree(np.column_stack([x, y]))
    near = stars.query_pairs(RING_PX[1] + APERTURE_PX, output_type="ndarray")
    around = np.zeros(len(x))
    for k, other in (near.T, near.T[::-1]):
        np.add.at(around, k, true[other])
    return around < 0.1 * true


def measure_stars(
    plane: npt.NDArray[np.float64], x: npt.ArrayLike, y: npt.ArrayLike, true: npt.NDArray[np.float64]
) -> tuple[np.ndarray, float]:
    """Flux of each star that is not crowded and well above the noise, NaN of others; median distance from its place."""
    x, y = np.asarray(x), np.asarray(y)
    alone = is_alone(x, y, true)
    noise = 1.4826 * np.nanmedian(np.abs(np.diff(plane))) / np.sqrt(2)
    j, i = np.mgrid[-RING_PX[1] : RING_PX[1] + 1, -RING_PX[1] : RING_PX[1] + 1]
    radius = np.hypot(i, j)
    near, ring = radius <= APERTURE_PX, (radius >= RING_PX[0]) & (radius <= RING_PX[1])
    flux, off = np.full(x.shape, np.nan), []
    height, width = plane.shape
    for k, (u, v) in enumerate(zip(x, y, strict=True)):
        a, b = round(float(v)), round(float(u))
        if not alone[k] or not (RING_PX[1] <= a < height - RING_PX[1] and RING_PX[1] <= b < width - RING_PX[1]):
            continue
        cut = plane[a - RING_PX[1] : a + RING_PX[1] + 1, b - RING_PX[1] : b + RING_PX[1] + 1]
        if not np.isfinite(cut[radius <= RING_PX[1]]).all():
            continue
        light = cut - np.median(cut[ring])
        total = light[near].sum()
        spread = 1.4826 * np.median(np.abs(light[ring] - np.median(light[ring])))
        if total < FAINTEST * noise * np.sqrt(near.sum()) or spread > 2 * noise:
            continue
        flux[k] = total
        bright = np.where(near, np.maximum(light, 0), 0)
        off.append(np.hypot((i * bright).sum() / bright.sum() + b - u, (j * bright).sum() / bright.sum() + a - v))
    return flux, float(np.median(off)) if off else np.inf


def faults(found: Outcome, control: Outcome) -> list[str]:
    """In what a mosaic is wrong that the control is not."""
    if found.crash:
        return [f"crashed: {found.crash}"]
    if found.error:
        return []
    wrong = []
    both = np.isfinite(found.flux) & np.isfinite(control.flux)
    if found.off_px > control.off_px + PLACE_TOLERANCE_PX:
        wrong.append(f"places {found.off_px:.1f} px")
    if both.sum() < (1 - 3 * MISSING) * np.isfinite(control.flux).sum():
        wrong.append(f"{both.sum()} of {np.isfinite(control.flux).sum()} stars")
    if both.any():
        ratio = found.flux[both] / control.flux[both]
        scale = float(np.median(ratio))
        outer = float(np.mean(np.abs(ratio / scale - 1) > FLUX_TOLERANCE))
        if outer > MISSING:
            wrong.append(f"{100 * outer:.0f} % of the stars off")
        if abs(scale - 1) > FLUX_TOLERANCE:
            wrong.append(f"fluxes x {scale:.3g}")
    if found.filled < (1 - MISSING) * control.filled:
        wrong.append(f"filled {found.filled / control.filled:.2f}")
    return wrong


def make_sets(folder: Path, seed: int) -> dict[str, Path]:
    """The two sets without lies."""
    known = tycho2().cone(83.8, 22.0, 2.0)
    stars = known.ra_deg, known.dec_deg, known.mag
    (folder / "calibrated").mkdir(parents=True)
    frames = FrameRecipe(shape=(300, 420), scale_arcsec=SCALE_ARCSEC, trail_fraction=0)
    simulate_frames(
        folder / "calibrated",
        SimulatedSky(seed, 83.8, 22.0, 0.95, stars, nebula_adu=60, stars_per_deg2=3000),
        6,
        frames,
    )
    (folder / "raw").mkdir()
    raws = RawRecipe(shape=(480, 640), focal_mm=120, panels=(1, 1), cloud_fraction=0, soft_fraction=0, trail_fraction=0)
    simulate_raws(
        folder / "raw", SimulatedSky(seed, 83.8, 22.0, 1.6, stars, nebula_adu=60, stars_per_deg2=3000), 6, raws
    )
    for path in sorted((folder / "calibrated").glob("frame_*.fits")):
        with fits.open(path, mode="update") as hdus:
            hdus[0].header.update(FILTER="V", INSTRUME="camera", EGAIN=4.0, SATURATE=60000.0, PIXSCALE=SCALE_ARCSEC)
    return {name: folder / name for name in ("calibrated", "raw")}


def tell(lie: Lie, source: Path, folder: Path, share: str, seed: int) -> int:
    """Copy a set with a lie in some of its frames; how many."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "set").mkdir(parents=True)
    paths = sorted(p for p in source.iterdir() if p.suffix in {".fits", ".fit"})
    n_lies = {"one": 1, "half": len(paths) // 2, "all": len(paths)}[share]
    chosen = set(np.random.default_rng(seed).permutation(len(paths))[:n_lies].tolist())
    for k, path in enumerate(paths):
        pixels, header = fits.getdata(path, header=True)
        if k in chosen:
            changed = lie(header, pixels, np.random.default_rng(seed))
            pixels = pixels if changed is None else changed
        fits.writeto(folder / "set" / path.name, pixels, header)
    for path in source.iterdir():
        if path.is_file() and path.suffix not in {".fits", ".fit"}:
            shutil.copy(path, folder)
    return n_lies


@dataclass(frozen=True)
class Told:
    """A lie that was tried, and how it came out."""

    seed: int
    run: int
    source: str
    kind: str
    name: str
    share: str
    verdict: str
    wrong: list[str]
    words: list[str]
    commit: str


VERDICTS = ("right", "told", "left out", "silent")


def judge(found: Outcome, control: Outcome) -> tuple[str, list[str], list[str]]:
    """One of the verdicts, what is wrong, and the words that the control has not."""
    wrong = faults(found, control)
    new = [words for words in found.words if words not in control.words]
    said = [words for words in new if not any(part in words for part in NO_WORD)]
    said += [found.error] if found.error else []
    if not wrong and not found.error:
        return "right", wrong, said
    if not said or found.crash:
        return "silent", wrong, said
    return "left out" if any(words.startswith("left out") for words in said) else "told", wrong, said


def table(tried: Sequence[Told]) -> str:
    """One row a kind, as Markdown."""
    counts: dict[str, Counter[str]] = {}
    for one in tried:
        for kind in (one.kind, "all"):
            counts.setdefault(kind, Counter())[one.verdict] += 1
    counts["all"] = counts.pop("all", Counter())
    rows = [["kind", "runs", *VERDICTS], ["---"] * (2 + len(VERDICTS))]
    rows += [[kind, str(of.total()), *(str(of[v]) for v in VERDICTS)] for kind, of in counts.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def stamp(command: str, commits: Iterable[str]) -> str:
    """The lines of a page that say where its figures come from: of which commits the recorded runs were."""
    facts = machine_facts() | {"commit": ", ".join(sorted(set(commits)))}
    where = [f"- {name}: {facts[name]}" for name in ("date", "commit", "processor")]
    return "\n".join([*where, f"- written: by `{command}`"])


def write_page(page: Path, record: Path) -> None:
    """The page of all runs that are recorded: the last of each number and seed."""
    last = {(line["seed"], line["run"]): Told(**line) for line in map(json.loads, record.read_text().splitlines())}
    tried = [last[key] for key in sorted(last)]
    silent = [one for one in tried if one.verdict == "silent"]
    parts = [
        stamp("python benchmarks/lies.py --record RECORD --page docs/measured/lies.md", (one.commit for one in tried))
        + f"\n- seeds: {', '.join(map(str, sorted({one.seed for one in tried})))}",
        "Tiny sets with one wrong fact in one, half or all frames. A run is *right* when the mosaic is. Any other is "
        "*left out* when a frame was left out for a reason that the set without the lie does not have, *told* when "
        "another such word was said, and *silent* otherwise: fluxes off by more than 5 %, or places by more than 1 px, "
        "in silence.",
        table(tried),
        "Silent:" if silent else "None was silent.",
        "\n".join(
            f"- {one.source}, {one.kind}: {one.name}, {one.share} (seed {one.seed}, run {one.run}): "
            + "; ".join(one.wrong)
            for one in silent
        ),
    ]
    write_section(page, __file__, "One wrong fact", parts)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--only", nargs="*", default=[], help="kinds to try")
    parser.add_argument("--first", type=int, default=0, help="number of the first run, to go on where another stopped")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder in which the silent sets stay")
    parser.add_argument("--record", type=Path, help="file to which each run adds a line")
    add_page_option(parser)
    return parser.parse_args(arguments)


def try_lies(options: argparse.Namespace, scratch: Path) -> list[Told]:
    """Make the mosaics of the runs that are asked for; print those that are not right."""
    lies = [
        (kind, name, share, source, lie)
        for source, kinds in (("calibrated", CALIBRATED), ("raw", RAW))
        for kind, named in kinds.items()
        for name, lie in named.items()
        for share in ("one", "half", "all")
        if (kind, share) != ("units", "all") and (not options.only or kind in options.only)
    ]
    sets, commit = make_sets(scratch / "truth", options.seed), find_commit()
    controls: dict[str, Outcome] = {}
    tried = []
    for run in range(options.first, options.first + options.runs):
        kind, name, share, source, lie = lies[run % len(lies)]
        if source not in controls:
            tell(lambda *_: None, sets[source], scratch / "lie", "one", 0)
            controls[source] = build(scratch / "lie", scratch / "out")
            shutil.rmtree(scratch / "out")
        tell(lie, sets[source], scratch / "lie", share, options.seed * 1000 + run)
        found = build(scratch / "lie", scratch / "out")
        shutil.rmtree(scratch / "out", ignore_errors=True)
        one = Told(options.seed, run, source, kind, name, share, *judge(found, controls[source]), commit)
        tried.append(one)
        if options.record:
            with options.record.open("a") as record:
                record.write(json.dumps(asdict(one)) + "\n")
        if one.verdict != "right":
            what = f"{one.verdict:8s} {source} {kind}: {name}, {share} (run {run}): {'; '.join(one.wrong)}"
            print(f"{what} | {'; '.join(one.words)[:300] or 'nothing'}", flush=True)
        if one.verdict == "silent" and options.keep:
            shutil.copytree(scratch / "lie", options.keep / f"run_{run}", dirs_exist_ok=True)
    return tried


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the lies in turn, run, print what was silent and the table."""
    options = parse(arguments)
    warnings.simplefilter("ignore")
    if options.runs:
        with tempfile.TemporaryDirectory() as scratch:
            print(table(try_lies(options, Path(scratch))))
    if options.page:
        write_page(options.page, options.record)


if __name__ == "__main__":
    main()
