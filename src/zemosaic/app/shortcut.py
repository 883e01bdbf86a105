"""An icon that opens the app: a desktop entry, a ``.command`` file or a ``.lnk``, as the system has it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from zemosaic.errors import EnvironmentProblem

__all__ = ["make_shortcut"]

LINK_WAIT_S = 60
"""PowerShell takes seconds to start on a slow machine; what takes longer hangs."""


def make_shortcut(command: Sequence[str], *, home: Path | None = None, system: str = sys.platform) -> Path:
    """Write the icon for this user; one that is there is written anew.

    Parameters
    ----------
    command : sequence of str
        What starts the app: program and arguments.
    home : Path, optional
        The user's home folder.
    system : str
        As `sys.platform` names it.

    Returns
    -------
    Path
        In the applications of the desktop (Linux), on the desktop (macOS, Windows).

    Raises
    ------
    EnvironmentProblem
        When Windows makes no link.
    """
    home = home or Path.home()
    if system == "win32":
        return _write_link(home / "Desktop/ZeMosaic.lnk", command)
    if system == "darwin":
        path = home / "Desktop/ZeMosaic.command"
        text = f"#!/bin/sh\nexec {shlex.join(command)}\n"
    else:
        path = home / ".local/share/applications/zemosaic.desktop"
        text = _desktop_entry(command)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def _desktop_entry(command: Sequence[str]) -> str:
    """Of the freedesktop.org specification, whose words are quoted in a way of their own."""
    words = " ".join('"' + _escape(word) + '"' for word in command)
    return (
        "[Desktop Entry]\nType=Application\nName=ZeMosaic\n"
        "Comment=Make one seamless picture of many sky frames\n"
        "Comment[fr]=Assembler de nombreuses images du ciel en une seule\n"
        f"Exec={words}\nTerminal=true\nCategories=Science;Astronomy;Graphics;\n"
    )


def _escape(word: str) -> str:
    """Inside of quotes these are escaped; backslashes again, for the entry's own strings; percent signs are doubled."""
    for sign in '\\"`$':
        word = word.replace(sign, f"\\{sign}")
    return word.replace("\\", "\\\\").replace("%", "%%")


def _write_link(path: Path, command: Sequence[str]) -> Path:
    """Only Windows itself writes this format; its own shell is asked to."""

    def quote(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    script = (
        f"$link = (New-Object -ComObject WScript.Shell).CreateShortcut({quote(str(path))}); "
        f"$link.TargetPath = {quote(command[0])}; "
        f"$link.Arguments = {quote(subprocess.list2cmdline(command[1:]))}; $link.Save()"
    )
    try:
        subprocess.run(
            ["powershell", "-NoProfile", "-Command", script], check=True, capture_output=True, timeout=LINK_WAIT_S
        )
    except (OSError, subprocess.SubprocessError) as problem:
        raise EnvironmentProblem("app.no-shortcut", path=path, problem=problem) from problem
    return path
