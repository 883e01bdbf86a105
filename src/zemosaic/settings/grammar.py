"""Settings that are text with a grammar: text in files and on the command line, typed values in the program.

Each type here reads its text when settings are made, and is written as the same text. A reader raises ValueError with
the forms that the text may have; the models put the key's name before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from zemosaic.text import message

__all__ = [
    "GROUP_SPLITS",
    "PRODUCT_NAMES",
    "Angle",
    "BoxCrop",
    "CoverageCrop",
    "Crop",
    "FilePath",
    "FilterNames",
    "Group",
    "GroupKey",
    "MaskBits",
    "MaybeCrop",
    "MaybePosition",
    "MaybeSize",
    "NamesOfFilters",
    "Products",
    "Rotation",
    "Size",
    "SkyPosition",
    "WhichBits",
]

GROUP_SPLITS = ("night", "filter", "mount", "angle")
"""What may split a group of frames besides where they point."""

PRODUCT_NAMES = ("report", "edit", "tiff", "aesthetic", "regions", "viewer", "hips", "hips-png")
"""What can be made beside the mosaic, in the order of `zemosaic.pipelines.products.make.PRODUCTS`."""

MAX_GROUP_RADIUS = 10.0
"""Fields: beyond this a "group" is a whole survey, and the number was surely meant in other units."""


@dataclass(frozen=True, slots=True)
class SkyPosition:
    """A place on the sky: ICRS right ascension and declination in degrees."""

    ra_deg: float
    dec_deg: float

    def __str__(self) -> str:
        return f"{self.ra_deg!r},{self.dec_deg!r}"


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height of an image in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width},{self.height}"


@dataclass(frozen=True, slots=True)
class CoverageCrop:
    """Keeps the box where at least this share, 0 to 1, of the greatest coverage is reached."""

    share: float

    def __str__(self) -> str:
        return f"coverage:{self.share!r}"


@dataclass(frozen=True, slots=True)
class BoxCrop:
    """Keeps a box of pixels: ``x0 <= x < x1`` and ``y0 <= y < y1``, counted from 0."""

    x0: int
    y0: int
    x1: int
    y1: int

    def __str__(self) -> str:
        return f"{self.x0},{self.y0},{self.x1},{self.y1}"


@dataclass(frozen=True, slots=True)
class GroupKey:
    """How frames are grouped.

    Attributes
    ----------
    radius : float
        Reach of a group about its founder, in units of the shorter side of a field.
    split : frozenset of str
        Of `GROUP_SPLITS`.
    """

    radius: float
    split: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return ",".join([repr(self.radius), *(word for word in GROUP_SPLITS if word in self.split)])


Crop = CoverageCrop | BoxCrop
Angle = float | Literal["min-area"]
"""Degrees east of north, or the angle of the smallest box."""
MaskBits = int | Literal["auto", "any"]
"""The sum of a mask's bits that mean 'do not use'; any value but 0; or what the file's maker is known for."""


@dataclass(frozen=True, slots=True)
class FilterNames:
    """Names of filters for the spellings in headers."""

    pairs: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return ", ".join(f"{spelling}={name}" for spelling, name in self.pairs)

    @property
    def as_dict(self) -> dict[str, str]:
        """Spelling -> name."""
        return dict(self.pairs)


def _text(value: object, unset: str = "") -> str:
    """The text of a value: a number stands for its digits, a typed value for its text, None for what is not set."""
    return unset if value is None else str(value).strip()


def _read_position(value: Any) -> SkyPosition | None:
    text = _text(value)
    if not text:
        return None
    try:
        ra, dec = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(message("setting.no-position")) from None
    if not (math.isfinite(ra) and -90 <= dec <= 90):
        raise ValueError(message("setting.no-place"))
    return SkyPosition(ra, dec)


def _read_size(value: Any) -> Size | None:
    text = _text(value)
    if not text:
        return None
    try:
        width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(message("setting.no-width-height")) from None
    if width < 1 or height < 1:
        raise ValueError(message("setting.empty-grid", width_px=width, height_px=height))
    return Size(width, height)


def _read_angle(value: Any) -> Angle:
    text = _text(value)
    if text == "min-area":
        return "min-area"
    try:
        angle = 0.0 if text == "north" else float(text)
    except ValueError:
        angle = math.nan
    if not math.isfinite(angle):
        raise ValueError(message("setting.no-angle"))
    return angle


def _write_angle(angle: Angle) -> str:
    return "north" if angle == 0 else str(angle)


def _read_crop(value: Any) -> Crop | None:
    text = _text(value, "none")
    kind, _, share_text = text.partition(":")
    if text == "none":
        return None
    try:
        crop = CoverageCrop(float(share_text)) if kind == "coverage" else BoxCrop(*map(int, text.split(",")))
    except (ValueError, TypeError):
        raise ValueError(message("setting.no-crop")) from None
    if isinstance(crop, CoverageCrop) and not 0 <= crop.share <= 1:
        raise ValueError(message("setting.crop-share"))
    if isinstance(crop, BoxCrop) and (crop.x0 >= crop.x1 or crop.y0 >= crop.y1):
        raise ValueError(message("setting.crop-empty"))
    return crop


def _read_group(value: Any) -> GroupKey:
    first, *words = (part.strip() for part in _text(value).split(","))
    try:
        radius = float(first)
    except ValueError:
        radius = math.nan
    if not 0 < radius <= MAX_GROUP_RADIUS or not set(words) <= set(GROUP_SPLITS):
        raise ValueError(message("setting.no-group", most_fields=MAX_GROUP_RADIUS, words=list(GROUP_SPLITS)))
    return GroupKey(radius, frozenset(words))


def _read_bits(value: Any) -> MaskBits:
    text = _text(value)
    if text == "auto":
        return "auto"
    if text == "any":
        return "any"
    try:
        bits = sum(int(part, 0) for part in text.split("+"))
    except ValueError:
        bits = -1
    if not 0 < bits < 1 << 63:
        raise ValueError(message("setting.no-bits"))
    return bits


def _read_filter_names(value: Any) -> FilterNames:
    if isinstance(value, FilterNames):
        return value
    pairs = []
    for part in _text(value).split(","):
        spelling, equals, name = (piece.strip() for piece in part.partition("="))
        if part.strip() and not (spelling and equals):
            raise ValueError(message("setting.no-filter-name", part=part.strip()))
        if spelling:
            pairs.append((spelling, name))
    return FilterNames(tuple(pairs))


def _read_products(value: Any) -> tuple[str, ...]:
    """Names in the order of `PRODUCT_NAMES`, of a list or of text with commas."""
    names = value if isinstance(value, list | tuple) else _text(value).split(",")
    wanted = {_text(name) for name in names} - {""}
    if unknown := sorted(wanted - set(PRODUCT_NAMES)):
        raise ValueError(f"'{unknown[0]}' is none of {', '.join(PRODUCT_NAMES)}")
    return tuple(name for name in PRODUCT_NAMES if name in wanted)


def _absolute(text: str) -> str:
    """A path that means the same wherever ``settings.toml`` is used; "" and "none" are no paths."""
    return text if text in {"", "none"} else str(Path(text).absolute())


def _or_empty(value: object) -> str:
    return "" if value is None else str(value)


def _or_none(value: object) -> str:
    return "none" if value is None else str(value)


_IS_TEXT = WithJsonSchema({"type": "string"})

FilePath = Annotated[str, AfterValidator(_absolute)]
MaybePosition = Annotated[
    SkyPosition | None, BeforeValidator(_read_position), PlainSerializer(_or_empty, return_type=str), _IS_TEXT
]
MaybeSize = Annotated[Size | None, BeforeValidator(_read_size), PlainSerializer(_or_empty, return_type=str), _IS_TEXT]
Rotation = Annotated[Angle, BeforeValidator(_read_angle), PlainSerializer(_write_angle, return_type=str), _IS_TEXT]
MaybeCrop = Annotated[Crop | None, BeforeValidator(_read_crop), PlainSerializer(_or_none, return_type=str), _IS_TEXT]
Group = Annotated[GroupKey, BeforeValidator(_read_group), PlainSerializer(str, return_type=str), _IS_TEXT]
WhichBits = Annotated[MaskBits, BeforeValidator(_read_bits), PlainSerializer(str, return_type=str), _IS_TEXT]
NamesOfFilters = Annotated[
    FilterNames, BeforeValidator(_read_filter_names), PlainSerializer(str, return_type=str), _IS_TEXT
]
Products = Annotated[
    tuple[str, ...],
    BeforeValidator(_read_products),
    WithJsonSchema({"type": "array", "items": {"enum": list(PRODUCT_NAMES)}}),
]
