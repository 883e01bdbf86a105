"""From the cards of a header to a `Frame`: what kind of image it is and what its header claims.

Keywords differ from one program to the next; the spellings understood are listed here, once.
An instrument only ever sets what its header says; nothing asks for a given instrument.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace

from astropy.io import fits
from astropy.wcs import NoConvergence, WcsError

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.cards import Cards, Hdu
from zemosaic.io.headers.filters import read_filter
from zemosaic.io.headers.hints import read_hints
from zemosaic.io.headers.scaling import read_scaling
from zemosaic.io.headers.sections import read_data_section
from zemosaic.io.headers.wcs_cards import normalise_wcs
from zemosaic.model.frame import Decided, Frame, FrameId, FrameKind, HeaderFacts, Layout, Mount, Storage
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.text import message

__all__ = [
    "TOP_OF_16_BITS",
    "effective_bayer",
    "frame_from_cards",
    "frame_wcs",
    "image_layout",
    "one_line",
    "with_bayer",
]

_PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")
_NOT_BAYER = {"", "NONE", "MONO", "MONOCHROME", "GRAY", "GREY", "RGB"}
_CALIBRATION = re.compile(
    r"(master[\s_-]*)?((dark|flat|sky|dome)[\s_-]*)?(dark|bias|offset|zero|flat)s?([\s_-]*(frame|field)s?)?",
    re.IGNORECASE,
)
_RATE = re.compile(r"(/\s*s(ec(ond)?)?\b|\bs(ec)?\s*(\^|\*\*)?\s*-1)", re.IGNORECASE)
TOP_OF_16_BITS = 65520.0
"""4095 x 16: what a saturated 12-bit converter gives when scaled to 16 bits."""
_ELECTRONS_PER_ADU = 1e-3, 1e3
"""What cameras have, from 16 bits of a sensitive one to 8 bits of a deep one, with room to spare."""
_GAIN_SETTING = 20.0
"""A GAIN from here on is the setting of a camera (80, 120 ...), not electrons per ADU."""


def image_layout(axes: tuple[int, ...]) -> tuple[Layout, tuple[int, int]]:
    """How an array of these axes (NAXIS1 last) holds its channels, and its height and width.

    Axes of length 1 do not count. A plane is "mono" here; whether it is a raw colour mosaic
    is not in its shape.

    Raises
    ------
    FrameRejected
        For anything that is no picture: fewer than two axes, more than three, no axis of length
        three, no pixels.
    """
    text = " x ".join(str(n) for n in reversed(axes))
    if 0 in axes:
        raise FrameRejected("header.no-pixels", size=text, axes=axes)
    real = tuple(n for n in axes if n != 1)
    if len(real) == 2:
        return "mono", (real[0], real[1])
    if len(real) == 3 and real[0] == 3:
        return "chw", (real[1], real[2])
    if len(real) == 3 and real[2] == 3:
        return "hwc", (real[0], real[1])
    size = text or message("header.no-axes")
    if len(real) == 3:
        raise FrameRejected("header.cube-without-colours", size=size, axes=axes)
    raise FrameRejected("header.no-picture", n=len(real), size=size, axes=axes)


def _check_tiles(hdu: Hdu) -> None:
    """A compressed image has one table row for each tile: else its axes are made up."""
    n_tiles = 1
    for number, length in zip(range(len(hdu.axes), 0, -1), hdu.axes, strict=True):
        tile = hdu.cards.integer(f"ZTILE{number}") or (length if number == 1 else 1)
        n_tiles *= -(-length // max(tile, 1))
    n_rows = hdu.cards.integer("NAXIS2")
    if n_rows != n_tiles:
        raise FrameRejected("header.wrong-tiles", n_rows=n_rows, n_tiles=n_tiles)


def one_line(problem: Exception) -> str:
    """What an exception says, as one line of at most 120 characters."""
    return " ".join(str(problem).split())[:120] or type(problem).__name__


def _pattern_of(text: str) -> str:
    """A pattern's four letters from their spellings: in quotes, in lower case, by the first row alone."""
    name = re.sub(r"[^A-Z0-9]", "", text.upper().removeprefix("BAYER"))
    return next((pattern for pattern in _PATTERNS if len(name) == 2 and pattern.startswith(name)), name)


