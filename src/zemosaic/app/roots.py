"""Which folders the app may show and read: those below its roots, links followed first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zemosaic.errors import ZeMosaicError

__all__ = ["FolderView", "Refused", "Roots", "looks_like_image"]

_FITS = [f"{ending}{packing}" for ending in (".fits", ".fit", ".fts") for packing in ("", ".gz", ".bz2", ".fz")]
_ENDINGS = (*_FITS, ".xisf", ".tif", ".tiff", ".cr2", ".cr3", ".nef", ".arw", ".dng")
"""Files that are counted as images when a folder is shown; what they are in truth a scan tells."""

MOST_COUNTED = 50_000
"""Files of a folder that are looked at when its images are counted: more take seconds on a slow disk."""


def looks_like_image(path: Path) -> bool:
    """Whether a file is an image, by its name."""
    return path.name.lower().endswith(_ENDINGS)


class Refused(ZeMosaicError):
    """A request that the app does not serve; `status` is that of HTTP."""

    def __init__(self, status: int, code: str, **facts: object) -> None:
        super().__init__(code, **facts)
        self.status = status


@dataclass(frozen=True, slots=True)
class FolderView:
    """What a person sees of a folder.

    Attributes
    ----------
    path : str
    parent : str or None
        None at a root.
    folders : tuple of str
        Names, sorted; hidden ones are left out.
    n_images : int
        Files that look like images.
    """

    path: str
    parent: str | None
    folders: tuple[str, ...]
    n_images: int


class Roots:
    """The folders that may be looked into.

    Parameters
    ----------
    folders : sequence of Path
        Those that do not exist are passed over.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))

    def resolve(self, text: str) -> Path:
        """The path that a request names, links followed.

        Raises
        ------
        Refused
            403 for a path that is not absolute or does not lie below a root.
        """
        path = Path(text)
        if not path.is_absolute() or "\0" in text:
            raise Refused(403, "app.path-not-absolute", path=text)
        found = path.resolve()
        if not any(found.is_relative_to(root) for root in self.folders):
            raise Refused(403, "app.path-outside", path=text)
        return found

    def show(self, text: str) -> FolderView:
        """List a folder.

        Raises
        ------
        Refused
            403 outside of the roots or without permission, 404 for what is no folder.
        """
        folder = self.resolve(text)
        if not folder.is_dir():
            raise Refused(404, "app.no-folder", path=text)
        names, n_images = [], 0
        try:
            for count, item in enumerate(folder.iterdir()):
                if count >= MOST_COUNTED:
                    break
                if looks_like_image(item):
                    n_images += 1
                elif not item.name.startswith(".") and item.is_dir():
                    names.append(item.name)
        except PermissionError as problem:
            raise Refused(403, "app.no-permission", path=text) from problem
        parent = None if folder in self.folders else str(folder.parent)
        return FolderView(str(folder), parent, tuple(sorted(names, key=str.casefold)), n_images)
