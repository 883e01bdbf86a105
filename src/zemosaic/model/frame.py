"""A frame: one exposure, known by its header alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NewType

from zemosaic.model.box import Box
from zemosaic.text import Message

__all__ = [
    "ANY_BIT",
    "Decided",
    "Frame",
    "FrameId",
    "FrameKind",
    "HeaderFacts",
    "Layout",
    "MapKind",
    "MapRef",
    "Mount",
    "PointingHint",
    "Storage",
]

FrameId = NewType("FrameId", str)
"""Hex digest of a frame's header bytes, size and sampled blocks: its sort key, cache key and seed."""

Layout = Literal["mono", "bayer", "chw", "hwc"]
FrameKind = Literal["light", "dark", "bias", "flat"]
MapKind = Literal["weight", "variance", "error", "mask", "alpha"]
Mount = Literal["", "altaz", "equatorial"]

ANY_BIT = -1
"""Of a mask: every value but 0 means 'do not use'."""


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
        Pixel scale, binning included: the root of a pixel's area.
    source : str
        The cards that were read, and how; "" for a hint that is not from a header.
    aspect : float
        Height of a pixel over its width.
    """

    ra_deg: float
    dec_deg: float
    equinox: float | None = None
    scale_arcsec: float | None = None
    source: str = ""
    aspect: float = 1.0


@dataclass(frozen=True, slots=True)
class MapRef:
    """An image that tells of a frame's pixels how much they count.

    Attributes
    ----------
    path : str
        Absolute path: the frame's own file or one beside it.
    hdu : int
        Index of the image HDU.
    kind : {"weight", "variance", "error", "mask", "alpha"}
        What its values mean: inverse variance, variance, standard deviation; a mask says which pixels not to use; an
        alpha tells how far pixels are trusted.
    full : float
        Value of an alpha for full trust; 1 for the other kinds.
    bits : int
        Values of a mask that share a bit with it mark pixels not to use, or `ANY_BIT`.
    is_known : bool
        Whether somebody told what the bits of a mask mean: its maker's table, or the user.
    """

    path: str
    hdu: int
    kind: MapKind
    full: float = 1.0
    bits: int = ANY_BIT
    is_known: bool = False

    @property
    def identity(self) -> tuple[MapKind, float, int]:
        """What it means: its content is in the id of its frame, and where it lies does not matter."""
        return self.kind, self.full, self.bits


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the pixels of a frame are stored, and how.

    Attributes
    ----------
    path : str
        Absolute path, or ``memory:N`` for an array.
    hdu : int
        Index of the image HDU.
    layout : {"mono", "bayer", "chw", "hwc"}
        How the stored array holds its channels.
    bayer : str or None
        Colour pattern in array order (``"GRBG"``: first row starts green, red), offsets applied.
    is_integer : bool
        Whether pixels are stored as whole numbers, as cameras write them.
    weight : MapRef or None
        Its weight map: inverse variance, variance or standard deviation.
    mask : MapRef or None
        Its mask, which counts beside the weight map.
    alpha : MapRef or None
        Its alpha, which weighs beside the weight map and leaves variances alone. Pixels of alpha 0 have no weight.
    zero_is_empty : bool
        Whether pixels that are 0 in all channels hold nothing: so stacks without a map of their weight are read.
    """

    path: str
    hdu: int = 0
    layout: Layout = "mono"
    bayer: str | None = None
    is_integer: bool = False
    weight: MapRef | None = None
    mask: MapRef | None = None
    alpha: MapRef | None = None
    zero_is_empty: bool = False

    @property
    def identity(self) -> tuple[object, ...]:
        """How the pixels are stored, but not where: the frame's id tells the content of all its files."""
        maps = self.weight, self.mask, self.alpha
        return self.hdu, self.layout, self.bayer, self.is_integer, maps, self.zero_is_empty


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """What the cards of a frame say. What a run may take otherwise than they say is in `Decided`, and only there.

    Attributes
    ----------
    camera : str
        Key shared by frames of one camera and read-out mode.
    instrument : str
        INSTRUME as written; "" when absent.
    wcs_cards : str or None
        The WCS cards of the header as one FITS header string, `.head` override applied; None when the header
        has no usable celestial WCS.
    wcs_problem : Message or None
        Why `wcs_cards` is None, in one line.
    hints : tuple of PointingHint
        Every reading of the header's position and scale, the likeliest first; empty without a position.
    date_obs : str
        Start of the exposure; "" when absent.
    unit : str
        BUNIT as written.
    n_stacked : int
        NCOMBINE, STACKCNT or MT_NFRAMES; 1 for a single exposure.
    gain_setting, temperature_c, rotation_deg : float or None
        Gain (or ISO) setting, temperature of the sensor, angle of the rotator, where the header tells.
    electrons_per_adu : float or None
        As the header states it (EGAIN, or a GAIN that reads like one); not yet believed.
    data_box : Box or None
        The part of the array that is no overscan; None for all of it.
    doubts : tuple of Message
        Cards that are not believed, each with the reason.
    """

    camera: str = ""
    instrument: str = ""
    wcs_cards: str | None = None
    wcs_problem: Message | None = None
    hints: tuple[PointingHint, ...] = ()
    date_obs: str = ""
    unit: str = ""
    n_stacked: int = 1
    gain_setting: float | None = None
    temperature_c: float | None = None
    rotation_deg: float | None = None
    electrons_per_adu: float | None = None
    data_box: Box | None = None
    doubts: tuple[Message, ...] = ()

    @property
    def hint(self) -> PointingHint | None:
        """The likeliest reading of the header's position; None without one."""
        return self.hints[0] if self.hints else None

    @property
    def time_s(self) -> float:
        """Time of the exposure from J2000 (2000-01-01 12h); NaN without a readable date."""
        try:
            when = datetime.fromisoformat(self.date_obs.rstrip("Z"))
        except ValueError:
            return math.nan
        return (when.replace(tzinfo=None) - datetime(2000, 1, 1, 12)).total_seconds()

    @property
    def epoch_year(self) -> float | None:
        """Julian year of the exposure; None without a readable date."""
        return None if math.isnan(self.time_s) else 2000 + self.time_s / (365.25 * 86400)


