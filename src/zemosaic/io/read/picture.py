"""A picture in a file that is no FITS file, as its reader describes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from zemosaic.io.headers.cards import Cards, Value

__all__ = ["ABOUT_THE_ARRAY", "Picture", "cards_of"]

ABOUT_THE_ARRAY = re.compile(r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|BZERO|BSCALE|BLANK|EXTEND|GROUPS|[PG]COUNT|Z.*")
"""Cards of a FITS header that speak of how FITS stores pixels, which other formats do in their own ways."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a file.

    Attributes
    ----------
    index : int
        Of the page, 0 for the first.
    axes : tuple of int
        Of the decoded array.
    bitpix : int
        BITPIX of a FITS image that would hold it.
    cards : Cards
        Facts under FITS keywords; none about how pixels are stored.
    """

    index: int
    axes: tuple[int, ...]
    bitpix: int
    cards: Cards


def cards_of(facts: Mapping[str, Value]) -> Cards:
    """Facts as the cards of a header."""
    quoted = {key: "'" + value.replace("'", "''") + "'" for key, value in facts.items() if isinstance(value, str)}
    return Cards({key: quoted.get(key) or repr(value) for key, value in facts.items()})
