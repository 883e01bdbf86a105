"""Warping frames onto the sky grid: coordinates, corrections, weights, and what must not depend on the cut."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from zemosaic.errors import FrameRejected
from zemosaic.model.box import Box
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.runs import runs_of
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid, footprint_box
from zemosaic.settings import GridSettings, WarpSettings
from zemosaic.stages.grid.plan import plan_grid
from zemosaic.stages.warp.lattice import MIN_CELLS
from zemosaic.stages.warp.maps import taper_of_rim
from zemosaic.stages.warp.warp import (
    WarpPlan,
    correction_nodes,
    fit_pixel_area,
    pixel_variance_ratio,
    plan_lattice,
    source_box,
    warp_window,
)

KERNELS = ("nearest", "bilinear", "lanczos2", "lanczos3", "lanczos4", "area", "drizzle")


def tan(ra, dec, scale_arcsec, shape, degrees=0.0, projection="TAN", sip=None):
    """A WCS centred on the image, turned by `degrees`."""
    wcs = WCS(naxis=2)
    suffix = "-SIP" if sip is not None else ""
    wcs.wcs.ctype = [f"RA---{projection}{suffix}", f"DEC--{projection}{suffix}"]
    wcs.wcs.crval, wcs.wcs.crpix = [ra, dec], [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    wcs.wcs.cd = scale_arcsec / 3600 * np.array([[-c, s], [s, c]])
    wcs.wcs.radesys = "ICRS"
    header = wcs.to_header(relax=True)
    if sip is not None:
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
        header.update({"A_ORDER": 3, "B_ORDER": 3, **sip})
    return CelestialWcs.from_header(header, shape)


BARREL = {"A_3_0": -4e-9, "A_1_2": -4e-9, "B_2_1": -4e-9, "B_0_3": -4e-9, "A_2_0": 3e-7, "B_1_1": 3e-7}


def plan_for(image, grid, scale=None, sigma=10.0, pixel_values="counts", **more):
    scale = scale or PhotoScale.neutral(1)
    return WarpPlan(
        lattice=more.pop("lattice", None) or plan_lattice(image, grid, 0.01),
        wcs=image,
        scale=scale,
        sigma=np.full(len(scale.gain), sigma),
        valid_box=Box.of_shape(image.shape),
        saturation_adu=None,
        area_ref_deg2=grid.area_ref_deg2,
        pixel_values=pixel_values,
        **more,
    )


def reader(data, weight=None):
    """Reads windows of arrays in memory and checks that they are asked for inside."""
    data = np.asarray(data, np.float32)
    weight = np.ones((1, *data.shape[1:]), np.float32) if weight is None else np.asarray(weight, np.float32)

    def read(box):
        assert Box.of_shape(data.shape[1:]).contains(box)
        assert not box.is_empty
        return np.ascontiguousarray(data[:, *box.slices]), np.ascontiguousarray(weight[:, *box.slices])

    return read


def warp(plan, box, read, n_channels=1, **options):
    options = WarpSettings(**{"taper_px": 0.0, **options})
    values = np.zeros((n_channels, *box.shape), np.float32)
    weights = np.zeros((n_channels, *box.shape), np.float32)
    alpha = np.zeros(box.shape, np.uint8)
    part = plan.lattice.box.intersect(box)
    at = part.relative_to(box).slices
    filled = not part.is_empty and warp_window(plan, part, read, options, values[:, *at], weights[:, *at], alpha[at])
    return values, weights, alpha, filled


# --- coordinates -------------------------------------------------------------------------------------------------


def decam_stamp(shared):
    path = sorted((shared / "data/decam_tpv_stamps").glob("*.fits.gz"))[0]
    return CelestialWcs.from_header(fits.getheader(path), (256, 256))


def twomass_tile(shared):
    path = sorted((shared / "data/twomass_m42_j/tiles").glob("*.fits.gz"))[0]
    header = fits.getheader(path)
    return CelestialWcs.from_header(header, (header["NAXIS2"], header["NAXIS1"]))


def seestar_plate(shared):
    path = sorted((shared / "data/seestar_m94/wcs").glob("*.fits"))[0]
    header = fits.getheader(path)
    header["NAXIS"] = 2
    return CelestialWcs.from_header(header, (1920, 1080))


CASES = {
    "tan": (tan(40.2, 20.1, 2.4, (960, 540), 15), tan(40, 20, 2.4, (900, 900))),
    "ra 0h": (tan(359.9, 10.0, 2.4, (960, 540), 33), tan(0.1, 10, 2.4, (1400, 1400))),
    "dec 89": (tan(80, 89.2, 2.4, (960, 540), -70), tan(120, 89, 2.4, (1400, 1400))),
    "over the pole": (tan(80, 89.9, 2.4, (960, 540), 20), tan(300, 89.7, 2.4, (1400, 1400))),
    "sip": (tan(40.2, 20.1, 2.4, (960, 540), 15, sip=BARREL), tan(40, 20, 2.4, (900, 900))),
    "finer": (tan(40.1, 20.1, 1.0, (960, 540), 75), tan(40, 20, 2.4, (900, 900))),
    "zea on car": (
        tan(40.2, 0.1, 2.4, (400, 300), 15, projection="ZEA"),
        tan(40, 0, 2.4, (900, 900), projection="CAR"),
    ),
    "all-sky rim": (tan(180, 10, 240, (100, 100)), tan(0, 0, 360, (1800, 3600), projection="CAR")),
    "all-sky pole": (tan(77, 89, 240, (100, 100), 8), tan(0, 0, 360, (1800, 3600), projection="CAR")),
}


def check_lattice(image, grid, n=4000):
    """Interpolated coordinates of random pixels against the exact WCS; every pixel on the frame has some."""
    lattice = plan_lattice(image, grid, 0.01)
    assert 0 < lattice.error_px <= 0.01
    assert lattice.y0 % lattice.step == lattice.x0 % lattice.step == 0
    rng = np.random.default_rng(1)
    box = lattice.box
    y, x = rng.integers(box.y0, box.y1, n), rng.integers(box.x0, box.x1, n)
    j, i = (y - lattice.y0) // lattice.step, (x - lattice.x0) // lattice.step
    fy, fx = (y - lattice.y0) / lattice.step - j, (x - lattice.x0) / lattice.step - i
    node = lattice.xy
    found = (node[:, j, i] * (1 - fx) + node[:, j, i + 1] * fx) * (1 - fy)
    found += (node[:, j + 1, i] * (1 - fx) + node[:, j + 1, i + 1] * fx) * fy
    exact = np.array(image.sky_to_pixel(*grid.wcs.pixel_to_sky(x, y)))
    height, width = image.shape
    with np.errstate(invalid="ignore"):
        on_frame = ((exact > -0.5) & (exact < [[width - 0.5], [height - 0.5]])).all(axis=0)
    assert on_frame.sum() > 20
    assert np.abs(found - exact)[:, on_frame].max() < 0.01
    return lattice


@pytest.mark.parametrize("name", CASES)
def test_interpolated_coordinates_are_exact_to_a_hundredth_of_a_pixel(name):
    image, wcs = CASES[name]
    check_lattice(image, SkyGrid(wcs), n=60_000 if name.startswith("all-sky") else 4000)


@pytest.mark.parametrize("open_frame", [decam_stamp, twomass_tile, seestar_plate])
def test_real_frames_too(open_frame, shared_dir):
    image = open_frame(shared_dir)
    ra, dec = image.pixel_to_sky(100, 100)
    scale = image.pixel_scale_arcsec()
    check_lattice(image, SkyGrid(tan(float(ra), float(dec), scale, (1300, 1300), 40)))


@pytest.mark.parametrize("name", CASES)
def test_the_footprint_holds_every_pixel_of_the_frame(name):
    image, wcs = CASES[name]
    box = footprint_box(image, SkyGrid(wcs))
    gy, gx = np.meshgrid(np.linspace(0, image.shape[0] - 1, 90), np.linspace(0, image.shape[1] - 1, 90), indexing="ij")
    x, y = wcs.sky_to_pixel(*image.pixel_to_sky(gx.ravel(), gy.ravel()))
    on_grid = (x >= 0) & (x <= wcs.shape[1] - 1) & (y >= 0) & (y <= wcs.shape[0] - 1)
    x, y = x[on_grid], y[on_grid]
    assert len(x) > 500
    assert y.min() >= box.y0
    assert y.max() <= box.y1 - 1
    assert x.min() >= box.x0
    assert x.max() <= box.x1 - 1


def test_small_and_bent_frames_get_finer_nodes():
    grid = SkyGrid(tan(40, 20, 2.4, (900, 900)))
    assert plan_lattice(tan(40, 20, 2.4, (1080, 1920)), grid, 0.01).step == 32
    small = plan_lattice(tan(40, 20, 2.4, (200, 300)), grid, 0.01)
    assert small.step * MIN_CELLS <= 200 < 2 * small.step * MIN_CELLS
    bent = tan(40, 20, 2.4, (1080, 1920), sip={"A_3_0": 3e-7, "B_0_3": 3e-7})
    lattice = plan_lattice(bent, grid, 0.01)
    assert 1 < lattice.step < 32
    assert plan_lattice(bent, grid, 0.5).step == 32


def test_a_frame_that_cannot_be_interpolated_is_rejected_with_numbers():
    grid = SkyGrid(tan(40, 20, 2.4, (100, 100)))
    wild = tan(40, 20, 0.002, (90_000, 90_000), sip={"A_3_0": 1e-10, "B_0_3": 1e-10})
    with pytest.raises(FrameRejected, match=r"error .* px with a node on every pixel, 1e-06 px allowed") as caught:
        plan_lattice(wild, grid, 1e-6)
    assert caught.value.facts["error_px"] > 1e-6


def test_a_frame_elsewhere_has_an_empty_box():
    grid = SkyGrid(tan(40, 20, 2.4, (100, 100)))
    image = tan(220, -20, 2.4, (100, 100))
    plan = plan_for(image, grid)
    assert plan.lattice.box.is_empty
    assert warp(plan, grid.box, reader(np.ones((1, 100, 100))))[3] is False


# --- windows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_window_holds_all_that_a_kernel_can_touch(kernel):
    """A small box, from its small window, has the bytes of the whole grid from the whole frame."""
    rng = np.random.default_rng(2)
    image, grid = tan(40.01, 20.01, 2.0, (150, 180), 25), SkyGrid(tan(40, 20, 2.4, (160, 160)))
    data = rng.normal(1000, 30, (1, 150, 180))
    plan, options = plan_for(image, grid), WarpSettings(kernel=kernel)
    for box in (Box(40, 61, 30, 55), Box(100, 160, 20, 33), Box(70, 71, 80, 81)):
        assert source_box(plan, box, options).n_pixels < 0.35 * data.size
        values, weights, alpha, filled = warp(plan, box, reader(data), kernel=kernel, taper_px=12.0)
        assert filled
        expected = warp(plan, Box(0, 160, 0, 160), reader(data), kernel=kernel, taper_px=12.0)
        for got, want in zip((values, weights, alpha), expected[:3], strict=True):
            assert got.tobytes() == np.ascontiguousarray(want[..., *box.slices]).tobytes()


@given(cuts=st.tuples(st.integers(1, 179), st.integers(1, 179)), kernel=st.sampled_from(KERNELS))
@settings(max_examples=15, deadline=None)
def test_the_cut_into_patches_leaves_every_byte(cuts, kernel):
    rng = np.random.default_rng(3)
    image, grid = tan(40.01, 20.01, 2.6, (130, 140), 25, sip=BARREL), SkyGrid(tan(40, 20, 2.4, (180, 180)))
    data = rng.normal(1000, 30, (1, 130, 140))
    weight = np.where(rng.random((1, 130, 140)) < 0.01, 0, 1)
    data[weight == 0] = np.nan
    scale = PhotoScale(np.array([1.2]), rng.normal(0, 9, (1, 6)), response=np.array([[0.1, -0.05]]))
    plan = plan_for(image, grid, scale)
    read = reader(data, weight)
    whole = warp(plan, grid.box, read, kernel=kernel, taper_px=20.0)
    assert (whole[1] > 0).mean() > 0.3
    assert np.isfinite(whole[0]).all()
    for y0, y1 in ((0, cuts[0]), (cuts[0], 180)):
        for x0, x1 in ((0, cuts[1]), (cuts[1], 180)):
            piece = warp(plan, Box(y0, y1, x0, x1), read, kernel=kernel, taper_px=20.0)
            for got, want in zip(piece[:3], whole[:3], strict=True):
                assert got.tobytes() == np.ascontiguousarray(want[..., y0:y1, x0:x1]).tobytes()


@pytest.mark.parametrize("cuts", [(70,), (23, 64)])
def test_sharp_peaks_have_no_rings_however_the_sky_is_cut(cuts):
    image, grid = tan(83.0, 22.0, 2.0, (150, 140), 11.0), SkyGrid(tan(83.0, 22.0, 2.0, (130, 120)))
    data = np.random.default_rng(3).normal(100, 10, (1, 150, 140))
    data[0, 9:-9:14, 9:-9:14] += 2e4  # none at the very edge, where no peak is looked for
    plan, read = plan_for(image, grid), reader(data)
    whole = warp(plan, grid.box, read)[0][0]
    assert whole.min() > -0.02 * 2e4
    for y0, y1 in zip((0, *cuts), (*cuts, 130), strict=True):
        for x0, x1 in zip((0, *cuts), (*cuts, 120), strict=True):
            part = warp(plan, Box(y0, y1, x0, x1), read)[0][0]
            np.testing.assert_array_equal(part, whole[y0:y1, x0:x1])


def test_a_frame_is_warped_within_its_reach_alone():
    grid = SkyGrid(tan(40, 20, 2.4, (200, 200)))
    plan, read = plan_for(tan(40.06, 20.0, 2.4, (60, 60)), grid), reader(np.ones((1, 60, 60)))
    reach = plan.lattice.box
    assert 2500 < reach.n_pixels < 5000
    for box in (grid.box, Box(reach.y0, reach.y0, reach.x0, reach.x1)):
        planes = np.zeros((1, *box.shape), np.float32), np.zeros((1, *box.shape), np.float32)
        with pytest.raises(ValueError, match="is not within the frame's reach"):
            warp_window(plan, box, read, WarpSettings(), *planes, np.zeros(box.shape, np.uint8))
    assert (warp(plan, grid.box, read)[2] > 0).sum() > 2000


@given(y0=st.integers(0, 150), x0=st.integers(0, 150), side=st.integers(1, 90), degrees=st.floats(0, 360))
@settings(max_examples=40, deadline=None)
def test_what_lies_beyond_the_part_sees_nothing_of_the_frame(y0, x0, side, degrees):
    image, grid = tan(40.01, 20.01, 2.4, (60, 200), degrees, sip=BARREL), SkyGrid(tan(40, 20, 2.4, (180, 180)))
    box = Box(y0, min(y0 + side, 180), x0, min(x0 + side, 180))
    lattice = plan_lattice(image, grid, 0.01)
    y, x = np.mgrid[box.slices]
    sees = image_shows(image, *grid.wcs.pixel_to_sky(x.ravel(), y.ravel())).reshape(box.shape)
    part = lattice.part(box)
    assert lattice.box.contains(part)
    assert box.contains(part)
    sees[part.relative_to(box).slices] = False
    assert not sees.any()


def image_shows(image, ra, dec):
    x, y = image.sky_to_pixel(ra, dec)
    return (x > -0.5) & (x < image.shape[1] - 0.5) & (y > -0.5) & (y < image.shape[0] - 0.5)


def test_the_corners_of_a_turned_frame_are_no_part_of_it():
    image, grid = tan(40.0, 20.0, 2.4, (200, 1600), 45), SkyGrid(tan(40, 20, 2.4, (1200, 1200)))
    lattice = plan_lattice(image, grid, 0.01)
    assert lattice.box.n_pixels > 1e6
    corners = [lattice.part(Box(y, y + 300, x, x + 300)) for y in (50, 850) for x in (50, 850)]
    assert sum(corner.is_empty for corner in corners) == 2


# --- values and weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_split_and_reassemble(kernel):
    """An image cut into overlapping frames on its own grid comes back to 1e-6."""
    rng = np.random.default_rng(4)
    wcs = tan(0.02, 60, 2.4, (150, 170))
    grid, truth = SkyGrid(wcs), rng.normal(1000, 300, (150, 170))
    total, weight = np.zeros((150, 170)), np.zeros((150, 170))
    for y0, x0 in ((0, 0), (0, 60), (50, 0), (50, 60)):
        header = wcs.wcs.to_header()
        header["CRPIX1"] -= x0
        header["CRPIX2"] -= y0
        image = CelestialWcs.from_header(header, (100, 110))
        data = truth[y0 : y0 + 100, x0 : x0 + 110] * wcs.pixel_area_deg2(*np.meshgrid(
            np.arange(x0, x0 + 110), np.arange(y0, y0 + 100)
        )) / grid.area_ref_deg2  # fmt: skip
        values, weights, _, _ = warp(plan_for(image, grid), grid.box, reader(data[None]), kernel=kernel, taper_px=15)
        total += weights[0].astype(float) * values[0]
        weight += weights[0]
    covered = weight > 0
    assert covered[1:-1, 1:-1].all()
    np.testing.assert_allclose((total[covered] / weight[covered]), truth[covered], rtol=1e-6)


@pytest.mark.parametrize("pixel_values", ["counts", "surface"])
@pytest.mark.parametrize("kernel", ["bilinear", "lanczos3", "area"])
def test_a_constant_sky_comes_back_through_gain_response_area_and_surface(kernel, pixel_values):
    """d = g F (A / A_ref) (S + B) in every frame, whatever its scale and turn."""
    grid = SkyGrid(tan(40, 20, 2.4, (500, 500)))
    scale = PhotoScale(
        np.array([1.3, 0.7]),
        np.array([[40, 30, -20, 15, 10, -25], [-40, 10, 20, -15, 5, 8]], float),
        response=np.array([[0.05, -0.03, -0.1, 0.02, -0.12], [0.02, 0.03, -0.2, 0.0, -0.2]]),
    )
    for image in (tan(40, 20, 2.4, (420, 380), 30, sip=BARREL), tan(40.02, 20, 3.84, (260, 300), -100)):
        y, x = np.mgrid[: image.shape[0], : image.shape[1]]
        where = (x, y) if pixel_values == "counts" else (None, None)
        area = image.pixel_area_deg2(*where) / grid.area_ref_deg2
        sky_and_surface = 500 + scale.surface_at(x, y, image.shape)
        data = scale.gain[:, None, None] * scale.response_at(x, y, image.shape) * area * sky_and_surface
        plan = plan_for(image, grid, scale, pixel_values=pixel_values)
        values, weights, alpha, _ = warp(plan, grid.box, reader(data), n_channels=2, kernel=kernel, taper_px=10.0)
        # On the frame's rim kernels that lost a part lean inwards, along the response's slope.
        inside = (weights > 0) & (alpha > 30)
        assert inside.sum() > 100_000
        # Bilinear corrections miss up to 0.1 % of the quadratic terms, here 0.2 x 540 + 25.
        # Area gives steps of half a coarse pixel, along a slope of up to 1 ADU/px.
        np.testing.assert_allclose(values[inside], 500, atol=0.7 if kernel == "area" else 0.2)


def test_weights_follow_their_law():
    """w = alpha m (g F A / (A_ref sigma))^2 A_ref / A_centre for a coarser frame; alpha / 127 / w is the variance."""
    grid, image = SkyGrid(tan(40, 20, 2.4, (300, 300))), tan(40, 20, 3.0, (250, 250), 20, sip=BARREL)
    scale = PhotoScale(np.array([1.3]), np.zeros((1, 6)), response=np.array([[0.05, -0.03, -0.1, 0.02, -0.12]]))
    plan = plan_for(image, grid, scale, sigma=14.0)
    read = reader(np.zeros((1, 250, 250)), np.full((1, 250, 250), 0.5))
    _, weights, alpha, _ = warp(plan, grid.box, read, taper_px=40)
    oy, ox = np.nonzero(weights[0])
    x, y = image.sky_to_pixel(*grid.wcs.pixel_to_sky(ox, oy))
    inside = (x > 10) & (x < 239) & (y > 10) & (y < 239)
    oy, ox, x, y = oy[inside], ox[inside], x[inside], y[inside]
    raw_area = image.pixel_area_deg2(x, y) / grid.area_ref_deg2
    response = 1.3 * scale.response_at(x, y, image.shape)[0] * raw_area
    dx, dy = (np.minimum(np.minimum(v + 0.5, 249.5 - v) / 40, 1) for v in (x, y))
    taper = 127 * (3 - 2 * dx) * dx**2 * (3 - 2 * dy) * dy**2
    assert np.abs(alpha[oy, ox] - taper).max() <= 1
    independence = grid.area_ref_deg2 / image.pixel_area_deg2()
    assert independence < 1
    expected = alpha[oy, ox] / 127 * 0.5 * (response / 14.0) ** 2 * independence
    np.testing.assert_allclose(weights[0, oy, ox], expected, rtol=2e-3)
    variance = alpha[oy, ox] / 127 / weights[0, oy, ox]
    np.testing.assert_allclose(variance, 2 * (14.0 / response) ** 2 / independence, rtol=2e-3)


@pytest.mark.parametrize(
    ("kernel", "scale"), [("lanczos3", 2.4), ("bilinear", 2.4), ("area", 2.4), ("lanczos3", 3.84), ("area", 3.84)]
)
def test_the_weight_is_the_inverse_variance_of_large_means(kernel, scale):
    """Noise averaged over large areas, also in a frame coarser than the grid."""
    rng = np.random.default_rng(7)
    grid, shape = SkyGrid(tan(40, 20, 2.4, (440, 440))), (660, 660)
    plan, sums = plan_for(tan(40, 20, scale, shape, 30), grid), []
    for _ in range(6):
        values, weights, _, _ = warp(plan, grid.box, reader(rng.normal(0, 10, (1, *shape))), kernel=kernel)
        assert (weights > 0).all()
        sums.append(values[0].reshape(11, 40, 11, 40).mean(axis=(1, 3)))
    assert 40**2 * np.var(sums) * weights.mean() == pytest.approx(1, abs=0.13)


@pytest.mark.parametrize("kernel", ["lanczos3", "area"])
def test_star_flux_is_one_number_whatever_the_frame(kernel):
    """The same stars in frames of other scale and turn give the same flux on the grid, to 1e-3.

    (Where the turned lattices nearly coincide, as at 45 degrees and a scale of 1.6, Lanczos-3 is at that limit.)
    """
    grid = SkyGrid(tan(0.0, 45, 2.4, (400, 400)))
    ra, dec = grid.wcs.pixel_to_sky([120.3, 251.8, 200.1], [130.9, 140.2, 260.6])
    for image in (
        tan(0.0, 45, 2.4, (330, 330), 77),
        tan(359.99, 45.01, 3.84, (220, 220), 30),
        tan(0.01, 45, 1.5, (520, 520), -31, sip=BARREL),
    ):
        x, y = image.sky_to_pixel(ra, dec)
        # 2.5 px of the coarser of the two grids, in frame pixels.
        sigma = 2.5 / 2.3548 * max(2.4 / image.pixel_scale_arcsec(), 1.0)
        py, px = np.mgrid[: image.shape[0], : image.shape[1]]
        data = sum(
            1e5 * np.exp(-((px - a) ** 2 + (py - b) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
            for a, b in zip(x, y, strict=True)
        )
        values, _, _, _ = warp(plan_for(image, grid), grid.box, reader(data[None]), kernel=kernel)
        for ox, oy in ((120, 131), (252, 140), (200, 261)):
            flux = values[0, oy - 25 : oy + 26, ox - 25 : ox + 26].sum()
            # Flux in the frame is counts; a mosaic pixel off the centre is a little smaller than A_ref.
            flux *= grid.wcs.pixel_area_deg2(ox, oy) / grid.area_ref_deg2
            assert flux == pytest.approx(1e5, rel=1e-3)


def test_star_flux_is_the_sum_over_a_wide_grid_too():
    images = [tan(100.0 + turn, 20.0, 120.0, (150, 150), 20.0) for turn in (-25, 0, 25)]
    grid = plan_grid(images, GridSettings(scale_arcsec=120.0))
    py, px = np.mgrid[:150, :150]
    data = 1e5 * np.exp(-((px - 75.3) ** 2 + (py - 74.2) ** 2) / 4) / (4 * np.pi)
    for image in images:
        values = warp(plan_for(image, grid), grid.box, reader(data[None]))[0]
        assert values.sum() == pytest.approx(1e5, rel=2e-3)


def test_the_area_fit_follows_distortion():
    image = tan(40, 20, 2.4, (1080, 1920), sip=BARREL)
    rng = np.random.default_rng(5)
    xy = rng.uniform(0, 1, (2, 1, 500)) * [[[1919]], [[1079]]]
    for pixel_values in ("counts", "surface"):
        scale, offset = correction_nodes(
            xy, image.shape, fit_pixel_area(image, pixel_values), 1e-6, PhotoScale.neutral(1)
        )
        area = image.pixel_area_deg2(*xy) if pixel_values == "counts" else image.pixel_area_deg2()
        np.testing.assert_allclose(scale[0], 1e-6 / area, rtol=1e-5)
        assert (offset == 0).all()
    assert np.ptp(scale) == 0
    far, _ = correction_nodes(xy * 1e6, image.shape, fit_pixel_area(image, "counts"), 1e-6, PhotoScale.neutral(1))
    assert np.isfinite(far).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_variance_ratio_is_what_noise_shows(kernel):
    rng = np.random.default_rng(6)
    image, grid = tan(40.0003, 20.0002, 2.4, (600, 600), 0.3), SkyGrid(tan(40, 20, 2.4, (600, 600)))
    options = {"kernel": kernel, "pixfrac": 0.8}
    values, weights, _, _ = warp(plan_for(image, grid), grid.box, reader(rng.normal(0, 10, (1, 600, 600))), **options)
    inner = values[0, 20:-20, 20:-20]
    assert (weights[0, 20:-20, 20:-20] > 0).all()
    # Drizzle's figure is for a stack, where the single frame's uneven weights even out.
    w = weights[0, 20:-20, 20:-20].astype(float)
    scatter = np.mean(w**2 * inner**2) / np.mean(w) ** 2 if kernel == "drizzle" else np.mean(inner.astype(float) ** 2)
    assert scatter / 100 == pytest.approx(pixel_variance_ratio(WarpSettings(**options)), rel=0.03)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
def test_a_raw_plane_gives_three_colours(kernel, pattern):
    image, grid = tan(40, 20, 2.4, (200, 180), 12), SkyGrid(tan(40, 20, 2.4, (150, 150)))
    colours = {"R": 300.0, "G": 500.0, "B": 200.0}
    data = np.zeros((1, 200, 180))
    for k, colour in enumerate(pattern):
        data[0, k // 2 :: 2, k % 2 :: 2] = colours[colour]
    plan = plan_for(image, grid, PhotoScale.neutral(3), bayer=pattern, pixel_values="surface")
    for box in (grid.box, Box(31, 64, 50, 77)):
        values, weights, _, _ = warp(plan, box, reader(data), n_channels=3, kernel=kernel)
        for k, colour in enumerate("RGB"):
            seen = weights[k] > 0
            assert seen.mean() > (0.9 if kernel != "drizzle" else 0.4)
            np.testing.assert_allclose(values[k][seen], colours[colour], rtol=1e-4)


def test_noise_must_be_positive():
    image, grid = tan(40, 20, 2.4, (60, 60)), SkyGrid(tan(40, 20, 2.4, (50, 50)))
    with pytest.raises(ValueError, match="noise of every channel must be finite and positive"):
        plan_for(image, grid, sigma=0.0)


def test_the_taper_follows_a_slanted_rim_the_same_in_any_window() -> None:
    depth = 0.8 * np.arange(120) + 0.6 * np.arange(100)[:, None] - 60
    outside = runs_of(depth < 0)
    whole, ones = taper_of_rim(outside, (100, 120), 16.0, Box(0, 100, 0, 120))
    t = np.clip(depth / 16, 0, 1)
    middle = np.s_[20:80, 25:95]  # where the nearest of the outside lies in the frame; distances are of whole pixels
    assert np.abs(whole[0] - t * t * (3 - 2 * t))[middle].max() < 0.08
    assert not whole[0][depth < 0].any()
    assert ones.all()
    window = Box(20, 70, 31, 90)
    assert np.array_equal(taper_of_rim(outside, (100, 120), 16.0, window)[0][0], whole[0][window.slices])
