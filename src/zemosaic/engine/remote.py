"""Run tasks in other processes, here or elsewhere.

What of a task is to last goes into the store, written by the worker; its key comes back, and what is used up at once.
So a result is never shipped twice, a worker that dies costs the task it was at, and whoever asks next finds everything
in the store.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

from zemosaic.errors import EnvironmentProblem, SettingError

__all__ = ["ATTEMPTS", "EXECUTORS", "ProcessExecutor", "RemoteExecutor", "check_executor", "make_remote"]

T = TypeVar("T")
R = TypeVar("R")

EXECUTORS = ("threads", "serial", "processes", "dask")

ATTEMPTS = 3
"""Times that a task is tried when its worker dies: what kills three workers is the task's own fault."""

_POLL_S = 0.2
"""Between two looks at the cancel token: a person who stops the run does not notice it, nor does the processor."""


class RemoteExecutor(Protocol):
    """Something that runs tasks in other processes.

    Attributes
    ----------
    workers : int
        Tasks at once.
    is_here : bool
        Whether the processes share this machine's memory.
    """

    workers: int
    is_here: bool

    def run(self, function: Callable[[T], R], tasks: Iterable[T], workers: int | None = None) -> Iterator[tuple[T, R]]:
        """Yield ``(task, function(task))`` as tasks finish; both can be pickled, the first error is raised.

        At most `workers` tasks are under way at once, where that is fewer than there are workers.

        Raises
        ------
        EnvironmentProblem
            When a task's worker dies again and again.
        """
        ...

    def check_shared(self, paths: Iterable[Path]) -> None:
        """See to it that all workers see these files and folders.

        Raises
        ------
        EnvironmentProblem
            When one of them does not.
        """
        ...

    def close(self) -> None:
        """End what was started."""
        ...


def check_executor(name: str) -> str:
    """The name of an executor: one of `EXECUTORS`, or ``dask:ADDRESS``.

    Raises
    ------
    SettingError
        For another name.
    """
    if name in EXECUTORS or name.startswith("dask:"):
        return name
    raise SettingError("tasks.unknown-executor", name=name, known=EXECUTORS)


def make_remote(name: str, workers: int, check: Callable[[], None]) -> RemoteExecutor | None:
    """The executor of a name that `check_executor` accepts; None for those that stay in this process."""
    if name == "processes":
        return ProcessExecutor(workers, check)
    if name.startswith("dask"):
        try:
            from zemosaic.engine.dask import DaskExecutor
        except ModuleNotFoundError as problem:
            raise EnvironmentProblem("dask.needs-package", package=problem.name) from problem
        return DaskExecutor(name.partition(":")[2], workers, check)
    return None


class ProcessExecutor:
    """Processes of this machine.

    Each is started anew (not forked), is told the function once, and then given one task at a time. They leave
    Ctrl-C to this process, which ends them, and they end by themselves when this process dies.

    Parameters
    ----------
    workers : int
    check : callable
        Asked while waiting; raises to stop.
    """

    def __init__(self, workers: int, check: Callable[[], None]) -> None:
        self.workers = workers
        self.is_here = True
        self._check = check

    def check_shared(self, paths: Iterable[Path]) -> None:
        """Processes of one machine share all of them."""

    def run(self, function: Callable[[T], R], tasks: Iterable[T], workers: int | None = None) -> Iterator[tuple[T, R]]:
        """See `RemoteExecutor.run`."""
        waiting = deque((task, 1) for task in tasks)
        code = pickle.dumps(function)
        busy: dict[object, tuple[_Worker, T, int]] = {}
        idle = [_Worker(code) for _ in range(min(self.workers, workers or self.workers, len(waiting)))]
        try:
            while waiting or busy:
                while waiting and idle:
                    worker, (task, attempt) = idle.pop(), waiting.popleft()
                    busy[worker.pipe] = worker, task, attempt
                    worker.begin(task)
                self._check()
                for pipe in wait([item[0].pipe for item in busy.values()], _POLL_S):
                    worker, task, attempt = busy.pop(pipe)
                    try:
                        is_result, value = worker.pipe.recv()
                    except (EOFError, ConnectionError):
                        worker.end()
                        if attempt == ATTEMPTS:
                            raise EnvironmentProblem(
                                "tasks.workers-died-with-code", n_attempts=ATTEMPTS, exit_code=worker.process.exitcode
                            ) from None
                        waiting.appendleft((task, attempt + 1))
                        idle.append(_Worker(code))
                        continue
                    idle.append(worker)
                    if not is_result:
                        raise value
                    yield task, value
        finally:
            for worker in [*idle, *(item[0] for item in busy.values())]:
                worker.end()

    def close(self) -> None:
        """Nothing is left between two runs."""


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, code: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, code), daemon=True)
        self.process.start()
        other.close()

    def begin(self, task: object) -> None:
        """Send a task; a worker that has died is noticed when its result is waited for."""
        with contextlib.suppress(ConnectionError):
            self.pipe.send(task)

    def end(self) -> None:
        """End the process, whatever it does."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _serve(pipe: Connection, code: bytes) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    function: Callable[[Any], Any] = pickle.loads(code)  # noqa: S301 - from the parent process, not from a disk
    while True:
        try:
            task = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            answer = True, function(task)
        except Exception as problem:  # noqa: BLE001 - it is raised again in the parent
            answer = False, problem
        pipe.send(answer)
