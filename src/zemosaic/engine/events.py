"""What a run tells the outside while it works."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from zemosaic.errors import Cancelled

__all__ = [
    "CancelToken",
    "Event",
    "EventSink",
    "LeftOut",
    "Notice",
    "PatchFinished",
    "Progress",
    "StageEnded",
    "StageStarted",
]


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins; `total` units of work, None when not known beforehand."""

    stage: str
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` units of the stage are finished."""

    stage: str
    done: int


@dataclass(frozen=True, slots=True)
class StageEnded:
    """A stage is finished after `seconds`; `summary` is one line with its figures."""

    stage: str
    seconds: float
    summary: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or frame is not used, and why.

    Names may occur in several folders, paths may not; `frame_id` is empty for a file of which no frame was made.
    """

    name: str
    reason: str
    path: str = ""
    frame_id: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a reader should know; `level` is "info" or "warning"."""

    message: str
    level: str = "info"


@dataclass(frozen=True, slots=True)
class PatchFinished:
    """A part of a mosaic is done; told where another program watches the run.

    Attributes
    ----------
    box : (y0, y1, x0, x1)
        Its pixels, ends excluded.
    shape : (height, width)
        Of the mosaic.
    picture : str
        PNG file that shows all that is done, made anew every few seconds.
    """

    box: tuple[int, int, int, int]
    shape: tuple[int, int]
    picture: str


Event = StageStarted | Progress | StageEnded | LeftOut | Notice | PatchFinished
EventSink = Callable[[Event], None]


class CancelToken:
    """Asked between slices of work whether the user wants to stop. Safe to set from a signal handler."""

    def __init__(self) -> None:
        self._flag = threading.Event()

    def cancel(self) -> None:
        """Ask the run to stop."""
        self._flag.set()

    def check(self) -> None:
        """Raise `Cancelled` when a stop was asked for."""
        if self._flag.is_set():
            raise Cancelled("stopped on request; run the same command again to go on")
