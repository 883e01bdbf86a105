"""What the app remembers between two starts: output folders, and where its server listens."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import typer

from zemosaic.app.output import OutputFolder

__all__ = ["Home", "Listening"]

MOST_REMEMBERED = 50
"""Runs that are listed; older ones stay on the disk, and are found again by choosing their folder."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A server at work: its process, its port, and the secret of its link."""

    pid: int
    port: int
    token: str

    @property
    def link(self) -> str:
        """The address that lets a browser in."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"


class Home:
    """The app's own folder.

    Parameters
    ----------
    folder : Path, optional
        By default where this system keeps what programs remember of a person.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(typer.get_app_dir("zemosaic"))

    def runs(self) -> list[OutputFolder]:
        """Output folders that are still there, the latest first."""
        return [OutputFolder(path) for path in map(Path, self._read("history.json", [])) if path.is_dir()]

    def remember(self, folder: OutputFolder) -> None:
        """Put a run on top of the list."""
        others = [str(known.path) for known in self.runs() if known != folder]
        self._write("history.json", [str(folder.path), *others][:MOST_REMEMBERED])

    def forget(self, folder: OutputFolder) -> None:
        """Take a run off the list; its files stay."""
        self._write("history.json", [str(known.path) for known in self.runs() if known != folder])

    def listening(self) -> Listening | None:
        """The server that is at work, if one is."""
        found = self._read("server.json", {})
        try:
            server = Listening(**found)
        except TypeError:
            return None
        return server if psutil.pid_exists(server.pid) else None

    def announce(self, server: Listening) -> None:
        """Note where this server listens; only the person who started it can read that."""
        self._write("server.json", asdict(server))

    def leave(self) -> None:
        """Remove the note of a server that ends."""
        (self.folder / "server.json").unlink(missing_ok=True)

    def _read(self, name: str, default: object) -> Any:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return default

    def _write(self, name: str, value: object) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".{name}.partial"
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(value, file)
        partial.replace(self.folder / name)
