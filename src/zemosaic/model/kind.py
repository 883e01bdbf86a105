"""What the frames of one mosaic have in common."""

from __future__ import annotations

from dataclasses import dataclass

from zemosaic.model.frame import Frame

__all__ = ["Kind"]

_SPELLINGS = {
    "adu": ("", "adu", "adus", "count", "counts", "ct", "dn"),
    "electron": ("e", "e-", "electron", "electrons"),
}
"""How headers write the two units that cameras have; a frame that tells none is taken to hold the camera's counts."""
_UNITS = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings}


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """What must be alike of frames that share a mosaic. How their samples scatter may differ, frame by frame.

    Raw Bayer frames and colour frames of one filter are of one kind: both bring three channels of the same unit.

    Attributes
    ----------
    filter : str
        Name of the filter, "" for none.
    n_channels : int
        1 or 3.
    unit : str
        Of the values: "adu", "electron", or what BUNIT says where it is neither.
    """

    filter: str
    n_channels: int
    unit: str

    @classmethod
    def of(cls, frame: Frame) -> Kind:
        """The kind of a frame; spellings of one unit are one."""
        written = frame.header.unit.strip()
        return cls(frame.decided.filter, frame.n_channels, _UNITS.get(written.casefold(), written))

    @property
    def colour(self) -> str:
        """The number of channels in a word."""
        return "mono" if self.n_channels == 1 else "colour"
