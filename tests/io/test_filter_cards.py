"""The filter of a header, from FILTER, wheels, and HIERARCH cards."""

from __future__ import annotations

import pytest
from astropy.io import fits

from zemosaic.io.headers.cards import Cards
from zemosaic.io.headers.filters import read_filter


def filter_of(**values: object) -> str:
    return read_filter(Cards.parse(fits.Header(values).tostring().encode()))


@pytest.mark.parametrize(
    ("cards", "name"),
    [
        ({"FILTER1": "CLEAR1L", "FILTER2": "F814W"}, "F814W"),
        ({"FILTER1": "F606W", "FILTER2": "CLEAR2L"}, "F606W"),
        ({"FILTER1": "F435W", "FILTER2": "POL0V"}, "F435W+POL0V"),
        ({"FILTER": "F444W", "PUPIL": "F405N"}, "F444W+F405N"),
        ({"FILTER": "F150W", "PUPIL": "CLEAR"}, "F150W"),
        ({"FILTER": "CLEAR", "PUPIL": "F200W"}, "F200W"),
        ({"FILTER": "rp", "FILTER1": "air", "FILTER2": "rp"}, "rp"),
        ({"FILTER": "NO_FILTER"}, ""),
        ({"FILTER": "Open", "FILTER1": "EMPTY", "FILTER2": "V"}, "V"),
        ({"FILTER": "CLEAR1L;F814W"}, "F814W"),
        ({"FILTER": 3}, "3"),
        ({"HIERARCH ESO INS FILT1 NAME": "B_HIGH"}, "B_HIGH"),
        ({"HIERARCH FPA.FILTERID": "g.00000"}, "g.00000"),
        ({}, ""),
    ],
)
def test_the_filter_of_a_header(cards: dict[str, object], name: str) -> None:
    assert filter_of(**cards) == name


def test_hierarch_and_continued_cards_and_letters_beyond_ascii() -> None:
    header = fits.Header()
    header["HIERARCH ESO OBS NAME"] = "a long name " * 8
    header["OBJECT"] = "x"
    block = header.tostring().encode()
    for meant, stored in (("Hα", "Hα".encode()), ("Grün", "Grün".encode("latin-1"))):
        card = b"FILTER  = '" + stored + b"'"
        cards = Cards.parse(card + b" " * (80 - len(card)) + block)
        assert cards.text("FILTER") == meant
        assert cards.text("ESO OBS NAME") == ("a long name " * 8).strip()
        assert cards.text("OBJECT") == "x"
