"""What every pipeline is handed: where to write, how much to use, whom to tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from zemosaic.engine.events import CancelToken, EventSink
from zemosaic.engine.lock import locked
from zemosaic.engine.memory import default_cap_bytes, default_workers
from zemosaic.engine.remote import make_remote
from zemosaic.engine.store import Store
from zemosaic.errors import EnvironmentProblem
from zemosaic.io.read.find_files import WORK_FOLDER
from zemosaic.pipelines.run.log import Log, ignore_event
from zemosaic.pipelines.run.machine import Machine
from zemosaic.text import message

__all__ = ["WORK_FOLDER", "Run", "RunOptions", "output_folder", "start_run"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run uses the machine, and what it keeps of an earlier one.

    Attributes
    ----------
    workers : int
        Tasks at once; 0 takes the processors there are.
    ram_bytes : int
        Memory cap; 0 takes half of what is free.
    fresh : bool
        Ignore stored results.
    yes : bool
        Go on where a question would be asked.
    keep_warps : Path or None
        Folder for each frame's registered, corrected image.
    onto : Path or None
        A mosaic whose grid the new one keeps, grown at its edges where frames reach beyond: frames are added to it.
    executor : str
        Where tasks run: see `zemosaic.engine.remote.check_executor`.
    tolerance : float
        Where frames are added: how much those that are there already may change and yet stay as they are; see
        `zemosaic.pipelines.corrections.adding.keep_steady_frames`.
    watched : bool
        Whether another program watches: finished patches are told, with a picture that grows.
    compile_ahead : bool
        Whether kernels that this machine has not compiled yet are compiled in other processes before they are called.
    language : str
        Of the report page: one of `zemosaic.text.LANGUAGES`.
    """

    workers: int = 0
    ram_bytes: int = 0
    fresh: bool = False
    yes: bool = False
    keep_warps: Path | None = None
    executor: str = "threads"
    onto: Path | None = None
    tolerance: float = 0.0
    watched: bool = False
    compile_ahead: bool = False
    language: str = "en"


_RESULTS = {
    "measure": message("run.kept-measure"),
    "solve": message("run.kept-solve"),
    "refine": message("run.kept-refine"),
    "match": message("run.kept-match"),
    "tile": message("run.kept-tile"),
    "measure_tile": message("run.kept-measure-tile"),
    "patch": message("run.kept-patch"),
}
"""What the store keeps, as far as it took long to make, in words."""


@dataclass(frozen=True, slots=True)
class Run:
    """What every pipeline is handed. It holds no result and never changes; `start_run` makes one.

    Attributes
    ----------
    options : RunOptions
    machine : Machine
        How much of the machine may be used.
    log : Log
        Whom to tell.
    cancel : CancelToken
    store : Store or None
        Stored results; None keeps nothing.
    """

    options: RunOptions
    machine: Machine
    log: Log
    cancel: CancelToken
    store: Store | None = None


def start_run(
    options: RunOptions | None = None,
    sink: EventSink = ignore_event,
    cancel: CancelToken | None = None,
    store: Store | None = None,
) -> Run:
    """A run about to begin: the memory cap is that of now.

    Parameters
    ----------
    options : RunOptions, optional
    sink : EventSink
        Receives every event.
    cancel : CancelToken, optional
    store : Store, optional
        Stored results; `output_folder` gives a run its own.
    """
    options = options or RunOptions()
    workers = 1 if options.executor == "serial" else options.workers or default_workers()
    machine, log = Machine(options.ram_bytes or default_cap_bytes(), workers), Log(sink)
    if options.watched:
        log.cap_memory(machine.cap_bytes)
    return Run(options, machine, log, cancel or CancelToken(), store)


@contextmanager
def output_folder(out: Path, run: Run) -> Iterator[Run]:
    """Make the output folder and keep other runs out of it while the context lasts.

    Yields
    ------
    Run
        The same with a store, and with workers elsewhere where they were asked for.

    Raises
    ------
    EnvironmentProblem
        When the folder cannot be made or written, or another run is at work in it.
    """
    with ExitStack() as stack:
        try:
            (out / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(out / WORK_FOLDER / "lock", str(out)))
            store = Store(
                out / WORK_FOLDER / "store", fresh=run.options.fresh, say=partial(run.log.notice, level="warning")
            )
            store.sweep()
        except OSError as problem:
            raise EnvironmentProblem("output.cannot-write-folder", folder=out, problem=problem.strerror) from problem
        remote = make_remote(run.options.executor, run.machine.workers, run.cancel.check)
        if remote is not None:
            stack.callback(remote.close)
        yield replace(run, store=store, machine=replace(run.machine, remote=remote))
        found = store.found()
        results = [message("run.n-of", n=n, what=what) for stage, what in _RESULTS.items() if (n := found[stage])]
        if results:
            run.log.notice(message("run.taken-over", results=results))