def effective_bayer(cards: Cards, height: int, setting: str) -> str | None:
    """Colour pattern in array order, None for a plain plane.

    An explicit setting is taken as it is, for the first two rows of the array. A header's pattern
    is shifted by XBAYROFF and YBAYROFF; with ROWORDER = BOTTOM-UP it counts rows from the array's
    last one, the top of the picture.

    Raises
    ------
    FrameRejected
        When BAYERPAT names no pattern of two greens, one red and one blue.
    """
    if setting != "auto":
        return None if setting == "none" else setting
    pattern = _pattern_of(cards.text("BAYERPAT"))
    if pattern in _NOT_BAYER:
        pattern = _pattern_of(cards.text("COLORTYP"))
        if pattern not in _PATTERNS:
            return None
    if pattern not in _PATTERNS:
        raise FrameRejected("header.unknown-bayer", pattern=pattern, known=_PATTERNS)
    dx, dy = (round(cards.number(key) or 0.0) for key in ("XBAYROFF", "YBAYROFF"))
    if "BOTTOM" in cards.text("ROWORDER").upper():
        dy += height - 1  # row y of the array is row height - 1 - y of the picture; parity is all that counts
    return "".join(pattern[2 * ((y + dy) % 2) + (x + dx) % 2] for y in range(2) for x in range(2))


def _kind(cards: Cards, folder_kind: FrameKind | None) -> tuple[FrameKind, bool]:
    """What was exposed, and whether it is a master: the header's word for a calibration frame, else the folder's."""
    text = cards.first_text("IMAGETYP", "FRAME", "OBSTYPE")
    if not _CALIBRATION.fullmatch(text):
        return folder_kind or "light", False
    is_master = "master" in text.lower()
    if re.search("bias|offset|zero", text, re.IGNORECASE):
        return "bias", is_master
    return "dark" if "dark" in text.lower() else "flat", is_master


def _exposure(cards: Cards, kind: FrameKind) -> float | None:
    """Exposure time in seconds; FrameRejected when the header of a picture says that there was none."""
    stated = [(key, number) for key in ("EXPTIME", "EXPOSURE") if (number := cards.number(key)) is not None]
    if not stated:
        return None
    exposure = next((number for _, number in stated if number > 0), None)
    if exposure is None and kind == "light":
        raise FrameRejected("header.no-exposure", card=stated[0][0], exposure_s=stated[0][1])
    return exposure


def _gain_prior(cards: Cards, exposure_s: float | None, n_stacked: int) -> tuple[float, str]:
    """Expected response and the keyword it comes from; ``(1, "")`` when nothing tells."""
    scale = cards.number("FLXSCALE")
    if scale is not None and 0 < scale < math.inf and math.isfinite(1 / scale):
        return 1 / scale, "FLXSCALE"
    for key in ("MAGZP", "MAGZPT", "MAGZERO", "PHOTZP"):
        zero_point = cards.number(key)
        if zero_point is not None and 0 < abs(zero_point) < 60:
            return 10 ** (0.4 * (zero_point - 25)), key
    # A stack's EXPTIME may be of one exposure or of all, and a rate does not grow with time.
    if exposure_s is not None and n_stacked == 1 and not _RATE.search(cards.text("BUNIT")):
        return exposure_s, "EXPTIME"
    return 1.0, ""


