"""A plate as an astropy WCS, made of its numbers or of its cards."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.tan_sip import TanSip, powers_of_degrees

SHAPE = (480, 540)


def make_plate(order: int) -> TanSip:
    sizes = [0.5 / 300.0 ** (p + q) for p, q in powers_of_degrees(2, order)]  # half a pixel at the edge
    sip = np.random.default_rng(1).normal(0, 1, (2, len(sizes))) * sizes
    return TanSip(359.9, -62.0, (269.5, 239.5), np.array([[-6.6e-4, 3.1e-5], [3.1e-5, 6.6e-4]]), order, sip)


@pytest.mark.parametrize("order", [0, 2, 3, 4])
def test_numbers_and_cards_place_pixels_alike(order: int) -> None:
    plate = make_plate(order)
    made, read = plate.celestial(SHAPE), CelestialWcs.from_header(plate.header(SHAPE), SHAPE)
    x, y = np.random.default_rng(2).uniform(-50, 600, (2, 500))
    sky = made.pixel_to_sky(x, y)
    assert np.allclose(sky, read.pixel_to_sky(x, y), rtol=0, atol=1e-11)
    assert np.allclose(sky, plate.pixel_to_sky(np.stack([x, y], axis=1)), rtol=0, atol=1e-11)
    # The inverse polynomials are where the iterations of both begin, and what a linear reader would take.
    assert np.allclose(made.sky_to_pixel(*sky), read.sky_to_pixel(*sky), rtol=0, atol=1e-6)
    assert np.allclose(made.wcs.wcs_world2pix(*sky, 0), read.wcs.wcs_world2pix(*sky, 0), rtol=0, atol=1e-6)
    if order:
        assert np.allclose(made.wcs.sip.ap, read.wcs.sip.ap, rtol=1e-6, atol=1e-15)
        assert np.allclose(made.wcs.sip.b, read.wcs.sip.b, rtol=1e-6, atol=1e-15)


def test_a_copy_in_another_process_has_the_same_bits() -> None:
    made = make_plate(3).celestial(SHAPE)
    again = copy.copy(made)  # made as a copy in another process is
    for own, other in zip(made.identity[1], again.identity[1], strict=True):
        assert np.array_equal(own, other)
    assert str(again.cards) == str(made.cards) == str(make_plate(3).header(SHAPE))
