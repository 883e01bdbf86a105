"""One run at a time in a folder."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zemosaic.errors import EnvironmentProblem

__all__ = ["locked"]

_OWNER_OFFSET = 1
"""Windows forbids reading the locked byte: who holds the lock is written behind it."""


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file while the context lasts. The system releases it when the process ends, however it ends.

    Parameters
    ----------
    path : Path
        The lock file; it stays behind, empty of meaning.
    what : str
        What is locked, for the message.

    Raises
    ------
    EnvironmentProblem
        When another run, of this process or another one, holds it.
    """
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _try_lock(number):
            os.lseek(number, _OWNER_OFFSET, os.SEEK_SET)
            owner = os.read(number, 200).decode("utf-8", "replace") or "another run"
            raise EnvironmentProblem("run.in-use", what=what, owner=owner)
        os.ftruncate(number, 0)
        os.lseek(number, _OWNER_OFFSET, os.SEEK_SET)
        os.write(number, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        os.close(number)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(number: int) -> bool:
        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(number: int) -> bool:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
