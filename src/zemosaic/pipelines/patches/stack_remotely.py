"""Stacking in other processes: patches are in the store before this one asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.engine.store import Store
from zemosaic.model.box import Box
from zemosaic.pipelines.patches.jobs import MosaicJob, PatchJob
from zemosaic.pipelines.patches.ledger import PatchCounts, PatchLedger, PatchPlanes
from zemosaic.pipelines.patches.make_patch import make_patch
from zemosaic.pipelines.patches.planes import write_patch
from zemosaic.pipelines.run.context import Run

__all__ = ["never_stop", "stack_remotely"]


@dataclass(frozen=True, slots=True, eq=False)
class _Stack:
    """Makes a patch into the store under the key it comes with; only the patch's own frames travel with it."""

    job: MosaicJob
    dtypes: dict[str, str]
    store: Store

    def __call__(self, task: tuple[PatchJob, str]) -> str:
        work, key = task
        made = make_patch(self.job, work, never_stop)
        planes = _Planes(self.dtypes)
        write_patch(planes, work.patch.inner, made, list(self.dtypes))
        self.store.put(key, PatchPlanes(PatchCounts.of(made), planes.values), PatchPlanes)
        return key


class _Planes:
    """The planes of one patch as they are written."""

    def __init__(self, dtypes: dict[str, str]) -> None:
        self._dtypes = dtypes
        self.values: dict[str, npt.NDArray[Any]] = {}

    def write(self, name: str, box: Box, values: npt.NDArray[Any]) -> None:
        """See `PlaneSink.write`."""
        self.values[name] = np.ascontiguousarray(values, self._dtypes[name])


def stack_remotely(
    job: MosaicJob,
    works: Sequence[PatchJob],
    ledger: PatchLedger,
    run: Run,
    advance: Callable[[int], None],
    workers: int,
) -> None:
    """Make the patches that are not finished, where the run has an executor for it, and write them into the mosaic.

    At most `workers` at once where the other processes share this machine's memory.
    """
    if run.machine.remote is None or run.store is None:
        return
    tasks = []
    for work in works:
        run.cancel.check()
        if not (ledger.recall(work.patch) or ledger.adopt(work.patch)):
            tasks.append((work, ledger.planes_key(work.patch)))
    at_once = workers if run.machine.remote.is_here else None
    task = _Stack(job.alone(), ledger.dtypes, run.store)
    for count, ((work, _), key) in enumerate(run.machine.remote.run(task, tasks, at_once), 1):
        run.store.adopt([key])
        ledger.adopt(work.patch)
        advance(count + len(works) - len(tasks))


def never_stop() -> None:
    """A task in another process is ended with it."""
