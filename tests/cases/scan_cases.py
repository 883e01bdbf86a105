"""What a scan finds of files, in the words of tests: all of it, the one frame, the one reason."""

from __future__ import annotations

from pathlib import Path

from zemosaic.io.read.scan import ScanResult, scan
from zemosaic.model.frame import Frame
from zemosaic.settings import InputSettings


def scan_all(*paths: Path, **settings: str) -> ScanResult:
    """Files and folders scanned with input settings given by name."""
    return scan(list(paths), InputSettings.model_validate(settings))


def only_frame(path: Path, **settings: str) -> Frame:
    """The one frame of a file, of which nothing is left out."""
    found = scan_all(path, **settings)
    assert not found.rejected, found.rejected
    (frame,) = found.frames
    return frame


def only_reason(path: Path) -> str:
    """Why a file gives no frame, in one line."""
    found = scan_all(path)
    assert not found.frames
    (rejected,) = found.rejected
    assert "\n" not in rejected.reason
    return rejected.reason