@dataclass(frozen=True, slots=True)
class Decided:
    """What a run takes a frame for: as its header has it, until a folder, a plan, a setting or a step says otherwise.

    Attributes
    ----------
    kind : {"light", "dark", "bias", "flat"}
        What was exposed: the sky, or one of the calibration frames (a flat-dark is a dark).
    is_master : bool
        Calibration frames: already a stack of many.
    filter : str
        Name of the filter, one spelling for all frames of a run; "" for none.
    exposure_s : float or None
        Exposure time; None when nothing tells.
    mount : {"", "altaz", "equatorial"}
        How the mount tracked; "" when nothing tells.
    gain_prior : float
        Response expected relative to other frames *with the same* `gain_prior_key`; 1 when
        unknown. ``1 / FLXSCALE``, ``10 ** (0.4 (MAGZP - 25))`` or the exposure time in seconds.
    gain_prior_key : str
        Header keyword that `gain_prior` comes from; "" when there is none. Priors from different keywords
        have no common scale.
    saturation_adu : float or None
        Level at which pixels saturate, when the header or the integer type tells.
    calibration : str
        Names the masters its pixels are calibrated with; "" for none.
    is_flattened : bool
        Whether a flat is among them.
    """

    kind: FrameKind = "light"
    is_master: bool = False
    filter: str = ""
    exposure_s: float | None = None
    mount: Mount = ""
    gain_prior: float = 1.0
    gain_prior_key: str = ""
    saturation_adu: float | None = None
    calibration: str = ""
    is_flattened: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One image HDU of one file, or an array given in memory. Holds no pixels.

    In digests it counts by all that is known of it but the places of its files: each of its parts says what of it that
    is.

    Attributes
    ----------
    id : FrameId
        See `FrameId`.
    shape : tuple of int
        ``(height, width)``.
    storage : Storage
        Where its pixels are, and how they are stored.
    header : HeaderFacts
        What its cards say; no step changes it.
    decided : Decided
        What the run takes it for.
    """

    id: FrameId
    shape: tuple[int, int]
    storage: Storage
    header: HeaderFacts = HeaderFacts()
    decided: Decided = Decided()

    @property
    def n_channels(self) -> int:
        """1 for mono, 3 for colour (also for a Bayer frame)."""
        return 1 if self.storage.layout == "mono" else 3

    @property
    def n_values(self) -> int:
        """Numbers in its stored array: a Bayer frame has one a pixel."""
        return self.shape[0] * self.shape[1] * (3 if self.storage.layout in {"chw", "hwc"} else 1)

    @property
    def n_samples(self) -> int:
        """Numbers of the frame once it has its colours: a Bayer frame has three a pixel."""
        return self.shape[0] * self.shape[1] * self.n_channels

    @property
    def is_counted(self) -> bool:
        """Whether it looks as a camera writes it: whole numbers, of one exposure."""
        return self.storage.is_integer and self.header.n_stacked == 1

    @property
    def name(self) -> str:
        """Short name for lists: file name, with the HDU when it is not the first."""
        base = self.storage.path.replace("\\", "/").rsplit("/", 1)[-1]
        return base if self.storage.hdu == 0 else f"{base}[{self.storage.hdu}]"

    def plane_at(self, path: str, hdu: int) -> Frame:
        """Another plane of the frame's shape, such as one of its maps, as a frame to be read as it is stored."""
        return Frame(self.id, self.shape, Storage(path, hdu))
