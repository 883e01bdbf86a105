"""Raw colour exposures as a smart telescope writes them: 16-bit Bayer pixels, no WCS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from astropy.coordinates import FK5, ICRS, SkyCoord
from astropy.io import fits
from astropy.time import Time, TimeDelta

from zemosaic.errors import SettingError
from zemosaic.model.each import Each
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.simulate.exposure import (
    Progress,
    add_noise,
    add_trail,
    draw_gradient,
    draw_trail,
    evaluate_surface,
)
from zemosaic.simulate.sky import Purpose, SimulatedSky, random_stream, tangent_wcs, wcs_cards
from zemosaic.simulate.truth import ExposureTruth, SetTruth, prepare_folder, write_truth

__all__ = ["RawRecipe", "camera_defects", "render_raw", "simulate_raws"]

Image = npt.NDArray[np.float32]

BAYER_NAME = "GRBG"
BAYER_PATTERN: npt.NDArray[np.int64] = np.array([[1, 0], [2, 1]])
"""Channel (red 0, green 1, blue 2) of each pixel by the parity of its row and column."""

_EXPOSURE_S = 10.0
"""As small telescopes without a guider take."""

_SATURATION_ADU = 65535
"""The largest value of two bytes."""

_WING_FLOOR_ADU = 0.005
"""Where the wings of stars are cut, far below the noise."""

_START = "2026-01-10T20:00:00"
_EQUINOX_OF_DATE = "J2026.03"


@dataclass(frozen=True, slots=True)
class RawRecipe:
    """Camera, mount and weather.

    Attributes
    ----------
    shape : tuple of int
        ``(height, width)``; both even, for whole Bayer cells.
    focal_mm, pixel_um : float
        What headers state; each exposure's true scale differs from it by `scale_scatter`.
    scale_scatter : float
        Relative standard deviation of the scale.
    panels : tuple of int or None
        Panels along right ascension and declination, visited one after the other; None takes as
        many as the sky holds.
    overlap : float
        Share of a frame that neighbouring panels have in common.
    dither_deg, hint_error_deg : float
        Standard deviation of pointings about their panel, and of the header's position about
        the pointing (each axis).
    rotation_deg : float
        Field rotation during the whole set, as an alt-az mount has.
    sky_adu : tuple of float
        Sky level in red, green, blue; it changes by a third in the course of the set.
    gradient_adu : float
        Standard deviation of the sky's change from edge to edge.
    read_noise_adu, adu_per_electron : float
        Variance of a pixel = ``read_noise_adu^2 + adu_per_electron x value``.
    fwhm_px : float
        Seeing; each exposure's is 0.92 to 1.15 of it.
    transparency_scatter : float
        Standard deviation of ln gain, beside a slow change of 10 %.
    cloud_fraction, soft_fraction, trail_fraction : float
        Shares of exposures through clouds (15 % of the light, three times the sky), out of focus
        (2.2 times the FWHM), with a satellite trail.
    hot_fraction : float
        Share of hot pixels, the same ones in all exposures.
    """

    shape: tuple[int, int] = (1920, 1080)
    focal_mm: float = 250.0
    pixel_um: float = 2.9
    scale_scatter: float = 2e-4
    panels: tuple[int, int] | None = None
    overlap: float = 0.25
    dither_deg: float = 0.012
    hint_error_deg: float = 0.03
    rotation_deg: float = 25.0
    sky_adu: tuple[float, float, float] = (1200.0, 1500.0, 1100.0)
    gradient_adu: float = 70.0
    read_noise_adu: float = 14.0
    adu_per_electron: float = 0.25
    fwhm_px: float = 2.7
    transparency_scatter: float = 0.05
    cloud_fraction: float = 0.04
    soft_fraction: float = 0.04
    trail_fraction: float = 0.06
    hot_fraction: float = 4e-4

    def __post_init__(self) -> None:
        if self.shape[0] % 2 or self.shape[1] % 2:
            raise ValueError(f"a Bayer sensor has an even height and width, got {self.shape}")

    @property
    def scale_arcsec(self) -> float:
        """Nominal pixel scale."""
        return float(np.rad2deg(self.pixel_um * 1e-3 / self.focal_mm) * 3600)


def simulate_raws(
    out_dir: Path | str,
    sky: SimulatedSky,
    n: int,
    recipe: RawRecipe | None = None,
    *,
    on_progress: Progress | None = None,
    each: Each = map,
) -> SetTruth:
    """Write `n` raw exposures ``Light_0000.fit`` ... of a sky, with their truth beside them.

    Headers hold what a smart telescope writes: BAYERPAT, focal length, pixel size, and the
    approximate RA and DEC *of date* without an EQUINOX.

    Parameters
    ----------
    out_dir : Path or str
        Folder, made when absent; must hold no other FITS files.
    sky : SimulatedSky
        What is photographed; its seed decides the exposures too, to the byte.
    n : int
        Number of exposures.
    recipe : RawRecipe, optional
        Camera, mount and weather.
    on_progress : callable, optional
        Called as ``on_progress(done, n)`` after each exposure, where it was made.
    each : Each
        Makes the exposures, perhaps several at once.

    Returns
    -------
    SetTruth

    Raises
    ------
    SettingError
        When `n` is not positive, exposures leave the sky, or the folder holds other FITS files.
    """
    recipe = recipe or RawRecipe()
    if n < 1:
        raise SettingError("simulate.no-exposures", n=n)
    names = [f"Light_{k:04d}.fit" for k in range(n)]
    drawn = list(_draw_exposures(sky, recipe, names))
    out = prepare_folder(Path(out_dir), names)
    defects = camera_defects(sky.seed, recipe)
    n_done = count(1)

    def expose(k: int) -> None:
        pixels = render_raw(sky, recipe, k, drawn[k], defects)
        fits.writeto(out / names[k], pixels, _raw_header(sky.seed, recipe, k, drawn[k]), overwrite=True)
        if on_progress is not None:
            on_progress(next(n_done), n)

    list(each(expose, range(n)))
    truth_of_set = SetTruth(sky, tuple(drawn))
    write_truth(out, truth_of_set)
    return truth_of_set


def camera_defects(seed: int, recipe: RawRecipe) -> Image:
    """What hot pixels add, ADU, shape `recipe.shape`; 0 for healthy ones."""
    rng = random_stream(seed, Purpose.DEFECTS)
    hot = rng.random(recipe.shape, dtype=np.float32) < recipe.hot_fraction
    excess = np.zeros(recipe.shape, np.float32)
    excess[hot] = rng.uniform(800, 20000, int(hot.sum()))
    return excess


def _draw_exposures(sky: SimulatedSky, recipe: RawRecipe, names: Sequence[str]) -> Iterator[ExposureTruth]:
    n = len(names)
    picked = random_stream(sky.seed, Purpose.SELECTION)
    n_cloud, n_soft = round(recipe.cloud_fraction * n), round(recipe.soft_fraction * n)
    spoiled = picked.permutation(n)
    cloudy, soft = set(spoiled[:n_cloud].tolist()), set(spoiled[n_cloud : n_cloud + n_soft].tolist())
    with_trail = set(picked.permutation(n)[: round(recipe.trail_fraction * n)].tolist())
    panels = recipe.panels or _panels_that_fit(sky, recipe)
    for k, name in enumerate(names):
        condition: Literal["good", "cloud", "soft"]
        condition = "cloud" if k in cloudy else "soft" if k in soft else "good"
        wcs = _pointing(sky, recipe, panels, k, n)
        if not sky.contains(wcs):
            raise SettingError("simulate.panels-outside", name=name, sky_deg=sky.size_deg, panels=panels)
        time = k / n
        gain = float(np.exp(random_stream(sky.seed, Purpose.GAIN, k).normal(0, recipe.transparency_scatter)))
        gain *= (1 - 0.1 * np.sin(6 * time)) * (0.15 if condition == "cloud" else 1.0)
        level = np.array(recipe.sky_adu) * (1 + 0.35 * np.sin(2 * time + 0.3))
        level *= 3.0 if condition == "cloud" else 1.0
        surface = draw_gradient(random_stream(sky.seed, Purpose.BACKGROUND, k), recipe.gradient_adu)
        trail = random_stream(sky.seed, Purpose.TRAIL, k)
        seeing = float(random_stream(sky.seed, Purpose.SEEING, k).uniform(0.92, 1.15))
        yield ExposureTruth(
            name=name,
            shape=recipe.shape,
            wcs=wcs_cards(wcs).tostring(),
            gain=(gain,) * 3,
            area=float((wcs.pixel_scale_arcsec() / sky.pixel_arcsec) ** 2),
            surface=tuple((value, *surface[1:].tolist()) for value in level.tolist()),
            sigma=float(np.sqrt(recipe.read_noise_adu**2 + recipe.adu_per_electron * level.mean())),
            fwhm_px=recipe.fwhm_px * seeing * (2.2 if condition == "soft" else 1.0),
            exposure_s=_EXPOSURE_S,
            condition=condition,
            trail=draw_trail(trail, recipe.shape, 300, 900) if k in with_trail else None,
        )


def _panels_that_fit(sky: SimulatedSky, recipe: RawRecipe) -> tuple[int, int]:
    """At least 1 x 1; whether that fits is seen when exposures are drawn."""
    extent_deg = np.array([recipe.shape[1], recipe.shape[0]]) * recipe.scale_arcsec / 3600
    turn = np.deg2rad(recipe.rotation_deg / 2 + 1)
    turned_deg = extent_deg * np.cos(turn) + extent_deg[::-1] * np.sin(turn)
    room_deg = sky.size_deg - turned_deg - 8 * recipe.dither_deg
    across, up = np.maximum(room_deg // (extent_deg * (1 - recipe.overlap)), 0).astype(int) + 1
    return int(across), int(up)


def _pointing(sky: SimulatedSky, recipe: RawRecipe, panels: tuple[int, int], k: int, n: int) -> CelestialWcs:
    """Panels in turn, dithered; the field turns steadily."""
    rng = random_stream(sky.seed, Purpose.POINTING, k)
    across, up = panels
    row, column = divmod(k * across * up // n, across)
    extent_deg = np.array([recipe.shape[1], recipe.shape[0]]) * recipe.scale_arcsec / 3600
    place = np.array([column - (across - 1) / 2, row - (up - 1) / 2])
    offset_deg = place * extent_deg * (1 - recipe.overlap) + rng.normal(0, recipe.dither_deg, 2)
    middle = (sky.nebula.shape[0] - 1) / 2
    per_deg = 3600 / sky.nebula_wcs.pixel_scale_arcsec()
    ra, dec = sky.nebula_wcs.pixel_to_sky(middle - offset_deg[0] * per_deg, middle + offset_deg[1] * per_deg)
    rotation = recipe.rotation_deg * (k / n - 0.5) + rng.normal(0, 0.15)
    scale = recipe.scale_arcsec * (1 + rng.normal(0, recipe.scale_scatter))
    return tangent_wcs(float(ra), float(dec), rotation, recipe.shape, scale, mirrored=True)


def render_raw(
    sky: SimulatedSky, recipe: RawRecipe, k: int, truth: ExposureTruth, defects: Image
) -> npt.NDArray[np.uint16]:
    """Pixels of exposure number `k`.

    Parameters
    ----------
    sky : SimulatedSky
        What is photographed.
    recipe : RawRecipe
        Properties that all exposures share.
    k : int
        Number of the exposure: it chooses the noise.
    truth : ExposureTruth
        What is true of it.
    defects : ndarray of float32
        What `camera_defects` gave.

    Returns
    -------
    ndarray of uint16, shape `truth.shape`
    """
    image = np.zeros(truth.shape, np.float32)
    wcs, gain = truth.celestial, np.array(truth.gain)
    sky.add_nebula(image, wcs, gain * sky.nebula_colour * truth.area, BAYER_PATTERN)
    sky.add_stars(image, wcs, truth.fwhm_px, gain * sky.star_fluxes(3), _WING_FLOOR_ADU, BAYER_PATTERN)
    surface = np.array(truth.surface)
    image += evaluate_surface(np.array([0.0, *surface[0, 1:]]), truth.shape)
    for row, column in np.ndindex(2, 2):
        image[row::2, column::2] += np.float32(surface[BAYER_PATTERN[row, column], 0])
    if truth.trail is not None:
        add_trail(image, truth.trail)
    variance = np.maximum(image, 0) * np.float32(recipe.adu_per_electron)
    variance += np.float32(recipe.read_noise_adu**2)
    add_noise(image, random_stream(sky.seed, Purpose.NOISE, k), variance)
    image += defects
    return np.clip(np.rint(image), 0, _SATURATION_ADU).astype(np.uint16)


def _raw_header(seed: int, recipe: RawRecipe, k: int, truth: ExposureTruth) -> fits.Header:
    """What a smart telescope tells: a position of date, about right, and no WCS."""
    wcs = truth.celestial.wcs.wcs
    true_place = SkyCoord(wcs.crval[0], wcs.crval[1], unit="deg", frame=ICRS())
    of_date = true_place.transform_to(FK5(equinox=_EQUINOX_OF_DATE))
    # Another number than the dither's: the hint's error is its own.
    error = random_stream(seed, Purpose.WCS_ERROR, k).normal(0, recipe.hint_error_deg, 2)
    taken = Time(_START) + TimeDelta(k * (_EXPOSURE_S + 1.0), format="sec")
    header = fits.Header()
    header["INSTRUME"] = "Simulated smart telescope"
    header["BAYERPAT"] = BAYER_NAME
    header["EXPTIME"] = truth.exposure_s
    header["GAIN"] = 80
    header["RA"] = float((of_date.ra.deg + error[0] / np.cos(of_date.dec.rad)) % 360)
    header["DEC"] = float(np.clip(of_date.dec.deg + error[1], -90, 90))
    header["FOCALLEN"] = recipe.focal_mm
    header["XPIXSZ"] = header["YPIXSZ"] = recipe.pixel_um
    header["FILTER"] = "IRCUT"
    header["DATE-OBS"] = taken.isot
    header["OBJECT"] = "Simulated field"
    return header
