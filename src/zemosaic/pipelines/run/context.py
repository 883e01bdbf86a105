"""What every pipeline is handed: where to write, how much to use, whom to tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from zemosaic.engine.events import CancelToken, Event, EventSink, LeftOut, Notice, StageClock
from zemosaic.engine.executor import Executor, make_executor
from zemosaic.engine.lock import locked
from zemosaic.engine.memory import default_cap_bytes, default_workers, plan_workers, resident_bytes
from zemosaic.engine.remote import RemoteExecutor, make_remote
from zemosaic.engine.store import Store
from zemosaic.errors import EnvironmentProblem
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.measurements import Measurements

__all__ = ["WORK_FOLDER", "Run", "RunOptions", "ignore", "output_folder"]

WORK_FOLDER = ".zemosaic"
"""Inside the output folder: stored results, so a second run does only what is new."""


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
        `zemosaic.pipelines.corrections.adding.keep_steady`.
    """

    workers: int = 0
    ram_bytes: int = 0
    fresh: bool = False
    yes: bool = False
    keep_warps: Path | None = None
    executor: str = "threads"
    onto: Path | None = None
    tolerance: float = 0.0


_RESULTS = {
    "measure": "measured frame(s)",
    "solve": "solved place(s)",
    "refine": "joint adjustment(s)",
    "match": "match(es)",
    "tile": "tile(s)",
    "measure_tile": "measured tile(s)",
    "patch": "patch(es)",
}
"""What the store keeps, as far as it took long to make, in words."""


def ignore(event: Event) -> None:
    """The sink of a run nobody watches."""


@dataclass(slots=True)
class Run:
    """A run in progress.

    Attributes
    ----------
    options : RunOptions
    emit : callable
        Receives every event.
    cancel : CancelToken
    store : Store or None
        Stored results; None keeps nothing.
    left_out : list of LeftOut
        Files and frames not used, for the report.
    notices : list of str
        What was decided or surprised, for the report.
    remote : RemoteExecutor or None
        Runs tasks in other processes, where that was asked for.
    measured : dict
        What was measured on each frame, also on those that are then left out, for the table of frames.
    reader : FrameReader or None
        Reads the files, where there are any.
    reads : ReadCounts
        What was read of files while frames were stacked.
    """

    options: RunOptions = field(default_factory=RunOptions)
    sink: EventSink = ignore
    cancel: CancelToken = field(default_factory=CancelToken)
    store: Store | None = None
    remote: RemoteExecutor | None = None
    left_out: list[LeftOut] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    measured: dict[FrameId, tuple[Frame, Measurements]] = field(default_factory=dict)
    reader: FrameReader | None = None
    reads: ReadCounts = field(default_factory=ReadCounts)
    clock: StageClock = field(init=False)
    executor: Executor = field(init=False)
    cap_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.clock = StageClock(self.sink)
        self.executor = make_executor(1 if self.options.executor == "serial" else self.n_workers)
        self.cap_bytes = self.options.ram_bytes or default_cap_bytes()

    @property
    def n_workers(self) -> int:
        """Tasks at once that were asked for."""
        return self.options.workers or default_workers()

    @property
    def beside_bytes(self) -> int:
        """What each worker holds beside its task: another process has a copy of all, and a cache, of its own."""
        return resident_bytes() + self.cap_bytes // 8 if self.remote is not None and self.remote.is_here else 0

    @property
    def held_bytes(self) -> int:
        """What this process holds once all frames have been read, the cache of decoded frames at its largest."""
        return resident_bytes() + (self.cap_bytes // 8 if self.reader is None else self.reader.room_bytes())

    def emit(self, event: Event) -> None:
        """Pass an event on, and remember what the report must tell."""
        if isinstance(event, LeftOut):
            self.left_out.append(event)
        elif isinstance(event, Notice):
            self.notices.append(event.message)
        self.sink(event)

    def executor_for(self, task_bytes: int) -> Executor:
        """An executor for tasks of a known need: with fewer workers where the memory cap asks for it.

        An eighth of the cap belongs to the cache of decoded frames.

        Raises
        ------
        EnvironmentProblem
            When not even one task fits.
        """
        fixed = resident_bytes() + self.cap_bytes // 8
        return make_executor(plan_workers(self.cap_bytes, self.executor.workers, fixed, task_bytes))

    def executor_within(self, task_bytes: int) -> Executor:
        """As `executor_for`, for tasks that are done in any case: where not even one fits, one after the other."""
        free = self.cap_bytes - resident_bytes() - self.cap_bytes // 8
        return make_executor(max(min(self.executor.workers, free // max(task_bytes, 1)), 1))

    def limit_workers(self, workers: int) -> None:
        """Use fewer workers from now on."""
        self.executor = make_executor(workers)

    def leave_out(self, frame: Frame, reason: object) -> None:
        """Announce that a frame is not used."""
        self.emit(LeftOut(frame.name, str(reason), frame.path))

    def notice(self, message: str, level: str = "info") -> None:
        """Announce a decision or a surprise."""
        self.emit(Notice(message, level))


@contextmanager
def output_folder(out: Path, run: Run) -> Iterator[None]:
    """Make the output folder, keep other runs out of it, and give the run its store, while the context lasts.

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
                out / WORK_FOLDER / "store", fresh=run.options.fresh, say=partial(run.notice, level="warning")
            )
            store.sweep()
        except OSError as problem:
            raise EnvironmentProblem(
                f"cannot write to {out}: {problem.strerror}; choose another folder with -o", path=str(out)
            ) from problem
        run.store = store
        run.remote = make_remote(run.options.executor, run.n_workers, run.cancel.check)
        if run.remote is not None:
            stack.callback(run.remote.close)
        yield
        found = store.found()
        if told := ", ".join(f"{n} {words}" for stage, words in _RESULTS.items() if (n := found[stage])):
            run.notice(f"taken from an earlier run: {told}")
