"""Frames with parts that hold no sky: the mosaic's stars keep their flux, and what is lost is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits

import zemosaic
from star_sets import SHAPE, Spoil, StarSet, make_star_set
from zemosaic.settings import load_settings

F4 = npt.NDArray[np.float32]
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]


def noise(level: float, sigma: float, seed: int) -> F4:
    return np.random.default_rng(seed).normal(level, sigma, SHAPE).astype(np.float32)


def ratios_of(stars: StarSet, *, match: bool = False, **settings: str) -> npt.NDArray[np.float64]:
    """Star fluxes of a mosaic over those that they had, their common factor taken out; and its sky is flat."""
    chosen = load_settings(assignments=[f"{key.replace('__', '.')}={value}" for key, value in settings.items()])
    made = zemosaic.coadd([stars.folder], stars.grid, match=match, settings=chosen)
    clean = made.data[np.isfinite(made.data)]
    assert np.mean(np.abs(clean - np.median(clean)) > 300) < 0.05  # stars alone
    assert clean.min() > np.median(clean) - 200
    return stars.star_ratios(made.data)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> npt.NDArray[np.float64]:
    return ratios_of(make_star_set(tmp_path_factory.mktemp("control") / "in"))


def half_black(level: float, sigma: float) -> Spoil:
    def spoil(k: int, image: F4, header: fits.Header) -> F4:
        return np.where((k in {2, 5}) & (Y >= 90), noise(level, sigma, k), image)

    return spoil


def repeated(k: int, image: F4, header: fits.Header) -> F4:
    return image[np.minimum(np.arange(len(image)), 90)] if k in {2, 5} else image


def beyond_a_circle(k: int, image: F4, header: fits.Header) -> F4:
    return np.where(np.hypot(X - 130, Y - 100) > 125, noise(200, 3, k), image)


def occulted(k: int, image: F4, header: fits.Header) -> F4:
    return np.where(X < 60, noise(200, 3, k), image)


def with_overscan(k: int, image: F4, header: fits.Header) -> F4:
    header["TRIMSEC"], header["BIASSEC"] = "[1:260,1:200]", "[261:292,1:200]"
    return np.hstack([image, noise(950, 8, k)[:, :32]])


def with_mask(k: int, image: F4, header: fits.Header) -> fits.HDUList:
    """As JWST has it: a jump that was found and corrected in every third pixel, and a few that are bad."""
    rng = np.random.default_rng(k)
    bits = np.where(rng.random(SHAPE) < 0.3, 4, 0) | np.where(bad := rng.random(SHAPE) < 0.005, 1 + 2**30, 0)
    primary = fits.PrimaryHDU(header=fits.Header({"TELESCOP": "JWST"}))
    science = fits.ImageHDU(np.where(bad, 60_000, image), header, name="SCI")
    return fits.HDUList([primary, science, fits.ImageHDU(bits.astype(np.int32), name="DQ")])


@pytest.mark.parametrize(
    "spoil",
    [half_black(0, 4), half_black(300, 10), repeated, beyond_a_circle, occulted, with_overscan, with_mask],
    ids=["half black", "half at the bias", "repeated rows", "circle", "occulted", "overscan", "mask"],
)
def test_stars_keep_their_flux(tmp_path: Path, spoil: Spoil, control: npt.NDArray[np.float64]) -> None:
    ratios = ratios_of(make_star_set(tmp_path / "in", spoil))
    good = np.isfinite(ratios)
    assert good.mean() > 0.7
    assert np.median(ratios[good]) == pytest.approx(np.median(control), rel=0.02)
    assert np.std(ratios[good]) < 1.5 * np.std(control)


def shifted_rows(k: int, image: F4, header: fits.Header) -> F4:
    return np.where((k in {2, 5}) & (Y >= 90), np.roll(image, 40, axis=1), image)


def last_rows_of_the_frame_before() -> Spoil:
    """A transfer that broke off: below it the buffer holds what it held before."""
    before = []

    def spoil(k: int, image: F4, header: fits.Header) -> F4:
        before.append(image)
        return np.where((k in {2, 5}) & (Y >= 120), before[k - 1], image)

    return spoil


def slow_shutter(k: int, image: F4, header: fits.Header) -> F4:
    light = 1 - 0.7 * np.clip((Y - 60) / 140, 0, 1) if k in {2, 5} else 1.0
    return (image * light).astype(np.float32)


@pytest.mark.parametrize("spoil", [shifted_rows, last_rows_of_the_frame_before(), slow_shutter])
def test_parts_that_other_frames_contradict(tmp_path: Path, spoil: Spoil, control: npt.NDArray[np.float64]) -> None:
    ratios = ratios_of(make_star_set(tmp_path / "in", spoil), match=True)
    assert np.isfinite(ratios).mean() > 0.7
    assert np.nanmedian(ratios) == pytest.approx(np.median(control), rel=0.02)
    assert np.nanstd(ratios) < 1.5 * np.std(control)
