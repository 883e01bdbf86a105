"""Decoded frames kept in memory, within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy.typing as npt

__all__ = ["DecodedCache"]

AnyArray = npt.NDArray[Any]


class DecodedCache:
    """Decoded frames, least recently used first out. Safe to use from several threads.

    Parameters
    ----------
    max_bytes : int
        Upper bound of what is kept; a frame larger than this is handed out and forgotten.

    Attributes
    ----------
    n_decodes : int
        Frames decoded so far.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_decodes = 0
        self._arrays: OrderedDict[tuple[str, int], AnyArray] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()
        self._turns: dict[tuple[str, int], threading.Lock] = {}

    @property
    def room_bytes(self) -> int:
        """What may yet be kept before something must go."""
        return max(self.max_bytes - self._n_bytes, 0)

    def get(self, key: tuple[str, int], decode: Callable[[], AnyArray]) -> AnyArray:
        """The decoded array, from the cache or by calling `decode`.

        Threads that want the same frame wait for the one that decodes it; other frames do not wait.
        """
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                found = self._arrays.get(key)
            if found is None:
                found = decode()
                self._keep(key, found)
        return found

    def _keep(self, key: tuple[str, int], array: AnyArray) -> None:
        with self._lock:
            self.n_decodes += 1
            self._turns.pop(key, None)
            if array.nbytes > self.max_bytes:
                return
            self._arrays[key] = array
            self._n_bytes += array.nbytes
            while self._n_bytes > self.max_bytes:
                _, dropped = self._arrays.popitem(last=False)
                self._n_bytes -= dropped.nbytes
