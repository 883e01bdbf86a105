"""Which files a scan looks at: folder trees, name patterns, and the sidecar files of frames."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from zemosaic.errors import NothingToDo
from zemosaic.io.read.images import PICTURE_SUFFIXES
from zemosaic.model.frame import FrameKind, MapKind
from zemosaic.settings import InputSettings
from zemosaic.text import Message, message

__all__ = ["WORK_FOLDER", "FoundFile", "FoundFiles", "find_files", "stem_of"]

_FITS = (".fit", ".fits", ".fts")
_SUFFIXES = (*_FITS, ".fz", ".gz", *(f"{ending}.bz2" for ending in _FITS), ".head", *PICTURE_SUFFIXES)
_OTHER_IMAGES = (
    ".ser", ".avi", ".mov", ".mp4", ".png", ".jpg", ".jpeg", ".heic", ".bmp", ".psd", ".asdf", ".zip", ".7z",
    ".rar", ".tar", ".tgz", ".bz2", ".xz",
)  # fmt: skip
"""Names of files that may hold pictures of the sky in a form that is not read: they are counted, so that none is
missed."""
WORK_FOLDER = ".zemosaic"
"""Inside an output folder: stored results, so a second run does only what is new. Such a folder holds no inputs."""
_RESULTS = ("mosaic", "coverage_moc", "preview", "aesthetic")
"""How names of results begin that a scan would take for frames, where frames and results share a folder."""
_FOLDER_KINDS: dict[str, FrameKind] = {
    **dict.fromkeys(("dark", "darks", "darkflat", "darkflats", "flatdark", "flatdarks"), "dark"),
    **dict.fromkeys(("bias", "biases", "offset", "offsets"), "bias"),
    **dict.fromkeys(("flat", "flats"), "flat"),
}
"""Folders whose name says what their files are, as in the folder trees of other stackers."""
_MAP_KINDS: dict[str, MapKind] = {
    **dict.fromkeys(("weight", "wht", "ivar", "invvar", "oow"), "weight"),
    **dict.fromkeys(("var", "variance"), "variance"),
    **dict.fromkeys(("rms", "unc", "err"), "error"),
    **dict.fromkeys(("mask", "ood"), "mask"),
}
"""Parts of names that make a file a map of the image which is called the same without them."""
_PASSED_OVER = ("exp", "num", "wt", "cov", "std", "conf")
"""Likewise, of maps that no weight can be made of: exposure times, counts, and names that mean different things."""
_SKY_NAMES = ("ooi", "sci", "int", "img", "image")
"""What stands in the name of the image in the place of a map's part (``x_ooi_v1`` beside ``x_oow_v1``)."""
_ALWAYS_MAPS = ("oow", "ood")
"""Parts that no frame's name has: such a file is no frame even where its image is not there."""
_PART = re.compile(r"(?<=[._-])(?:" + "|".join((*_MAP_KINDS, *_PASSED_OVER)) + r")(?=[._-]|$)", re.IGNORECASE)


@dataclass(slots=True)
class FoundFile:
    """A file that may hold frames, with the files that speak of it.

    Attributes
    ----------
    path : str
        Absolute.
    maps : dict of MapKind to str
        Sidecar files ``X.weight.fits``, ``X.var.fits``, ``X-unc.fits``, ``X_mask.fits`` ... of a file ``X.fits``.
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
    passed_over : list of str
        Maps of one of them that no weight can be made of.
    others : Counter of str
        Number of files by their ending, lower case, that may hold pictures in a form that is not read.
    refused : list of (str, Message)
        Path and reason of what cannot be looked at.
    """

    files: list[FoundFile] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, Message]] = field(default_factory=list)


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
            listed |= {name: _kind_of_folder(name, root) for name in _walk_folder(root, found)}
        elif os.path.exists(root):
            listed |= dict.fromkeys((root, *_siblings(root)))
        else:
            raise NothingToDo("input.missing", path=path)
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


