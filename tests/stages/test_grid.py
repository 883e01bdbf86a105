"""The output grid: every frame on it, anywhere on the sky."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zemosaic.errors import NothingToDo, SettingError
from zemosaic.model.box import Box
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid, footprint_box
from zemosaic.settings import BoxCrop, CoverageCrop, GridSettings, Size, SkyPosition
from zemosaic.stages.grid.plan import crop_grid, find_strays, make_wcs, plan_grid, sparse_coverage

SHAPE = (270, 480)


def ring(ra: float, dec: float, n: int = 5, spread_deg: float = 0.3) -> list[CelestialWcs]:
    """Frames strewn round a point by small steps along the sky, each turned differently."""
    center = make_wcs((ra, dec), 10.0, SHAPE)
    step_px = spread_deg * 360
    images = []
    for k in range(n):
        angle = 2 * np.pi * k / n
        x, y = (SHAPE[1] - 1) / 2 + step_px * np.cos(angle), (SHAPE[0] - 1) / 2 + step_px * np.sin(angle)
        position = center.pixel_to_sky(x, y)
        images.append(make_wcs((float(position[0]), float(position[1])), 10.0, SHAPE, rotation_deg=33.0 * k))
    return images


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 360), st.sampled_from([-90.0, -89.0, -40.0, 0.0, 23.5, 89.0, 90.0]))
def test_every_frame_lies_on_the_grid_wherever_it_points(ra: float, dec: float) -> None:
    images = ring(ra, dec)
    grid = plan_grid(images, GridSettings())
    for image in images:
        x, y = grid.wcs.sky_to_pixel(*image.outline(16))
        assert min(x.min(), y.min()) > -1
        assert x.max() < grid.shape[1]
        assert y.max() < grid.shape[0]
    assert grid.scale_arcsec == pytest.approx(10.0, rel=1e-6)
    # Not much larger than it must be: the frames' extent, not a band round the sky.
    assert max(grid.shape) < 900


def test_north_is_up_and_east_is_left() -> None:
    wcs = plan_grid(ring(10, 20), GridSettings()).wcs
    x, y = (wcs.shape[1] - 1) / 2, (wcs.shape[0] - 1) / 2
    ra, dec = wcs.pixel_to_sky([x, x - 1, x], [y, y, y + 1])
    assert ra[1] > ra[0]
    assert dec[2] > dec[0]
    assert ra[2] == pytest.approx(ra[0], abs=1e-5)


def test_rotation_turns_the_y_axis_east_of_north() -> None:
    wcs = make_wcs((50.0, 0.0), 10.0, SHAPE, rotation_deg=90)
    ra, dec = wcs.pixel_to_sky([200, 200], [100, 101])
    assert ra[1] > ra[0]
    assert dec[1] == pytest.approx(dec[0], abs=1e-8)


def test_smallest_box_is_found_for_turned_frames() -> None:
    images = [make_wcs((100 + 0.2 * k, 10.0), 10.0, SHAPE, rotation_deg=37) for k in range(3)]
    north, smallest = plan_grid(images, GridSettings()), plan_grid(images, GridSettings(rotation="min-area"))
    given_angle = plan_grid(images, GridSettings(rotation="37"))
    assert np.prod(smallest.shape) < 0.8 * np.prod(north.shape)
    assert np.prod(smallest.shape) <= 1.01 * np.prod(given_angle.shape)


@pytest.mark.parametrize("projection", ["TAN", "SIN", "ZEA", "STG", "CAR"])
def test_projections_put_the_middle_where_it_was_asked(projection: str) -> None:
    wcs = make_wcs((200.0, 15.0), 10.0, SHAPE, projection)
    ra, dec = wcs.pixel_to_sky((SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2)
    assert (float(ra), float(dec)) == pytest.approx((200.0, 15.0), abs=1e-6)


@pytest.mark.parametrize(("spread_deg", "code"), [(0.3, "TAN"), (3.0, "TAN"), (6.0, "ZEA"), (25.0, "ZEA")])
@pytest.mark.parametrize("dec", [-90.0, 15.0, 60.0])
def test_wide_grids_have_pixels_of_one_area(spread_deg: float, code: str, dec: float) -> None:
    grid = plan_grid(ring(200, dec, spread_deg=spread_deg), GridSettings(scale_arcsec=60))
    assert grid.projection == code
    smallest, largest = grid.area_shares
    assert largest == pytest.approx(1, abs=1e-5)
    assert smallest == pytest.approx(1, abs=1e-5 if code == "ZEA" else 0.02)
    # A file keeps it.
    again = CelestialWcs.from_header(grid.wcs.wcs.to_header(), grid.shape)
    x, y = np.array([3.0, 40.0]), np.array([5.0, 60.0])
    np.testing.assert_allclose(again.sky_to_pixel(*grid.wcs.pixel_to_sky(x, y)), (x, y), atol=1e-6)


def test_a_projection_that_is_asked_for_is_taken_and_its_areas_told() -> None:
    grid = plan_grid(ring(200, 15, spread_deg=25), GridSettings(scale_arcsec=60, projection="TAN"))
    assert grid.projection == "TAN"
    assert grid.area_shares[0] < 0.75


def test_a_crop_moves_the_wcs_with_its_pixels() -> None:
    images = ring(359.9, 40)
    whole = plan_grid(images, GridSettings())
    part = plan_grid(images, GridSettings(crop="100,50,300,200"))
    assert part.shape == (150, 200)
    assert np.allclose(part.wcs.pixel_to_sky(7, 9), whole.wcs.pixel_to_sky(107, 59), atol=1e-9)


def test_coverage_crop_keeps_the_deep_part() -> None:
    images = [make_wcs((30.0, 5.0), 10.0, SHAPE)] * 3 + [make_wcs((30.8, 5.0), 10.0, SHAPE)]
    whole = plan_grid(images, GridSettings())
    deep = crop_grid(whole, images, CoverageCrop(0.9))
    assert deep.shape[1] < 0.75 * whole.shape[1]
    assert sparse_coverage(images, deep, 16).max() >= 3


def test_a_frame_on_the_other_side_of_the_sky_is_a_stray_and_two_groups_are_not() -> None:
    near = ring(10, 20)
    assert find_strays([*near, make_wcs((190.0, -20.0), 10.0, SHAPE)]).keys() == {5}
    assert not find_strays([*near, *ring(14, 20)])
    # A survey of half the sky has none either.
    assert not find_strays([make_wcs((ra, 0.0), 10.0, SHAPE) for ra in range(0, 180, 10)])


def test_a_footprint_off_the_grid_is_empty() -> None:
    grid = SkyGrid(make_wcs((10.0, 20.0), 10.0, SHAPE))
    assert footprint_box(make_wcs((190.0, -20.0), 10.0, SHAPE), grid).is_empty
    assert footprint_box(make_wcs((10.0, 20.0), 10.0, SHAPE), grid) == grid.box


def test_patches_partition_the_grid_with_their_borders_inside_it() -> None:
    grid = SkyGrid(make_wcs((10.0, 20.0), 10.0, (130, 210)))
    count = np.zeros(grid.shape, int)
    for patch in grid.patches(64, 5):
        count[patch.inner.slices] += 1
        assert grid.box.contains(patch.outer)
        assert patch.outer == patch.inner.expand(5).intersect(grid.box)
    assert (count == 1).all()


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(NothingToDo, match="no frame"):
        plan_grid([], GridSettings())
    images = ring(10, 20)
    for crop in (BoxCrop(5000, 5000, 5001, 5001), CoverageCrop(0.5)):
        with pytest.raises(SettingError, match="no pixel"):
            plan_grid(images, GridSettings(crop=crop, center=SkyPosition(10, 40), size_px=Size(50, 50)))


def test_box_of_a_shape() -> None:
    assert Box.of_shape((3, 5)).n_pixels == 15
