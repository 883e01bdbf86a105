"""The filter of an exposure: from whatever keyword, wheel or grism card its header names it in."""

from __future__ import annotations

import re

from zemosaic.io.headers.cards import Cards

__all__ = ["read_filter"]

_WHOLE = (
    "FILTER",
    "FILTERS",
    "FILTNAM",
    "FILTNAME",
    "FILTERID",
    "INSFLNAM",
    "FPA.FILTERID",
    "FPA.FILTER",
    "FILT",
    "BAND",
)
"""Keywords that name all that stood in the beam, or the one wheel of a camera; the first that names a filter counts."""

_BESIDE = ("PUPIL", "FWPUPIL")
"""A second wheel of cameras that name the first one in FILTER (JWST): both together are the filter."""

_WHEEL = re.compile(r"FILTER[-_]?\d|FILT[-_]?\d|FW\dNAME|ESO INS FILT\d+ NAME")
"""Cards of one wheel each, read where none of `_WHOLE` names a filter."""

_NO_FILTER = re.compile(
    r"|clear\d?[a-z]?\d?|no|none|nofilter|unfiltered|nil|null|na|empty\w*|open\w*|air|hole|free|blank|unknown|undefined"
)
"""What headers write, in lower case and without signs, where no filter stood in the beam."""


def read_filter(cards: Cards) -> str:
    """What stood in the beam: one filter, or several joined by ``+``; "" for none and for a header that tells none.

    Parameters
    ----------
    cards : Cards
        A header. FILTER and its like are believed before the wheels FILTER1, FILTER2 ..., whose empty places
        (``CLEAR1L``) do not count. PUPIL counts beside FILTER, as JWST has it.
    """
    whole = next((name for key in _WHOLE if (name := _name(cards.text(key)))), "")
    beside = _BESIDE if whole else (*_BESIDE, *sorted(key for key in cards if _WHEEL.fullmatch(key)))
    return _joined([whole, *(_name(cards.text(key)) for key in beside)])


def _name(text: str) -> str:
    """A filter's name as written, "" for what says that there was none; a card may hold those of several wheels."""
    parts = [part.strip() for part in re.split(r"[;,]", text)]
    return _joined([part for part in parts if not _NO_FILTER.fullmatch(re.sub(r"[^a-z0-9]", "", part.lower()))])


def _joined(names: list[str]) -> str:
    return "+".join(dict.fromkeys(name for name in names if name))
