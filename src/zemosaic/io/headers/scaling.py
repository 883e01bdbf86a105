"""What the stored values of an image are worth, as its header tells."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.cards import MISSING, Cards, Hdu

__all__ = ["Scaling", "read_scaling", "read_softening"]

_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
"""``32,768``: the comma may part thousands or decimals."""
_EXACT_IN_FLOAT32 = 1 << 24
"""Whole numbers below it are exact in float32."""
_ASINH_CARDS = ("BSOFTEN", "BOFFSET")


@dataclass(frozen=True, slots=True)
class Scaling:
    """How physical values come from stored ones.

    Attributes
    ----------
    zero, scale : float
        BZERO and BSCALE: value = zero + scale x stored value.
    blank : int or None
        Stored whole number that means "no data".
    softening : tuple of float, or None
        BSOFTEN and BOFFSET of an image that is kept on an asinh scale, as Pan-STARRS keeps its own: the light is
        ``BOFFSET + 2 BSOFTEN sinh(value ln(10) / 2.5)``, asinh magnitudes of Lupton, Gunn and Szalay (1999, AJ 118,
        1406).
    """

    zero: float = 0.0
    scale: float = 1.0
    blank: int | None = None
    softening: tuple[float, float] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether stored values are the physical ones."""
        return self.softening is None and (self.zero, self.scale) == (0.0, 1.0)

    @property
    def is_shift(self) -> bool:
        """Whether short whole numbers are only moved, to others that single precision holds."""
        is_whole = self.zero.is_integer() and abs(self.zero) < _EXACT_IN_FLOAT32
        return self.softening is None and self.scale == 1 and is_whole


def read_scaling(hdu: Hdu) -> Scaling:
    """The scaling of an image.

    Raises
    ------
    FrameRejected
        When a card of it is there but cannot be used: what its pixels are worth is then not known.
    """
    found: dict[str, float] = {}
    for key, default in (("BZERO", 0.0), ("BSCALE", 1.0)):
        value = hdu.cards.number(key) if key in hdu.cards else default
        if value is None or _THOUSANDS.fullmatch(hdu.cards.written(key)):
            raise FrameRejected("header.scale-no-number", card=key, value=hdu.cards.written(key))
        found[key] = value
    blank = hdu.cards.integer("BLANK") if hdu.bitpix > 0 else None
    return Scaling(found["BZERO"], found["BSCALE"], blank, read_softening(hdu.cards))


def read_softening(cards: Cards) -> tuple[float, float] | None:
    """BSOFTEN and BOFFSET of an image on an asinh scale; None for a linear one.

    Raises
    ------
    FrameRejected
        When one of them is missing or no number, or BSOFTEN is not positive.
    """
    if not any(key in cards for key in _ASINH_CARDS):
        return None
    softening, offset = (cards.number(key) for key in _ASINH_CARDS)
    if softening is None or offset is None or softening <= 0:
        softening_text, offset_text = (cards.written(key) or MISSING for key in _ASINH_CARDS)
        raise FrameRejected("header.asinh-unknown", softening=softening_text, offset=offset_text)
    return softening, offset
