"""Small sets with known truth for `hard_skies.py`: frames simulated, changed where they lie, built and judged."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.table import Table
from scipy.ndimage import uniform_filter

import zemosaic
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.simulate import FrameRecipe, SetTruth, SimulatedSky, simulate_frames
from zemosaic.simulate.score import score_plane, true_image
from zemosaic.simulate.sky import tangent_wcs

Array = npt.NDArray[np.float64]
Header = fits.Header
Pointing = tuple[float, float, float]
Change = Callable[[int, Array, Header], Array]
"""Other pixels for frame number k; may change its header too."""

RA_DEG, DEC_DEG = 83.8, 22.0
SHAPE = (300, 400)
SIGMA = 7.0
PLAIN = FrameRecipe(shape=SHAPE, trail_fraction=0, max_border_px=0, sigma_adu=SIGMA)


@dataclass(frozen=True)
class Figure:
    """What was measured, and between which limits it should lie."""

    what: str
    value: float
    low: float
    high: float

    @property
    def is_short(self) -> bool:
        """Whether it lies outside, or was not to be had."""
        return not self.low <= self.value <= self.high


@dataclass(frozen=True)
class Made:
    """A mosaic, its planes by name, and what the run told: codes of notices, and of frames left out."""

    planes: dict[str, Array]
    header: Header
    told: Counter[str]
    left_out: Counter[str]
    out: Path

    @property
    def data(self) -> Array:
        """The mosaic."""
        return self.planes["DATA"]

    @property
    def wcs(self) -> CelestialWcs:
        """Its grid."""
        return CelestialWcs.from_header(self.header, self.data.shape)

    def positions_in(self, frame: CelestialWcs) -> tuple[Array, Array]:
        """Where each of its pixels lies in a frame."""
        return frame.sky_to_pixel(*self.wcs.pixel_to_sky(*np.meshgrid(*(np.arange(n) for n in self.data.shape[::-1]))))

    def frames(self) -> Table:
        """The rows of the frames that it is made of."""
        table = Table.read(self.out / "frames.ecsv")
        return table[table["use"]]


def sky_of(
    seed: int, size_deg: float = 0.7, place_deg: tuple[float, float] = (RA_DEG, DEC_DEG), nebula_adu: float = 100.0
) -> SimulatedSky:
    """A field dense enough for small frames to hold stars that can be measured."""
    return SimulatedSky(seed, *place_deg, size_deg, stars_per_deg2=6000.0, nebula_adu=nebula_adu)


def panels(n_across: int, n_up: int, n_each: int, overlap: float = 0.25) -> list[tuple[float, float]]:
    """Offsets of a grid of panels, px, each as often as it is exposed."""
    dx, dy = SHAPE[1] * (1 - overlap), SHAPE[0] * (1 - overlap)
    return [
        ((i - (n_across - 1) / 2) * dx, (j - (n_up - 1) / 2) * dy)
        for j in range(n_up)
        for i in range(n_across)
        for _ in range(n_each)
    ]


def around(
    sky: SimulatedSky, offsets_px: Sequence[tuple[float, float]], turns_deg: Sequence[float] = ()
) -> list[Pointing]:
    """Pointings at offsets from the middle of the sky, dithered by some pixels; turned by a degree or two."""
    plane = tangent_wcs(sky.ra_deg, sky.dec_deg, 0.0, (1, 1), PLAIN.scale_arcsec)
    rng = np.random.default_rng(sky.seed)
    x, y = (np.array(offsets_px, float) + rng.normal(0, 4, (len(offsets_px), 2))).T
    angles = turns_deg or rng.normal(0, 1.5, len(offsets_px)).tolist()
    return [(float(a), float(d), float(t)) for a, d, t in zip(*plane.pixel_to_sky(x, y), angles, strict=True)]


def simulate(
    folder: Path, sky: SimulatedSky, places: list[Pointing], recipe: FrameRecipe = PLAIN, change: Change | None = None
) -> SetTruth:
    """Frames at some places, each changed afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    truth = simulate_frames(folder, sky, len(places), recipe, pointings=places)
    for k, exposure in enumerate(truth.exposures if change else ()):
        pixels, header = fits.getdata(folder / exposure.name, header=True)
        changed = change(k, pixels.astype(float), header) if change else pixels
        fits.writeto(folder / exposure.name, changed.astype(np.float32), header, overwrite=True)
    return truth


def build(folder: Path, **settings: dict[str, object]) -> Made:
    """The mosaic of a folder."""
    told: Counter[str] = Counter()
    left_out: Counter[str] = Counter()

    def listen(event: object) -> None:
        if isinstance(event, zemosaic.events.LeftOut):
            left_out[event.told.code] += 1
        elif isinstance(event, zemosaic.events.Notice):
            told[event.told.code] += 1

    out = folder.with_name(folder.name + "_out")
    shutil.rmtree(out, ignore_errors=True)
    made = zemosaic.build([folder], out, settings={"output": {"also": []}, **settings}, on_event=listen)
    with fits.open(made.mosaic) as hdus:
        planes = {hdu.name: np.asarray(hdu.data, float) for hdu in hdus[1:]}
        planes["DATA"] = np.asarray(hdus[0].data, float)
        return Made(planes, hdus[0].header.copy(), told, left_out, out)


def judge(made: Made, truth: SetTruth, name: str = "") -> Iterator[Figure]:
    """Stars, background and seams against the truth."""
    score = score_plane(made.data, made.wcs, truth)
    if score.n_stars >= 5:
        yield Figure(f"{name}scatter of stars, mmag", score.star_mmag, 0, 15)
    yield Figure(f"{name}background after a cubic, sigma", score.background_sigma, 0, 0.15)
    if score.n_steps:
        yield Figure(f"{name}seams, sigma", score.seam_sigma, 0, 0.15)
    yield Figure(f"{name}sky filled", score.filled, 0.998, 1)


def leftover(made: Made, truth: SetTruth) -> tuple[Array, Array]:
    """Mosaic less the true sky, in true ADU, and the light of the stars there."""
    scale = score_plane(made.data, made.wcs, truth).scale
    full = true_image(truth, made.wcs).astype(float)
    return made.data / scale - full, full - true_image(truth, made.wcs, faintest_left_out=0)


def high_pass(image: Array, clean: npt.NDArray[np.bool_], side_px: int = 31) -> Array:
    """An image less its mean over the clean pixels around."""
    weight = uniform_filter(clean.astype(float), side_px)
    return image - uniform_filter(np.where(clean, image, 0), side_px) / np.maximum(weight, 1e-6)


def spread_of_places(made: Made, truth: SetTruth) -> float:
    """How far the middles of the used frames are from the truth, px, at most, less what all are off by."""
    true = {exposure.name: exposure.celestial for exposure in truth.exposures}
    off = []
    for row in made.frames():
        ra, dec = true[row["name"]].pixel_to_sky((SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2)
        east = (float(row["ra_deg"]) - float(ra)) * np.cos(np.deg2rad(float(dec)))
        off.append((east, float(row["dec_deg"]) - float(dec)))
    away = (np.array(off) - np.median(off, axis=0)) * 3600 / PLAIN.scale_arcsec
    return float(np.hypot(*away.T).max())
