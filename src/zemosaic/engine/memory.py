"""How much memory a run may use, and how many tasks that allows."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from zemosaic.errors import EnvironmentProblem, SettingError

__all__ = [
    "ReusedMemory",
    "cap_too_small",
    "default_cap_bytes",
    "default_workers",
    "keep_freed_memory",
    "parse_bytes",
    "peak_bytes",
    "plan_workers",
    "resident_bytes",
]

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def parse_bytes(text: str) -> int:
    """``"4G"``, ``"512M"``, ``"1.5g"`` or a plain number, in bytes.

    Raises
    ------
    SettingError
        When it is not a size.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    if not match or float(match[1]) <= 0:
        raise SettingError("setting.no-size", text=text)
    return int(float(match[1]) * _UNITS[match[2]])


def _cgroup_free_bytes() -> int | None:
    """What the control group of this process leaves free (containers), None without a limit."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
        return None if limit == "max" else max(int(limit) - int(used), 0)
    except (OSError, ValueError):
        return None


def default_cap_bytes() -> int:
    """Half of the memory that is free now, control groups respected."""
    free = psutil.virtual_memory().available
    group = _cgroup_free_bytes()
    return int(free if group is None else min(free, group)) // 2


def default_workers() -> int:
    """Processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Windows and macOS
        return os.cpu_count() or 1


def plan_workers(cap_bytes: int, workers: int, fixed_bytes: int, task_bytes: int) -> int:
    """How many of the wanted workers fit under the cap, each with a task of `task_bytes`.

    Raises
    ------
    EnvironmentProblem
        When not even one does.
    """
    fitting = (cap_bytes - fixed_bytes) // max(task_bytes, 1)
    if fitting < 1:
        raise cap_too_small(cap_bytes, fixed_bytes + task_bytes)
    return min(workers, fitting)


def cap_too_small(cap_bytes: int, needed_bytes: int) -> EnvironmentProblem:
    """The error of a run whose smallest task does not fit under the memory cap."""
    return EnvironmentProblem("run.cap-too-small", cap_bytes=cap_bytes, needed_bytes=needed_bytes)


class ReusedMemory:
    """Memory that tasks take turns with: to clear fresh pages for each takes longer than to fill them.

    As many blocks are kept as tasks held one at once. Safe to use from several threads.

    Parameters
    ----------
    least_bytes : int
        Size of a block at least: what the largest task needs, so that none is ever replaced.
    """

    def __init__(self, least_bytes: int = 0) -> None:
        self._least_bytes = least_bytes
        self._idle: list[npt.NDArray[np.uint8]] = []

    @contextmanager
    def block(self, n_bytes: int) -> Iterator[npt.NDArray[np.uint8]]:
        """A block for this task alone while the context lasts; it holds anything."""
        try:
            block = self._idle.pop()
        except IndexError:
            block = np.empty(0, np.uint8)
        if block.size < n_bytes:
            # The old one goes before the new one comes.
            del block
            block = np.empty(max(n_bytes, self._least_bytes), np.uint8)
        try:
            yield block[:n_bytes]
        finally:
            self._idle.append(block)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h

_KEPT_BYTES = 256 << 20
"""Arrays up to this size are handed out again: more than any window takes."""


def keep_freed_memory() -> None:
    """Let the allocator hand out freed memory again instead of giving it back to the system (glibc; else nothing).

    Every window of a frame is an array of some MB. Such arrays come as fresh pages by default, and clearing those costs
    as much as filling them. All threads share one store of memory: those that glibc gives each by itself are made of
    pieces of 64 MB, and one that is free goes back to the system whatever the limits say. `resident_bytes`, which the
    stages ask before they plan their memory, gives back what is free.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return
    set_option(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    set_option(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    set_option(_M_ARENA_MAX, 1)


def peak_bytes() -> int | None:
    """The most memory that this process has taken so far; None where the system does not tell."""
    told = psutil.Process().memory_info()
    if hasattr(told, "peak_wset"):  # Windows
        return int(told.peak_wset)
    try:
        import resource
    except ImportError:
        return None
    # Kilobytes, but bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident_bytes() -> int:
    """Memory this process holds now, after free pages that its allocator kept were given back (glibc)."""
    trim = _allocator_trim()
    if trim is not None:
        trim(0)
    return int(psutil.Process().memory_info().rss)


@cache
def _allocator_trim() -> Callable[[int], int] | None:
    """``malloc_trim`` where there is one: without it glibc keeps what large temporary arrays of a stage took."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # macOS, musl; Windows cannot look into its own process
        return None
    return trim
