"""Which files a scan looks at: folder trees, name patterns, and the sidecar files of frames."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from zemosaic.errors import NothingToDo
from zemosaic.io.read.images import PICTURE_SUFFIXES
from zemosaic.model.frame import FrameKind, MapKind
from zemosaic.settings import InputSettings

__all__ = ["WORK_FOLDER", "FoundFile", "FoundFiles", "find_files", "stem_of"]

_SUFFIXES = (".fit", ".fits", ".fts", ".fz", ".gz", ".head", *PICTURE_SUFFIXES)
WORK_FOLDER = ".zemosaic"
"""Inside an output folder: stored results, so a second run does only what is new. Such a folder holds no inputs."""
_FOLDER_KINDS: dict[str, FrameKind] = {
    **dict.fromkeys(("dark", "darks", "darkflat", "darkflats", "flatdark", "flatdarks"), "dark"),
    **dict.fromkeys(("bias", "biases", "offset", "offsets"), "bias"),
    **dict.fromkeys(("flat", "flats"), "flat"),
}
"""Folders whose name says what their files are, as in the folder trees of other stackers."""
_MAP_KINDS: dict[str, MapKind] = {".weight": "weight", ".var": "variance", ".mask": "mask"}


@dataclass(slots=True)
class FoundFile:
    """A file that may hold frames, with the files that speak of it.

    Attributes
    ----------
    path : str
        Absolute.
    maps : dict of MapKind to str
        Sidecar files ``X.weight.fits``, ``X.var.fits``, ``X.mask.fits`` of a file ``X.fits``.
    head : str or None
        ``X.head``: cards that override those of the file's images.
    kind : {"dark", "bias", "flat"} or None
        What its folder, below the one that is searched, is for by its name.
    """

    path: str
    maps: dict[MapKind, str] = field(default_factory=dict)
    head: str | None = None
    kind: FrameKind | None = None


@dataclass(slots=True)
class FoundFiles:
    """The files of a scan.

    Attributes
    ----------
    files : list of FoundFile
        Sorted by path.
    orphans : list of str
        Sidecar files that belong to none of them.
    refused : list of (str, str)
        Path and reason of what cannot be looked at.
    """

    files: list[FoundFile] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


def find_files(paths: Sequence[Path], settings: InputSettings) -> FoundFiles:
    """List candidate files.

    Parameters
    ----------
    paths : sequence of Path
        Files (taken whatever their name) and folders (searched to the bottom).
    settings : InputSettings
        ``include`` and ``exclude`` act on file names, whatever their case.

    Raises
    ------
    NothingToDo
        When a path does not exist.
    """
    found = FoundFiles()
    listed: dict[str, FrameKind | None] = {}
    for path in paths:
        root = os.path.abspath(path)
        if os.path.isdir(root):
            listed |= {name: _kind_of_folder(name, root) for name in _walk_folder(root, found.refused)}
        elif os.path.exists(root):
            listed |= dict.fromkeys((root, *_siblings(root)))
        else:
            raise NothingToDo(f"{path} does not exist", path=str(path))
    texts = [path for path in sorted(listed) if _is_text(path, found.refused)]
    _pair_with_sidecars(texts, settings, found)
    for file in found.files:
        file.kind = listed[file.path]
    return found


def _kind_of_folder(path: str, root: str) -> FrameKind | None:
    """What the innermost telling folder between a file and the root is for."""
    for name in reversed(os.path.relpath(path, root).split(os.sep)[:-1]):
        if kind := _FOLDER_KINDS.get("".join(ch for ch in name.lower() if ch.isalnum()).removeprefix("master")):
            return kind
    return None


def _walk_folder(root: str, refused: list[tuple[str, str]]) -> Iterator[str]:
    """Candidate files of a tree; hidden names and the folders that a run wrote are passed over."""

    def refuse(problem: OSError) -> None:
        refused.append((str(problem.filename), f"the folder cannot be listed: {problem.strerror}"))

    for folder, subfolders, names in os.walk(root, onerror=refuse):
        is_output = WORK_FOLDER in subfolders
        if is_output and folder != root:
            subfolders.clear()
            continue
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            is_result = is_output and name.startswith("mosaic")
            if name.lower().endswith(_SUFFIXES) and not name.startswith(".") and not is_result:
                yield os.path.join(folder, name)


def _siblings(path: str) -> Iterator[str]:
    """Sidecar files beside a file that was named by itself."""
    endings = [f"{kind}.fits{packed}" for kind in _MAP_KINDS for packed in ("", ".fz", ".gz")]
    for ending in (*endings, ".head"):
        if os.path.exists(stem_of(path) + ending):
            yield stem_of(path) + ending


def _is_text(path: str, refused: list[tuple[str, str]]) -> bool:
    """Whether a name is text: undecodable bytes fit into no table, report or message."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
        refused.append((shown, "the file name is not valid text; rename the file"))
        return False
    return True


def stem_of(path: str) -> str:
    """A path without the endings of image files: what a frame and its sidecars share."""
    for ending in (".gz", ".fz", ".fits", ".fit", ".fts", *PICTURE_SUFFIXES):
        if path.lower().endswith(ending):
            path = path[: -len(ending)]
    return path


def _is_wanted(path: str, settings: InputSettings) -> bool:
    name = os.path.basename(path).lower()
    is_included = not settings.include or fnmatchcase(name, settings.include.lower())
    return is_included and not (settings.exclude and fnmatchcase(name, settings.exclude.lower()))


def _pair_with_sidecars(paths: Iterable[str], settings: InputSettings, found: FoundFiles) -> None:
    by_stem: dict[str, list[FoundFile]] = {}
    sidecars = []
    for path in paths:
        stem, kind = os.path.splitext(stem_of(path))
        if kind.lower() in {*_MAP_KINDS, ".head"}:
            sidecars.append((stem, kind.lower(), path))
            continue
        file = FoundFile(path)
        by_stem.setdefault(stem_of(path), []).append(file)
        if _is_wanted(path, settings):
            found.files.append(file)
    for stem, kind, path in sidecars:
        owners = by_stem.get(stem, [])
        if not owners:
            found.orphans.append(path)
        for owner in owners:
            if kind == ".head":
                owner.head = path
            else:
                owner.maps[_MAP_KINDS[kind]] = path
