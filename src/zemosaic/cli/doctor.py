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

__all__ = ["doctor"]

PACKAGES = ("numpy", "scipy", "astropy", "numba", "pydantic", "pillow", "tifffile")
"""Those whose releases have changed results or readers before."""


def doctor(out: Path | None) -> None:
    """Print what the machine offers; of an output folder pack what a bug report needs."""
    lines = list(_describe_machine())
    print("\n".join(lines))
    if out:
        print(pack_bug_report(out, "\n".join(lines) + "\n"))


def _describe_machine() -> Iterator[str]:
    yield f"zemosaic {metadata.version('zemosaic')}, Python {platform.python_version()}, {platform.platform()}"
    yield f"processors: {default_workers()}; memory cap by default: {default_cap_bytes() / 2**30:.1f} GiB"
    for name in PACKAGES:
        yield f"  {name} {metadata.version(name)}"
    try:
        catalogue = tycho2()
        yield f"plate solving: {catalogue.name}, {len(catalogue):,} stars, built in; no other program is needed"
    except EnvironmentProblem as problem:
        yield f"plate solving: not possible: {problem}"
    what = "blind solving, for frames without a position or scale in the header"
    solvers = [f"{what}: {solver.name} found" for solver in installed_solvers()]
    yield from solvers or [f"{what}: {SolveField.name} not found; install astrometry.net with index files to have it"]
    what = "camera raw (CR2, NEF, ARW, DNG ...) as frames"
    try:
        yield f"{what}: rawpy {metadata.version('rawpy')} found"
    except metadata.PackageNotFoundError:
        yield f'{what}: rawpy not found; pip install "zemosaic[raw]" to have it'
