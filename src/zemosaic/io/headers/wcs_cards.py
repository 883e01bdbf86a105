"""The WCS of a header in one clean form: sky axes first, one CD matrix, degrees.

Headers say the same thing in many ways (CD, PC with CDELT, CDELT with CROTA2; axes in any
order; TAN that means TPV) and contradict themselves. Everything behind this module meets one
form, and what makes no sense is refused here with its numbers, before any library sees it.
"""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt
from astropy.wcs import WCS

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.cards import Cards
from zemosaic.text import message

__all__ = ["cards_of_wcs", "equinox_of", "normalise_wcs", "put_wcs_over"]

_GEOMETRY_KEYS = re.compile(
    r"WCSAXES|CTYPE\d|CUNIT\d|CRPIX\d|CRVAL\d|CDELT\d|CROTA\d|CD\d_\d|PC\d_\d|PC\d{6}|PV\d_\d+|LONPOLE|LATPOLE"
    r"|(A|B|AP|BP)_(ORDER|\d_\d)|WAT\d_\d{3}|CPDIS\d|D2IMDIS\d"
)
_SYSTEM_KEYS = re.compile(r"RADESYS|RADECSYS|EQUINOX|EPOCH")

_SKY_AXES = (("RA", "DEC"), ("GLON", "GLAT"), ("ELON", "ELAT"))
_CTYPE = re.compile(r"([A-Z]{2,4})-+([A-Z0-9]{3})(-+SIP)?")
_DEGREES = {"": 1.0, "deg": 1.0, "arcmin": 1 / 60, "arcsec": 1 / 3600, "mas": 1 / 3.6e6, "rad": 180 / math.pi}
_PARAMETER = re.compile(r"PV(\d)_(\d\d?)")
_TABLE_DISTORTIONS = ("CPDIS1", "CPDIS2", "D2IMDIS1", "D2IMDIS2")

_MAX_SIP_ORDER = 9
"""The SIP convention goes no higher."""

_LARGEST_PIXEL_DEG = 10.0
"""Wider than a pixel of any picture of the whole sky: a slip of the pen."""

_SMALLEST_DETERMINANT = 1e-6  # of the CD matrix over the product of its rows' lengths: axes 0.2 arcsec apart

_Matrix = npt.NDArray[np.float64]


def put_wcs_over(upper: Cards, lower: Cards) -> Cards:
    """Cards of `upper` before those of `lower`; a whole WCS in `upper` replaces a whole WCS below.

    A few keywords without CTYPE1 only override their namesakes.
    """
    if "CTYPE1" in upper:
        lower = lower.without(_GEOMETRY_KEYS)
    if any(_SYSTEM_KEYS.fullmatch(key) for key in upper):
        lower = lower.without(_SYSTEM_KEYS)
    return upper.over(lower)


def normalise_wcs(cards: Cards) -> str:
    """The celestial WCS of a header, as the cards of a two-dimensional header.

    Parameters
    ----------
    cards : Cards
        A header whose celestial axes may be any two; with an axis of channels before them, the
        image's own two axes are the ones that have the sky's CTYPEs.

    Returns
    -------
    str
        Cards of 80 characters that ``astropy.io.fits.Header.fromstring`` reads: longitude is
        axis 1, latitude axis 2, the linear part is a CD matrix in degrees.

    Raises
    ------
    FrameRejected
        With the reason, when there is no celestial WCS or it cannot be one.
    """
    lon, lat, names, code = _sky_axes(cards)
    if table := next((key for key in _TABLE_DISTORTIONS if key in cards), None):
        raise FrameRejected("header.distortion-table", card=table)
    pixel_axes = (min(lon, lat), max(lon, lat))
    sky_axes = (lon, lat)
    scale = [_unit_in_degrees(cards, axis) for axis in sky_axes]
    cd = np.array(scale)[:, None] * _linear_part(cards, sky_axes, pixel_axes)
    _check_linear_part(cd)
    out: dict[str, str | float | int] = {"WCSAXES": 2}
    pv = _parameters(cards, sky_axes)
    sip = _sip(cards)
    if code == "TAN" and sip and _says_sip(cards, lon):
        pv = {}  # left over from another program: CTYPE names the distortion that counts
    elif code == "TAN" and any(axis == 2 for axis, _ in pv):
        # The standard gives TAN's latitude no parameters: such headers (SCAMP's) mean TPV, unless all of them are 0.
        code, sip, pv = ("TPV", {}, pv) if any(pv.values()) else (code, sip, {})
    for new, axis in enumerate(sky_axes, 1):
        out[f"CTYPE{new}"] = f"{names[new - 1]:-<4}-{code}{'-SIP' if sip else ''}"
        out[f"CRVAL{new}"] = _needed(cards, f"CRVAL{axis}") * scale[new - 1]
    for new, axis in enumerate(pixel_axes, 1):
        out[f"CRPIX{new}"] = _needed(cards, f"CRPIX{axis}")
    out.update({f"CD{i + 1}_{j + 1}": float(cd[i, j]) for i in range(2) for j in range(2)})
    out.update({f"PV{axis}_{m}": value for (axis, m), value in pv.items()})
    out.update({key: number for key in ("LONPOLE", "LATPOLE") if (number := cards.number(key)) is not None})
    out.update(_sky_system(cards))
    out.update(sip)
    if code in {"TNX", "ZPX"}:
        out.update({key: cards.text(key) for key in sorted(cards) if re.fullmatch(r"WAT[12]_\d{3}", key)})
    return "".join(_card(key, value) for key, value in out.items())


