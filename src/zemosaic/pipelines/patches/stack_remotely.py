"""Stacking in other processes: patches are in the store before this one asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.engine.store import Store
from zemosaic.model.box import Box
from zemosaic.model.sky.grid import Patch
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.patches.jobs import PatchInput
from zemosaic.pipelines.patches.ledger import PatchCounts, PatchLedger, PatchPlanes
from zemosaic.pipelines.patches.make_patch import make_patch
from zemosaic.pipelines.patches.planes import write_patch
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import Settings
from zemosaic.stages.stack.stack import StackedPatch

__all__ = ["stack_remotely"]


@dataclass(frozen=True, slots=True, eq=False)
class _Stack:
    """Makes a patch into the store under the key it comes with."""

    inputs: Sequence[PatchInput]
    source: ImageSource
    settings: Settings
    fwhm_px: float
    dtypes: dict[str, str]
    store: Store

    def __call__(self, task: tuple[Patch, str]) -> str:
        patch, key = task
        n_channels = self.inputs[0].frame.n_channels
        made = make_patch(patch, self.inputs, self.source, self.settings, self.fwhm_px, n_channels, _never)
        made = made or StackedPatch.empty((n_channels, *patch.inner.shape))
        planes = _Planes(self.dtypes)
        write_patch(planes, patch.inner, made, list(self.dtypes))
        counts = PatchCounts(int(made.coverage.sum()), int(made.rejected.sum()))
        self.store.put(key, PatchPlanes(counts, planes.values))
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
    patches: Sequence[Patch],
    inputs: Sequence[PatchInput],
    source: ImageSource,
    settings: Settings,
    fwhm_px: float,
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
    for patch in patches:
        run.cancel.check()
        if not (ledger.recall(patch) or ledger.adopt(patch)):
            tasks.append((patch, ledger.planes_key(patch)))
    at_once = workers if run.machine.remote.is_here else None
    task = _Stack(inputs, source, settings, fwhm_px, ledger.dtypes, run.store)
    for count, ((patch, _), key) in enumerate(run.machine.remote.run(task, tasks, at_once), 1):
        run.store.adopt([key])
        ledger.adopt(patch)
        advance(count + len(patches) - len(tasks))


def _never() -> None:
    """A task in another process is ended with it."""
