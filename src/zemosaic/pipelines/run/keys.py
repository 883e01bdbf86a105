"""What makes inputs what they are, for the keys of stored results: content, never where a file lies."""

from __future__ import annotations

from dataclasses import replace

from zemosaic.model.frame import Frame

__all__ = ["frame_identity"]


def frame_identity(frame: Frame) -> Frame:
    """A frame without the places of its files: its id tells the content of all of them; of a mask its bits count."""
    mask = frame.mask and replace(frame.mask, path="")
    return replace(frame, path="", weight=None, alpha=None, mask=mask)