def _walk_folder(root: str, found: FoundFiles) -> Iterator[str]:
    """Candidate files of a tree; hidden names and the folders that a run wrote are passed over."""

    def refuse(problem: OSError) -> None:
        found.refused.append((str(problem.filename), message("folder.unlisted", problem=problem.strerror)))

    for folder, subfolders, names in os.walk(root, onerror=refuse):
        is_output = WORK_FOLDER in subfolders
        if is_output and folder != root:
            subfolders.clear()
            continue
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            is_result = is_output and name.startswith(_RESULTS)
            if name.startswith(".") or is_result:
                continue
            if name.lower().endswith(_SUFFIXES):
                yield os.path.join(folder, name)
            elif name.lower().endswith(_OTHER_IMAGES) and not is_output:
                found.others[os.path.splitext(name.lower())[1]] += 1


def _siblings(path: str) -> Iterator[str]:
    """Sidecar files beside a file that was named by itself."""
    endings = [f".{kind}.fits{packed}" for kind in _MAP_KINDS for packed in ("", ".fz", ".gz")]
    for ending in (*endings, ".head"):
        if os.path.exists(stem_of(path) + ending):
            yield stem_of(path) + ending


def _is_text(path: str, refused: list[tuple[str, Message]]) -> bool:
    """Whether a name is text: undecodable bytes fit into no table, report or message."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
        refused.append((shown, message("file.name-no-text")))
        return False
    return True


def stem_of(path: str) -> str:
    """A path without the endings of image files: what a frame and its sidecars share."""
    for ending in (".gz", ".fz", ".bz2", ".fits", ".fit", ".fts", *PICTURE_SUFFIXES):
        if path.lower().endswith(ending):
            path = path[: -len(ending)]
    return path


def _is_wanted(path: str, settings: InputSettings) -> bool:
    name = os.path.basename(path).lower()
    is_included = not settings.include or fnmatchcase(name, settings.include.lower())
    return is_included and not (settings.exclude and fnmatchcase(name, settings.exclude.lower()))


def _pair_with_sidecars(paths: Iterable[str], settings: InputSettings, found: FoundFiles) -> None:
    by_stem: dict[str, list[FoundFile]] = {}
    listed = list(paths)
    stems = {stem_of(path) for path in listed if not _sure_sidecar(path)}
    sidecars = []
    for path in listed:
        if owned := _sure_sidecar(path) or _map_of(path, stems):
            sidecars.append((*owned, path))
            continue
        file = FoundFile(path)
        by_stem.setdefault(stem_of(path), []).append(file)
        if _is_wanted(path, settings):
            found.files.append(file)
    for stem, kind, path in sidecars:
        owners = by_stem.get(stem, [])
        if not owners:
            found.orphans.append(path)
        elif kind in _PASSED_OVER:
            found.passed_over.append(path)
        for owner in owners:
            if kind == "head":
                owner.head = path
            elif kind in _MAP_KINDS:
                owner.maps[_MAP_KINDS[kind]] = path


def _sure_sidecar(path: str) -> tuple[str, str] | None:
    """Stem of the owner and part, of a file whose ending (``.weight``) tells even without its owner."""
    stem, kind = os.path.splitext(stem_of(path))
    kind = kind.lower().removeprefix(".")
    return (stem, kind) if kind in _MAP_KINDS or kind == "head" else None


def _map_of(path: str, stems: set[str]) -> tuple[str, str] | None:
    """Stem of the owner and part, of a file that is called as another one but for a part that only maps have."""
    folder, name = os.path.split(stem_of(path))
    for part in _PART.finditer(name):
        before, after = name[: part.start()], name[part.end() :]
        owners = [f"{before}{sky}{after}" for sky in _SKY_NAMES] + ([] if after else [before[:-1]])
        for owner in owners:
            if os.path.join(folder, owner) in stems:
                return os.path.join(folder, owner), part[0].lower()
        if part[0].lower() in _ALWAYS_MAPS:
            return stem_of(path), part[0].lower()
    return None
