"""Frames that were left out, by reason, and the setting that would keep them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zemosaic.report.words import Words

__all__ = ["Group", "groups_of"]

KEYS = {
    "quality.above-limit": "quality.fwhm_max_px = 0, quality.ellipticity_max = 1",
    "quality.not-among-best": "quality.best_fraction = 1",
    "frame.not-used": "use = True",
    "solve.": "solve.method = header",
    "quality.": "quality.triage = off",
}
"""What keeps frames of a code, or of all codes that begin so; the first that fits. Files that cannot be read, or are no
pictures of the sky, no setting keeps."""


@dataclass(frozen=True, slots=True)
class Group:
    """Frames of one reason.

    Attributes
    ----------
    name : str
        In a word or two, as codes have it.
    path : str
        Of the group in report.json.
    share : float
        Of the largest group.
    rows : tuple of int
        Some of them, as rows of ``left_out`` in report.json.
    keep : str
        What would keep them; "" where nothing does.
    """

    name: str
    path: str
    share: float
    rows: tuple[int, ...]
    keep: str


def groups_of(report: Mapping[str, Any], words: Words) -> list[Group]:
    """The groups of a report, the largest first."""
    reasons = report.get("frames", {}).get("reasons", [])
    largest = max((reason["n"] for reason in reasons), default=1)
    return [
        Group(
            _name(reason["code"], words),
            f"frames/reasons/{k}",
            reason["n"] / largest,
            tuple(reason["rows"]),
            next((key for start, key in KEYS.items() if reason["code"].startswith(start)), ""),
        )
        for k, reason in enumerate(reasons)
    ]


def _name(code: str, words: Words) -> str:
    """A word for a reason; where the catalogue has none, what its code says."""
    known = f"report.reason.{code}"
    return words.plain(known) if words.has(known) else code.partition(".")[2].replace("-", " ") or code
