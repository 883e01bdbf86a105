"""Run a list of independent tasks: in this thread, or on a pool of threads.

Results come back in completion order with a bounded number of tasks in flight,
so neither the list of tasks nor the results need to fit in memory. Kernels
release the interpreter lock, so threads share the work of a patch list well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Protocol, TypeVar

__all__ = ["Executor", "SerialExecutor", "ThreadExecutor", "make_executor"]

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Something that runs tasks."""

    workers: int

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Yield ``(task, function(task))`` as tasks finish; the first error stops the rest and is raised."""
        ...

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterable[R]:
        """Results in the order of the tasks."""
        ...


class SerialExecutor:
    """One task after the other, in the calling thread."""

    workers = 1

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        """See `Executor.run`."""
        for task in tasks:
            yield task, function(task)

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterable[R]:
        """See `Executor.map`."""
        return map(function, tasks)


class ThreadExecutor:
    """A pool of threads.

    Parameters
    ----------
    workers : int
        Threads; also the number of tasks in flight.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        """See `Executor.run`."""
        queue = iter(tasks)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="zemosaic") as pool:
            running: dict[Future[R], T] = {pool.submit(function, t): t for t in islice(queue, self.workers)}
            try:
                while running:
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        task = running.pop(future)
                        result = future.result()
                        running.update({pool.submit(function, t): t for t in islice(queue, 1)})
                        yield task, result
            finally:
                # After an error or a stop nothing new is begun; tasks under way notice the cancel token.
                for future in running:
                    future.cancel()

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterable[R]:
        """See `Executor.map`."""
        with ThreadPoolExecutor(self.workers, thread_name_prefix="zemosaic") as pool:
            return list(pool.map(function, tasks))


def make_executor(workers: int) -> Executor:
    """The executor for a number of workers."""
    return SerialExecutor() if workers <= 1 else ThreadExecutor(workers)
