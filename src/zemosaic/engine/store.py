"""Results of tasks, kept under a key made of everything that went into them.

A key that is found answers with the stored value; anything that could change the result changes the key. An entry
appears under its name only when whole (written beside it, then renamed) and carries its length and a digest, so what a
power cut tore or whatever else happened to it is noticed, said, and its task done again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from zemosaic.engine.values import decode, encode
from zemosaic.errors import EnvironmentProblem
from zemosaic.text import Message, message

__all__ = ["Entry", "Store", "remember"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_MAGIC = b"ZMSTORE1"
_HEAD_BYTES = len(_MAGIC) + 8 + 16


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored result as `Store.entries` finds it.

    Attributes
    ----------
    key : str
    n_bytes : int
    used_s : float
        When it was last used, seconds since 1970 by the clock of the machine that used it.
    """

    key: str
    n_bytes: int
    used_s: float

    @property
    def stage(self) -> str:
        """The stage whose result it is."""
        return self.key.partition("/")[0]


class Store:
    """Values under keys, in a folder. Safe to use from several threads and processes.

    Parameters
    ----------
    root : Path
        Folder; made when missing.
    fresh : bool
        Answer only with what this object has put.
    say : callable, optional
        Told in one line of entries that turn out to be damaged; by default a warning is logged.
    """

    def __init__(self, root: Path, *, fresh: bool = False, say: Callable[[Message], None] = _log.warning) -> None:
        self.root = root.absolute()  # workers may stand in another folder
        self.fresh = fresh
        self._say = say
        self._used: set[str] = set()
        self._own: set[str] = set()
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        """A store in another process is the same folder."""
        return {"root": self.root, "fresh": self.fresh}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _path(self, key: str) -> Path:
        stage, _, name = key.partition("/")
        return self.root / stage / name[:2] / name

    def get(self, key: str, kind: Any = None) -> Any:
        """The value stored under a key; None when there is none, or a damaged one.

        Parameters
        ----------
        key : str
        kind : type or type expression
            What the value is; None for one without dataclasses. See `zemosaic.engine.values.types_within`.
        """
        if self.fresh and key not in self._own:
            return None
        path = self._path(key)
        try:
            value = decode(_checked(path.read_bytes()), kind)
            # When entries have to go, those not used for longest go first.
            with contextlib.suppress(OSError):
                os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as problem:
            self._say(message("store.result-damaged", key=key, problem=problem))
            return None
        self.keep(key)
        return value

    def put(self, key: str, value: object, kind: Any = None) -> None:
        """Store a value of a type (see `get`) under a key, all or nothing.

        Raises
        ------
        TypeError
            For a value that `kind` does not describe: it could not be read again.
        EnvironmentProblem
            When the disk is full, gone or no longer to be written to.
        """
        content = encode(value, kind)
        path = self._path(key)
        partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                # Nobody waits for the disk: what a loss of power leaves half written is seen when it is read.
                partial.write_bytes(_head(content) + content)
                with contextlib.suppress(PermissionError):  # Windows: another worker reads the same result just now
                    partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as problem:
            raise EnvironmentProblem("store.cannot-write", folder=self.root, problem=problem.strerror) from problem
        with self._lock:
            self._own.add(key)
        self.keep(key)

    def keep(self, key: str) -> None:
        """Note that this run uses an entry: `evict` spares it."""
        with self._lock:
            self._used.add(key)

    def adopt(self, keys: Iterable[str]) -> None:
        """Note results that workers of this run have put."""
        with self._lock:
            self._own.update(keys)
            self._used.update(keys)

    def take_used(self) -> list[str]:
        """The keys used since the last call: what a worker has to tell."""
        with self._lock:
            keys, self._used = sorted(self._used), set()
        return keys

    def found(self) -> Counter[str]:
        """Number of entries in use that were there before, by stage."""
        return Counter(key.partition("/")[0] for key in self._used - self._own)

    def discard(self, key: str) -> None:
        """Forget an entry, if it is there."""
        self._path(key).unlink(missing_ok=True)

    def entries(self) -> Iterator[Entry]:
        """All entries, by stage and key."""
        for path in self._files():
            if not path.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    facts = path.stat()
                    stage = path.parent.parent.name
                    yield Entry(f"{stage}/{path.name}", facts.st_size, facts.st_mtime)

    def _files(self) -> list[Path]:
        return sorted(path for path in self.root.glob("*/*/*") if path.is_file())

    def problem_of(self, key: str) -> str:
        """What is wrong with an entry; empty when nothing is."""
        try:
            _checked(self._path(key).read_bytes())
        except (OSError, ValueError) as problem:
            return str(problem)
        return ""

    def sweep(self) -> None:
        """Remove what writers that were killed left half written. Only for who is alone in the folder."""
        for path in self._files():
            if path.name.startswith("."):
                path.unlink(missing_ok=True)

    def evict(self, max_bytes: int) -> int:
        """Remove entries that this object neither gave nor took, those not used for longest first.

        Parameters
        ----------
        max_bytes : int
            Other entries stay while all together take no more than this.

        Returns
        -------
        int
            Number of entries removed.
        """
        entries = list(self.entries())
        others = [entry for entry in entries if entry.key not in self._used]
        others.sort(key=lambda entry: (-entry.used_s, entry.key))
        total = sum(entry.n_bytes for entry in entries if entry.key in self._used)
        n_removed = 0
        for entry in others:
            total += entry.n_bytes
            if total > max_bytes:
                self.discard(entry.key)
                n_removed += 1
        return n_removed


def remember(store: Store | None, key: str, make: Callable[[], T], kind: Any = None) -> T:
    """The stored value of a key, or the one made now and stored; without a store it is just made.

    `kind` is the type of the value, None for one without dataclasses: see `zemosaic.engine.values.types_within`.
    """
    if store is None:
        return make()
    found: T | None = store.get(key, kind)
    if found is None:
        found = make()
        store.put(key, found, kind)
    return found


def _head(content: bytes) -> bytes:
    return _MAGIC + len(content).to_bytes(8, "little") + hashlib.blake2b(content, digest_size=16).digest()


def _checked(stored: bytes) -> bytes:
    """The content of an entry's bytes.

    Raises
    ------
    ValueError
        When they are not whole.
    """
    content = stored[_HEAD_BYTES:]
    if stored[: len(_MAGIC)] != _MAGIC:
        raise ValueError("it does not begin as a stored result does")
    n_bytes = int.from_bytes(stored[len(_MAGIC) : len(_MAGIC) + 8], "little")
    if n_bytes != len(content):
        raise ValueError(f"it has {len(content)} of {n_bytes} bytes")
    if _head(content) != stored[:_HEAD_BYTES]:
        raise ValueError(f"the digest of its {n_bytes} bytes is another")
    return content