def _sky_axes(cards: Cards) -> tuple[int, int, tuple[str, str], str]:
    """Axis numbers of longitude and latitude, their names, and the projection's code."""
    found: dict[str, tuple[int, str]] = {}
    for axis in range(1, 10):
        match = _CTYPE.fullmatch(cards.text(f"CTYPE{axis}").upper())
        if match and match[1] not in found:
            found[match[1]] = (axis, match[2])
    for names in _SKY_AXES:
        if names[0] in found and names[1] in found:
            (lon, code), (lat, lat_code) = found[names[0]], found[names[1]]
            if code != lat_code:
                raise FrameRejected("header.wcs-two-projections", code_lon=code, code_lat=lat_code)
            return lon, lat, names, code
    ctypes = [text for axis in range(1, 10) if (text := cards.text(f"CTYPE{axis}"))]
    raise FrameRejected("header.no-sky", ctypes=ctypes) if ctypes else FrameRejected("header.no-wcs")


def _says_sip(cards: Cards, axis: int) -> bool:
    match = _CTYPE.fullmatch(cards.text(f"CTYPE{axis}").upper())
    return match is not None and match[3] is not None


def _parameters(cards: Cards, sky_axes: tuple[int, int]) -> dict[tuple[int, int], float]:
    """PVi_m by new axis number and m."""
    found = [match for key in cards if key.startswith("PV") and (match := _PARAMETER.fullmatch(key))]
    return {
        (sky_axes.index(int(match[1])) + 1, int(match[2])): _needed(cards, match[0])
        for match in found
        if int(match[1]) in sky_axes
    }


def _needed(cards: Cards, key: str) -> float:
    number = cards.number(key)
    if number is None:
        written = cards.text(key) or message("header.missing-or-no-number")
        raise FrameRejected("header.wcs-card", card=key, value=written)
    return number


def _unit_in_degrees(cards: Cards, axis: int) -> float:
    unit = cards.text(f"CUNIT{axis}").lower()
    if unit.startswith("deg"):
        return 1.0
    if unit not in _DEGREES:
        raise FrameRejected("header.wcs-unit", axis=axis, unit=unit)
    return _DEGREES[unit]


def _linear_part(cards: Cards, sky_axes: tuple[int, int], pixel_axes: tuple[int, int]) -> _Matrix:
    """CD matrix; from CD unless it is all 0, else PC and CDELT, else CDELT and CROTA2 (Calabretta & Greisen 2002)."""
    lon, lat = sky_axes
    has_cdelt = f"CDELT{lon}" in cards and f"CDELT{lat}" in cards
    matrix = _matrix(cards, "CD{}_{}", sky_axes, pixel_axes, diagonal=0.0)
    if matrix is not None and (matrix.any() or not has_cdelt):
        return matrix
    matrix = _matrix(cards, "PC{}_{}", sky_axes, pixel_axes, diagonal=1.0)
    if matrix is None:  # the spelling of the first drafts
        matrix = _matrix(cards, "PC{:03d}{:03d}", sky_axes, pixel_axes, diagonal=1.0)
    if matrix is None and not has_cdelt:
        raise FrameRejected("header.wcs-no-matrix")
    cdelt = [_needed(cards, f"CDELT{axis}") if f"CDELT{axis}" in cards else 1.0 for axis in sky_axes]
    if matrix is not None:
        cd: _Matrix = np.array(cdelt).reshape(2, 1) * matrix
        return cd
    angle = math.radians(cards.first_number(f"CROTA{lat}", f"CROTA{lon}") or 0.0)
    # Each sky axis belongs to the pixel axis of its own number; CROTA turns them by AIPS' rule.
    rows = {
        lon: {lon: cdelt[0] * math.cos(angle), lat: -cdelt[1] * math.sin(angle)},
        lat: {lon: cdelt[0] * math.sin(angle), lat: cdelt[1] * math.cos(angle)},
    }
    return np.array([[rows[i][j] for j in pixel_axes] for i in sky_axes])


