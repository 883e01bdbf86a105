"""Where a header without WCS says that the telescope pointed, in every reading that its cards allow.

Programs write the same fact in many ways, and some write it wrongly: right ascension in hours or degrees, pixel sizes
before or after binning, scales beside optics that contradict them. Which reading is true, only the stars can tell: so
all of them are listed, the likeliest first, and the solver tries them in this order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from zemosaic.io.headers.cards import Cards
from zemosaic.io.headers.wcs_cards import equinox_of
from zemosaic.model.frame import PointingHint
from zemosaic.model.sky.celestial import SQUARE

__all__ = ["parse_angle", "read_hints", "read_positions", "read_scales"]

POSITION_KEYS = (
    ("RA", "DEC"),
    ("OBJCTRA", "OBJCTDEC"),
    ("OBJRA", "OBJDEC"),
    ("RA_OBJ", "DEC_OBJ"),
    ("RA_TARG", "DEC_TARG"),
    ("TARGRA", "TARGDEC"),
    ("TELRA", "TELDEC"),
    ("RA_TEL", "DEC_TEL"),
    ("TELESRA", "TELESDEC"),
    ("RA_PNT", "DEC_PNT"),
    ("RA_NOM", "DEC_NOM"),
    ("POINTRA", "POINTDEC"),
    ("MNTRA", "MNTDEC"),
    ("CENTRA", "CENTDEC"),
    ("CENTERRA", "CENTERDE"),
    ("CENRA", "CENDEC"),
    ("RA_CENT", "DEC_CENT"),
    ("FOVRA", "FOVDEC"),
    ("RA_DEG", "DEC_DEG"),
    ("RADEG", "DECDEG"),
    ("CAT-RA", "CAT-DEC"),
    ("RA-D", "DEC-D"),
    ("CRVAL1", "CRVAL2"),
)
"""Keywords of a position, the commonest first; CRVAL stands last: it counts here only where no WCS could be read."""

SCALE_KEYS = (
    "PIXSCALE",
    "PIXSCAL",
    "PIXSCAL1",
    "PIXSCAL2",
    "PIXSCALX",
    "PIXSCALY",
    "XPIXSCAL",
    "YPIXSCAL",
    "PIXSCL",
    "PIXELSCL",
    "PIXELSCA",
    "PXSCALE",
    "SECPIX",
    "SECPIX1",
    "SECPIX2",
    "SECPPIX",
    "ASECPIX",
    "ARCSECPX",
    "SCALE",
    "SCALE1",
    "XSCALE",
    "IM_SCALE",
    "IMSCALE",
    "IMGSCALE",
    "CCDSCALE",
    "CCDSCAL",
    "DETSCALE",
    "PLTSCALE",
    "PLTSCAL",
    "PLATSCAL",
    "PLATESCL",
    "PLATESCA",
    "PLATESC",
    "PSCALE",
)
"""Keywords of a pixel scale in arcsec a pixel."""

DEGREE_SCALE_KEYS = ("CDELT1", "CDELT2", "DEGPIX", "PIXDEG")
"""Keywords of a pixel scale in degrees, believed as a hint where they are no part of a WCS."""

FOCAL_KEYS = ("FOCALLEN", "FOCAL", "FOCLEN", "FOCALLTH", "TELFOCAL", "FOCALLENGTH")
PIXEL_KEYS = ("XPIXSZ", "YPIXSZ", "PIXSIZE1", "PIXSIZE2", "XPIXELSZ", "YPIXELSZ", "PIXSIZE", "PIXSZ", "PIXSIZEX")
SIDES_KEYS = (("XPIXSZ", "YPIXSZ"), ("PIXSIZE1", "PIXSIZE2"), ("XPIXELSZ", "YPIXELSZ"))
"""Keywords of a pixel's width and height."""
BINNING_KEYS = ("XBINNING", "YBINNING", "BINNING", "CCDXBIN", "XBIN", "BINX", "CCDSUM", "CCDBIN1")

_LARGEST_SCALE_ARCSEC = 3600.0
"""A degree a pixel: no camera has it, so what says so is not in arcsec."""

_PIXEL_UM = 0.5, 100.0
"""Pixels of real sensors, and binned ones; a keyword of a pixel's size outside of it is in other units."""

_SHORTEST_FOCAL_MM = 5.0
"""What is shorter is written in metres."""

_ARCSEC_OF_UM_PER_MM = 206.26480624709636
"""Pixel scale, arcsec, of 1 um at a focal length of 1 mm."""

