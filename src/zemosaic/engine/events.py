"""What a run tells the outside while it works."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from zemosaic.errors import Cancelled
from zemosaic.text import Message, say

__all__ = [
    "CancelToken",
    "Event",
    "EventSink",
    "FramesFound",
    "GridPlanned",
    "LeftOut",
    "MemoryCapped",
    "Notice",
    "PatchFinished",
    "Progress",
    "RunPlanned",
    "StageEnded",
    "StageStarted",
    "TimeLeft",
    "event_as_json",
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
    """A stage is finished after `seconds`, with the figures that are `told`."""

    stage: str
    seconds: float
    told: Message | None = None

    @property
    def summary(self) -> str:
        """Its figures in one line, in English."""
        return str(self.told) if self.told else ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or frame is not used, and why it is `told`.

    Names may occur in several folders, paths may not; `frame_id` is empty for a file of which no frame was made.
    """

    name: str
    told: Message
    path: str = ""
    frame_id: str = ""

    @property
    def reason(self) -> str:
        """Why, in English."""
        return str(self.told)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a reader should know; `level` is "info" or "warning"."""

    told: Message
    level: str = "info"

    @property
    def message(self) -> str:
        """What is told, in English."""
        return str(self.told)


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


@dataclass(frozen=True, slots=True)
class MemoryCapped:
    """How much memory the run may use, in bytes; told where another program watches the run."""

    cap_bytes: int


@dataclass(frozen=True, slots=True)
class RunPlanned:
    """Which stages a run may have, in their order, and which products it makes of the finished mosaic."""

    stages: tuple[str, ...]
    products: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FramesFound:
    """How many frames a run works on, how many values their files hold, and how many samples they have in colour."""

    n_frames: int
    n_values: int
    n_samples: int


@dataclass(frozen=True, slots=True)
class GridPlanned:
    """How many mosaics a run makes, and how many values one plane of all of them holds."""

    n_mosaics: int
    n_values: int


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """Seconds that a run takes yet, and the share of its time that is over, 0 to 1: guesses, told now and then."""

    seconds: float
    share: float


Event = (
    StageStarted | Progress | StageEnded | LeftOut | Notice | PatchFinished | MemoryCapped | RunPlanned | FramesFound
    | GridPlanned | TimeLeft
)  # fmt: skip
EventSink = Callable[[Event], None]


def event_as_json(event: Event, language: str = "en") -> dict[str, Any]:
    """An event as plain JSON values: its fields, and where something is told its code, its facts and a sentence.

    The sentence is the `reason` of what is left out, the `message` of a notice, and the `summary` of a stage, in the
    language given.
    """
    match event:
        case LeftOut():
            told = {**event.told.as_json(), "reason": say(event.told, language)}
            return {"name": event.name, **told, "path": event.path, "frame_id": event.frame_id}
        case Notice():
            return {**event.told.as_json(), "message": say(event.told, language), "level": event.level}
        case StageEnded(stage, seconds, told_of_stage):
            figures = told_of_stage.as_json() if told_of_stage else {}
            summary = say(told_of_stage, language) if told_of_stage else ""
            return {"stage": stage, "seconds": seconds, **figures, "summary": summary}
    return asdict(event)


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
            raise Cancelled("run.stopped")
