"""The work of making a mosaic, as values: planned from boxes alone, before a pixel is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zemosaic.engine.values import digest_of
from zemosaic.io.write.mosaic_file import Plane
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.model.kind import Kind
from zemosaic.model.runs import Runs
from zemosaic.model.sky.grid import Patch, SkyGrid
from zemosaic.pipelines.measuring.clean_source import CleanSource
from zemosaic.settings import StackSettings, WarpSettings
from zemosaic.stages.warp.warp import WarpPlan

__all__ = ["BoxIndex", "FrameVisit", "MosaicJob", "PatchInput", "PatchJob", "plan_patch"]

F4 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PatchInput:
    """One frame as the patch task needs it.

    Attributes
    ----------
    frame : Frame
    plan : WarpPlan
        Coordinates, correction, noise.
    sky : ndarray, shape (c,)
        Sky level of the frame in mosaic units, for the noise model.
    light : ndarray, shape (c,)
        By how much of itself the noise's variance grows per mosaic unit above the sky; 0 where unknown.
    own_share : ndarray, shape (c,)
        Variance of a single sample over what its weight states; 1 but for raw frames.
    outside : ndarray, int32, shape (n, 3)
        What of the frame's box lies beyond its footprint (`Measurements.outside`).
    is_witness : bool
        Whether its samples only help to judge those of the others, and count nowhere.
    """

    frame: Frame
    plan: WarpPlan
    sky: F4
    light: F4
    own_share: F4
    outside: Runs = field(default_factory=lambda: np.zeros((0, 3), np.int32))
    is_witness: bool = False

    @property
    def noise(self) -> float:
        """Noise of a pixel at the frame's centre, mosaic units, of the channel where it is largest."""
        plan = self.plan
        return float(np.max(plan.area_ref_deg2 / (plan.scale.gain * plan.area_deg2) * plan.sigma))

    def in_unit(self, unit: float) -> PatchInput:
        """The same frame for a mosaic whose values are `unit` times smaller."""
        if unit == 1:
            return self
        plan = replace(self.plan, scale=self.plan.scale.in_unit(unit))
        by = np.float32(unit)
        return replace(self, plan=plan, sky=self.sky / by, light=self.light * by)


@dataclass(frozen=True, slots=True, eq=False)
class FrameVisit:
    """A frame and what of a patch it reaches.

    Attributes
    ----------
    item : PatchInput
    part : Box
        Pixels of the grid, within the patch's outer box; never empty.
    """

    item: PatchInput
    part: Box


@dataclass(frozen=True, slots=True, eq=False)
class PatchJob:
    """A patch and the frames that make it, sorted by FrameId."""

    patch: Patch
    visits: tuple[FrameVisit, ...]


class BoxIndex:
    """Finds which of many boxes meet another one.

    Parameters
    ----------
    boxes : iterable of Box
    """

    def __init__(self, boxes: Iterable[Box]) -> None:
        self._edges = np.array([[b.y0, b.y1, b.x0, b.x1] for b in boxes]).reshape(-1, 4).T

    def meeting(self, box: Box) -> list[int]:
        """Numbers of the boxes that share a pixel with it, in order."""
        y0, y1, x0, x1 = self._edges
        meets = (y0 < box.y1) & (y1 > box.y0) & (x0 < box.x1) & (x1 > box.x0)
        found: list[int] = np.flatnonzero(meets).tolist()
        return found


@dataclass(frozen=True, eq=False)
class MosaicJob:
    """All that the pixels of a mosaic follow from.

    Attributes
    ----------
    inputs : sequence of PatchInput
        The frames, sorted by FrameId.
    grid : SkyGrid
    fwhm_px : float
        Typical FWHM of a star in mosaic pixels.
    kind : Kind
        What the frames have in common.
    planes : tuple of Plane
        What is written.
    warp : WarpSettings
    stack : StackSettings
    source : CleanSource
        Reads windows of the frames.
    unit : float
        Samples are divided by it when they are warped, and what is made of them is multiplied by it: a power of two,
        so that nothing is rounded.
    """

    inputs: Sequence[PatchInput]
    grid: SkyGrid
    fwhm_px: float
    kind: Kind
    planes: tuple[Plane, ...]
    warp: WarpSettings
    stack: StackSettings
    source: CleanSource
    unit: float = 1.0

    @property
    def names(self) -> list[str]:
        """Of the planes."""
        return [plane.name for plane in self.planes]

    @cached_property
    def index(self) -> BoxIndex:
        """Finds the inputs whose boxes meet a box of the grid."""
        return BoxIndex(item.plan.lattice.box for item in self.inputs)

    @cached_property
    def contents(self) -> list[str]:
        """A digest of each input: all that its samples follow from but its pixels' source."""
        return [digest_of(item) for item in self.inputs]

    def contents_near(self, box: Box) -> list[str]:
        """The digests of the inputs whose boxes meet a box of the grid."""
        return [self.contents[k] for k in self.index.meeting(box)]

    def plan(self, patch: Patch) -> PatchJob:
        """A patch with the frames that reach it."""
        near = (self.inputs[k] for k in self.index.meeting(patch.outer))
        return plan_patch(patch, near)

    def plan_all(self, size: int, border: int) -> list[PatchJob]:
        """All patches of the grid, of sides of `size` pixels, with the frames that reach each."""
        return [self.plan(patch) for patch in self.grid.patches(size, border)]

    def alone(self) -> MosaicJob:
        """Without the inputs: what goes to another process beside a `PatchJob`."""
        return replace(self, inputs=())

    def count_deepest(self, patches: Iterable[Patch]) -> int:
        """The largest number of frames that reach one of the patches."""
        deepest = 0
        for patch in patches:
            if len(self.index.meeting(patch.outer)) > deepest:
                deepest = max(deepest, len(self.plan(patch).visits))
        return deepest


def plan_patch(patch: Patch, inputs: Iterable[PatchInput]) -> PatchJob:
    """A patch with those of the inputs that reach it."""
    visits = (FrameVisit(item, item.plan.lattice.part(patch.outer)) for item in inputs)
    return PatchJob(patch, tuple(visit for visit in visits if not visit.part.is_empty))
