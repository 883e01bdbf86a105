"""Positions and pixel scales in every spelling that headers have; each reading listed, the likeliest first."""

from __future__ import annotations

import math

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from zemosaic.io.headers.cards import Cards
from zemosaic.io.headers.hints import SCALE_KEYS, parse_angle, read_hints, read_positions, read_scales


def cards_of(*items: tuple[str, object] | tuple[str, object, str]) -> Cards:
    header = fits.Header()
    for key, value, *comment in items:
        header[key] = (value, *comment)
    return Cards.parse(header.tostring().encode("ascii"))


@pytest.mark.parametrize(
    ("text", "in_hours", "degrees"),
    [
        ("192.995835", True, 192.995835),
        ("192,995835", True, 192.995835),
        ("18:15:29", True, 273.870833333),
        (" 18 15 29.0 ", True, 273.870833333),
        ("18 15 29,0", True, 273.870833333),
        ("18,15,29.0", True, 273.870833333),
        ("18h15m29s", True, 273.870833333),
        ("18h 15m 29.0s", True, 273.870833333),
        ("273:52:15", True, 273.870833333),
        ("273d52m15s", True, 273.870833333),
        ("18 15.5", True, 273.875),
        ("-25:17:06", False, -25.285),
        ("-00 30 00", False, -0.5),
        ("+41d16'09\"", False, 41.269166667),
        ("+22*01'00", False, 22.016666667),
        ("'+22 01 00'", False, 22.016666667),
        ("12:61:00", False, None),
        ("north", False, None),
        ("nan", False, None),
        ("", True, None),
    ],
)
def test_angles(text: str, in_hours: bool, degrees: float | None) -> None:
    assert parse_angle(text, in_hours=in_hours) == (None if degrees is None else pytest.approx(degrees, abs=1e-8))


@given(st.floats(0, 359.999), st.sampled_from([":", " ", ",", "hms"]), st.booleans())
def test_hours_come_back(ra_deg: float, mark: str, has_comma: bool) -> None:
    hours, rest = divmod(ra_deg / 15, 1)
    minutes, rest = divmod(60 * rest, 1)
    parts = f"{int(hours):02d}", f"{int(minutes):02d}", f"{min(60 * rest, 59.9999):07.4f}"
    text = f"{parts[0]}h{parts[1]}m{parts[2]}s" if mark == "hms" else mark.join(parts)
    if has_comma and mark != ",":
        text = text.replace(".", ",")
    assert parse_angle(text, in_hours=True) == pytest.approx(ra_deg, abs=1e-3)


def test_every_reading_of_a_position_is_listed() -> None:
    cards = cards_of(("RA", 5.587), ("DEC", 22.0), ("OBJCTRA", "05 35 12"), ("OBJCTDEC", "+22 00 00"))
    assert read_positions(cards) == [
        (5.587, 22.0, "RA, DEC"),
        (pytest.approx(83.8), 22.0, "OBJCTRA, OBJCTDEC"),
        (pytest.approx(83.805), 22.0, "RA, DEC with RA in hours"),
    ]
    said = cards_of(("RA", 5.587, "[h] right ascension"), ("DEC", 22.0))
    assert [ra for ra, _, _ in read_positions(said)] == [pytest.approx(83.805), 5.587]
    assert read_positions(cards_of(("RA", 0.0), ("DEC", 0.0))) == []
    assert read_positions(cards_of(("RA", 10.0), ("DEC", 95.0))) == []
    assert read_positions(cards_of(("RA", "somewhere"), ("DEC", 5.0))) == []
    assert read_positions(cards_of(("CRVAL1", 83.8), ("CRVAL2", 22.0)))[0][:2] == (83.8, 22.0)


def test_the_pixel_may_be_binned_or_not() -> None:
    plain = [("FOCALLEN", 250.0), ("XPIXSZ", 2.9), ("XBINNING", 2)]
    once, twice = (math.degrees(um * 1e-3 / 250) * 3600 for um in (2.9, 5.8))
    assert [scale for scale, _ in read_scales(cards_of(*plain))] == pytest.approx([once, twice])
    said = [plain[0], ("XPIXSZ", 2.9, "size in microns (without binning)"), plain[2]]
    assert [scale for scale, _ in read_scales(cards_of(*said))] == pytest.approx([twice, once])
    sizes = [plain[0], ("PIXSIZE1", 2.9), ("XPIXSZ", 5.8), plain[2]]
    assert {round(scale, 6) for scale, _ in read_scales(cards_of(*sizes))} >= {round(once, 6), round(twice, 6)}


def test_pixels_may_be_higher_than_wide() -> None:
    cards = cards_of(("RA", 192.9), ("DEC", 40.9), ("FOCALLEN", 250), ("XPIXSZ", 2.0), ("YPIXSZ", 3.0))
    hints = [(hint.scale_arcsec, hint.aspect) for hint in read_hints(cards)]
    um = math.degrees(1e-3 / 250) * 3600
    # As it is stated; then square ones, as where one of the cards is wrong.
    assert hints == [(pytest.approx(um * 6**0.5), 1.5), (pytest.approx(um * 2), 1.0), (pytest.approx(um * 3), 1.0)]


def test_focal_lengths_in_metres_with_commas_and_units() -> None:
    expected = pytest.approx(math.degrees(5.8e-3 / 250) * 3600)
    for focal, pixel in (("250,0", "5,8"), ("250 mm", "5.8 um"), (0.25, 5.8)):
        assert read_scales(cards_of(("FOCALLEN", focal), ("XPIXSZ", pixel)))[0][0] == expected
    assert read_scales(cards_of(("FOCALLEN", 0.0), ("XPIXSZ", 5.8))) == []


@pytest.mark.parametrize("key", SCALE_KEYS)
def test_scale_keywords(key: str) -> None:
    assert read_scales(cards_of((key, 2.39))) == [(2.39, key)]
    assert read_scales(cards_of((key, "2,39 arcsec/pix"))) == [(2.39, key)]
    assert read_scales(cards_of((key, -2.39 / 3600, "[deg] of a pixel"))) == [(pytest.approx(2.39), key)]


def test_hints_are_positions_with_scales() -> None:
    cards = cards_of(("RA", 192.9), ("DEC", 40.9), ("FOCALLEN", 250), ("XPIXSZ", 2.9), ("SECPIX", 4.0))
    hints = read_hints(cards)
    assert [(h.ra_deg, h.dec_deg, h.equinox) for h in hints] == [(192.9, 40.9, None)] * 2
    assert [h.scale_arcsec for h in hints] == [pytest.approx(2.3926716), 4.0]
    assert [h.source for h in hints] == ["RA, DEC, FOCALLEN, XPIXSZ", "RA, DEC, SECPIX"]
    (without,) = read_hints(cards_of(("OBJCTRA", "12 50 00"), ("OBJCTDEC", "-41 30 00"), ("EQUINOX", "J2000")))
    assert (without.ra_deg, without.dec_deg, without.equinox, without.scale_arcsec) == (192.5, -41.5, 2000.0, None)
    assert read_hints(cards_of(("FOCALLEN", 250), ("XPIXSZ", 2.9))) == ()
