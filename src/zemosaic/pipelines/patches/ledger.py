"""Patches that an earlier run finished: found where they lie in its mosaic, checked, and not made again.

A finished patch is an entry of the store that holds only its counts and the checksums of its planes; its pixels are
in the mosaic itself, under its temporary name or, from a run that ended, under its final one. So nothing is written
twice, and what is not on the disk as it was written is noticed and made again.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.engine.store import Store
from zemosaic.engine.values import digest_of
from zemosaic.io.write.finished_mosaic import FinishedMosaic
from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.model.sky.grid import Patch
from zemosaic.pipelines.patches.jobs import MosaicJob
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.stages.stack.stack import StackedPatch

__all__ = ["PatchCounts", "PatchLedger", "PatchPlanes", "forget_unused_results", "open_ledger"]

STORE_SHARE = 5
"""Results of earlier runs may take a fifth of the input's bytes, those of this run included."""


@dataclass(frozen=True, slots=True)
class PatchCounts:
    """What the report wants to know of a patch.

    Attributes
    ----------
    n_samples, n_rejected : int
    by_frame : tuple of (int, int)
        See `StackedPatch.by_frame`; the frames are those that reach the patch, in the order of their ids.
    """

    n_samples: int
    n_rejected: int
    by_frame: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, made: StackedPatch) -> PatchCounts:
        """Those of a patch that has been stacked."""
        return cls(int(made.coverage.sum()), int(made.rejected.sum()), made.by_frame)


@dataclass(frozen=True, slots=True)
class _Finished:
    """A finished patch: its counts, and a CRC-32 of each plane's values in native byte order."""

    counts: PatchCounts
    checksums: dict[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class PatchPlanes:
    """A patch that another process made: in the store until it is written into the mosaic."""

    counts: PatchCounts
    planes: dict[str, npt.NDArray[Any]]


class PatchLedger:
    """Where patches are written, and which of them need not be made. Safe to use from several threads.

    Parameters
    ----------
    job : MosaicJob
    file : MosaicFile
        Takes the planes; may hold those of a run that was stopped. Under its final name may lie the mosaic of one that
        ended.
    store : Store
    pixels : str
        Digest of whatever else decides the pixels that are read (defect maps).
    steady : bool
        Whether many inputs are what they were in an earlier run of fewer.
    """

    def __init__(
        self,
        job: MosaicJob,
        file: MosaicFile,
        store: Store,
        pixels: str,
        *,
        steady: bool = False,
    ) -> None:
        self._job, self._file, self._store, self._steady = job, file, store, steady
        self._dtypes = {plane.name: np.dtype(plane.dtype) for plane in job.planes}
        self._before = None if store.fresh else FinishedMosaic.open(file.path)
        self._common = digest_of(job.fwhm_px, job.warp, job.stack, pixels)
        self._checksums: dict[Box, dict[str, int]] = {}
        self._lock = threading.Lock()

    def fitting_sizes(self, sizes: Sequence[int]) -> list[int]:
        """The sizes of patches to choose from: none above that of an earlier run, whose patches can then be taken."""
        keys = self._size_keys() if self._steady else self._size_keys()[:1]
        before: int = next(filter(None, map(self._store.get, keys)), max(sizes))
        return [size for size in sizes if size <= before] or [sizes[-1]]

    def record_size(self, size: int) -> None:
        """Note the size of the patches that are going to be made."""
        for key in self._size_keys():
            if self._store.get(key) != size:
                self._store.put(key, size)

    def _size_keys(self) -> list[str]:
        """Of a run of the same inputs, and of one of any inputs that was stacked in the same way."""
        return [make_key("cut", self._common, self._job.contents), make_key("cut", self._common)]

    def write(self, name: str, box: Box, values: npt.NDArray[Any]) -> None:
        """Write a plane of a patch's inner box; see `PlaneSink.write`."""
        self._file.write(name, box, values)
        self.note(name, box, values)

    def note(self, name: str, box: Box, values: npt.NDArray[Any]) -> None:
        """Note the checksum of a plane of a patch's inner box that is written by others."""
        checksum = zlib.crc32(np.ascontiguousarray(values, self._dtypes[name]).data)
        with self._lock:
            self._checksums.setdefault(box, {})[name] = checksum

    def record(self, patch: Patch, counts: PatchCounts) -> None:
        """Note that all planes of a patch have been written."""
        with self._lock:
            checksums = self._checksums.pop(patch.inner)
        self._store.put(self._key(patch), _Finished(counts, checksums), _Finished)

    def recall(self, patch: Patch) -> PatchCounts | None:
        """The counts of a patch that is in the mosaic already, or could be copied into it; None when it is to be made.

        Only patches of the same box count: another memory cap may cut the sky otherwise.
        """
        found: _Finished | None = self._store.get(self._key(patch), _Finished)
        if found is None or not self._dtypes.keys() <= found.checksums.keys():
            return None
        if not all(self._take(name, patch.inner, found.checksums[name]) for name in self._dtypes):
            return None
        return found.counts

    def read_data(self, box: Box) -> npt.NDArray[Any]:
        """DATA of a finished patch, NaN where there are none."""
        return self._file.read("DATA", box)

    def planes_key(self, patch: Patch) -> str:
        """Key under which another process stores a patch."""
        return make_key("planes", self._key(patch))

    def adopt(self, patch: Patch) -> bool:
        """Write a patch that another process stored, if it did."""
        key = self.planes_key(patch)
        found: PatchPlanes | None = self._store.get(key, PatchPlanes)
        if found is None or found.planes.keys() != self._dtypes.keys():
            return False
        for name, values in found.planes.items():
            self.write(name, patch.inner, values)
        self.record(patch, found.counts)
        self._store.discard(key)
        return True

    @property
    def dtypes(self) -> dict[str, str]:
        """Numpy types of the planes by name."""
        return {name: dtype.str for name, dtype in self._dtypes.items()}

    def _take(self, name: str, box: Box, checksum: int) -> bool:
        """Whether a plane has the values that were finished; those of the earlier mosaic are copied."""
        if zlib.crc32(self._file.read(name, box).data) == checksum:
            return True
        values = self._before.read(name, box) if self._before is not None else None
        if values is None or zlib.crc32(values.data) != checksum:
            return False
        self._file.write(name, box, values)
        return True

    def _key(self, patch: Patch) -> str:
        return make_key("patch", self._common, patch, self._job.contents_near(patch.outer))


def open_ledger(job: MosaicJob, file: MosaicFile, run: Run) -> PatchLedger | None:
    """The ledger of a run's mosaic; None for a run that stores nothing."""
    if run.store is None:
        return None
    return PatchLedger(job, file, run.store, digest_of(job.source), steady=run.options.tolerance > 0)


def forget_unused_results(run: Run, frames: Sequence[Frame]) -> None:
    """After a run that ended well: remove stored results that it had no use for, beyond their share of the disk."""
    if run.store is None:
        return
    for left_behind in run.store.root.parent.glob("*.partial"):
        left_behind.unlink(missing_ok=True)
    n_input = sum(os.path.getsize(path) for path in {frame.storage.path for frame in frames} if os.path.exists(path))
    run.store.evict(n_input // STORE_SHARE)
