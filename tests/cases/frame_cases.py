"""Frames by their facts, whichever part of a frame holds them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from zemosaic.model.frame import Frame, FrameId, Storage


def make_frame(name: str, path: str, shape: tuple[int, int], **facts: Any) -> Frame:
    """A frame with an id, a path and other facts; see `vary_frame`."""
    return vary_frame(Frame(FrameId(name), shape, Storage(path)), **facts)


def vary_frame(frame: Frame, **facts: Any) -> Frame:
    """The frame with some facts changed, by the names of their fields in `Storage`, `HeaderFacts` and `Decided`."""
    parts: dict[str, Any] = {}
    for name in ("storage", "header", "decided"):
        part = getattr(frame, name)
        own = {field.name: facts.pop(field.name) for field in fields(part) if field.name in facts}
        parts[name] = replace(part, **own)
    return replace(frame, **parts, **facts)
