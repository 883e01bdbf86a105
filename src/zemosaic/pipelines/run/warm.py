"""Kernels that this machine has not compiled yet are compiled before they are called, in several processes."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from zemosaic.engine.remote import ProcessExecutor
from zemosaic.errors import Cancelled, EnvironmentProblem
from zemosaic.kernels.compiled import cache_problems, compile_kernel, is_kept, kept_in
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.kernels import GROUPS, list_kernels
from zemosaic.settings import Settings
from zemosaic.text import message

__all__ = ["choose_groups", "compile_ahead", "compile_all", "compile_beside"]

_COMPILER_BYTES = 400 << 20
"""What a process that compiles holds at most: 330 MB were seen. All take half of the cap: frames are read beside."""

_METHODS = {
    "mean": ("mean",),
    "median": ("stack", "median"),
    "minmax": ("stack", "minmax", "clip"),
    "esd": ("stack", "esd", "clip"),
    "winsorized": ("stack", "winsorized", "clip"),
    "linear_fit": ("stack", "linear_fit", "clip"),
}
"""Groups of the stack's methods; the others clip by kappa sigma."""

_WARPS = {"area": "areas", "drizzle": "areas", "nearest": "maps", "bilinear": "maps"}
"""Groups of the resampling kernels; the others are Lanczos kernels. Nearest and bilinear are what maps need anyway."""

_FEWEST = 3
"""To start processes takes as long as to compile so many kernels of usual size."""


def choose_groups(settings: Settings, *, matched: bool, raw: bool) -> list[str]:
    """Groups of kernels that the frames of a run need.

    Parameters
    ----------
    settings : Settings
    matched : bool
        Whether frames are matched, not only weighed.
    raw : bool
        Whether any of them is a raw colour frame.
    """
    chosen = {"weigh", *_METHODS.get(settings.stack.method, ("stack", "clip", "kappa")), "maps"}
    chosen.add(_WARPS.get(settings.warp.kernel, "colours" if raw else "points"))
    if matched:
        chosen.add("match")
    if raw:
        chosen.add("raws")
    else:  # raw frames have no empty parts, and no spikes are looked for in them; what else comes compiles it itself
        chosen |= {"gaps", "spikes"} if "points" in chosen else {"gaps"}
    if settings.stack.region_sigma > 0 and "clip" in chosen:
        chosen.add("regions")
    return [group for group in GROUPS if group in chosen]


@contextmanager
def compile_beside(groups: Iterable[str], run: Run) -> Iterator[None]:
    """`compile_ahead` while the body of the context works; at its end what is still missing is waited for.

    A kernel that the body calls meanwhile is waited for where a process is at it, else compiled at once. A body that
    fails ends the compiling.
    """
    over = threading.Event()

    def check() -> None:
        run.cancel.check()
        if over.is_set():
            raise Cancelled("run.stopped")

    with ThreadPoolExecutor(1) as pool:
        compiling = pool.submit(compile_ahead, groups, run, check=check)
        try:
            yield
            compiling.result()
        finally:
            over.set()


def compile_ahead(
    groups: Iterable[str], run: Run, fewest: int = _FEWEST, check: Callable[[], None] | None = None
) -> int:
    """Compile what is not there yet of some groups, into the files that all processes share.

    Nothing is started where less than `fewest` are missing. Where no file can be written it is said, and each kernel is
    compiled when it is called, by every run again. `check` is asked while waiting, by default the run's token.

    Returns
    -------
    int
        How many were compiled.

    Raises
    ------
    Cancelled
        When a stop is asked for.
    """
    if problems := cache_problems():
        run.log.notice(message("kernels.not-kept", reason=problems[0]), level="warning")
        return 0
    wanted = [(group, k) for group in groups for k, known in enumerate(list_kernels(group)) if not is_kept(*known)]
    if len(wanted) < fewest:
        return 0
    n_processes = max(min(run.machine.workers, run.machine.cap_bytes // (2 * _COMPILER_BYTES), len(wanted)), 1)
    run.log.notice(message("kernels.compiling", n=len(wanted), n_processes=n_processes))
    advance = run.log.start("compile", len(wanted))
    executor = ProcessExecutor(n_processes, check or run.cancel.check)
    try:
        for done, _ in enumerate(executor.run(_compile, wanted), 1):
            advance(done)
    except EnvironmentProblem as problem:  # they will be compiled when they are called
        run.log.notice(message("kernels.compilers-died", reason=str(problem)), level="warning")
    run.log.end("compile", message("done.compile", n=len(wanted)))
    return len(wanted)


def compile_all(run: Run) -> str:
    """Compile all kernels that are not there yet; a sentence on what was done.

    Raises
    ------
    EnvironmentProblem
        Where they cannot be kept.
    """
    known = [item for group in GROUPS for item in list_kernels(group)]
    begun = time.perf_counter()
    n = compile_ahead(GROUPS, run, fewest=1)
    if problems := cache_problems():
        raise EnvironmentProblem("kernels.not-kept", reason=problems[0])
    where = kept_in(known[0][0])
    return f"{n} of {len(known)} kernels compiled in {time.perf_counter() - begun:.1f} s; they are kept in {where}"


def _compile(wanted: tuple[str, int]) -> bool:
    """In a process of its own: compile one kernel; whether that could be done without calling it."""
    gc.disable()  # compiling makes millions of objects and few circles of them: looking for these is a tenth of it
    group, k = wanted
    return compile_kernel(*list_kernels(group)[k])
