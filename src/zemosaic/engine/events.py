"""What a run tells the outside while it works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from zemosaic.errors import Cancelled

__all__ = ["CancelToken", "Event", "EventSink", "LeftOut", "Notice", "Progress", "StageEnded", "StageStarted"]


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
    """A file or frame is not used, and why; names may occur in several folders, paths may not."""

    name: str
    reason: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a reader should know; `level` is "info" or "warning"."""

    message: str
    level: str = "info"
    facts: dict[str, object] = field(default_factory=dict)


Event = StageStarted | Progress | StageEnded | LeftOut | Notice
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


class StageClock:
    """Announces a stage, counts its units and times it; the times end up in the report.

    Parameters
    ----------
    emit : EventSink
        Receives the events.
    """

    def __init__(self, emit: EventSink) -> None:
        self._emit = emit
        self.seconds: dict[str, float] = {}

    def start(self, stage: str, total: int | None = None) -> Callable[[int], None]:
        """Begin a stage; the returned function reports how many units are done."""
        self._begun = time.perf_counter()
        self._emit(StageStarted(stage, total))
        return lambda done: self._emit(Progress(stage, done))

    def end(self, stage: str, summary: str = "") -> None:
        """End the stage begun last."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - self._begun
        self._emit(StageEnded(stage, self.seconds[stage], summary))
