"""The icon that opens the app."""

from __future__ import annotations

import configparser
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from zemosaic.app.shortcut import make_shortcut
from zemosaic.errors import EnvironmentProblem

WORDS = ['/opt/an odd $place/py"th\\on`', "-m", "zemosaic", "gui", "100%"]


def words_of_entry(path: Path) -> list[str]:
    """Of an ``Exec`` line, read back by the rules of the specification."""
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(path, encoding="utf-8")
    entry = parser["Desktop Entry"]
    assert (entry["Type"], entry["Name"]) == ("Application", "ZeMosaic")
    line = entry["Exec"].replace("\\\\", "\\").replace("%%", "%")
    # What may be escaped inside of the quotes is what a shell escapes there.
    return shlex.split(line.replace("\\$", "$").replace("\\`", "`"))


def test_a_desktop_entry_starts_the_app(tmp_path: Path) -> None:
    path = make_shortcut(WORDS, home=tmp_path, system="linux")
    assert path == tmp_path / ".local/share/applications/zemosaic.desktop"
    assert words_of_entry(path) == WORDS


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_command_file_starts_the_app(tmp_path: Path) -> None:
    script = "import sys; print(sys.argv[1:])"
    path = make_shortcut([sys.executable, "-c", script, *WORDS], home=tmp_path, system="darwin")
    assert os.access(path, os.X_OK)
    assert subprocess.run([path], check=True, capture_output=True, text=True).stdout.strip() == str(WORDS)


def test_a_link_of_windows_is_made_by_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def run(words: list[str], **_: object) -> None:
        asked.extend(words)

    monkeypatch.setattr("subprocess.run", run)
    path = make_shortcut(["C:/it's here/python.exe", "-m", "zemosaic", "gui"], home=tmp_path, system="win32")
    assert asked[0] == "powershell"
    assert f"CreateShortcut('{path}')" in asked[-1]
    assert "TargetPath = 'C:/it''s here/python.exe'" in asked[-1]
    assert "Arguments = '-m zemosaic gui'" in asked[-1]


def test_where_windows_makes_none_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise FileNotFoundError("powershell")

    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(EnvironmentProblem, match="powershell"):
        make_shortcut(["zemosaic"], home=tmp_path, system="win32")
