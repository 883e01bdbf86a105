"""Run tasks on a cluster of dask.distributed: one that is there already, or one of local processes."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import distributed

from zemosaic.engine.code import package_digest
from zemosaic.errors import EnvironmentProblem

__all__ = ["DaskExecutor"]

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)

_POLL_S = 0.2
"""Between two looks at the cancel token: a person who stops the run does not notice it, nor does the processor."""

_RESULT_S = 3
"""How long a finished result may take to come: its worker may be gone, and then it is made again."""

_JOIN_S = 60
"""How long workers may take to come, or to come again."""

_AHEAD = 2
"""Tasks handed out for each worker: one at work, one on its way."""


class DaskExecutor:
    """Workers of a scheduler.

    The scheduler keeps what is to be done (a plugin, in dask's words) and tells it to every worker, also to those that
    join or come again later; each task's worker looks first whether it runs the same code and sees the same files.

    Parameters
    ----------
    address : str
        Of a scheduler, as ``tcp://10.0.0.1:8786``; empty starts one here with `workers` processes.
    workers : int
        Local processes.
    check : callable
        Asked while waiting; raises to stop.

    Raises
    ------
    EnvironmentProblem
        When no scheduler answers, or its workers run other code.
    """

    def __init__(self, address: str, workers: int, check: Callable[[], None]) -> None:
        self.is_here = not address
        self._check = check
        self._name = f"zemosaic-{secrets.token_hex(8)}"
        self._paths: list[str] = []
        self._cluster: Any = None
        try:
            if not address:
                self._cluster = distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    memory_limit=None,
                    # No dashboard; the port that is opened all the same is a free one, of this machine only.
                    dashboard_address="127.0.0.1:0",
                    scheduler_kwargs={"dashboard": False},
                    # What is lost is said below; how its parts take leave of each other is no news to anybody.
                    silence_logs=logging.CRITICAL,
                )
            self.client: Any = distributed.Client(self._cluster or address, timeout=10)
        except (OSError, ValueError) as problem:
            raise EnvironmentProblem("dask.no-scheduler", address=address, problem=problem) from problem
        self.workers = max(len(self.client.nthreads()), 1)

    def run(self, function: Callable[[T], R], tasks: Iterable[T], workers: int | None = None) -> Iterator[tuple[T, R]]:
        """See `RemoteExecutor.run`. Dask itself gives the tasks of a lost worker to others."""
        self._compare_code()
        self._tell(function)
        there = set(self.client.nthreads())
        # With fewer tasks than workers at once none may wait at a worker: it would be begun beside the others.
        at_once = _AHEAD * self.workers if workers is None or workers >= self.workers else workers
        waiting = deque(tasks)
        running: dict[Any, T] = {}
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    task = waiting.popleft()
                    key = f"{self._name}-{secrets.token_hex(8)}"  # equal tasks are not one task: each is to run
                    running[self.client.submit(_call, self._name, task, pure=False, key=key)] = task
                self._check()
                for future in _finished(running):
                    try:
                        # What the task raised is raised here.
                        result = future.result(timeout=_RESULT_S if future.status == "finished" else None)
                    except TimeoutError:
                        if future.status == "error":
                            raise
                        continue  # a result that was lost with its worker is made again
                    yield running.pop(future), result
            if lost := there - set(self.client.nthreads()):
                _log.warning("%d dask worker(s) were lost; what they were at was done again", len(lost))
        except distributed.scheduler.KilledWorker as problem:
            raise EnvironmentProblem("tasks.workers-died", n_attempts=problem.allowed_failures + 1) from problem
        except CancelledError as problem:
            raise EnvironmentProblem("dask.scheduler-lost") from problem
        finally:
            self.client.cancel(list(running))

    def _tell(self, function: Callable[[Any], Any]) -> None:
        """Have the scheduler tell all workers, now and later, what they are to do."""
        plugin = _Work(function, package_digest(), self._paths)
        give_up_s = time.monotonic() + _JOIN_S
        while True:
            try:
                self.client.register_plugin(plugin, name=self._name)
                return
            except OSError as problem:  # a worker was lost in the same moment
                if time.monotonic() > give_up_s:
                    raise EnvironmentProblem("dask.no-answer", problem=problem) from problem
                time.sleep(_POLL_S)

    def _compare_code(self) -> None:
        found = self._ask(package_digest)
        others = sorted(worker for worker, digest in found.items() if digest != package_digest())
        if others:
            raise EnvironmentProblem("dask.other-code", n_others=len(others), n_workers=len(found), workers=others)

    def check_shared(self, paths: Iterable[Path]) -> None:
        """See `RemoteExecutor.check_shared`."""
        self._paths = [str(path) for path in paths]
        for worker, missing in self._ask(_missing, self._paths).items():
            if missing:
                raise _not_shared(worker, missing[0])

    def _ask(self, question: Callable[..., Any], *arguments: object) -> dict[str, Any]:
        """What each worker answers; an exception where it cannot. Those that are lost meanwhile are left out."""
        try:
            self.client.wait_for_workers(1, timeout=_JOIN_S)
        except TimeoutError as problem:
            raise EnvironmentProblem("dask.no-workers") from problem
        answers: dict[str, Any] = self.client.run(question, *arguments, on_error="return")
        return {worker: answer for worker, answer in answers.items() if not isinstance(answer, OSError)}

    def close(self) -> None:
        """Leave the scheduler; end it where it was started here."""
        if self._cluster is None:
            with suppress(OSError, KeyError, ValueError):  # workers or the scheduler may be gone, or know nothing yet
                self.client.unregister_worker_plugin(self._name)
        self.client.close()
        if self._cluster is not None:
            self._cluster.close()


class _Work(distributed.WorkerPlugin):
    """What workers are to do, and what they must have for it."""

    def __init__(self, function: Callable[[Any], Any], digest: str, paths: list[str]) -> None:
        self._function, self._digest, self._paths = function, digest, paths
        self._is_checked = False

    def do(self, task: object, worker: str) -> Any:
        """Do a task; before the first one, see whether it can be done here.

        Raises
        ------
        EnvironmentProblem
            When this worker, which joined after the others were asked, runs other code or does not see the files.
        """
        if not self._is_checked:
            if package_digest() != self._digest:
                raise EnvironmentProblem("dask.joined-with-other-code", worker=worker)
            for path in _missing(self._paths):
                raise _not_shared(worker, path)
            self._is_checked = True
        return self._function(task)


def _call(name: str, task: object) -> Any:
    worker: Any = distributed.get_worker()
    return worker.plugins[name].do(task, worker.address)


def _finished(running: dict[Any, Any]) -> list[Any]:
    """Futures that have an outcome, after a short wait at most."""
    with suppress(TimeoutError, CancelledError):
        distributed.wait(list(running), timeout=_POLL_S, return_when="FIRST_COMPLETED")
    return [future for future in running if future.status != "pending"]


def _missing(paths: list[str]) -> list[str]:
    return [path for path in paths if not os.path.exists(path)]


def _not_shared(worker: str, path: str) -> EnvironmentProblem:
    return EnvironmentProblem("dask.path-unseen", worker=worker, path=path)