_MOST_READINGS = 12
"""A header that allows more readings says nothing; each of them costs a search."""

_SAME = 1e-3
"""Scales this near to each other (relative) are one reading."""

_SAME_DEG = 1e-3
"""Positions this near to each other are one reading."""

_UNBINNED = re.compile(r"unbinned|without binning|not binned|before binning", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?")
_FIELDS = re.compile(
    r"([+-]?)\s*(\d{1,3})\s*([:hHdD°* ,])\s*(\d{1,2}(?:\.\d*)?)"
    r"(?:\s*[:mM'′ ,]\s*(\d{1,2}(?:\.\d*)?))?\s*(?:[sS\"″]|'')?\s*[mM'′]?"
)


def read_hints(cards: Cards) -> tuple[PointingHint, ...]:
    """Every reading of a header's position and pixel scale, the likeliest first.

    Parameters
    ----------
    cards : Cards
        The header. A WCS in it is not looked at.

    Returns
    -------
    tuple of PointingHint
        Each position with each scale; a position without any scale has none. Empty without a position. 0/0 is what
        programs write that do not know, and is no position.
    """
    square = [(scale, how, 1.0) for scale, how in read_scales(cards)]
    scales: list[tuple[float | None, str, float]] = [*_scales_of_sides(cards), *square] or [(None, "", 1.0)]
    hints = [
        PointingHint(ra, dec, equinox_of(cards), scale, ", ".join(filter(None, (where, how))), aspect)
        for scale, how, aspect in scales
        for ra, dec, where in read_positions(cards)
    ]
    return tuple(hints[:_MOST_READINGS])


def read_positions(cards: Cards) -> list[tuple[float, float, str]]:
    """Right ascension and declination in degrees as the cards may mean them, and what was read.

    Readings of all keywords as they are written come before readings of numbers as hours instead of degrees.
    """
    first: list[tuple[float, float, str]] = []
    second: list[tuple[float, float, str]] = []
    for ra_key, dec_key in POSITION_KEYS:
        ra = parse_angle(cards.written(ra_key), in_hours=True)
        dec = parse_angle(cards.written(dec_key), in_hours=False)
        if ra is None or dec is None or not (-90 <= dec <= 90 and -360 <= ra <= 360) or (ra, dec) == (0, 0):
            continue
        name = f"{ra_key}, {dec_key}"
        readings = [(ra % 360, dec, name)]
        if abs(ra) <= 24 and _plain_number(cards.written(ra_key)) is not None:
            readings.append(((15 * ra) % 360, dec, f"{name} with {ra_key} in hours"))
            if re.search(r"hour|\[h", cards.comment(ra_key), re.IGNORECASE):
                readings.reverse()
        first.append(readings[0])
        second.extend(readings[1:])
    found: list[tuple[float, float, str]] = []
    for reading in first + second:
        if not any(_is_near(reading, other) for other in found):
            found.append(reading)
    return found


def _is_near(one: tuple[float, float, str], other: tuple[float, float, str]) -> bool:
    across = abs((one[0] - other[0] + 180) % 360 - 180) * math.cos(math.radians(one[1]))
    return across < _SAME_DEG and abs(one[1] - other[1]) < _SAME_DEG


def read_scales(cards: Cards) -> list[tuple[float, str]]:
    """Pixel scales in arcsec as the cards may mean them, and what was read.

    From focal length and pixel size: the pixel as it is (SBFITSEXT: XPIXSZ is the size of a binned pixel), then times
    the binning; the other way round where a comment says so. Then the keywords of a scale.
    """
    found: list[tuple[float, str]] = []
    for scale, how in (*_scales_of_optics(cards), *_stated_scales(cards)):
        if 0 < scale <= _LARGEST_SCALE_ARCSEC and not any(abs(scale / other - 1) < _SAME for other, _ in found):
            found.append((scale, how))
    return found


def _focal_mm(cards: Cards) -> tuple[float, str]:
    """The focal length, where it stands in metres too, and its keyword."""
    focal, key = _first(cards, FOCAL_KEYS)
    return focal * 1000 if focal < _SHORTEST_FOCAL_MM else focal, key


def _scales_of_optics(cards: Cards) -> list[tuple[float, str]]:
    focal_mm, focal_key = _focal_mm(cards)
    if not focal_mm > 0:
        return []
    binning = _binning(cards)
    plain: list[tuple[float, str]] = []
    binned: list[tuple[float, str]] = []
    for key in PIXEL_KEYS:
        pixel_um = cards.number(key)
        if pixel_um is None or not _PIXEL_UM[0] <= pixel_um <= _PIXEL_UM[1]:
            continue
        scale = _ARCSEC_OF_UM_PER_MM * pixel_um / focal_mm
        is_unbinned = _UNBINNED.search(cards.comment(key))
        as_is, times = (scale, f"{focal_key}, {key}"), (scale * binning, f"{focal_key}, {key} times the binning")
        (binned if is_unbinned and binning > 1 else plain).append(as_is)
        (plain if is_unbinned and binning > 1 else binned).append(times)
    return plain + binned


def _scales_of_sides(cards: Cards) -> Iterator[tuple[float, str, float]]:
    """Pixel scales and height over width of pixels that are not square, as focal length and both sides have them."""
    focal_mm, focal_key = _focal_mm(cards)
    if not focal_mm > 0:
        return
    for x_key, y_key in SIDES_KEYS:
        width_um, height_um = cards.number(x_key), cards.number(y_key)
        if not all(side and _PIXEL_UM[0] <= side <= _PIXEL_UM[1] for side in (width_um, height_um)):
            continue
        if width_um and height_um and abs(height_um / width_um - 1) > SQUARE:
            scale = _ARCSEC_OF_UM_PER_MM * math.sqrt(width_um * height_um) / focal_mm
            yield scale, f"{focal_key}, {x_key}, {y_key}", height_um / width_um


def _stated_scales(cards: Cards) -> Iterator[tuple[float, str]]:
    for key in SCALE_KEYS:
        scale = cards.number(key)
        if scale is not None:
            in_degrees = re.search(r"deg", cards.text(key) + cards.comment(key), re.IGNORECASE)
            yield abs(scale) * (3600 if in_degrees else 1), key
    for key in DEGREE_SCALE_KEYS:
        scale = cards.number(key)
        if scale is not None:
            yield abs(scale) * 3600, key
    lengths = [math.hypot(cards.number(f"CD{i}_1") or 0, cards.number(f"CD{i}_2") or 0) for i in (1, 2)]
    if all(lengths):
        yield math.sqrt(lengths[0] * lengths[1]) * 3600, "CD"


def _binning(cards: Cards) -> float:
    for key in BINNING_KEYS:
        found = re.match(r"\s*(\d+)", cards.text(key))
        if found and 1 <= int(found[1]) <= 16:
            return float(found[1])
    return 1.0


def _first(cards: Cards, keys: tuple[str, ...]) -> tuple[float, str]:
    for key in keys:
        number = cards.number(key)
        if number is not None and number > 0:
            return number, key
    return 0.0, ""


def _with_decimal_point(text: str) -> str:
    """``"250,0"`` -> ``"250.0"``; a comma that parts more than two numbers stays."""
    has_other_marks = re.search(r"\d\s*[:hHdDmM°*'′ ]\s*\d", text) is not None
    if "." in text or (text.count(",") != 1 and not has_other_marks):
        return text
    return re.sub(r"(?<=\d),(?=\d)", ".", text)


def _plain_number(text: str) -> float | None:
    text = _with_decimal_point(text.strip())
    found = _NUMBER.fullmatch(text)
    return float(text.upper().replace("D", "E")) if found else None


def parse_angle(text: str, *, in_hours: bool) -> float | None:
    """An angle in degrees from degrees or sexagesimal text.

    Parameters
    ----------
    text : str
        ``"192.99"`` or ``"192,99"`` (degrees), ``"12:50:53.1"``, ``"12 50 53,1"``, ``"12h50m53s"``,
        ``"-40d07'12"``, ``"+22*01'00"``, ``"12 50.9"`` (minutes with decimals).
    in_hours : bool
        Whether sexagesimal text counts hours; a first field above 24, or a ``d``, ``°`` or ``*`` behind it, is degrees
        all the same.

    Returns
    -------
    float or None
        None for what is no angle: minutes or seconds of 60 and more too.
    """
    text = text.strip().strip("'\"").strip()
    number = _plain_number(text)
    if number is not None:
        return number if math.isfinite(number) else None
    found = _FIELDS.fullmatch(_with_decimal_point(text))
    if not found:
        return None
    minutes, seconds = float(found[4]), float(found[5] or 0)
    if minutes >= 60 or seconds >= 60 or ("." in found[4] and found[5]):
        return None
    value = float(found[2]) + minutes / 60 + seconds / 3600
    if found[3] in "hH" or (in_hours and value <= 24 and found[3] not in "dD°*"):
        value *= 15
    return -value if found[1] == "-" else value
