"""A WCS of any celestial system speaks ICRS."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io.fits import Header
from astropy.wcs import WCS

from zemosaic.model.sky.celestial import CelestialWcs, unit_vectors


def header(axes: tuple[str, str], crval: tuple[float, float], **cards: object) -> Header:
    h = Header()
    for i, (axis, value) in enumerate(zip(axes, crval, strict=True), 1):
        h[f"CTYPE{i}"], h[f"CRVAL{i}"], h[f"CRPIX{i}"] = axis, value, 50.5
        h[f"CUNIT{i}"] = "deg"
    h["CD1_1"], h["CD2_2"] = -1e-3, 1e-3
    for name, value in cards.items():
        h[name] = value
    return h


@pytest.mark.parametrize(
    ("axes", "frame", "cards"),
    [
        (("RA---TAN", "DEC--TAN"), "icrs", {"RADESYS": "ICRS"}),
        (("RA---TAN", "DEC--TAN"), "fk5", {"RADESYS": "FK5", "EQUINOX": 2000.0}),
        (
            ("RA---TAN", "DEC--TAN"),
            SkyCoord(0, 0, unit="deg", frame="fk5", equinox="J1975").frame,
            {"RADESYS": "FK5", "EQUINOX": 1975.0},
        ),
        (("RA---TAN", "DEC--TAN"), "fk4", {"RADESYS": "FK4", "EQUINOX": 1950.0}),
        (("GLON-TAN", "GLAT-TAN"), "galactic", {}),
        (("ELON-TAN", "ELAT-TAN"), "barycentricmeanecliptic", {}),
    ],
)
def test_every_system_is_transformed_to_icrs_and_back(
    axes: tuple[str, str], frame: object, cards: dict[str, object]
) -> None:
    wcs = CelestialWcs.from_header(header(axes, (83.0, 22.0), **cards), (100, 100))
    reference = SkyCoord(83.0, 22.0, unit="deg", frame=frame).icrs
    ra, dec = wcs.pixel_to_sky(49.5, 49.5)
    off = np.arccos(np.clip(unit_vectors(ra, dec) @ unit_vectors(reference.ra.deg, reference.dec.deg), -1, 1))
    assert np.rad2deg(off) * 3600 < 2e-2  # arccos of nearly 1 is good to 5 mas
    x, y = np.array([0.0, 30.0, 99.0]), np.array([5.0, 80.0, 99.0])
    back = wcs.sky_to_pixel(*wcs.pixel_to_sky(x, y))
    assert np.allclose(back, (x, y), atol=1e-6)


def test_the_area_of_a_pixel_is_its_area_on_the_sky() -> None:
    h = header(("RA---CAR", "DEC--CAR"), (0.0, 0.0), RADESYS="ICRS")
    wcs = CelestialWcs.from_header(h, (100, 100))
    # Plate carree pixels shrink as cos(dec).
    y = np.array([49.5, 49.5 + 20000])
    area = wcs.pixel_area_deg2(np.full(2, 49.5), y)
    assert area == pytest.approx([1e-6, 1e-6 * np.cos(np.deg2rad(20.0))], rel=1e-5)


def test_what_is_no_map_of_the_sky_is_refused() -> None:
    with pytest.raises(ValueError, match="celestial"):
        CelestialWcs(WCS(naxis=2), (10, 10))


def test_an_outline_is_a_closed_walk_round_the_pixels() -> None:
    wcs = CelestialWcs.from_header(header(("RA---TAN", "DEC--TAN"), (10.0, 0.0), RADESYS="ICRS"), (100, 60))
    x, y = wcs.sky_to_pixel(*wcs.outline(4))
    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((-0.5, 59.5, -0.5, 99.5), abs=1e-6)
