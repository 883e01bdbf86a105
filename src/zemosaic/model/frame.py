"""A frame: one exposure, known by its header alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NewType

from zemosaic.model.box import Box

__all__ = ["ANY_BIT", "Frame", "FrameId", "FrameKind", "Layout", "MaskPlane", "PointingHint", "WeightKind"]

FrameId = NewType("FrameId", str)
"""Hex digest of a frame's header bytes, size and sampled blocks: its sort key, cache key and seed."""

Layout = Literal["mono", "bayer", "chw", "hwc"]
FrameKind = Literal["light", "dark", "bias", "flat"]
WeightKind = Literal["weight", "variance", "error"]


@dataclass(frozen=True, slots=True)
class PointingHint:
    """Where a header without WCS says the telescope pointed.

    Attributes
    ----------
    ra_deg, dec_deg : float
        As written; the equinox may be J2000 or of date (`equinox` None: unknown).
    equinox : float or None
        Julian year stated in the header.
    scale_arcsec : float or None
        Pixel scale, binning included.
    source : str
        The cards that were read, and how; "" for a hint that is not from a header.
    """

    ra_deg: float
    dec_deg: float
    equinox: float | None = None
    scale_arcsec: float | None = None
    source: str = ""


ANY_BIT = -1
"""Of a mask: every value but 0 means 'do not use'."""


@dataclass(frozen=True, slots=True)
class MaskPlane:
    """A plane of an image whose values say which of its pixels not to use.

    Attributes
    ----------
    path : str
    hdu : int
        File and HDU.
    bits : int
        Values that share a bit with it mark pixels not to use, or `ANY_BIT`.
    is_known : bool
        Whether somebody told what its bits mean: its maker's table, or the user.
    """

    path: str
    hdu: int
    bits: int = ANY_BIT
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One image HDU of one file, or an array given in memory. Holds no pixels.

    Attributes
    ----------
    id : FrameId
        See `FrameId`.
    path : str
        Absolute path, or ``memory:N`` for an array.
    hdu : int
        Index of the image HDU.
    shape : tuple of int
        ``(height, width)``.
    layout : {"mono", "bayer", "chw", "hwc"}
        How the stored array holds its channels.
    bayer : str or None
        Colour pattern in array order (``"GRBG"``: first row starts green, red), offsets applied.
    filter : str
        Filter name, ``""`` when the header has none.
    camera : str
        Key shared by frames of one camera and read-out mode.
    wcs_cards : str or None
        The WCS cards of the header as one FITS header string, `.head` override applied; None when the header
        has no usable celestial WCS.
    wcs_problem : str
        Why `wcs_cards` is None, in one line.
    weight : tuple of str and int, or None
        File and HDU of the weight map: an extension of the same file or a sidecar file.
    weight_kind : {"weight", "variance", "error"}
        Meaning of the weight map: inverse variance, variance, standard deviation.
    mask : MaskPlane or None
        Says which pixels not to use, beside the weight map.
    alpha : tuple of str, int and float, or None
        File and HDU of a map of how far pixels are trusted, and its value for full trust; it weighs beside the weight
        map and leaves variances alone. Pixels of alpha 0 have no weight.
    exposure_s, date_obs, instrument : header facts, None or "" when absent.
    gain_prior : float
        Response expected from the header, relative to other frames *with the same* `gain_prior_key`; 1 when
        unknown. ``1 / FLXSCALE``, ``10 ** (0.4 (MAGZP - 25))`` or the exposure time in seconds.
    gain_prior_key : str
        Header keyword that `gain_prior` comes from; "" when there is none. Priors from different keywords
        have no common scale.
    unit : str
        BUNIT as written.
    saturation_adu : float or None
        Level at which pixels saturate, when the header or the integer type tells.
    hints : tuple of PointingHint
        Every reading of the header's position and scale, the likeliest first; empty without a position.
    n_stacked : int
        NCOMBINE, STACKCNT or MT_NFRAMES; 1 for a single exposure.
    mount : {"", "altaz", "equatorial"}
        How the mount tracked, where the header tells (EQMODE).
    kind : {"light", "dark", "bias", "flat"}
        What was exposed: the sky, or one of the calibration frames (a flat-dark is a dark).
    is_master : bool
        Calibration frames: already a stack of many.
    is_integer : bool
        Whether pixels are stored as whole numbers, as cameras write them.
    gain_setting, temperature_c, rotation_deg : float or None
        Gain (or ISO) setting, temperature of the sensor, angle of the rotator, where the header tells.
    electrons_per_adu : float or None
        As the header states it (EGAIN, or a GAIN that reads like one); not yet believed.
    calibration : str
        Names the masters its pixels are calibrated with; "" for none.
    is_flattened : bool
        Whether a flat is among them.
    data_box : Box or None
        The part of the array that is no overscan; None for all of it.
    doubts : tuple of str
        Cards of the header that are not believed, each with the reason.
    """

    id: FrameId
    path: str
    hdu: int
    shape: tuple[int, int]
    layout: Layout = "mono"
    bayer: str | None = None
    filter: str = ""
    camera: str = ""
    wcs_cards: str | None = None
    wcs_problem: str = ""
    weight: tuple[str, int] | None = None
    weight_kind: WeightKind = "weight"
    mask: MaskPlane | None = None
    alpha: tuple[str, int, float] | None = None
    exposure_s: float | None = None
    date_obs: str = ""
    instrument: str = ""
    gain_prior: float = 1.0
    gain_prior_key: str = ""
    unit: str = ""
    saturation_adu: float | None = None
    hints: tuple[PointingHint, ...] = ()
    n_stacked: int = 1
    mount: Literal["", "altaz", "equatorial"] = ""
    kind: FrameKind = "light"
    is_master: bool = False
    is_integer: bool = False
    gain_setting: float | None = None
    temperature_c: float | None = None
    rotation_deg: float | None = None
    electrons_per_adu: float | None = None
    calibration: str = ""
    is_flattened: bool = False
    data_box: Box | None = None
    doubts: tuple[str, ...] = ()

    @property
    def n_channels(self) -> int:
        """1 for mono, 3 for colour (also for a Bayer frame)."""
        return 1 if self.layout == "mono" else 3

    @property
    def name(self) -> str:
        """Short name for lists: file name, with the HDU when it is not the first."""
        base = self.path.replace("\\", "/").rsplit("/", 1)[-1]
        return base if self.hdu == 0 else f"{base}[{self.hdu}]"

    @property
    def time_s(self) -> float:
        """Time of the exposure from J2000 (2000-01-01 12h); NaN without a readable date."""
        try:
            when = datetime.fromisoformat(self.date_obs.rstrip("Z"))
        except ValueError:
            return math.nan
        return (when.replace(tzinfo=None) - datetime(2000, 1, 1, 12)).total_seconds()

    @property
    def hint(self) -> PointingHint | None:
        """The likeliest reading of the header's position; None without one."""
        return self.hints[0] if self.hints else None

    @property
    def epoch_year(self) -> float | None:
        """Julian year of the exposure; None without a readable date."""
        return None if math.isnan(self.time_s) else 2000 + self.time_s / (365.25 * 86400)