def _saturation(cards: Cards, hdu: Hdu) -> float | None:
    stated = cards.first_number("SATURATE", "SATLEVEL", "MAXLIN")
    if stated is not None and stated > 0:
        return stated
    scaling = read_scaling(hdu)
    if scaling.softening is not None:
        return None  # the ends of an asinh scale are those of no detector
    if hdu.bitpix == 16:
        is_unsigned = (scaling.zero, scaling.scale) == (32768, 1)
        top = TOP_OF_16_BITS if is_unsigned else 32767 * scaling.scale + scaling.zero
        return top if top > 0 else None
    return 255 * scaling.scale + scaling.zero if hdu.bitpix == 8 else None


def _electrons_per_adu(cards: Cards, n_stacked: int) -> float | None:
    """What the header states; a GAIN only where it is no setting of the camera, which are whole or large numbers."""
    # A stack's card may be of one exposure or of all.
    if n_stacked > 1:
        return None
    stated, gain = cards.number("EGAIN"), cards.value("GAIN")
    if stated is None and isinstance(gain, float) and gain < _GAIN_SETTING:
        stated = gain
    return stated if stated is not None and _ELECTRONS_PER_ADU[0] < stated < _ELECTRONS_PER_ADU[1] else None


def _n_stacked(cards: Cards) -> int:
    stated = cards.first_number("NCOMBINE", "STACKCNT", "MT_NFRAMES")
    return max(round(stated), 1) if stated is not None and stated < 1e9 else 1


def _camera(cards: Cards, shape: tuple[int, int], bayer: str | None, chip: str) -> str:
    """Frames with the same key have the same optics, sensor, binning and part of the sensor."""
    focal_mm = cards.number("FOCALLEN")
    parts = [
        cards.first_text("INSTRUME", "CAMERA"),
        cards.text("TELESCOP"),
        f"{focal_mm:g}mm" if focal_mm else "",
        f"{shape[1]}x{shape[0]}",
        f"bin{cards.first_text('XBINNING', 'CCDXBIN') or '1'}",
        bayer or "",
        cards.first_text("CCDNUM", "CHIPID", "DETSEC") or chip,
    ]
    return "|".join(parts)


def _mount(cards: Cards) -> Mount:
    """A Seestar writes EQMODE = 1 on its wedge, 0 without it."""
    mode = cards.number("EQMODE")
    return "" if mode is None else "equatorial" if mode else "altaz"


def _date_obs(cards: Cards) -> str:
    date = cards.first_text("DATE-OBS", "DATE_OBS")
    time = cards.first_text("TIME-OBS", "UT", "UTC-OBS")
    return f"{date}T{time}" if re.fullmatch(r"\d{4}-\d\d-\d\d", date) and re.match(r"\d\d:\d\d", time) else date


def frame_from_cards(
    hdu: Hdu,
    cards: Cards,
    path: str,
    frame_id: FrameId,
    *,
    bayer_setting: str = "auto",
    chip: str = "",
    folder_kind: FrameKind | None = None,
) -> Frame:
    """The frame that an image HDU is, from headers alone.

    Parameters
    ----------
    hdu : Hdu
        The image; its own header tells how the pixels are stored.
    cards : Cards
        Where facts are looked up: `hdu`'s cards with what they inherit and what overrides them.
    path : str
        See `Storage.path`.
    frame_id : FrameId
        See `FrameId`.
    bayer_setting : str
        ``InputSettings.bayer``.
    chip : str
        What tells the detectors of a multi-extension file apart.
    folder_kind : {"dark", "bias", "flat"}, optional
        What the folder is for; an image type in the header that names a calibration frame is stronger.

    Raises
    ------
    FrameRejected
        With a one-line reason and its numbers, when this is no frame.
    """
    layout, shape = image_layout(hdu.axes)
    if hdu.bitpix not in {8, 16, 32, 64, -32, -64}:
        raise FrameRejected("header.bad-card", card="BITPIX", value=hdu.bitpix)
    if hdu.is_tiled:
        _check_tiles(hdu)
    bayer = effective_bayer(cards, shape[0], bayer_setting) if layout == "mono" else None
    is_counted = hdu.bitpix > 0 and read_scaling(hdu).softening is None
    storage = Storage(path, hdu.index, "bayer" if bayer else layout, bayer, is_integer=is_counted)
    n_stacked = _n_stacked(cards)
    decided = _decide(cards, hdu, n_stacked, folder_kind)
    if n_stacked > 1 or "master" in os.path.basename(path).lower():
        decided = replace(decided, is_master=True)
    facts = _read_facts(cards, shape, _camera(cards, shape, bayer, chip), n_stacked)
    return Frame(frame_id, shape, storage, facts, decided)


