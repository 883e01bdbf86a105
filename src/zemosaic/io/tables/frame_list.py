"""Frames as a list of paths, which any editor of text can change: those that are used, or those that are left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zemosaic.errors import SettingError

__all__ = ["FrameList", "read_frame_list", "write_frame_list"]

_TITLES = {"# used": True, "# left out": False}
"""First lines, and whether the frames that follow are used."""


@dataclass(frozen=True, slots=True)
class FrameList:
    """A list as read.

    Attributes
    ----------
    used : bool
        True: only these are used. False: these are left out.
    paths : tuple of str
        As written; a name alone stands for the one file of that name.
    """

    used: bool
    paths: tuple[str, ...]


def write_frame_list(path: Path, frames: FrameList) -> None:
    """Write a title and one path a line, all or nothing."""
    title = next(text for text, used in _TITLES.items() if used == frames.used)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("".join(f"{line}\n" for line in (title, *frames.paths)), encoding="utf-8")
    partial.replace(path)


def read_frame_list(path: Path) -> FrameList:
    """Read such a list; empty lines count for nothing.

    Raises
    ------
    SettingError
        When it cannot be read, or its first line is neither ``# used`` nor ``# left out``.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as problem:
        raise SettingError("frame.no-list", path=path, problem=problem) from problem
    first, *rest = [line for line in lines if line] or [""]
    if first.lower() not in _TITLES:
        raise SettingError("frame.no-title", path=path, first=first)
    return FrameList(_TITLES[first.lower()], _unique(rest))


def _unique(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))
