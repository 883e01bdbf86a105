"""Frames that were left out, by reason, and the setting that would keep them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zemosaic.report.words import Words

__all__ = ["Group", "groups_of"]


@dataclass(frozen=True, slots=True)
class Group:
    """Frames of one reason.

    Attributes
    ----------
    name : str
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
        Group(reason["code"], f"frames/reasons/{k}", reason["n"] / largest, tuple(reason["rows"]), reason["keep"])
        for k, reason in enumerate(reasons)
    ]
