"""Which frame reaches which patch is known before a pixel is read."""

from __future__ import annotations

import numpy as np
import pytest

from frame_cases import make_frame
from mosaic_cases import tan_wcs
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.model.kind import Kind
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.measuring.clean_source import CleanSource
from zemosaic.pipelines.patches.jobs import BoxIndex, MosaicJob, PatchInput
from zemosaic.settings import StackSettings, WarpSettings
from zemosaic.stages.warp.lattice import plan_lattice
from zemosaic.stages.warp.warp import WarpPlan

SHAPE = (200, 300)
SIDE = 50
ONE = np.ones(1, np.float32)


class NoPixels:
    """A source that must not be asked."""

    def read_window(self, frame: Frame, box: Box) -> tuple[np.ndarray, np.ndarray]:
        raise AssertionError("a pixel was read while the work was planned")


def frame_at(name: str, y: float, x: float, rotation_deg: float = 0.0) -> PatchInput:
    """A frame of 50 x 50 pixels with its centre on a pixel of the grid."""
    grid = GRID
    ra, dec = grid.wcs.pixel_to_sky(x, y)
    wcs = CelestialWcs(tan_wcs((SIDE, SIDE), float(ra), float(dec), rotation_deg=rotation_deg), (SIDE, SIDE))
    plan = WarpPlan(
        lattice=plan_lattice(wcs, grid, 0.01),
        wcs=wcs,
        scale=PhotoScale.neutral(1),
        sigma=np.ones(1),
        valid_box=Box.of_shape((SIDE, SIDE)),
        saturation_adu=None,
        area_ref_deg2=grid.area_ref_deg2,
        pixel_values="counts",
        bayer=None,
    )
    return PatchInput(make_frame(name, f"{name}.fits", (SIDE, SIDE)), plan, ONE, ONE, ONE)


GRID = SkyGrid(CelestialWcs(tan_wcs(SHAPE), SHAPE))


def job_of(*inputs: PatchInput) -> MosaicJob:
    return MosaicJob(
        inputs, GRID, 3.0, Kind("", 1, "adu"), (), WarpSettings(), StackSettings(), CleanSource(NoPixels(), {}, 5.0, {})
    )


def visits(job: MosaicJob, size: int, border: int) -> dict[tuple[int, int], str]:
    """Names of the frames of each patch by its first row and column."""
    return {
        (work.patch.inner.y0, work.patch.inner.x0): "".join(str(visit.item.frame.id) for visit in work.visits)
        for work in job.plan_all(size, border)
    }


def test_every_patch_gets_the_frames_that_reach_it_in_their_order() -> None:
    job = job_of(frame_at("a", 50, 50), frame_at("b", 50, 150), frame_at("c", 100, 100))
    found = visits(job, 100, 0)
    assert found == {(0, 0): "ac", (0, 100): "bc", (0, 200): "", (100, 0): "c", (100, 100): "c", (100, 200): ""}
    assert job.count_deepest(GRID.patches(100, 0)) == 2


def test_a_border_reaches_further() -> None:
    job = job_of(frame_at("a", 50, 50))
    assert sum(map(bool, visits(job, 100, 0).values())) == 1
    assert sum(map(bool, visits(job, 100, 30).values())) == 4


def test_the_parts_of_a_frame_make_all_of_it_once() -> None:
    job = job_of(frame_at("a", 100, 100))
    parts = [visit.part for work in job.plan_all(64, 0) for visit in work.visits]
    assert sum(part.n_pixels for part in parts) == job.inputs[0].plan.lattice.part(GRID.box).n_pixels
    assert all(not a.overlaps(b) for k, a in enumerate(parts) for b in parts[:k])


def test_the_empty_corner_of_a_turned_frame_is_no_visit() -> None:
    item = frame_at("a", 100, 150, rotation_deg=45.0)
    corner = item.plan.lattice.box
    assert [not work.visits for work in job_of(item).plan_all(8, 0) if work.patch.inner.overlaps(corner)].count(
        True
    ) > 3


@pytest.mark.parametrize("seed", range(3))
def test_the_index_finds_what_overlaps_and_nothing_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = [Box(y, y + h, x, x + w) for y, x, h, w in rng.integers(1, 40, (60, 4)).tolist()]
    index = BoxIndex(boxes)
    for box in boxes:
        assert index.meeting(box) == [k for k, other in enumerate(boxes) if other.overlaps(box)]
    assert BoxIndex([]).meeting(Box(0, 1, 0, 1)) == []
