"""Outlines on the sky for DS9 and the programs that read its files: polygons in ICRS degrees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Outline", "write_regions"]


@dataclass(frozen=True, slots=True)
class Outline:
    """A polygon.

    Attributes
    ----------
    corners : sequence of (ra_deg, dec_deg)
    text : str
        Shown beside it.
    color : {"green", "red", "yellow"}
    """

    corners: Sequence[tuple[float, float]]
    text: str
    color: Literal["green", "red", "yellow"]


def write_regions(path: Path, outlines: Iterable[Outline]) -> None:
    """Write a DS9 region file, all or nothing."""
    lines = ["# Region file format: DS9 version 4.1", "icrs"]
    for outline in outlines:
        numbers = ",".join(f"{value:.8f}" for corner in outline.corners for value in corner)
        # Braces end the text in DS9's grammar.
        text = "".join(ch if ch.isprintable() and ch not in "{}" else "_" for ch in outline.text)
        lines.append(f"polygon({numbers}) # color={outline.color} text={{{text}}}")
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(path)
