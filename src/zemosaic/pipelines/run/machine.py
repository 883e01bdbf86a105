"""How much of the machine a run may use, and what that allows a task that needs so much."""

from __future__ import annotations

from dataclasses import dataclass

from zemosaic.engine.executor import Executor, make_executor
from zemosaic.engine.memory import plan_workers, resident_bytes
from zemosaic.engine.remote import RemoteExecutor

__all__ = ["Machine"]

_CACHE_PART = 8
"""One part in so many of the memory cap belongs to the cache of decoded frames: several frames of any camera under a
cap that holds the patches at all, and little enough that patches of full size still fit beside it."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run may use. Nothing changes it: a loop whose tasks want fewer workers makes an executor of its own.

    Attributes
    ----------
    cap_bytes : int
        Memory cap.
    workers : int
        Tasks at once that were asked for.
    remote : RemoteExecutor or None
        Runs tasks in other processes, where that was asked for.
    """

    cap_bytes: int
    workers: int
    remote: RemoteExecutor | None = None

    @property
    def cache_bytes(self) -> int:
        """The share of the cap that the cache of decoded frames may fill."""
        return self.cap_bytes // _CACHE_PART

    @property
    def beside_bytes(self) -> int:
        """What each worker holds beside its task: another process has a copy of all, and a cache, of its own."""
        return resident_bytes() + self.cache_bytes if self.remote is not None and self.remote.is_here else 0

    def plan(self, task_bytes: int) -> int:
        """How many workers may do tasks of a known need at once.

        Raises
        ------
        EnvironmentProblem
            When not even one task fits.
        """
        return plan_workers(self.cap_bytes, self.workers, resident_bytes() + self.cache_bytes, task_bytes)

    def plan_remote(self, task_bytes: int) -> int | None:
        """As `plan`, for tasks in other processes; None where they use the memory of other machines.

        Raises
        ------
        EnvironmentProblem
            When not even one task fits.
        """
        if self.remote is None or not self.remote.is_here:
            return None
        return plan_workers(self.cap_bytes, self.remote.workers, resident_bytes(), task_bytes + self.beside_bytes)

    def make_executor(self) -> Executor:
        """An executor with all workers, for tasks that take no memory to speak of."""
        return make_executor(self.workers)

    def executor_for(self, task_bytes: int) -> Executor:
        """An executor for tasks of a known need; see `plan`."""
        return make_executor(self.plan(task_bytes))

    def executor_within(self, task_bytes: int) -> Executor:
        """As `executor_for`, for tasks that are done in any case: where not even one fits, one after the other."""
        free = self.cap_bytes - resident_bytes() - self.cache_bytes
        return make_executor(max(min(self.workers, free // max(task_bytes, 1)), 1))
