"""Show events: a progress bar for people, JSON lines for machines."""

from __future__ import annotations

import dataclasses
import json
import sys
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from zemosaic.engine import events

__all__ = ["JsonLines", "People"]

_SHOWN = 20


class JsonLines:
    """One JSON object a line on standard output."""

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *exc: object) -> None:
        sys.stdout.flush()

    def __call__(self, event: events.Event) -> None:
        """Print an event."""
        print(json.dumps({"event": type(event).__name__, **dataclasses.asdict(event)}, default=str), flush=True)


class People:
    """Progress bars with time left, one summary line a stage, on standard error."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), console=self.console, transient=True, disable=not self.console.is_terminal,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._n_left_out = 0

    def __enter__(self) -> People:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()
        if self._n_left_out > _SHOWN:
            self.console.print(f"  ... and {self._n_left_out - _SHOWN} more; frames.ecsv lists all", markup=False)

    def __call__(self, event: events.Event) -> None:
        """Show an event."""
        match event:
            case events.StageStarted(stage, total):
                self._task = self._progress.add_task(stage, total=total)
            case events.Progress(_, done) if self._task is not None:
                self._progress.update(self._task, completed=done)
            case events.StageEnded(stage, seconds, summary):
                if self._task is not None:
                    self._progress.remove_task(self._task)
                    self._task = None
                self.console.print(f"{stage:<10} {summary}  [{seconds:.1f} s]", markup=False, soft_wrap=True)
            case events.LeftOut(name, reason):
                self._n_left_out += 1
                if self._n_left_out <= _SHOWN:
                    self.console.print(f"  left out: {name}: {reason}", markup=False, soft_wrap=True)
            case events.Notice(message, level):
                mark = "note" if level == "info" else level
                self.console.print(f"  {mark}: {message}", markup=False, soft_wrap=True)
