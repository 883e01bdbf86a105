"""What is true of a simulated set, and how it is kept beside the set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from astropy.io.fits import Header
from astropy.table import Table

from zemosaic.errors import EnvironmentProblem, SettingError
from zemosaic.model.photo_scale import N_TERMS, PhotoScale
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.simulate.sky import FLUX_OF_MAG_10, SimulatedSky

__all__ = ["ExposureTruth", "SetTruth", "prepare_folder", "read_truth", "write_truth"]

TRUTH_NAME = "truth.json"
STARS_NAME = "truth_stars.ecsv"


@dataclass(frozen=True, slots=True)
class ExposureTruth:
    """What is true of one simulated exposure, which obeys

        d = F (gain (area S + stars) + surface) + noise

    with `S` the nebula in ADU per reference pixel.

    Attributes
    ----------
    name : str
        File name.
    shape : tuple of int
        ``(height, width)``.
    wcs : str
        Cards of the true WCS, as one FITS header string.
    gain : tuple of float
        Response per channel: exposure, transparency and camera together.
    area : float
        Area of a pixel over that of the sky's reference pixel.
    surface : tuple of tuples of float
        Background per channel, ADU: coefficients of `surface_basis` of order 3.
    vignetting : float
        Fall-off k of the response ``F = exp(k (1/3 - (u^2 + v^2) / 2))``.
    sigma : float
        Noise of a pixel of empty sky at the centre, ADU (mean of the channels).
    fwhm_px : float
        Seeing at the centre.
    exposure_s : float
        Exposure time.
    condition : {"good", "cloud", "soft"}
        Whether the exposure is spoiled, and how.
    trail : tuple of float or None
        Satellite trail: a point ``(x, y)`` on it, its angle in radians from +x, its peak in ADU.
    border_px : int
        Width of the rows at the bottom and columns at the right that hold no data.
    """

    name: str
    shape: tuple[int, int]
    wcs: str
    gain: tuple[float, ...]
    area: float
    surface: tuple[tuple[float, ...], ...]
    sigma: float
    fwhm_px: float
    exposure_s: float
    vignetting: float = 0.0
    condition: Literal["good", "cloud", "soft"] = "good"
    trail: tuple[float, float, float, float] | None = None
    border_px: int = 0

    @property
    def celestial(self) -> CelestialWcs:
        """The true WCS."""
        return _read_wcs(self.wcs, self.shape)

    def photo_scale(self, area_ref: float = 1.0) -> PhotoScale:
        """The correction a perfect match would find.

        Parameters
        ----------
        area_ref : float
            Area of the mosaic's reference pixel over that of the sky's.

        Returns
        -------
        PhotoScale
            Gains; surfaces in mosaic units, without terms of third degree; response when vignetted.
        """
        gain = np.array(self.gain)
        surface = np.array(self.surface)[:, :N_TERMS] * (area_ref / self.area) / gain[:, None]
        response = None
        if self.vignetting:
            # Terms u, v, u^2, uv, v^2 of ln F; its constant part belongs to the gain.
            response = np.tile([0.0, 0.0, -self.vignetting / 2, 0.0, -self.vignetting / 2], (len(gain), 1))
            gain = gain * np.exp(self.vignetting / 3)
        zero = np.zeros(len(gain))
        return PhotoScale(gain, surface, response, gain_error=zero, level_error=zero, note="truth")


@dataclass(frozen=True, slots=True)
class SetTruth:
    """A simulated set: its sky and its exposures."""

    sky: SimulatedSky
    exposures: tuple[ExposureTruth, ...]

    @property
    def sigma(self) -> float:
        """Median noise of a pixel of one exposure, ADU."""
        return float(np.median([e.sigma for e in self.exposures]))

    @property
    def n_channels(self) -> int:
        """1 for mono sets, 3 for raw colour sets."""
        return len(self.exposures[0].gain)


@cache
def _read_wcs(cards: str, shape: tuple[int, int]) -> CelestialWcs:
    """To read cards takes 3 ms, and a score asks seven times for each exposure."""
    return CelestialWcs.from_header(Header.fromstring(cards), shape)


def prepare_folder(out_dir: Path, names: Sequence[str]) -> Path:
    """Make the folder of a set; refuse one that holds other frames, which would join the set.

    Raises
    ------
    SettingError
        When the folder holds FITS files that the set will not overwrite.
    EnvironmentProblem
        When the folder cannot be made.
    """
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise EnvironmentProblem("simulate.cannot-make-folder", folder=out_dir, problem=problem.strerror) from problem
    ours = set(names)
    strays = [p.name for p in out_dir.iterdir() if p.suffix in {".fit", ".fits"} and p.name not in ours]
    if strays:
        raise SettingError("simulate.strays", folder=out_dir, n_strays=len(strays), stray=min(strays))
    return out_dir


def write_truth(out_dir: Path, truth: SetTruth) -> None:
    """Write ``truth.json`` and ``truth_stars.ecsv`` beside a set."""
    sky = truth.sky
    facts = {
        "sky": {
            "seed": sky.seed,
            "ra_deg": sky.ra_deg,
            "dec_deg": sky.dec_deg,
            "size_deg": sky.size_deg,
            "stars_per_deg2": sky.stars_per_deg2,
            "nebula_adu": sky.nebula_adu,
            "pixel_arcsec": sky.pixel_arcsec,
        },
        "n_catalogue": sky.n_catalogue,
        "exposures": [asdict(e) for e in truth.exposures],
    }
    (out_dir / TRUTH_NAME).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    stars = Table(
        [sky.star_ra, sky.star_dec, sky.star_flux, *sky.star_colour.T],
        names=["ra_deg", "dec_deg", "flux_adu", "red", "green", "blue"],
    )
    stars.write(out_dir / STARS_NAME, format="ascii.ecsv", overwrite=True)


def read_truth(set_dir: Path | str) -> SetTruth:
    """Read what `write_truth` wrote.

    Random stars and the nebula are drawn again from the seed; catalogue stars come from the table.

    Raises
    ------
    SettingError
        When the folder holds no truth.
    """
    folder = Path(set_dir)
    try:
        facts = json.loads((folder / TRUTH_NAME).read_text(encoding="utf-8"))
        table = Table.read(folder / STARS_NAME, format="ascii.ecsv")[: facts["n_catalogue"]]
    except FileNotFoundError as problem:
        raise SettingError("simulate.no-set", folder=folder, file=problem.filename) from problem
    mag = 10 - 2.5 * np.log10(np.asarray(table["flux_adu"]) / FLUX_OF_MAG_10)
    sky = SimulatedSky(stars=(np.asarray(table["ra_deg"]), np.asarray(table["dec_deg"]), mag), **facts["sky"])
    return SetTruth(sky, tuple(_exposure(e) for e in facts["exposures"]))


def _exposure(facts: dict[str, Any]) -> ExposureTruth:
    """JSON knows no tuples: turn lists back."""
    as_tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
    as_tuples["surface"] = tuple(tuple(row) for row in facts["surface"])
    return ExposureTruth(**as_tuples)
