"""Header cards, the facts drawn from them, and the WCS in one form."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.cards import Cards, Hdu, open_fits, walk_hdus
from zemosaic.io.headers.facts import effective_bayer, frame_from_cards, frame_wcs, image_layout
from zemosaic.io.headers.scaling import read_scaling
from zemosaic.io.headers.wcs_cards import cards_of_wcs, normalise_wcs, put_wcs_over
from zemosaic.model.frame import Frame, FrameId


def cards_of(values: dict[str, object]) -> Cards:
    header = fits.Header()
    for key, value in values.items():
        header[key] = value
    return Cards.parse(header.tostring().encode("ascii"))


def frame_of(values: dict[str, object], bayer: str = "auto", **pixels: object) -> Frame:
    """A frame of a 20 x 30 16-bit image with these header values."""
    own = cards_of({"BITPIX": 16, "NAXIS": 2, "NAXIS1": 30, "NAXIS2": 20, **pixels, **values})
    return frame_from_cards(Hdu(0, own, b"", 0, 1200), own, "/a/b.fits", FrameId("x"), bayer_setting=bayer)


TAN = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 83.5,
    "CRVAL2": -5.25,
    "CRPIX1": 15.5,
    "CRPIX2": 10.5,
    "CD1_1": -2.5e-4,
    "CD1_2": 1e-5,
    "CD2_1": 1.5e-5,
    "CD2_2": 2.5e-4,
}


def sky_by_astropy(values: dict[str, object], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    header = fits.Header()
    for key, value in values.items():
        header[key] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return np.array(WCS(header, naxis=2).all_pix2world(x, y, 0))


def assert_same_sky(values: dict[str, object]) -> None:
    """Our form of the header gives the positions that astropy finds in the original."""
    x, y = np.array([0.0, 29.0, 3.0, 14.5]), np.array([0.0, 2.0, 19.0, 9.5])
    ours = np.array(frame_wcs(frame_of(values)).wcs.all_pix2world(x, y, 0))
    np.testing.assert_allclose(ours, sky_by_astropy(values, x, y), rtol=0, atol=1e-11)


# --- cards ---------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(
    st.dictionaries(
        st.from_regex(r"X[A-Z0-9]{0,7}", fullmatch=True),
        st.one_of(
            st.booleans(),
            st.integers(-(10**15), 10**15),
            st.floats(allow_nan=False, allow_infinity=False, width=32),
            st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=150),
        ),
        max_size=8,
    )
)
def test_values_read_as_astropy_wrote_them(values: dict[str, object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = fits.Header(values)
        block = header.tostring().encode("ascii")
        back = fits.Header.fromstring(block.decode())
    cards = Cards.parse(block)
    for key in values:
        found = cards.value(key)
        if isinstance(values[key], str):
            # What was written, not what astropy reads back: it loses "'/" at the start of a string.
            assert found == str(values[key]).rstrip()
        else:
            expected = back[key]
            assert found == expected
            assert isinstance(found, bool) == isinstance(expected, bool)


def test_exotic_cards() -> None:
    lines = [
        "A       = 1.5D3 / Fortran",
        "B       = '  quoted ''text'' '  / with a / slash",
        "C       =                    T",
        "D       = NaN",
        "E       = 1E999",
        "F       = 3.",
        "G       =",
        "A       = 7",
        "H       = 'long &'",
        "CONTINUE  'text' / the rest",
        "COMMENT = 'no value'",
        "END",
        "Z       = 1",
    ]
    cards = Cards.from_lines(lines)
    assert cards.value("A") == 1500.0
    assert cards.value("B") == "  quoted 'text'"
    assert cards.comment("B") == "with a / slash"
    assert cards.value("C") is True
    assert cards.value("D") is None
    assert cards.number("E") is None
    assert cards.integer("F") == 3
    assert cards.value("G") is None
    assert cards.value("H") == "long text"
    assert cards.number("C") is None
    assert "Z" not in cards


@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")
def test_hierarch_and_continue_cards_are_kept() -> None:
    header = fits.Header()
    header["HIERARCH ESO INS FILT1 NAME"] = ("Ha 6563", "first wheel")
    header["HIERARCH ESO TPL NOTE"] = "a long note that goes on and on, past the end of one card of eighty bytes"
    header["FILTER"] = "CLEAR"
    header["OBJECT"] = "a name that is much longer than one card can hold, as some planning programs write them"
    cards = Cards.parse(header.tostring().encode())
    for key, value in header.items():
        assert cards.value(key) == value
    assert cards.comment("ESO INS FILT1 NAME") == "first wheel"
    assert frame_of(dict(header)).decided.filter == "Ha 6563"
    hierarch = ["HIERARCH  ESO  DET   CHIP =  'x&'", "CONTINUE  'y'", "hierarch ESO A=1 / tight", "HIERARCH nothing"]
    odd = Cards.from_lines(hierarch)
    assert (odd.value("ESO DET CHIP"), odd.value("ESO A"), len(list(odd))) == ("xy", 1, 2)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_text_beyond_ascii_is_shown_as_it_was_meant(encoding: str) -> None:
    text = "Observatoire du Pic du Midi, Ångström 5 µm, é"
    block = f"OBJECT  = '{text}'".encode(encoding).ljust(80) + b"NEXT    = 7".ljust(80)
    cards = Cards.parse(block)
    assert cards.text("OBJECT") == text
    assert cards.value("NEXT") == 7  # a card is 80 bytes, however many letters they are


# --- shapes and colours --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "layout", "shape"),
    [
        ((20, 30), "mono", (20, 30)),
        ((1, 20, 30), "mono", (20, 30)),
        ((1, 20, 1, 30, 1), "mono", (20, 30)),
        ((3, 20, 30), "chw", (20, 30)),
        ((20, 30, 3), "hwc", (20, 30)),
        ((3, 20, 3), "chw", (20, 3)),
        ((1, 3, 20, 30), "chw", (20, 30)),
    ],
)
def test_layout_follows_from_the_axes(axes: tuple[int, ...], layout: str, shape: tuple[int, int]) -> None:
    assert image_layout(axes) == (layout, shape)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ((30,), r"1 axis longer than 1 \(30\)"),
        ((1, 1), r"0 axes longer than 1 \(1 x 1\)"),
        ((), "no axes"),
        ((4, 20, 30), r"no axis of length 3 \(30 x 20 x 4\)"),
        ((2, 3, 20, 30), r"4 axes longer than 1 \(30 x 20 x 3 x 2\)"),
        ((0, 30), r"no pixels \(30 x 0\)"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_numbers(axes: tuple[int, ...], message: str) -> None:
    with pytest.raises(FrameRejected, match=message):
        image_layout(axes)


def colours_of(pattern: str, height: int, width: int) -> np.ndarray:
    return np.array([[pattern[2 * (y % 2) + x % 2] for x in range(width)] for y in range(height)])


@given(
    st.sampled_from(["RGGB", "BGGR", "GRBG", "GBRG"]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
    st.integers(4, 7),
)
def test_bayer_pattern_of_a_cut_and_flipped_sensor(
    pattern: str, dx: int, dy: int, bottom_up: bool, height: int
) -> None:
    """Cut a window out of a big mosaic, perhaps store it upside down: the pattern must name its pixels."""
    picture = colours_of(pattern, 20, 20)[dy : dy + height, dx : dx + 6]
    array = picture[::-1] if bottom_up else picture
    header = {"BAYERPAT": pattern, "XBAYROFF": dx, "YBAYROFF": dy}
    header["ROWORDER"] = "BOTTOM-UP" if bottom_up else "TOP-DOWN"
    found = effective_bayer(cards_of(header), height, "auto")
    assert found is not None
    assert np.array_equal(colours_of(found, height, 6), array)


def test_a_frame_is_bayer_only_when_something_says_so() -> None:
    assert frame_of({}).storage.layout == "mono"
    assert frame_of({"BAYERPAT": "GRBG"}).storage.bayer == "GRBG"
    assert frame_of({"COLORTYP": "BGGR"}).storage.bayer == "BGGR"
    assert frame_of({"COLORTYP": "MONO"}).storage.layout == "mono"
    assert frame_of({}, bayer="RGGB").storage.layout == "bayer"
    assert frame_of({"BAYERPAT": "GRBG"}, bayer="none").storage.layout == "mono"
    assert frame_of({"BAYERPAT": "GRBG"}, bayer="RGGB").storage.bayer == "RGGB"
    colour = frame_of({"BAYERPAT": "GRBG"}, NAXIS=3, NAXIS3=3)
    assert (colour.storage.layout, colour.storage.bayer, colour.n_channels) == ("chw", None, 3)
    for spelling in ("'GRBG'", "grbg", "GR", "BAYER_GR", "Bayer GRBG"):
        assert frame_of({"BAYERPAT": spelling}).storage.bayer == "GRBG"
    with pytest.raises(FrameRejected, match="BAYERPAT = 'XTRANS' is not one of RGGB"):
        frame_of({"BAYERPAT": "XTRANS"})


# --- facts ---------------------------------------------------------------------------------------


def test_gain_priors_say_where_they_come_from() -> None:
    assert frame_of({}).decided.gain_prior_key == ""
    frame = frame_of({"FLXSCALE": 0.5, "MAGZP": 21.0, "EXPTIME": 10.0})
    assert (frame.decided.gain_prior, frame.decided.gain_prior_key) == (2.0, "FLXSCALE")
    one, two = frame_of({"MAGZP": 20.0}), frame_of({"MAGZP": 21.0})
    assert two.decided.gain_prior / one.decided.gain_prior == pytest.approx(
        10**0.4
    )  # the deeper zero point responds more
    assert frame_of({"EXPTIME": 10.0}).decided.gain_prior == 10.0
    assert frame_of({"EXPTIME": 10.0, "BUNIT": "electron/s"}).decided.gain_prior_key == ""
    assert frame_of({"EXPTIME": 10.0, "NCOMBINE": 5}).decided.gain_prior_key == ""
    assert frame_of({"FLXSCALE": 0.0}).decided.gain_prior == 1.0


@pytest.mark.parametrize(
    ("values", "level"),
    [
        ({"SATURATE": 60000.0}, 60000.0),
        ({"BZERO": 32768}, 65520.0),
        ({}, 32767.0),
        ({"BITPIX": 8}, 255.0),
        ({"BITPIX": -32}, None),
        ({"BITPIX": 32}, None),
        ({"BSCALE": 2.0, "BZERO": 10.0}, 65544.0),
    ],
)
def test_saturation(values: dict[str, object], level: float | None) -> None:
    assert frame_of(values).decided.saturation_adu == level


@pytest.mark.parametrize(
    ("values", "stated"),
    [
        ({"EGAIN": 0.98, "GAIN": 120}, 0.98),
        ({"GAIN": 3.98}, 3.98),
        ({"GAIN": 80}, None),
        ({"GAIN": 120.0}, None),
        ({"GAIN": 2}, None),
        ({"EGAIN": 0.0}, None),
        ({"EGAIN": 1.1, "STACKCNT": 30}, None),
    ],
)
def test_electrons_per_adu_are_told_from_the_setting_of_a_camera(
    values: dict[str, object], stated: float | None
) -> None:
    assert frame_of(values).header.electrons_per_adu == stated


def test_plain_facts() -> None:
    frame = frame_of({
        "FILTER": " Ha ",
        "EXPOSURE": 30.0,
        "DATE-OBS": "2025-04-09",
        "TIME-OBS": "20:56:48.4",
        "INSTRUME": "Cam",
        "NCOMBINE": 7,
        "BUNIT": "adu",
    })
    assert (frame.decided.filter, frame.decided.exposure_s, frame.header.instrument) == ("Ha", 30.0, "Cam")
    assert (frame.header.date_obs, frame.header.n_stacked, frame.header.unit) == ("2025-04-09T20:56:48.4", 7, "adu")
    assert frame.header.camera == frame_of({"INSTRUME": "Cam", "EXPTIME": 1.0}).header.camera
    assert frame.header.camera != frame_of({"INSTRUME": "Cam", "XBINNING": 2}).header.camera


@pytest.mark.parametrize(
    ("text", "kind", "is_master"),
    [
        ("Light Frame", "light", False),
        ("", "light", False),
        ("Dark Frame", "dark", False),
        ("flatdark", "dark", False),
        ("Bias", "bias", False),
        ("zero", "bias", False),
        ("OFFSET", "bias", False),
        ("Master Flat", "flat", True),
        ("sky flat", "flat", False),
    ],
)
def test_the_image_type_tells_what_was_exposed(text: str, kind: str, is_master: bool) -> None:
    frame = frame_of({"IMAGETYP": text, "GAIN": 80, "CCD-TEMP": -9.5, "ROTATANG": 91.0})
    assert (frame.decided.kind, frame.decided.is_master) == (kind, is_master)
    assert (frame.header.gain_setting, frame.header.temperature_c, frame.header.rotation_deg) == (80, -9.5, 91)


def test_a_bias_may_have_no_exposure_and_a_stack_is_a_master() -> None:
    assert frame_of({"IMAGETYP": "Bias Frame", "EXPTIME": 0.0}).decided.exposure_s is None
    assert frame_of({"IMAGETYP": "Dark", "STACKCNT": 20}).decided.is_master


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"EXPTIME": 0.0}, "EXPTIME = 0 s: nothing was exposed"),
        ({"EXPOSURE": -1.0}, "EXPOSURE = -1 s"),
        ({"BITPIX": 12}, "BITPIX = 12"),
    ],
)
def test_what_is_no_sky_frame_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(FrameRejected, match=message):
        frame_of(values)


# --- WCS -----------------------------------------------------------------------------------------

ROTATED = {**{k: v for k, v in TAN.items() if not k.startswith("CD")}, "CDELT1": -2e-4, "CDELT2": 3e-4}


@pytest.mark.parametrize(
    "values",
    [
        TAN,
        {**ROTATED, "CROTA2": 31.0, "CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"},
        {**ROTATED, "PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8},
        {**ROTATED, "PC1_2": -0.1},
        {**ROTATED, "PC001001": 0.8, "PC001002": -0.6, "PC002001": 0.6, "PC002002": 0.8},
        {**TAN, "RADECSYS": "FK4", "EQUINOX": 1950.0},
        {**TAN, "CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR"},
        {**TAN, "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_0": 0.0, "PV1_1": 1.01, "PV2_1": 0.99, "PV2_4": 0.1},
        {**TAN, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "PV1_1": 1.0, "PV1_5": 0.3, "PV2_1": 1.0, "PV2_5": 0.1},
        {
            **TAN,
            "CTYPE1": "RA---TAN-SIP",
            "CTYPE2": "DEC--TAN-SIP",
            "A_ORDER": 2,
            "B_ORDER": 2,
            "A_2_0": 1e-5,
            "B_1_1": -2e-5,
        },
        {**TAN, "CUNIT1": "arcsec", "CUNIT2": "arcsec", "CRVAL1": 300600.0, "CRVAL2": -18900.0,
         "CD1_1": -1.0, "CD1_2": 0.1, "CD2_1": 0.2, "CD2_2": 1.0},
        {**TAN, "CTYPE1": "RA---ZEA", "CTYPE2": "DEC--ZEA", "LONPOLE": 170.0},
    ],
)  # fmt: skip
def test_every_form_means_the_same_sky(values: dict[str, object]) -> None:
    assert_same_sky(values)


def of_projection(code: str, **more: float) -> dict[str, object]:
    return {**TAN, "CTYPE1": f"RA---{code}", "CTYPE2": f"DEC--{code}", **more}


OTHER_FORMS: dict[str, dict[str, object]] = {
    **{code: of_projection(code) for code in ("SIN", "ARC", "STG", "PAR", "CAR", "CEA", "MER", "SFL", "AIT", "MOL")},
    "ZPN": of_projection("ZPN", PV2_1=1.0, PV2_3=0.02),
    "AZP": of_projection("AZP", PV2_1=2.0, PV2_2=30.0),
    "COE": of_projection("COE", PV2_1=45.0, PV2_2=25.0),
    "TSC": of_projection("TSC"),
    "HPX": of_projection("HPX"),
    "SIP both ways": of_projection("TAN-SIP", A_ORDER=2, B_ORDER=2, A_0_2=3e-6, B_2_0=-1e-6, AP_ORDER=2, BP_ORDER=2,
                                   AP_0_2=-3e-6),
    "SIP of third order": of_projection("TAN-SIP", A_ORDER=3, B_ORDER=3, A_3_0=1e-8, B_0_3=1e-8),
    "galactic": {**TAN, "CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"},
    "ecliptic": {**TAN, "CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN"},
    "FK5 1975": {**TAN, "RADESYS": "FK5", "EQUINOX": 1975.0},
    "FK5 2000": {**TAN, "RADECSYS": "FK5", "EQUINOX": 2000.0},
    "FK4-NO-E": {**TAN, "RADESYS": "FK4-NO-E", "EQUINOX": 1950.0},
    "ICRS": {**TAN, "RADESYS": "ICRS"},
    "equinox of 1950 alone": {**TAN, "EQUINOX": 1950.0},
    "equinox of 2000 alone": {**TAN, "EQUINOX": 2000.0},
    "EPOCH": {**TAN, "EPOCH": 1950.0},
    "both CROTA": {**ROTATED, "CROTA1": 20.0, "CROTA2": 20.0},
    "CDELT alone": ROTATED,
    "CDELT and CROTA2 beside CD": {**TAN, "CDELT1": -1e-3, "CDELT2": 1e-3, "CROTA2": 12.0},
    "mirrored": {**TAN, "CD1_1": 2.5e-4},
    "arc minutes": {**TAN, "CUNIT1": "arcmin", "CUNIT2": "arcmin", "CRVAL1": 5010.0, "CRVAL2": -315.0},
    "radians": {**TAN, "CUNIT1": "rad", "CUNIT2": "rad", "CRVAL1": 1.457, "CRVAL2": -0.0916,
                "CD1_1": -4e-6, "CD1_2": 1e-7, "CD2_1": 1e-7, "CD2_2": 4e-6},
    "LONPOLE and LATPOLE": {**TAN, "LONPOLE": 150.0, "LATPOLE": 20.0},
    "a negative RA": {**TAN, "CRVAL1": -276.5},
    "RA 0h": {**TAN, "CRVAL1": 0.0},
    "the pole": {**TAN, "CRVAL2": 89.999},
}  # fmt: skip
"""With the twelve above, 48 spellings of a WCS that programs write or wrote."""


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_every_other_form_means_the_same_sky(form: str) -> None:
    assert_same_sky(OTHER_FORMS[form])


def test_cd_of_zeros_falls_back_on_cdelt() -> None:
    values = {**TAN, **dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"), 0.0), "CDELT1": -1e-3, "CDELT2": 2e-3}
    header = fits.Header.fromstring(normalise_wcs(cards_of(values)))
    assert (header["CD1_1"], header["CD1_2"], header["CD2_2"]) == (-1e-3, 0, 2e-3)


def test_ctype_tells_which_distortion_counts_and_zeros_are_none() -> None:
    sip = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_0_2": 1e-5}
    pv = {"PV1_1": 1.0, "PV2_1": 1.0, "PV2_0": 0.0}
    for ctypes in (("RA---TAN-SIP", "DEC--TAN-SIP"), ("RA---TAN--SIP", "DEC--TAN--SIP")):
        both = {**TAN, **sip, **pv, "CTYPE1": ctypes[0], "CTYPE2": ctypes[1]}
        header = fits.Header.fromstring(normalise_wcs(cards_of(both)))
        assert header["CTYPE1"] == "RA---TAN-SIP"
        assert "PV2_1" not in header
    header = fits.Header.fromstring(normalise_wcs(cards_of({**TAN, **pv})))
    assert header["CTYPE1"] == "RA---TPV"
    header = fits.Header.fromstring(normalise_wcs(cards_of({**TAN, "PV2_1": 0.0, "PV2_2": 0.0})))
    assert header["CTYPE1"] == "RA---TAN"


def test_numbers_with_a_decimal_comma_or_a_unit() -> None:
    cards = cards_of({"FOCALLEN": "250,5 mm", "EXPTIME": "10.0 s", "CRVAL1": "83,8", "OBJECT": "M 31"})
    assert [cards.number(key) for key in ("FOCALLEN", "EXPTIME", "CRVAL1", "OBJECT")] == [250.5, 10.0, 83.8, None]
    raw = Cards.parse(b"BSCALE  =         2,0000E+00".ljust(80) + b"BZERO   =               32,768".ljust(80))
    assert raw.number("BSCALE") == 2.0
    axes = {"BITPIX": 16, "NAXIS": 2, "NAXIS1": 30, "NAXIS2": 20}
    with pytest.raises(FrameRejected, match="BZERO = 32,768 is no FITS number, so what its pixels are worth is not"):
        read_scaling(Hdu(0, raw.over(cards_of(axes)), b"", 0, 0))


@pytest.mark.parametrize("fill", [b"\0", b"\n", b"\r", b" "])
def test_the_end_card_may_be_filled_with_anything(tmp_path: Path, fill: bytes) -> None:
    image = fits.PrimaryHDU(np.arange(6, dtype=np.int16).reshape(2, 3)), fits.ImageHDU(np.ones((2, 3), np.float32))
    fits.HDUList(list(image)).writeto(tmp_path / "a.fits")
    content = bytearray((tmp_path / "a.fits").read_bytes())
    for start in (0, 2 * 2880):
        end = content.index(b"END     ", start)
        content[end + 3 : start + 2880] = fill * (start + 2880 - end - 3)
    (tmp_path / "a.fits").write_bytes(content)
    with open_fits(str(tmp_path / "a.fits")) as stream:
        assert [hdu.axes for hdu in walk_hdus(stream)] == [(2, 3), (2, 3)]


def test_latitude_first_is_put_in_order() -> None:
    swapped = {k: v for k, v in TAN.items() if not k.startswith("CD")}
    swapped |= {
        "CTYPE1": "DEC--TAN",
        "CTYPE2": "RA---TAN",
        "CRVAL1": -5.25,
        "CRVAL2": 83.5,
        "CDELT1": 2e-4,
        "CDELT2": 3e-4,
    }
    x, y = np.array([0.0, 29.0]), np.array([0.0, 5.0])
    dec, ra = sky_by_astropy(swapped, x, y)
    np.testing.assert_allclose(frame_wcs(frame_of(swapped)).pixel_to_sky(x, y), [ra, dec], atol=1e-11)


def test_colour_axis_first_leaves_the_sky_axes_alone() -> None:
    moved = {"CTYPE1": "RGB", "CTYPE2": "RA---TAN", "CTYPE3": "DEC--TAN", "CRVAL2": 83.5, "CRVAL3": -5.25}
    moved |= {"CRPIX2": 15.5, "CRPIX3": 10.5, "CD2_2": -2.5e-4, "CD2_3": 1e-5, "CD3_2": 1.5e-5, "CD3_3": 2.5e-4}
    assert normalise_wcs(cards_of(moved)) == normalise_wcs(cards_of(TAN))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"CTYPE1": "", "CTYPE2": ""}, "no WCS in the header"),
        ({"CTYPE1": "WAVE", "CTYPE2": "LINEAR"}, "no sky coordinates: CTYPE = WAVE, LINEAR"),
        ({"CTYPE2": "DEC--SIN"}, "projections TAN and SIN"),
        ({"CRVAL1": "NaN"}, "CRVAL1 = NaN"),
        ({"CRPIX1": True}, "CRPIX1"),
        ({"CD1_1": 0.0, "CD1_2": 0.0}, r"zero pixel scale \(CD = 0, 0,"),
        ({"CD1_1": 1.5e-5, "CD1_2": 2.5e-4}, "singular matrix"),
        ({"CD1_1": -1e5}, "a pixel of 100000 degrees"),
        ({"CPDIS1": "LOOKUP"}, "needs a distortion table"),
        ({"CUNIT1": "m"}, "CUNIT1 = 'm' is not an angle"),
        ({"A_ORDER": 1000000, "B_ORDER": 2}, "A_ORDER = 1000000"),
    ],
)
def test_absurd_wcs_is_named(change: dict[str, object], message: str) -> None:
    frame = frame_of({**TAN, **change})
    assert frame.header.wcs_cards is None
    with pytest.raises(FrameRejected, match=message):
        frame_wcs(frame)


@pytest.mark.parametrize("change", [{"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"}, {"CRVAL2": 120.0}])
def test_wcs_that_only_the_library_can_refuse(change: dict[str, object]) -> None:
    with pytest.raises(FrameRejected, match="header WCS is unusable"):
        frame_wcs(frame_of({**TAN, **change}))


def test_a_whole_wcs_above_replaces_the_one_below() -> None:
    lower = cards_of({**TAN, "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "FILTER": "R", "EQUINOX": 1950.0})
    upper = cards_of({**ROTATED, "MAGZP": 20.0})
    both = put_wcs_over(upper, lower)
    assert "CD1_1" not in both
    assert "A_ORDER" not in both
    assert both.text("FILTER") == "R"
    assert both.number("EQUINOX") == 1950.0
    nudged = put_wcs_over(cards_of({"CRVAL1": 84.0}), lower)
    assert nudged.number("CRVAL1") == 84.0
    assert nudged.number("CD1_1") == TAN["CD1_1"]


def test_cards_of_an_astropy_wcs_keep_full_precision() -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.wcs.crval, wcs.wcs.crpix = [1 / 3, -2 / 3], [1000 / 7, 500 / 7]
    wcs.wcs.cd = [[-1e-4 / 3, 1e-5 / 7], [1e-5 / 9, 1e-4 / 3]]
    header = fits.Header.fromstring(cards_of_wcs(wcs))
    assert header["CRVAL1"] == 1 / 3
    assert header["CD1_2"] == pytest.approx(1e-5 / 7, rel=1e-14)
    x, y = np.array([0.0, 400.0]), np.array([10.0, 0.0])
    np.testing.assert_allclose(WCS(header).all_pix2world(x, y, 0), wcs.all_pix2world(x, y, 0), rtol=0, atol=1e-12)
