"""Measuring in other processes: the results are in the store before this one asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zemosaic.engine.store import Store
from zemosaic.errors import FrameRejected
from zemosaic.model.frame import Frame
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.measuring.measure_task import measure
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.need import Measuring
from zemosaic.settings import Settings

__all__ = ["measure_remotely"]


@dataclass(frozen=True, slots=True, eq=False)
class _Measure:
    """Measures a frame into the store; gives the keys of what it put."""

    source: ImageSource
    settings: Settings
    store: Store
    need: Measuring

    def __call__(self, frame: Frame) -> list[str]:
        # A frame that is rejected is asked again, and its reason told, where the results are gathered.
        with suppress(FrameRejected):
            measure(frame, self.source, self.settings, self.store, need=self.need)
        return self.store.take_used()


def measure_remotely(
    frames: Sequence[Frame],
    source: ImageSource,
    settings: Settings,
    run: Run,
    advance: Callable[[int], None],
    task_bytes: int,
    *,
    need: Measuring,
) -> None:
    """Measure frames into the store, where the run has an executor for it; `task_bytes` is what one frame needs."""
    if run.machine.remote is None or run.store is None:
        return
    run.machine.remote.check_shared([run.store.root, Path(frames[0].storage.path)])
    workers = run.machine.plan_remote(task_bytes)
    task = _Measure(source, settings, run.store, need)
    for count, (_, keys) in enumerate(run.machine.remote.run(task, frames, workers), 1):
        run.store.adopt(keys)
        advance(count)
