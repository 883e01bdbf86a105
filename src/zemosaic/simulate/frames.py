"""Calibrated single-channel frames with a WCS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from zemosaic.errors import SettingError
from zemosaic.simulate.exposure import (
    Progress,
    add_cosmics,
    add_noise,
    add_trail,
    draw_gradient,
    draw_trail,
    evaluate_surface,
    vignette,
)
from zemosaic.simulate.sky import Purpose, SimulatedSky, random_stream, tangent_wcs, wcs_cards
from zemosaic.simulate.truth import ExposureTruth, SetTruth, prepare_folder, write_truth

__all__ = ["FrameRecipe", "draw_exposures", "grid_pointings", "render_frame", "simulate_frames"]

Image = npt.NDArray[np.float32]
Pointing = tuple[float, float, float]

_EXPOSURE_S = 10.0
"""As small telescopes without a guider take."""

_SHORT = 0.2
"""Part of the exposure that a short frame has: two seconds for stars that saturate in ten."""

# Wings below this many sigma of one pixel are left out: all of them together add less than 0.1 % to a star.
_WING_FLOOR = 3e-4


@dataclass(frozen=True, slots=True)
class FrameRecipe:
    """How frames differ from the sky, and from each other.

    Attributes
    ----------
    shape : tuple of int
        ``(height, width)``.
    scale_arcsec : float
        Pixel scale.
    gain_scatter : float
        Standard deviation of ln gain.
    pedestal_adu, pedestal_scatter_adu : float
        Background level and its standard deviation.
    gradient_adu : float
        Standard deviation of the background's change from edge to edge.
    sigma_adu : float
        Noise of the sky; each frame's is 0.9 to 1.3 of it.
    adu_per_electron : float
        Adds the noise of the light itself: variance = this times the signal above the background.
    fwhm_px : float
        Seeing; each frame's is 0.93 to 1.12 of it.
    trail_fraction : float
        Share of frames with a satellite trail.
    short_fraction : float
        Share of frames with a fifth of the exposure.
    max_border_px : int
        Each frame has a border of 0 to this many NaN rows and columns at two sides.
    cubic_adu, common_adu, vignetting, fwhm_growth, n_cosmics, wcs_error_px, saturation_adu, coarse_scale
        What real cameras add; off by default, see `realistic`: gradient terms of third degree;
        a gradient shared by all frames; fall-off of the response; relative growth of the FWHM
        to a corner; cosmic hits a frame; error of the WCS in the header; level at which pixels
        saturate; pixel scale of every third frame relative to `scale_arcsec`.
    """

    shape: tuple[int, int] = (1080, 1920)
    scale_arcsec: float = 2.39
    gain_scatter: float = 0.12
    pedestal_adu: float = 1500.0
    pedestal_scatter_adu: float = 250.0
    gradient_adu: float = 80.0
    sigma_adu: float = 14.0
    adu_per_electron: float = 0.25
    fwhm_px: float = 2.6
    trail_fraction: float = 0.08
    short_fraction: float = 0.0
    max_border_px: int = 11
    cubic_adu: float = 0.0
    common_adu: float = 0.0
    vignetting: float = 0.0
    fwhm_growth: float = 0.0
    n_cosmics: int = 0
    wcs_error_px: float = 0.0
    saturation_adu: float = float("inf")
    coarse_scale: float = 1.0

    @classmethod
    def realistic(cls, shape: tuple[int, int] = (1080, 1920)) -> FrameRecipe:
        """Everything that an unkind camera adds."""
        return cls(
            shape=shape,
            cubic_adu=25.0,
            common_adu=30.0,
            vignetting=0.15,
            fwhm_growth=0.1,
            n_cosmics=150,
            wcs_error_px=0.2,
            saturation_adu=60000.0,
            coarse_scale=1.6,
        )


def simulate_frames(
    out_dir: Path | str,
    sky: SimulatedSky,
    n: int,
    recipe: FrameRecipe | None = None,
    *,
    pointings: Sequence[Pointing] | None = None,
    on_progress: Progress | None = None,
) -> SetTruth:
    """Write `n` float32 frames ``frame_0000.fits`` ... of a sky, with their truth beside them.

    Parameters
    ----------
    out_dir : Path or str
        Folder, made when absent; must hold no other FITS files.
    sky : SimulatedSky
        What is photographed; its seed decides the frames too, to the byte.
    n : int
        Number of frames.
    recipe : FrameRecipe, optional
        How frames differ.
    pointings : sequence of (ra_deg, dec_deg, rotation_deg), optional
        Where frames point; a dithered square grid that fills the sky when not given.
    on_progress : callable, optional
        Called as ``on_progress(done, n)`` after each frame.

    Returns
    -------
    SetTruth

    Raises
    ------
    SettingError
        When `n` is not positive, frames leave the sky, or the folder holds other FITS files.
    """
    recipe = recipe or FrameRecipe()
    if n < 1:
        raise SettingError("simulate.no-frames", n=n)
    names = [f"frame_{k:04d}.fits" for k in range(n)]
    places = list(pointings) if pointings is not None else grid_pointings(sky, n, recipe)
    if len(places) != n:
        raise SettingError("simulate.pointings", n_pointings=len(places), n=n)
    out = prepare_folder(Path(out_dir), names)
    exposures = []
    for k, truth in enumerate(draw_exposures(sky, recipe, names, places)):
        _write_frame(out / truth.name, sky, recipe, k, truth)
        exposures.append(truth)
        if on_progress is not None:
            on_progress(k + 1, n)
    truth_of_set = SetTruth(sky, tuple(exposures))
    write_truth(out, truth_of_set)
    return truth_of_set


def grid_pointings(sky: SimulatedSky, n: int, recipe: FrameRecipe) -> list[Pointing]:
    """A dithered, randomly rotated square grid whose frames stay inside the sky."""
    rng = random_stream(sky.seed, Purpose.POINTING)
    diagonal_deg = float(np.hypot(*recipe.shape)) * recipe.scale_arcsec / 3600
    room_deg = sky.size_deg - diagonal_deg
    if room_deg <= 0:
        raise SettingError("simulate.frame-too-large", frame_deg=diagonal_deg, sky_deg=sky.size_deg)
    per_side = int(np.ceil(np.sqrt(n)))
    row, column = np.divmod(np.arange(n), per_side)
    jitter = np.clip(rng.normal(0, 0.03, (2, n)), -0.06, 0.06)
    place = (np.stack([column, row]) + 0.5) / per_side - 0.5 + jitter
    offset_px = np.clip(place, -0.5, 0.5) * room_deg * 3600 / sky.nebula_wcs.pixel_scale_arcsec()
    middle = (sky.nebula.shape[0] - 1) / 2
    ra, dec = sky.nebula_wcs.pixel_to_sky(middle + offset_px[0], middle + offset_px[1])
    return list(zip(ra.tolist(), dec.tolist(), rng.uniform(-20, 20, n).tolist(), strict=True))


def draw_exposures(
    sky: SimulatedSky, recipe: FrameRecipe, names: Sequence[str], places: Sequence[Pointing]
) -> Iterator[ExposureTruth]:
    """Decide everything about each frame but its noise, in order.

    Parameters
    ----------
    sky : SimulatedSky
        What is photographed.
    recipe : FrameRecipe
        How frames differ.
    names : sequence of str
        One file name a frame.
    places : sequence of (ra_deg, dec_deg, rotation_deg)
        Where each frame points.
    """
    n = len(names)
    picked = random_stream(sky.seed, Purpose.SELECTION)
    with_trail = set(picked.permutation(n)[: round(recipe.trail_fraction * n)].tolist())
    short = set(picked.permutation(n)[: round(recipe.short_fraction * n)].tolist())
    common = draw_gradient(random_stream(sky.seed, Purpose.BACKGROUND, n), recipe.common_adu)
    for k, (name, (ra, dec, rotation)) in enumerate(zip(names, places, strict=True)):
        coarse = recipe.coarse_scale if k % 3 == 0 else 1.0
        shape = (round(recipe.shape[0] / coarse), round(recipe.shape[1] / coarse))
        wcs = tangent_wcs(ra, dec, rotation, shape, recipe.scale_arcsec * coarse)
        if not sky.contains(wcs):
            raise SettingError("simulate.frame-outside", name=name, ra_deg=ra, dec_deg=dec, sky_deg=sky.size_deg)
        exposure = _SHORT if k in short else 1.0
        background = random_stream(sky.seed, Purpose.BACKGROUND, k)
        surface = common + draw_gradient(background, recipe.gradient_adu, recipe.cubic_adu)
        surface[0] = recipe.pedestal_adu + background.normal(0, recipe.pedestal_scatter_adu)
        seeing = random_stream(sky.seed, Purpose.SEEING, k)
        trail = random_stream(sky.seed, Purpose.TRAIL, k)
        gain = float(np.exp(random_stream(sky.seed, Purpose.GAIN, k).normal(0, recipe.gain_scatter)))
        yield ExposureTruth(
            name=name,
            shape=shape,
            wcs=wcs_cards(wcs).tostring(),
            gain=(gain * exposure,),
            area=float((recipe.scale_arcsec * coarse / sky.pixel_arcsec) ** 2),
            surface=(tuple((surface * exposure).tolist()),),
            sigma=recipe.sigma_adu * float(seeing.uniform(0.9, 1.3)),
            fwhm_px=recipe.fwhm_px * float(seeing.uniform(0.93, 1.12)) / coarse,
            exposure_s=_EXPOSURE_S * exposure,
            vignetting=recipe.vignetting,
            trail=draw_trail(trail, shape, 150, 600) if k in with_trail else None,
            border_px=int(seeing.integers(0, recipe.max_border_px + 1)),
        )


def render_frame(sky: SimulatedSky, recipe: FrameRecipe, k: int, truth: ExposureTruth) -> Image:
    """Pixels of exposure number `k`, NaN where it holds no data.

    Parameters
    ----------
    sky : SimulatedSky
        What is photographed.
    recipe : FrameRecipe
        Properties that all frames share.
    k : int
        Number of the exposure: it chooses the noise.
    truth : ExposureTruth
        What is true of it.

    Returns
    -------
    ndarray of float32, shape `truth.shape`
    """
    image = np.zeros(truth.shape, np.float32)
    wcs, gain = truth.celestial, truth.gain[0]
    sky.add_nebula(image, wcs, np.array([gain * truth.area]))
    floor_adu = _WING_FLOOR * recipe.sigma_adu
    sky.add_stars(image, wcs, truth.fwhm_px, gain * sky.star_fluxes(1), floor_adu, fwhm_growth=recipe.fwhm_growth)
    variance = image * np.float32(recipe.adu_per_electron) + np.float32(truth.sigma**2)
    image += evaluate_surface(np.array(truth.surface[0]), truth.shape)
    if truth.vignetting:
        vignette(image, truth.vignetting)
    if truth.trail is not None:
        add_trail(image, truth.trail)
    add_noise(image, random_stream(sky.seed, Purpose.NOISE, k), variance)
    add_cosmics(image, random_stream(sky.seed, Purpose.COSMICS, k), recipe.n_cosmics)
    if np.isfinite(recipe.saturation_adu):
        np.minimum(image, np.float32(recipe.saturation_adu), out=image)
    if truth.border_px:
        image[: truth.border_px] = np.nan
        image[:, -truth.border_px :] = np.nan
    return image


def _write_frame(path: Path, sky: SimulatedSky, recipe: FrameRecipe, k: int, truth: ExposureTruth) -> None:
    header = fits.Header.fromstring(truth.wcs)
    error = random_stream(sky.seed, Purpose.WCS_ERROR, k).normal(0, recipe.wcs_error_px, 2)
    header["CRPIX1"] += float(error[0])
    header["CRPIX2"] += float(error[1])
    header["EXPTIME"] = truth.exposure_s
    if np.isfinite(recipe.saturation_adu):
        header["SATURATE"] = recipe.saturation_adu
    fits.writeto(path, render_frame(sky, recipe, k, truth), header, overwrite=True)
