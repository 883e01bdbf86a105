"""Stored pixels of frames kept in memory, within a bound."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy.typing as npt

__all__ = ["FrameCache"]

AnyArray = npt.NDArray[Any]


class FrameCache:
    """Arrays of frames, least recently used first out. Safe to use from several threads.

    Where it is known which arrays tasks to come will ask for (`expect`), each stays until the last of these tasks has
    ended, and nothing drives it out: what is wanted again a row of patches later must not go for what is wanted now.
    What finds no room then is not kept, so a set that is too large by far still gains by what fits.

    Parameters
    ----------
    max_bytes : int
        Upper bound of what is kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._idle: OrderedDict[Hashable, AnyArray] = OrderedDict()
        self._held: dict[Hashable, AnyArray] = {}
        self._to_come: Counter[Hashable] = Counter()
        self._lock = threading.Lock()
        self._turns: dict[Hashable, threading.Lock] = {}

    @property
    def room_bytes(self) -> int:
        """What may yet be kept before something must go."""
        return max(self.max_bytes - self.n_bytes, 0)

    def get(self, key: Hashable, n_bytes: int, load: Callable[[], AnyArray]) -> AnyArray | None:
        """The array, from the cache or by calling `load`; None where it would not be kept.

        Threads that want the same array wait for the one that loads it; others do not wait.

        Parameters
        ----------
        key : hashable
        n_bytes : int
            What the array is going to take.
        load : callable
        """
        with self._lock:
            if (found := self._recall(key)) is not None:
                return found
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                if (found := self._recall(key)) is not None or not self._make_room(key, n_bytes):
                    return found
                self.n_bytes += n_bytes
            array: AnyArray | None = None
            try:
                array = load()
            finally:
                with self._lock:
                    self.n_bytes -= n_bytes
                    if array is not None:
                        self.n_bytes += array.nbytes
                        self._idle[key] = array
                        self._turns.pop(key, None)
                        self._recall(key)
        return array

    def is_expected(self, key: Hashable) -> bool:
        """Whether a task to come will ask for it."""
        with self._lock:
            return self._to_come[key] > 0

    def expect(self, keys: Iterable[Hashable], max_bytes: int) -> None:
        """Say what tasks to come will ask for, each key once for each task, and what may be kept meanwhile."""
        with self._lock:
            self.max_bytes = max_bytes
            self._to_come = Counter(keys)

    def release(self, keys: Iterable[Hashable]) -> None:
        """Say that one of the expected tasks has ended: what no other one needs goes."""
        with self._lock:
            for key in keys:
                self._to_come[key] -= 1
                if self._to_come[key] <= 0:
                    self._drop(key)

    def expect_nothing(self, max_bytes: int) -> None:
        """Keep what is used most recently again, within a bound."""
        with self._lock:
            self._to_come.clear()
            for key in list(self._held):
                self._drop(key)
            self.max_bytes = max_bytes
            self._shrink(max_bytes)

    def _recall(self, key: Hashable) -> AnyArray | None:
        if key in self._idle:
            if self._to_come[key] > 0:
                self._held[key] = self._idle.pop(key)
            else:
                self._idle.move_to_end(key)
                return self._idle[key]
        return self._held.get(key)

    def _make_room(self, key: Hashable, n_bytes: int) -> bool:
        """Let go what is least recently used until an array fits; False where it cannot, or no other task wants it."""
        if self._to_come[key] == 1 or n_bytes > self.max_bytes:
            return False
        self._shrink(self.max_bytes - n_bytes)
        return self.n_bytes + n_bytes <= self.max_bytes

    def _shrink(self, n_bytes: int) -> None:
        while self._idle and self.n_bytes > n_bytes:
            _, dropped = self._idle.popitem(last=False)
            self.n_bytes -= dropped.nbytes

    def _drop(self, key: Hashable) -> None:
        for arrays in (self._idle, self._held):
            if key in arrays:
                self.n_bytes -= arrays.pop(key).nbytes
