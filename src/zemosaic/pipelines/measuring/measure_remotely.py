"""Measuring in other processes: the results are in the store before this one asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zemosaic.errors import FrameRejected
from zemosaic.model.frame import FrameId
from zemosaic.pipelines.measuring.defects import DefectWatch
from zemosaic.pipelines.measuring.measure_task import MeasureRequest, MeasureTask
from zemosaic.pipelines.run.context import Run
from zemosaic.stages.measure.hot_pixels import Residuals

__all__ = ["measure_remotely"]


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """What comes back from another process: what is not in the store.

    Attributes
    ----------
    keys : list of str
        Of the stored results.
    rejected : FrameRejected or None
        Why the frame cannot be used.
    residuals : ndarray or None
        Not stored: two bytes a pixel that are added up at once, and never wanted again.
    """

    keys: list[str]
    rejected: FrameRejected | None
    residuals: Residuals | None


@dataclass(frozen=True, slots=True, eq=False)
class _IntoTheStore:
    """Measures a frame into the store."""

    task: MeasureTask

    def __call__(self, request: MeasureRequest) -> _Answer:
        seen = self.task(request)
        keys = self.task.store.take_used() if self.task.store is not None else []
        return _Answer(keys, seen.found if isinstance(seen.found, FrameRejected) else None, seen.residuals)


def measure_remotely(
    requests: Sequence[MeasureRequest],
    task: MeasureTask,
    watch: DefectWatch,
    run: Run,
    advance: Callable[[int], None],
    task_bytes: int,
) -> dict[FrameId, FrameRejected]:
    """Measure frames into the store, where the run has an executor for it; `task_bytes` is what one frame needs.

    Their residuals are shown to `watch`. Returned is why frames cannot be used.
    """
    if run.machine.remote is None or run.store is None:
        return {}
    run.machine.remote.check_shared([run.store.root, Path(requests[0].frame.storage.path)])
    workers = run.machine.plan_remote(task_bytes)
    rejected: dict[FrameId, FrameRejected] = {}
    for count, (request, answer) in enumerate(run.machine.remote.run(_IntoTheStore(task), requests, workers), 1):
        run.store.adopt(answer.keys)
        if answer.residuals is not None:
            watch.add(request.frame, answer.residuals)
        if answer.rejected is not None:
            rejected[request.frame.id] = answer.rejected
        advance(count)
    return rejected
