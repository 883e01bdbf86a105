"""Names of filters: which of them are spellings of one filter."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

__all__ = ["agree_on_names", "filter_key", "tell_doubtful_names"]

_LINES = {
    "ha": ("halpha", "hα", "hydrogenalpha"),
    "hb": ("hbeta", "hβ"),
    "oiii": ("o3",),
    "sii": ("s2",),
    "nii": ("n2",),
}
"""Spellings of the emission lines that narrow filters are named after."""
_LINE_OF = {spelling: line for line, spellings in _LINES.items() for spelling in spellings}

_MAYBE = {"red": "r", "green": "g", "blue": "b", "lum": "l", "luminance": "l"}
"""Words for what may be the filter of one letter, and may be another beside it."""


def filter_key(name: str) -> str:
    """What spellings of one filter share: letters and digits without case, emission lines by one name.

    The case of a single letter counts (Sloan r is not Bessell R), as do signs behind it (``g'`` is not G).
    """
    folded = re.sub(r"[\W_]", "", name.casefold())
    return _LINE_OF.get(folded, folded) if len(folded) > 1 else name


def agree_on_names(names: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """One name for all spellings of each filter.

    Parameters
    ----------
    names : sequence of str
        The filter of each frame, as its header has it.
    given : mapping
        Spelling -> name, as the user wants it; spellings without an entry take the commonest of their filter's, of
        equally common ones the first of the alphabet.

    Returns
    -------
    dict of str to str
        For every name.
    """
    wanted = {filter_key(spelling): name for spelling, name in given.items()}
    n_frames = Counter(names)
    commonest: dict[str, str] = {}
    for name in sorted(n_frames, key=lambda name: (-n_frames[name], name)):
        commonest.setdefault(filter_key(name), name)
    return {name: wanted.get(filter_key(name), commonest[filter_key(name)]) for name in n_frames}


def tell_doubtful_names(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of names, all of different filters so far, that people also use for one: ``R``, ``r`` and ``Red``."""
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        folded = re.sub(r"[\W_]", "", name.casefold())
        groups.setdefault(_MAYBE.get(folded, folded), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]
