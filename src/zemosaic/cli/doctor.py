"""What the machine offers, as `zemosaic doctor` tells it, and the archive for who looks for a fault."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from zemosaic.cli.bug_report import pack_bug_report
from zemosaic.engine.memory import default_cap_bytes, default_workers
from zemosaic.errors import EnvironmentProblem
from zemosaic.io.astrometry.blind import SolveField, installed_solvers
from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.text import Message, message, say

__all__ = ["doctor"]

PACKAGES = ("numpy", "scipy", "astropy", "numba", "pydantic", "pillow", "tifffile")
"""Those whose releases have changed results or readers before."""


def doctor(out: Path | None, language: str = "en") -> None:
    """Print what the machine offers in a language; of an output folder pack, in English, what a bug report needs."""
    told = list(_describe_machine())
    print("\n".join(_write(line, language) for line in told))
    if out:
        print(pack_bug_report(out, "".join(f"{line}\n" for line in told)))


def _write(line: Message | str, language: str) -> str:
    return say(line, language) if isinstance(line, Message) else line


def _describe_machine() -> Iterator[Message | str]:
    """What the machine offers; names and numbers that no language changes are text."""
    yield f"zemosaic {metadata.version('zemosaic')}, Python {platform.python_version()}, {platform.platform()}"
    yield message("doctor.machine", n_workers=default_workers(), cap_bytes=default_cap_bytes())
    for name in PACKAGES:
        yield f"  {name} {metadata.version(name)}"
    try:
        catalogue = tycho2()
        yield message("doctor.solving", catalogue=catalogue.name, n_stars=len(catalogue))
    except EnvironmentProblem as problem:
        yield message("doctor.no-solving", problem=problem)
    solvers = [message("doctor.blind", name=solver.name) for solver in installed_solvers()]
    yield from solvers or [message("doctor.no-blind", name=SolveField.name)]
    try:
        yield message("doctor.raw", version=metadata.version("rawpy"))
    except metadata.PackageNotFoundError:
        yield message("doctor.no-raw")
