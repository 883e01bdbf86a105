"""What a run tells while it works. It is told, never asked: what a stage finds out is what the stage returns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from zemosaic.engine.events import (
    Event,
    EventSink,
    FramesFound,
    GridPlanned,
    LeftOut,
    MemoryCapped,
    Notice,
    PatchFinished,
    Progress,
    RunPlanned,
    StageEnded,
    StageStarted,
)
from zemosaic.model.frame import Frame
from zemosaic.text import Message

__all__ = ["Journal", "Log", "ignore_event"]


def ignore_event(event: Event) -> None:
    """The sink of a run nobody watches."""


class Journal:
    """What has been told so far, for the report of a run. What was left out is told by the stages' own results.

    Attributes
    ----------
    notices : list of Notice
    seconds : dict
        Stage -> seconds, all its turns together.
    """

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.seconds: dict[str, float] = {}

    def add(self, event: Event) -> None:
        """Keep what of an event is written down."""
        match event:
            case Notice():
                self.notices.append(event)
            case StageEnded(stage, seconds):
                self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


class Log:
    """Announces stages, decisions, and frames that are not used; threads may do so at the same time.

    Parameters
    ----------
    sink : EventSink
        Receives the events.

    Attributes
    ----------
    journal : Journal
        For what is written when the work is done; no stage decides anything by it.
    """

    def __init__(self, sink: EventSink = ignore_event) -> None:
        self._sink = sink
        self._begun: dict[str, float] = {}
        self._lock = threading.Lock()
        self.journal = Journal()

    def start(self, stage: str, total: int | None = None) -> Callable[[int], None]:
        """Begin a stage; the returned function reports how many units are done."""
        self._begun[stage] = time.perf_counter()
        self._tell(StageStarted(stage, total))
        return lambda done: self._tell(Progress(stage, done))

    def end(self, stage: str, told: Message | None = None) -> None:
        """End a stage that has begun; the event tells the seconds of this turn alone."""
        self._tell(StageEnded(stage, time.perf_counter() - self._begun.pop(stage), told))

    def notice(self, told: Message, level: str = "info") -> None:
        """Announce a decision, or as a "warning" a surprise."""
        self._tell(Notice(told, level))

    def patch(self, event: PatchFinished) -> None:
        """Announce a finished patch."""
        self._tell(event)

    def cap_memory(self, cap_bytes: int) -> None:
        """Announce how much memory the run may use."""
        self._tell(MemoryCapped(cap_bytes))

    def plan_run(self, stages: Sequence[str], products: Sequence[str] = ()) -> None:
        """Announce what is to be done."""
        self._tell(RunPlanned(tuple(stages), tuple(products)))

    def found_frames(self, frames: Sequence[Frame]) -> None:
        """Announce how much there is to work on."""
        n_samples = sum(frame.n_samples for frame in frames)
        self._tell(FramesFound(len(frames), sum(frame.n_values for frame in frames), n_samples))

    def plan_grid(self, shape: tuple[int, int], n_channels: Sequence[int]) -> None:
        """Announce mosaics of one shape, each of so many channels."""
        self._tell(GridPlanned(len(n_channels), shape[0] * shape[1] * sum(n_channels)))

    def leave_out(self, frame: Frame, why: Message) -> LeftOut:
        """Announce that a frame is not used; what was announced is returned, for those who need the reason."""
        event = LeftOut(frame.name, why, frame.storage.path, str(frame.id))
        self._tell(event)
        return event

    def leave_out_file(self, path: str, why: Message) -> LeftOut:
        """Announce that a file is not used, of which no frame was made; see `leave_out`."""
        event = LeftOut(path, why, path)
        self._tell(event)
        return event

    def _tell(self, event: Event) -> None:
        with self._lock:
            self.journal.add(event)
            self._sink(event)
