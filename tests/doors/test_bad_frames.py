"""Frames that would harm the mosaic are left out of small sets of calibrated frames too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from astropy.wcs import WCS

import zemosaic
from mosaic_cases import F4, draw_stars, noise, tan_wcs
from zemosaic.settings import load_settings

SHAPE = (240, 320)
N_STARS = 160


def clouded(image: F4) -> F4:
    """A bright sky and no star."""
    return noise(SHAPE, 9, level=2600.0, sigma=12.0)


def bumped(image: F4) -> F4:
    """Half of the exposure 15 px beside the other half."""
    return (image + np.roll(image, (9, 12), axis=(0, 1))) / 2 + noise(SHAPE, 8, level=0.0, sigma=7.0)


@pytest.fixture(scope="module")
def frames() -> list[tuple[F4, WCS]]:
    """Four frames of a rich field, a few pixels apart."""
    rng = np.random.default_rng(3)
    ra, dec = 150 + rng.uniform(-0.1, 0.1, N_STARS), 30 + rng.uniform(-0.08, 0.08, N_STARS)
    flux = np.minimum(2000 * (rng.pareto(0.9, N_STARS) + 1), 2e5)
    out = []
    for k in range(4):
        wcs = tan_wcs(SHAPE, ra_deg=150 + 0.003 * k, dec_deg=30 - 0.002 * k)
        out.append(((draw_stars(wcs, SHAPE, ra, dec, flux, 6.0) + noise(SHAPE, k)).astype(np.float32), wcs))
    return out


@pytest.mark.parametrize(("harm", "words"), [(clouded, "blind"), (bumped, "double")])
def test_a_bad_frame_of_four_is_left_out(frames: list[tuple[F4, WCS]], harm: Callable[[F4], F4], words: str) -> None:
    inputs = [(harm(image) if k == 1 else image, wcs) for k, (image, wcs) in enumerate(frames)]
    made = zemosaic.coadd(inputs, match=True)
    assert [item.name for item in made.left_out] == ["memory:1"]
    assert made.left_out[0].reason.startswith(words)
    assert made.coverage.max() == 3


def test_good_frames_are_used_and_triage_can_be_turned_off(frames: list[tuple[F4, WCS]]) -> None:
    assert zemosaic.coadd(frames, match=True).left_out == ()
    inputs = [(bumped(image) if k == 1 else image, wcs) for k, (image, wcs) in enumerate(frames)]
    off = load_settings(assignments=["quality.triage=off"])
    assert zemosaic.coadd(inputs, match=True, settings=off).left_out == ()
