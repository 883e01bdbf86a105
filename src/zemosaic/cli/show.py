"""Show events: a progress bar for people, JSON lines for machines."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import replace
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from zemosaic.engine import events
from zemosaic.text import Message, message, say

__all__ = ["JsonLines", "People", "tell_left"]

_SHOWN = 20
"""Frames left out that are named, one a line: more would drown what else is said."""

_ALIKE = 3
"""Of frames that are left out: how many lines in all, and how many of one reason, unless all are wanted."""


_LEARNING = 0.05
"""Before this share of the time is over, what is left is not told: the guess says nothing yet."""

_FEW_S = 5
"""Below this nobody counts along."""

_MINUTES_FROM_S = 90
_HOURS_FROM_MIN = 90
"""From there on a coarser unit says all that is sure."""


def tell_left(left: events.TimeLeft) -> Message:
    """The time left in words, as coarse as it is sure."""
    if left.share < _LEARNING:
        return message("show.left-learning")
    if left.seconds < _FEW_S:
        return message("show.left-few")
    if left.seconds < _MINUTES_FROM_S:
        return message("show.left-seconds", seconds=left.seconds)
    minutes = round(left.seconds / 60)
    if minutes < _HOURS_FROM_MIN:
        return message("show.left-minutes", minutes=minutes)
    return message("show.left-hours", hours=minutes // 60, minutes=minutes % 60)


class _TimeLeft(ProgressColumn):
    """The time that the whole run takes yet, counted down between two guesses; the same beside every stage."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self._language = language
        self._left: events.TimeLeft | None = None
        self._told_s = 0.0

    def take(self, left: events.TimeLeft) -> None:
        """A new guess."""
        self._left, self._told_s = left, time.monotonic()

    def render(self, task: Task) -> Text:
        """The words; nothing where a command does not guess."""
        if self._left is None:
            return Text("")
        gone_s = time.monotonic() - self._told_s
        return Text(say(tell_left(replace(self._left, seconds=max(self._left.seconds - gone_s, 0))), self._language))


class JsonLines:
    """One JSON object a line on standard output, its sentences in a language; `at_s` is the time since the start.

    Parameters
    ----------
    language : {"en", "fr"}
    """

    def __init__(self, language: str = "en") -> None:
        self._language = language
        self._begun_s = time.monotonic()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *exc: object) -> None:
        sys.stdout.flush()

    def __call__(self, event: events.Event) -> None:
        """Print an event."""
        values = events.event_as_json(event, self._language)
        at_s = round(time.monotonic() - self._begun_s, 3)
        # One write a line: events come from several threads.
        sys.stdout.write(json.dumps({"event": type(event).__name__, **values, "at_s": at_s}) + "\n")
        sys.stdout.flush()


class People:
    """Progress bars with time left, one summary line a stage, on standard error.

    Parameters
    ----------
    table : str
        File of a run that ends well which lists all frames that are left out; "" where there is none.
    all_left_out : bool
        Show each of them; else the first twenty, and of one reason the first three.
    language : {"en", "fr"}
        Of the sentences.
    """

    def __init__(self, table: str = "", *, all_left_out: bool = False, language: str = "en") -> None:
        self.console = Console(stderr=True, highlight=False)
        self._left = _TimeLeft(language)
        self._progress = Progress(
            TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            self._left, console=self.console, transient=True, disable=not self.console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._table, self._all_left_out, self.language = table, all_left_out, language
        self._n_shown = self._n_hidden = 0
        self._alike = Counter[str]()

    def __enter__(self) -> People:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()
        if self._n_hidden:
            where = message("show.table", file=self._table) if self._table and kind is None else None
            more = say(message("show.more", n_hidden=self._n_hidden, where=where), self.language)
            self.console.print(f"  {more}", markup=False)

    def __call__(self, event: events.Event) -> None:
        """Show an event."""
        match event:
            case events.StageStarted(stage, total):
                self._tasks[stage] = self._progress.add_task(stage, total=total)
            case events.Progress(stage, done) if stage in self._tasks:
                self._progress.update(self._tasks[stage], completed=done)
            case events.TimeLeft():
                self._left.take(event)
            case events.StageEnded(stage, seconds, told):
                if stage in self._tasks:
                    self._progress.remove_task(self._tasks.pop(stage))
                summary = say(told, self.language) if told else ""
                took = say(message("show.seconds", seconds=seconds), self.language)
                self.console.print(f"{stage:<10} {summary}  [{took}]", markup=False, soft_wrap=True)
            case events.LeftOut(name, told):
                reason = say(told, self.language)
                self._alike[reason] += 1
                if self._all_left_out or (self._n_shown < _SHOWN and self._alike[reason] <= _ALIKE):
                    self._n_shown += 1
                    label = say(message("show.left-out"), self.language)
                    self.console.print(f"  {label}: {name}: {reason}", markup=False, soft_wrap=True)
                else:
                    self._n_hidden += 1
            case events.Notice(told, level):
                mark = say(message("show.note" if level == "info" else "show.warning"), self.language)
                self.console.print(f"  {mark}: {say(told, self.language)}", markup=False, soft_wrap=True)