def _matrix(
    cards: Cards, form: str, sky_axes: tuple[int, int], pixel_axes: tuple[int, int], *, diagonal: float
) -> _Matrix | None:
    """A 2 x 2 matrix of cards; missing elements are 0, or `diagonal` where the axis numbers agree."""
    keys = [(form.format(i, j), diagonal if i == j else 0.0) for i in sky_axes for j in pixel_axes]
    if not any(key in cards for key, _ in keys):
        return None
    return np.array([_needed(cards, key) if key in cards else default for key, default in keys]).reshape(2, 2)


def _check_linear_part(cd: _Matrix) -> None:
    lengths = np.hypot(cd[:, 0], cd[:, 1])
    text = ", ".join(f"{value:g}" for value in cd.ravel())
    if not np.all(lengths > 0):
        raise FrameRejected("header.wcs-zero-scale", cd=text)
    if not np.all(lengths < _LARGEST_PIXEL_DEG):
        raise FrameRejected("header.wcs-huge-pixel", length_deg=lengths.max(), cd=text)
    unit = cd / lengths[:, None]
    determinant = abs(unit[0, 0] * unit[1, 1] - unit[0, 1] * unit[1, 0])
    if not determinant > _SMALLEST_DETERMINANT:
        raise FrameRejected("header.wcs-singular", cd=text)


def _sip(cards: Cards) -> dict[str, str | float | int]:
    """SIP coefficients of the image's two axes (Shupe et al. 2005); empty without both polynomials."""
    out: dict[str, str | float | int] = {}
    for forward, inverse in (("A", "AP"), ("B", "BP")):
        if f"{forward}_ORDER" not in cards:
            return {}
        for name in (forward, inverse):
            if f"{name}_ORDER" not in cards:
                continue
            order = cards.integer(f"{name}_ORDER")
            if order is None or not 0 <= order <= _MAX_SIP_ORDER:
                raise FrameRejected("header.wcs-card", card=f"{name}_ORDER", value=cards.text(f"{name}_ORDER"))
            out[f"{name}_ORDER"] = order
            keys = [f"{name}_{p}_{q}" for p in range(order + 1) for q in range(order + 1 - p)]
            out.update({key: _needed(cards, key) for key in keys if key in cards})
    # An inverse for one axis only is none; the forward polynomials suffice.
    if ("AP_ORDER" in out) != ("BP_ORDER" in out):
        out = {key: value for key, value in out.items() if not key.startswith(("AP_", "BP_"))}
    return out


def _sky_system(cards: Cards) -> dict[str, str | float | int]:
    """RADESYS and EQUINOX, from their old spellings too (RADECSYS, EPOCH)."""
    out: dict[str, str | float | int] = {}
    system = cards.first_text("RADESYS", "RADECSYS").upper()
    if system in {"ICRS", "FK5", "FK4", "FK4-NO-E"}:
        out["RADESYS"] = system
    equinox = equinox_of(cards)
    if equinox is not None:
        out["EQUINOX"] = equinox
    return out


def equinox_of(cards: Cards) -> float | None:
    """EQUINOX or EPOCH in years, also written ``J2000``; None when there is none between 1800 and 2200."""
    for key in ("EQUINOX", "EPOCH"):
        number = cards.number(key)
        if number is None and (found := re.fullmatch(r"[JB](\d{4}(?:\.\d*)?)", cards.text(key).upper())):
            number = float(found[1])
        if number is not None and 1800 <= number <= 2200:
            return number
    return None


def _card(key: str, value: str | float | int) -> str:
    if isinstance(value, str):
        text = "'" + value.replace("'", "''") + "'"
        if len(text) > 70:
            raise FrameRejected("header.wcs-long-text", card=key, n_characters=len(value))
    else:
        text = f"{value!r:>20}".upper()
    return f"{key:<8}= {text}".ljust(80)


def cards_of_wcs(wcs: WCS) -> str:
    """The cards of an astropy WCS in the form of `normalise_wcs`, at full precision.

    Raises
    ------
    FrameRejected
        When it is not celestial. Lookup-table distortions cannot be written in cards and are lost.
    """
    header = wcs.celestial.to_header(relax=True)
    core = wcs.celestial.wcs
    matrix = wcs.celestial.pixel_scale_matrix
    for i in range(2):
        header[f"CRVAL{i + 1}"] = core.crval[i]
        header[f"CRPIX{i + 1}"] = core.crpix[i]
        for j in range(2):
            header[f"CD{i + 1}_{j + 1}"] = matrix[i, j]
    return normalise_wcs(Cards.parse(header.tostring(endcard=True).encode("latin-1")))
