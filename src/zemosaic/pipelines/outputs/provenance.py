"""What a mosaic was made of and by: every file with its checksum, the settings, the versions."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zemosaic.io.read.find_files import find_files
from zemosaic.pipelines.outputs.report import hash_settings, write_text
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import Settings
from zemosaic.text import message

__all__ = ["write_provenance"]

LIBRARIES = ("numpy", "scipy", "numba", "astropy")
"""Packages whose numbers go into a mosaic."""

NO_FILE = "none"
"""What ``calibrate.darks`` and its like say where nothing shall be taken."""


def write_provenance(path: Path, inputs: Sequence[Path], others: Iterable[Path], settings: Settings, run: Run) -> None:
    """Write ``provenance.json``: with it anyone can tell, years later, whether files are those of the mosaic.

    Parameters
    ----------
    path : Path
    inputs : sequence of Path
        The files and folders that were given: each file in them that may hold frames counts, with those beside it that
        speak of it, whether its frames are used or not.
    others : iterable of Path
        Further files that the run read.
    settings : Settings
        Files that they name count too.
    run : Run
    """
    files = sorted({*_list_inputs([*inputs, *_calibration(settings)], settings), *_named(settings), *others})
    advance = run.log.start("checksums", len(files))
    entries: list[dict[str, Any]] = []

    def describe(file: Path) -> dict[str, Any]:
        run.cancel.check()
        return {"path": str(file), **_sum_up(file)}

    for entry in run.machine.make_executor().map(describe, files):
        entries.append(entry)
        advance(len(entries))
    told = {
        "software": f"zemosaic {version('zemosaic')}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "settings_sha256": hash_settings(settings),
        "inputs": entries,
    }
    write_text(path, json.dumps(told, indent=1) + "\n")
    n_bytes = sum(entry["n_bytes"] or 0 for entry in entries)
    run.log.end("checksums", message("done.checksums", n_files=len(entries), n_bytes=n_bytes))


def _sum_up(file: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file; None of one that cannot be read, which is left out of the mosaic."""
    try:
        with file.open("rb") as stream:
            return {"n_bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
    except OSError:
        return {"n_bytes": None, "sha256": None}


def _list_inputs(inputs: Sequence[Path], settings: Settings) -> Iterator[Path]:
    """The files in files and folders, with their sidecars."""
    found = find_files([path for path in inputs if path.exists()], settings.input)
    for file in found.files:
        yield from map(Path, filter(None, (file.path, file.head, *file.maps.values())))


def _calibration(settings: Settings) -> list[Path]:
    """Files and folders of calibration frames that settings name."""
    chosen = settings.calibrate
    return [Path(name).absolute() for name in (chosen.darks, chosen.flats, chosen.biases) if name not in {"", NO_FILE}]


def _named(settings: Settings) -> Iterator[Path]:
    """Single files that settings name."""
    names = settings.calibrate.bad_pixels, settings.grid.header, settings.input.frames, settings.match.reference
    return (Path(name).absolute() for name in names if name)
