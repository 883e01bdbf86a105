"""Which part of an array holds pixels of the sky, by the sections that a camera's header names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zemosaic.io.headers.cards import Cards
from zemosaic.model.box import Box
from zemosaic.text import Message, message

__all__ = ["DataSection", "read_data_section"]

_KEYS = ("DATASEC", "TRIMSEC")
"""Cards of the part to keep; where both are there, what they have in common."""

_SECTION = re.compile(r"\[?\s*(\*|-?\d+\s*:\s*-?\d+)\s*,\s*(\*|-?\d+\s*:\s*-?\d+)\s*\]?")
"""``[x1:x2,y1:y2]``, counted from 1, both ends included; ``*`` is a whole axis, and a readout may run backwards."""

_LEAST_SHARE = 0.3
"""Least share of an array that is sky: a section of less is of another array, or of one of several amplifiers."""


@dataclass(frozen=True, slots=True)
class DataSection:
    """What a header says of where its pixels of the sky lie.

    Attributes
    ----------
    box : Box or None
        Pixels of the sky; None for all of the array.
    doubts : tuple of Message
        Cards that are not believed, each with the reason.
    """

    box: Box | None = None
    doubts: tuple[Message, ...] = ()


def read_data_section(cards: Cards, shape: tuple[int, int]) -> DataSection:
    """The part of an array that is no overscan.

    DATASEC and TRIMSEC name it; where neither does, it is what a BIASSEC along one side leaves. CCDSEC names a part of
    the chip, not of the array: where its size is the array's and not the named part's, the overscan is cut off
    already, and the cards are left over from before.

    Parameters
    ----------
    cards : Cards
    shape : tuple of int
        ``(height, width)`` of the array.
    """
    box = whole = Box.of_shape(shape)
    keys = [key for key in _KEYS if cards.text(key)] or [key for key in ("BIASSEC",) if cards.text(key)]
    doubts = []
    for key in keys:
        try:
            box = _kept_by(key, cards, whole, box)
        except ValueError as problem:
            doubts.append(message("header.section-doubt", card=key, value=cards.text(key), problem=problem))
    return DataSection(None if box == whole else box, tuple(doubts))


def _kept_by(key: str, cards: Cards, whole: Box, so_far: Box) -> Box:
    """What a card leaves of the pixels that were sky so far; ValueError with the reason not to believe it."""
    part = _read_section(cards.text(key), whole.shape)
    if part is None:
        raise ValueError(message("header.no-section"))
    if not whole.contains(part):
        raise ValueError(message("header.section-outside", width_px=whole.width, height_px=whole.height))
    kept = (_beside(part, whole) if key == "BIASSEC" else part).intersect(so_far)
    if kept.n_pixels < _LEAST_SHARE * whole.n_pixels:
        raise ValueError(message("header.section-thin", n_kept=kept.n_pixels, n_pixels=whole.n_pixels))
    if _is_stale(kept, cards, whole):
        raise ValueError(message("header.section-stale", ccdsec=cards.text("CCDSEC")))
    return kept


def _read_section(text: str, shape: tuple[int, int]) -> Box | None:
    """A section as a box counted from 0; None for what is none."""
    found = _SECTION.fullmatch(text)
    if not found:
        return None
    ends = []
    for axis, length in zip(found.groups(), reversed(shape), strict=True):
        a, b = (1, length) if axis == "*" else (int(end) for end in axis.split(":"))
        ends.append((min(a, b) - 1, max(a, b)))
    (x0, x1), (y0, y1) = ends
    return Box(y0, y1, x0, x1)


def _beside(bias: Box, whole: Box) -> Box:
    """What an overscan strip along one side leaves of an array; all of it where it is no such strip."""
    if bias.height >= 0.9 * whole.height:
        if bias.x0 < whole.width - bias.x1:
            return Box(0, whole.height, bias.x1, whole.width)
        return Box(0, whole.height, 0, bias.x0)
    if bias.width >= 0.9 * whole.width:
        if bias.y0 < whole.height - bias.y1:
            return Box(bias.y1, whole.height, 0, whole.width)
        return Box(0, bias.y0, 0, whole.width)
    return whole


def _is_stale(kept: Box, cards: Cards, whole: Box) -> bool:
    """Whether CCDSEC says that all of the array is sky, `kept` is less, and no overscan lies beside it."""
    chip, bias = (_read_section(cards.text(key), whole.shape) for key in ("CCDSEC", "BIASSEC"))
    beside = bias is not None and whole.contains(bias) and not kept.overlaps(bias)
    if chip is None or kept == whole or beside:
        return False
    binning = [int(number) for number in re.findall(r"\d+", cards.text("CCDSUM"))]
    across, along = binning if len(binning) == 2 and min(binning) > 0 else (1, 1)
    return (-(-chip.height // along), -(-chip.width // across)) == whole.shape