def _read_facts(cards: Cards, shape: tuple[int, int], camera: str, n_stacked: int) -> HeaderFacts:
    """What a header says, as it says it."""
    section = read_data_section(cards, shape)
    try:
        wcs, wcs_problem = normalise_wcs(cards), None
    except FrameRejected as problem:
        wcs, wcs_problem = None, problem.told
    return HeaderFacts(
        camera=camera,
        instrument=cards.text("INSTRUME"),
        wcs_cards=wcs,
        wcs_problem=wcs_problem,
        hints=read_hints(cards),
        date_obs=_date_obs(cards),
        unit=cards.text("BUNIT"),
        n_stacked=n_stacked,
        gain_setting=cards.first_number("GAIN", "ISOSPEED"),
        temperature_c=cards.first_number("CCD-TEMP", "CCDTEMP", "SENSTEMP"),
        rotation_deg=cards.first_number("ROTATANG", "ROTATOR"),
        electrons_per_adu=_electrons_per_adu(cards, n_stacked),
        data_box=section.box,
        doubts=section.doubts,
    )


def _decide(cards: Cards, hdu: Hdu, n_stacked: int, folder_kind: FrameKind | None) -> Decided:
    """What a header says of matters that plans, tables and settings may decide otherwise."""
    kind, is_master = _kind(cards, folder_kind)
    exposure_s = _exposure(cards, kind)
    gain_prior, gain_prior_key = _gain_prior(cards, exposure_s, n_stacked)
    return Decided(
        kind=kind,
        is_master=is_master,
        filter=read_filter(cards),
        exposure_s=exposure_s,
        mount=_mount(cards),
        gain_prior=gain_prior,
        gain_prior_key=gain_prior_key,
        saturation_adu=_saturation(cards, hdu),
    )


def with_bayer(frame: Frame, bayer: str | None) -> Frame:
    """A frame of one plane with another colour pattern than its header names, or with none."""
    return replace(frame, storage=replace(frame.storage, bayer=bayer, layout="bayer" if bayer else "mono"))


def frame_wcs(frame: Frame) -> CelestialWcs:
    """The WCS of a frame, built from its cards and checked at its centre.

    Raises
    ------
    FrameRejected
        When the header has none, or one that no pixel can be placed with.
    """
    if frame.header.wcs_cards is None:
        why = frame.header.wcs_problem or message("header.no-wcs")
        raise FrameRejected(why.code, **why.facts)
    try:
        wcs = CelestialWcs.from_header(fits.Header.fromstring(frame.header.wcs_cards), frame.shape)
        x, y = (frame.shape[1] - 1) / 2, (frame.shape[0] - 1) / 2
        # In the header's own sky system: a transformation there and back proves nothing and takes milliseconds.
        lon, lat = wcs.wcs.all_pix2world([x], [y], 0)
        back_x, back_y = wcs.wcs.all_world2pix(lon, lat, 0)
    except (ValueError, WcsError, NoConvergence) as problem:
        raise FrameRejected("header.wcs-unusable", problem=one_line(problem)) from problem
    off = math.hypot(float(back_x[0]) - x, float(back_y[0]) - y)
    if not off < 0.1:
        raise FrameRejected("header.wcs-does-not-return", off_px=off)
    return wcs
