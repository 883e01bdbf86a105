"""What a run's stages cost on this machine, kept between runs, and the time left that is guessed from it."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import typer

from zemosaic.engine.events import (
    Event,
    EventSink,
    GridPlanned,
    Notice,
    PatchFinished,
    Progress,
    RunPlanned,
    StageEnded,
    StageStarted,
    TimeLeft,
)
from zemosaic.pipelines.run.timetable import Timetable

__all__ = ["Paced", "read_paces"]

_TELL_S = 0.5
"""Counted units come by the hundred a second; the time left is told anew at most so often."""

_TOLD_AFTER = (StageStarted, StageEnded, Progress, GridPlanned, RunPlanned, PatchFinished)


def _file() -> Path:
    return Path(typer.get_app_dir("zemosaic")) / "pace.json"


def read_paces() -> dict[str, float]:
    """Stage -> how many times longer than usual it takes on this machine; empty before a mosaic was made here."""
    with suppress(OSError, ValueError):
        found = json.loads(_file().read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return {stage: float(pace) for stage, pace in found.items() if isinstance(pace, int | float) and pace > 0}
    return {}


def _keep_paces(measured: Mapping[str, float]) -> None:
    """Keep the mean, by factors, of what was known and what a run measured; a folder that is shut keeps nothing."""
    known = read_paces()
    both = {stage: math.sqrt(known.get(stage, pace) * pace) for stage, pace in measured.items()}
    with suppress(OSError):
        _file().parent.mkdir(parents=True, exist_ok=True)
        partial = _file().with_name(f".pace.{os.getpid()}.partial")
        partial.write_text(json.dumps({**known, **both}), encoding="utf-8")
        partial.replace(_file())


class Paced:
    """Hands events on, the time left between them; remembers what a whole run cost.

    Parameters
    ----------
    show : EventSink
        Receives all events.
    """

    def __init__(self, show: EventSink) -> None:
        self._show, self._table = show, Timetable(read_paces())
        self._begun_s, self._told_s = time.monotonic(), 0.0
        self._is_whole = True

    def __call__(self, event: Event) -> None:
        """Take an event."""
        self._show(event)
        at_s = time.monotonic() - self._begun_s
        self._table.add(event, at_s)
        if isinstance(event, Notice) and event.told.code == "run.taken-over":
            self._is_whole = False
        if not isinstance(event, _TOLD_AFTER) or (isinstance(event, Progress) and at_s < self._told_s + _TELL_S):
            return
        left_s = self._table.left_s(at_s)
        if left_s is not None:
            self._told_s = at_s
            self._show(TimeLeft(round(left_s, 2), round(at_s / max(at_s + left_s, 1e-9), 4)))

    def keep(self) -> None:
        """Remember the costs of a run that ended well, unless an earlier run had done part of it."""
        if self._is_whole:
            _keep_paces(self._table.measured_paces())
