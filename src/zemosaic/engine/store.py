"""Results of tasks, kept under a key made of everything that went into them.

A key that is found answers with the stored arrays; anything that could change
the result changes the key. Files appear under their final name only when whole
(written beside it, then renamed) and carry checksums (every member of an npz
archive has a CRC), so a torn file is noticed and its task simply done again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import zipfile
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Store", "code_digest", "make_key"]

_log = logging.getLogger(__name__)


@cache
def code_digest() -> str:
    """Digest of the sources and numeric libraries that results depend on."""
    import numba
    import scipy

    digest = hashlib.blake2b(digest_size=16)
    root = Path(__file__).resolve().parents[1]
    for room in ("kernels", "model", "stages"):
        for path in sorted((root / room).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    digest.update(f"numpy {np.__version__} scipy {scipy.__version__} numba {numba.__version__}".encode())
    return digest.hexdigest()


def make_key(stage: str, *parts: object) -> str:
    """Key of a task: its stage, its inputs and settings (JSON-serialisable), and the code's digest."""
    text = json.dumps([stage, code_digest(), *parts], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


class Store:
    """Arrays under keys, in a folder.

    Parameters
    ----------
    root : Path
        Folder; made when missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.npz"

    def get(self, key: str) -> dict[str, np.ndarray[Any, Any]] | None:
        """The arrays stored under a key; None when there are none or the file is damaged."""
        path = self._path(key)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as problem:
            _log.warning("stored result %s is damaged (%s); it is made again", path.name, problem)
            return None

    def put(self, key: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Store arrays under a key, all or nothing."""
        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            with partial.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
