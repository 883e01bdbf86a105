"""Run tasks on a cluster of dask.distributed: one that is there already, or one of local processes."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, TypeVar

import distributed

from zemosaic.engine.remote import ATTEMPTS
from zemosaic.engine.store import code_digest
from zemosaic.errors import EnvironmentProblem

__all__ = ["DaskExecutor"]

T = TypeVar("T")
R = TypeVar("R")

_POLL_S = 0.2
_RESULT_S = 60
_LOST = CancelledError, distributed.scheduler.KilledWorker
"""What is raised where a result, or what a task needs, was lost with its workers."""

_AHEAD = 2
"""Tasks handed out for each worker elsewhere: one at work, one on its way."""


class DaskExecutor:
    """Workers of a scheduler.

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
        self._cluster: Any = None
        try:
            if not address:
                self._cluster = distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, memory_limit=None, dashboard_address=None
                )
            self.client: Any = distributed.Client(self._cluster or address, timeout=10)
        except (OSError, ValueError) as problem:
            raise EnvironmentProblem(f"no dask scheduler answers at {address}: {problem}") from problem
        self.workers = max(len(self.client.nthreads()), 1)

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        """See `RemoteExecutor.run`. Dask itself gives the tasks of a lost worker to others."""
        self._compare_code()
        waiting = deque((task, 1) for task in tasks)
        shared = self.client.scatter(function, broadcast=True)
        running: dict[Any, tuple[T, int]] = {}
        ahead = 1 if self.is_here else _AHEAD
        try:
            while waiting or running:
                while waiting and len(running) < ahead * self.workers:
                    task, attempt = waiting.popleft()
                    try:
                        future = self.client.submit(_call, shared, task, pure=False, key=_new_key())
                    except _LOST:
                        # All workers that knew the function have died: it is told anew, and the task waits its turn.
                        shared = self.client.scatter(function, broadcast=True)
                        waiting.append((task, attempt))
                        continue
                    running[future] = task, attempt
                self._check()
                for future in self._finished(running):
                    task, attempt = running.pop(future)
                    try:
                        result = future.result(timeout=_RESULT_S)  # what the task raised is raised here
                    except (*_LOST, TimeoutError) as problem:
                        lost = problem
                    else:
                        yield task, result
                        continue
                    if attempt == ATTEMPTS:
                        raise EnvironmentProblem(f"{ATTEMPTS} workers were lost on one task: {lost}")
                    # All workers that knew the function may have died with it.
                    shared = self.client.scatter(function, broadcast=True)
                    waiting.append((task, attempt + 1))
        finally:
            self.client.cancel(list(running))

    def _finished(self, running: dict[Any, Any]) -> list[Any]:
        """Futures that have an outcome, after a short wait at most."""
        try:
            done: set[Any] = distributed.wait(list(running), timeout=_POLL_S, return_when="FIRST_COMPLETED").done
        except (TimeoutError, *_LOST):
            return [future for future in running if future.status != "pending"]
        return list(done)

    def _compare_code(self) -> None:
        found: dict[str, str] = self.client.run(code_digest)
        if not found:
            raise EnvironmentProblem("the dask scheduler has no workers; start some and run the same command again")
        others = sorted(worker for worker, digest in found.items() if digest != code_digest())
        if others:
            raise EnvironmentProblem(
                f"{len(others)} of {len(found)} dask workers run another version of zemosaic, numpy, scipy, numba or "
                f"astropy, or another kind of processor ({others[0]}); install the same there",
                workers=others,
            )

    def check_shared(self, paths: Iterable[Path]) -> None:
        """See `RemoteExecutor.check_shared`."""
        wanted = [str(path) for path in paths]
        for worker, missing in self.client.run(_missing, wanted).items():
            if missing:
                raise EnvironmentProblem(
                    f"dask worker {worker} does not see {missing[0]}; inputs and output must lie on storage that all "
                    "workers share, under the same path"
                )

    def close(self) -> None:
        """Leave the scheduler; end it where it was started here."""
        self.client.close()
        if self._cluster is not None:
            self._cluster.close()


def _new_key() -> str:
    """Equal tasks are not one task: each is to run."""
    return f"zemosaic-{secrets.token_hex(8)}"


def _call(function: Callable[[Any], Any], task: Any) -> Any:
    return function(task)


def _missing(paths: list[str]) -> list[str]:
    return [path for path in paths if not Path(path).exists()]
