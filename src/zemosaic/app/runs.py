"""The runs that this server started: children, which end with it."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import tomli_w

from zemosaic.app.output import OutputFolder, retell
from zemosaic.app.roots import Refused
from zemosaic.errors import Cancelled
from zemosaic.settings import make_settings
from zemosaic.text import message, say

__all__ = ["STOP_S", "Asked", "Runs", "own_command"]

STOP_S = 5.0
"""A run that was asked to stop ends within this time; the engine itself interrupts long steps after three seconds."""

LEAST_FREE_BYTES = 16 << 10
"""A disk with less room than this has no place for the line that would say so."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A run as a person asked for it.

    Attributes
    ----------
    inputs : tuple of str
        Files and folders, absolute.
    out : Path
    settings : dict
        ``{"stack": {"method": ...}}``; what is missing is as by default.
    frames : str
        Table of frames to use; "" takes all.
    look : bool
        Measure and judge only.
    add : bool
        Add the inputs to the mosaic that is there.
    """

    inputs: tuple[str, ...]
    out: Path
    settings: dict[str, Any]
    frames: str = ""
    look: bool = False
    add: bool = False

    @classmethod
    def last_of(cls, folder: OutputFolder) -> Asked:
        """What was asked of a folder last.

        Raises
        ------
        Refused
            404, where the app never started a run.
        """
        asked = folder.read_request()
        fields = {name: asked[name] for name in ("settings", "frames", "look", "add")}
        return cls(tuple(asked["inputs"]), folder.path, **fields)

    def command(self, settings_file: Path) -> list[str]:
        """The command of it, which a person may type as well."""
        command = ["build", f"--out={self.out}", f"--config={settings_file}"]
        command += [f"--frames={self.frames}"] if self.frames else []
        command += ["--until=frames"] if self.look else []
        command += ["--add"] if self.add else []
        return [*command, "--", *self.inputs]


class Runs:
    """Starts and stops children. Safe to use from several threads."""

    def __init__(self) -> None:
        self._children: dict[OutputFolder, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def start(self, asked: Asked, language: str) -> OutputFolder:
        """Start a run, which tells what it tells in a language.

        Raises
        ------
        Refused
            409 where the folder is of others or a run is at work in it; `SettingError` for wrong settings.
        """
        folder = OutputFolder(asked.out)
        folder.check_usable()
        settings = make_settings(asked.settings)
        with self._lock:
            if self.is_running(folder):
                raise Refused(409, "app.already-running", path=str(asked.out))
            self._let_go(folder)
            folder.notes.mkdir(parents=True, exist_ok=True)
            settings_file = folder.notes / "settings.toml"
            settings_file.write_text(tomli_w.dumps(settings.model_dump()), encoding="utf-8")
            command = asked.command(settings_file)
            folder.write_request({
                "inputs": asked.inputs, "settings": asked.settings, "frames": asked.frames,
                "look": asked.look, "add": asked.add, "command": shlex.join(["zemosaic", *command]),
            })  # fmt: skip
            folder.add_event({"event": "RunStarted"})
            with folder.events.open("ab") as events, (folder.notes / "log.txt").open("ab") as log:
                child = [*own_command(), command[0], "--watched", "--json", *command[1:]]
                words = {**os.environ, "ZEMOSAIC_LANGUAGE": language}
                # No pipe but standard input: a child whose server dies reads its end and stops; its lines are kept.
                self._children[folder] = subprocess.Popen(
                    child, env=words, stdin=subprocess.PIPE, stdout=events, stderr=log
                )
        return folder

    def go_on(self, folder: OutputFolder, language: str) -> OutputFolder:
        """Start the run of a folder again; what is finished is not done twice."""
        return self.start(Asked.last_of(folder), language)

    def stop(self, folder: OutputFolder) -> None:
        """Ask a run to stop, and wait for it; one that does not end in time is ended."""
        self._let_go(folder)

    def _let_go(self, folder: OutputFolder) -> None:
        """Close the standard input of a folder's child, which asks it to stop, and see it end."""
        child = self._children.get(folder)
        if child is None or child.stdin is None:
            return
        child.stdin.close()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            folder.add_event({"event": "Failed", **message("run.stopped").as_json(), "exit_code": Cancelled.exit_code})
            child.kill()
            child.wait()

    def stop_all(self) -> None:
        """Stop every run, all at once."""
        for child in self._children.values():
            if child.stdin is not None:
                child.stdin.close()
        for folder in list(self._children):
            self._let_go(folder)

    def is_running(self, folder: OutputFolder) -> bool:
        """Whether a child of this server is at work in a folder."""
        child = self._children.get(folder)
        return child is not None and child.poll() is None

    def memory_bytes(self, folder: OutputFolder) -> int:
        """Memory that a folder's child and its own children hold; 0 where none is at work."""
        child, total = self._children.get(folder), 0
        with suppress(psutil.Error):
            parent = psutil.Process(child.pid) if child is not None and child.poll() is None else None
            for process in [parent, *parent.children(recursive=True)] if parent else []:
                total += process.memory_info().rss
        return total

    def state(self, folder: OutputFolder, language: str) -> dict[str, Any]:
        """How a run stands: ``running``, ``done``, ``looked``, ``stopped``, ``failed``, or ``died`` without a word.

        What went wrong is told in a language.
        """
        asked = folder.read_request()
        found = {"id": folder.id, "out": str(folder.path), "name": folder.path.name, "asked": asked}
        if self.is_running(folder):
            return {**found, "state": "running"}
        end = folder.last_end()
        if end is None and shutil.disk_usage(folder.path).free < LEAST_FREE_BYTES:
            full = message("run.machine-fault", path=str(folder.path), problem=os.strerror(errno.ENOSPC))
            return {**found, "state": "failed", "problem": say(full, language)}
        if end is None:
            return {**found, "state": "died"}
        if end["event"] == "Done":
            return {**found, "state": "looked" if asked["look"] else "done", "outputs": end["outputs"]}
        return {
            **found,
            "state": "stopped" if end["exit_code"] == Cancelled.exit_code else "failed",
            "problem": retell(end, language)["message"],
        }


def own_command() -> list[str]:
    """How this program is started: by its Python, or a frozen one by itself."""
    return [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "zemosaic"]
