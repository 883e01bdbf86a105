"""Digests of the package's own code: what results depend on beside their inputs and settings."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

__all__ = ["code_digest", "package_digest", "sources"]

_PACKAGE = "zemosaic"
_ROOT = Path(__file__).resolve().parents[1]

_ROOMS = ("model", "kernels", "stages", "io", "pipelines")
"""Rooms whose code results depend on. What is elsewhere decides where and when tasks run, how values are stored, what a
setting is called and what is told: values of settings are part of keys themselves."""

_IMPORT = re.compile(
    rf"^\s*(?:from {_PACKAGE}\.([\w.]+) import (\([^)]*\)|.*)|import {_PACKAGE}\.([\w.]+))", re.MULTILINE
)
"""A search, since to parse the files takes half a second, which every process would spend before its first task."""

_FOR_TYPES_ONLY = re.compile(r"^if TYPE_CHECKING:\n(?:(?:[ \t].*)?\n)+", re.MULTILINE)


@cache
def package_digest() -> str:
    """Digest of all that two processes must have in common to work on one run."""
    return _digest(sorted(_ROOT.rglob("*.py")))


@cache
def code_digest(roots: tuple[str, ...]) -> str:
    """Digest of modules, of all they import of the package, of the numeric libraries and the kind of processor.

    Parameters
    ----------
    roots : tuple of str
        Modules, named from the package on: ``"stages.match.match"``.

    Raises
    ------
    ValueError
        When there is no such module.
    """
    return _digest(sources(roots))


def sources(roots: Iterable[str]) -> list[Path]:
    """Files of modules and of all that they import, directly or not, of the rooms that results depend on.

    A room of which a name is imported counts with all of its modules: it may find them by looking into its folder.

    Raises
    ------
    ValueError
        When one of the roots is no module.
    """
    found: set[Path] = set()
    wanted = [(root, _file_of(root)) for root in roots]
    if missing := [root for root, path in wanted if path is None]:
        raise ValueError(f"no modules of {_PACKAGE}: {', '.join(missing)}")
    files = [path for _, path in wanted if path is not None]
    while files:
        path = files.pop()
        if path not in found:
            found.add(path)
            files += _imported_by(path)
    return sorted(found)


@cache
def _imported_by(path: Path) -> list[Path]:
    """Files that a file imports, those of the rooms that it lies in included."""
    found = [room / "__init__.py" for room in path.parents if _ROOT in room.parents]
    for module, names, plain in _IMPORT.findall(_FOR_TYPES_ONLY.sub("", path.read_text(encoding="utf-8"))):
        if (module or plain).partition(".")[0] not in _ROOMS:
            continue
        within = [_file_of(f"{module}.{name}") for name in re.findall(r"\w+", names)]
        found += filter(None, within)
        own = _file_of(module or plain)
        if own is not None:
            found += own.parent.glob("*.py") if own.name == "__init__.py" and not any(within) else [own]
    return found


@cache
def _file_of(module: str) -> Path | None:
    """The file of a module named from the package on, or None."""
    path = module.replace(".", "/")
    return next((_ROOT / file for file in (f"{path}.py", f"{path}/__init__.py") if file in _files()), None)


@cache
def _files() -> frozenset[str]:
    """All modules' files, from the package on: names that are imported are looked up by the hundred."""
    return frozenset(path.relative_to(_ROOT).as_posix() for path in _ROOT.rglob("*.py"))


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        digest.update(_digest_file(path))
    digest.update(f"{_libraries()} {platform.machine()}".encode())
    return digest.hexdigest()


@cache
def _digest_file(path: Path) -> bytes:
    """Of its name within the package and its bytes: most files belong to the code of several stages."""
    return hashlib.blake2b(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes()).digest()


@cache
def _libraries() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "numba", "astropy"))
