"""A run as its output folder tells it: what was asked, what was said, how it stands."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zemosaic.app.roots import Refused, looks_like_image
from zemosaic.text import message_from_json, say

__all__ = ["WORK", "OutputFolder", "retell"]

WORK = ".zemosaic"
"""Folder of the engine inside an output folder; it marks the folder as ours."""


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """An output folder.

    Attributes
    ----------
    path : Path
    """

    path: Path

    @property
    def id(self) -> str:
        """What its address is made of."""
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:12]

    @property
    def notes(self) -> Path:
        """Folder of the app in it."""
        return self.path / WORK / "app"

    @property
    def events(self) -> Path:
        """All lines that runs wrote, one JSON object each."""
        return self.notes / "events.jsonl"

    def check_usable(self) -> None:
        """Raise unless the folder is new, empty or ours.

        Raises
        ------
        Refused
            409, where files would be mixed with those of others.
        """
        if not self.path.exists() or (self.path / WORK).is_dir():
            return
        if not self.path.is_dir():
            raise Refused(409, "app.output-is-file", path=str(self.path))
        if any(self.path.iterdir()):
            images = any(map(looks_like_image, self.path.iterdir()))
            raise Refused(409, "app.output-holds-frames" if images else "app.output-not-empty", path=str(self.path))

    def write_request(self, asked: dict[str, Any]) -> None:
        """Note what was asked, so that the run can go on."""
        self.notes.mkdir(parents=True, exist_ok=True)
        partial = self.notes / "request.json.partial"
        partial.write_text(json.dumps(asked, indent=1), encoding="utf-8")
        partial.replace(self.notes / "request.json")

    def read_request(self) -> dict[str, Any]:
        """What was asked.

        Raises
        ------
        Refused
            404, where the app never started a run.
        """
        try:
            asked: dict[str, Any] = json.loads((self.notes / "request.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise Refused(404, "app.no-run", path=str(self.path)) from problem
        return asked

    def read_events(self, start: int = 0) -> Iterator[dict[str, Any]]:
        """Events from the byte `start` of the file on, each with ``end``, the byte after its line.

        A line that is not finished waits.
        """
        try:
            with self.events.open("rb") as file:
                file.seek(start)
                while (line := file.readline()).endswith(b"\n"):
                    try:
                        event = json.loads(line)
                    except ValueError:
                        continue  # cut off where an earlier run was killed
                    yield {**event, "end": file.tell()}
        except FileNotFoundError:
            return

    def add_event(self, event: dict[str, Any]) -> None:
        """Write a line of the app's own, after one that a killed run left unfinished."""
        with self.events.open("a+b") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            unfinished = file.read(1) not in {b"", b"\n"}
            file.write(b"\n" * unfinished + json.dumps(event).encode() + b"\n")

    def last_end(self) -> dict[str, Any] | None:
        """The event that ended the last run; None where it did not come to say so."""
        last = None
        for event in self.read_events():
            if event["event"] == "RunStarted":
                last = None
            elif event["event"] in {"Done", "Failed"}:
                last = event
        return last


_SENTENCE = {"LeftOut": "reason", "Notice": "message", "Failed": "message"}
"""Events that tell something, and what holds the sentence."""


def retell(event: dict[str, Any], language: str) -> dict[str, Any]:
    """An event with its sentence in a language, whatever the one was that its run spoke."""
    field = _SENTENCE.get(event["event"])
    return {**event, field: say(message_from_json(event), language)} if field else event
