"""How often the pixels of files were read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from zemosaic.text import Message, message

__all__ = ["Key", "ReadCounts"]

Key = tuple[str, int]
"""Path and HDU of an image."""


@dataclass(slots=True)
class ReadCounts:
    """What was asked of files.

    Attributes
    ----------
    n_read : Counter
        Bytes of pixels asked of the system, for each image in a plain file.
    n_stored : dict
        Bytes that all pixels of such an image take in its file.
    n_decodes : dict
        Decodings, whole or in part, of each image in a compressed file that was read; those before count too.
    """

    n_read: Counter[Key] = field(default_factory=Counter)
    n_stored: dict[Key, int] = field(default_factory=dict)
    n_decodes: dict[Key, int] = field(default_factory=dict)

    def update(self, other: ReadCounts) -> None:
        """Add later counts to these."""
        self.n_read.update(other.n_read)
        self.n_stored.update(other.n_stored)
        self.n_decodes.update(other.n_decodes)

    def figures(self) -> dict[str, float]:
        """Figures of those kinds of files that were read, none for others.

        Returns
        -------
        dict
            ``read_amplification``, bytes read of plain files over the bytes of their pixels; ``decodes_mean`` and
            ``decodes_largest``, decodings of a compressed image since the reader was made.
        """
        found: dict[str, float] = {}
        if self.n_stored:
            found["read_amplification"] = round(self.n_read.total() / sum(self.n_stored.values()), 3)
        if self.n_decodes:
            found["decodes_mean"] = round(sum(self.n_decodes.values()) / len(self.n_decodes), 3)
            found["decodes_largest"] = max(self.n_decodes.values())
        return found

    def words(self) -> list[Message]:
        """The figures as parts of a summary."""
        figures, words = self.figures(), []
        if "read_amplification" in figures:
            words.append(message("done.read", n_times=figures["read_amplification"]))
        if "decodes_mean" in figures:
            words.append(message("done.decoded", n_times=figures["decodes_mean"]))
        return words
