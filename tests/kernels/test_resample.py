"""Point-sampling kernels against a plain numpy reference, and against images that know the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lattice_cases import AREA_KERNELS, POINT_KERNELS, affine_nodes, call, rotation, run
from zemosaic.kernels.resample.lanczos import N_PHASES, lanczos_table
from zemosaic.kernels.resample.near_holes import MAX_LOST
from zemosaic.kernels.resample.points import KERNEL_TAPS
from zemosaic.kernels.resample.window import Output, Window, prepare

ALL_KERNELS = POINT_KERNELS + AREA_KERNELS
LANCZOS = ("lanczos2", "lanczos3", "lanczos4")


# --- the reference: one pixel at a time, in double precision ---------------------------------------------------


def reference_taps(kernel, fraction):
    """Taps on pixels floor - before ... of one axis, and `before`."""
    n = KERNEL_TAPS[kernel]
    if n == 2:
        return np.array([1 - fraction, fraction]), 0
    lobes = n // 2
    phase = math.floor(fraction * N_PHASES + 0.5) / N_PHASES
    x = np.arange(1 - lobes, lobes + 1) - phase
    taps = np.sinc(x) * np.sinc(x / lobes)
    return taps / taps.sum(), lobes - 1


def reference_pixel(image, weight, x, y, kernel, clamp):
    """(value, m) of one position in window pixels, or None."""
    h, w = image.shape

    def pixel(plane, j, i):
        return float(plane[j, i]) if 0 <= j < h and 0 <= i < w and weight[j, i] > 0 else None

    ix, iy = math.floor(x), math.floor(y)
    fx, fy = float(np.float32(x - ix)), float(np.float32(y - iy))
    if kernel == "nearest":
        j, i = iy + (fy >= 0.5), ix + (fx >= 0.5)
        return None if pixel(image, j, i) is None else (pixel(image, j, i), pixel(weight, j, i))
    (tx, before), (ty, _) = reference_taps(kernel, fx), reference_taps(kernel, fy)
    total = kept = lost = size = 0.0
    for a, tap_y in enumerate(ty):
        for b, tap_x in enumerate(tx):
            tap = tap_x * tap_y
            value = pixel(image, iy - before + a, ix - before + b)
            size += abs(tap)
            if value is None:
                lost += abs(tap)
            else:
                kept += tap
                total += tap * value
    if abs(lost - MAX_LOST * size) < 1e-5 * size:
        return "either"
    if lost > MAX_LOST * size:
        return reference_pixel(image, weight, x, y, "bilinear", clamp) if kernel in LANCZOS else None
    total /= kept if lost > 0 else 1.0
    near = [(iy + b, ix + a, (fy if b else 1 - fy) * (fx if a else 1 - fx)) for b in (0, 1) for a in (0, 1)]
    m = sum(share * (pixel(weight, j, i) or 0) for j, i, share in near)
    if clamp and kernel in LANCZOS:
        four = [v for j, i, _ in near if (v := pixel(image, j, i)) is not None]
        total += clamp * (min(max(total, min(four)), max(four)) - total)
    return total, m


def smooth(t):
    return t * t * (3 - 2 * t) if t < 1 else 1.0


def reference_alpha(x, y, box, taper_px):
    dy, dx = min(y - box[0] + 0.5, box[1] - 0.5 - y), min(x - box[2] + 0.5, box[3] - 0.5 - x)
    if dy < 0 or dx < 0:
        return 0.0
    return smooth(dy / taper_px) * smooth(dx / taper_px) if taper_px else 1.0


# --- against the reference ---------------------------------------------------------------------------------------


@st.composite
def windows(draw):
    """Data and weights of small windows: plain, holes, uneven, all 0, garbage under the holes, huge values."""
    c, h, w = draw(st.integers(1, 3)), draw(st.integers(1, 14)), draw(st.integers(1, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    data = (rng.normal(0, 1, (c, h, w)) * draw(st.sampled_from([1.0, 1e3, 1e30]))).astype(np.float32)
    kind = draw(st.sampled_from(["plain", "holes", "uneven", "none", "per channel"]))
    weight = np.ones((c if kind == "per channel" else 1, h, w), np.float32)
    if kind in {"uneven", "per channel"}:
        weight = rng.uniform(0.1, 3, weight.shape).astype(np.float32)
    if kind in {"holes", "uneven", "per channel"}:
        weight[rng.random(weight.shape) < draw(st.sampled_from([0.02, 0.3]))] = 0
    if kind == "none":
        weight[:] = 0
    garbage = rng.choice(np.array([np.nan, np.inf, -np.inf, 1e38], np.float32), data.shape)
    data = np.where(np.broadcast_to(weight, data.shape) > 0, data, garbage)
    return data, weight


@given(
    window=windows(),
    kernel=st.sampled_from(POINT_KERNELS),
    clamp=st.sampled_from([0.0, 0.7]),
    step=st.sampled_from([1, 4, 8]),
    degrees=st.floats(-180, 180),
    zoom=st.sampled_from([0.5, 1.0, 1.7]),
    shift=st.tuples(st.floats(-3, 15), st.floats(-3, 15)),
    origin=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    taper_px=st.sampled_from([0.0, 3.0]),
)
@settings(max_examples=150, deadline=None)
def test_matches_the_numpy_reference(window, kernel, clamp, step, degrees, zoom, shift, origin, taper_px):
    data, weight = window
    c, h, w = data.shape
    shape, start, scale, offset = (7, 9), (3, 2), 1.25, 2.0
    matrix = rotation(degrees, zoom)
    shift = (shift[0] + origin[1], shift[1] + origin[0])
    box = (origin[0], origin[0] + h, origin[1], origin[1] + w)
    nodes = affine_nodes(matrix, shift, shape, step, start)
    values, weights, alpha = call(
        data, weight, nodes, shape, kernel=kernel, step=step, start=start, origin=origin, scale=scale, offset=offset,
        clamp=clamp, taper_box=box, taper_px=taper_px, inverse_variance=np.full(c, 0.25),
    )  # fmt: skip
    assert np.isfinite(values).all()
    assert np.isfinite(weights).all()
    biggest = max(1.0, float(np.abs(data[np.broadcast_to(weight, data.shape) > 0]).max(initial=0)))
    for oy in range(shape[0]):
        for ox in range(shape[1]):
            x, y = matrix @ (ox, oy) + shift
            a = reference_alpha(x, y, box, taper_px)
            edge = min(abs(x % 1 - 0.5), abs(y % 1 - 0.5), abs(x - round(x)), abs(y - round(y)))
            if edge < 1e-6 or (a and abs(a * 127 % 1 - 0.5) < 1e-6):
                continue  # rounding decides which pixel or code it is
            code = max(round(a * 127), 1) if a else 0
            for k in range(c):
                m_plane = weight[min(k, len(weight) - 1)]
                wanted = reference_pixel(data[k], m_plane, x - origin[1], y - origin[0], kernel, clamp) if a else None
                if wanted == "either":
                    continue
                if wanted is None:
                    assert values[k, oy, ox] == weights[k, oy, ox] == 0
                    continue
                assert values[k, oy, ox] == pytest.approx(scale * wanted[0] - offset, rel=1e-5, abs=4e-5 * biggest)
                expected = code / 127 * wanted[1] * 0.25 / scale**2
                assert weights[k, oy, ox] == pytest.approx(expected, rel=1e-4, abs=1e-7)
                assert alpha[oy, ox] == code
    assert (alpha[(weights == 0).all(axis=0)] == 0).all()


# --- truths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", POINT_KERNELS)
def test_integer_positions_return_the_pixels_exactly(kernel):
    data = np.random.default_rng(1).normal(1e4, 1e4, (1, 40, 50)).astype(np.float32)
    nodes = affine_nodes(np.eye(2), (0, 0), (40, 50), 8)
    values, weights, alpha = call(data, np.ones((1, 40, 50)), nodes, (40, 50), kernel=kernel, step=8)
    np.testing.assert_array_equal(values, data)
    np.testing.assert_array_equal(weights, 1)
    np.testing.assert_array_equal(alpha, 127)


@given(window=windows(), kernel=st.sampled_from(ALL_KERNELS), degrees=st.floats(-180, 180))
@settings(max_examples=60, deadline=None)
def test_constant_in_constant_out(window, kernel, degrees):
    data, weight = window
    data = np.where(np.broadcast_to(weight, data.shape) > 0, np.float32(731.25), data)
    nodes = affine_nodes(rotation(degrees, 0.8), (5, 6), (16, 16), 8)
    values, weights, _ = call(data, weight, nodes, (16, 16), kernel=kernel, step=8)
    np.testing.assert_allclose(values[weights > 0], 731.25, rtol=1e-6)


def test_coordinate_image_comes_back():
    y, x = np.mgrid[:300, :400].astype(np.float32)
    matrix = rotation(23.0, 0.9)
    nodes = affine_nodes(matrix, (120.3, 20.7), (200, 200), 32)
    values, weights, _ = call(np.stack([x, y]), np.ones((1, 300, 400)), nodes, (200, 200), kernel="bilinear", step=32)
    oy, ox = np.nonzero(weights[0])
    assert len(oy) > 20_000
    truth = matrix @ np.stack([ox, oy]) + np.array([[120.3], [20.7]])
    assert np.abs(values[:, oy, ox] - truth).max() < 0.01


@pytest.mark.parametrize("kernel", ["bilinear", *LANCZOS])
def test_an_image_reaches_to_its_outermost_pixels(kernel):
    """Where all of Lanczos' taps are not at hand the four nearest pixels do; beyond the last pixel's centre none do."""
    y, x = np.mgrid[:60, :80].astype(np.float32)
    matrix = rotation(31.0, 1.0)
    nodes = affine_nodes(matrix, (10.3, -14.7), (110, 110), 8)
    values, weights, _ = call(np.stack([x, y]), np.ones((1, 60, 80)), nodes, (110, 110), kernel=kernel, step=8)
    oy, ox = np.mgrid[:110, :110]
    truth = np.tensordot(matrix, np.stack([ox, oy]), 1) + np.array([10.3, -14.7])[:, None, None]
    inside = (truth[0] > 0) & (truth[0] < 79) & (truth[1] > 0) & (truth[1] < 59)
    assert inside.sum() > 4000
    assert (weights[0][inside] > 0).all()
    assert np.abs(values - truth)[:, inside].max() < 0.12
    beyond = (truth[0] < -0.1) | (truth[0] > 79.1) | (truth[1] < -0.1) | (truth[1] > 59.1)
    assert not weights[0][beyond].any()


def gaussian(shape, x0, y0, fwhm, flux=1e5):
    sigma = fwhm / 2.3548
    y, x = np.mgrid[: shape[0], : shape[1]]
    star = np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2))
    return (flux * star / (2 * np.pi * sigma**2)).astype(np.float32)


def fitted_centre(image):
    """Centre of a Gaussian star by least squares on the logarithm of its core."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    core = image > 0.2 * image.max()
    terms = np.stack([np.ones(core.sum()), x[core], y[core], x[core] ** 2, x[core] * y[core], y[core] ** 2], axis=1)
    weight = image[core].astype(float)
    _, bx, by, xx, xy, yy = np.linalg.lstsq(terms * weight[:, None], np.log(weight) * weight, rcond=None)[0]
    return np.linalg.solve([[2 * xx, xy], [xy, 2 * yy]], [-bx, -by])


@pytest.mark.parametrize("kernel", ["lanczos3", "lanczos4"])
@pytest.mark.parametrize("degrees", [0.0, 31.0, 90.0, -152.0])
def test_a_stars_centroid_and_flux_are_kept(kernel, degrees):
    rng = np.random.default_rng(3)
    for _ in range(6):
        star_xy = 30 + rng.uniform(-0.5, 0.5, 2)
        matrix, target = rotation(degrees), 25 + rng.uniform(-0.5, 0.5, 2)
        image = gaussian((60, 60), *star_xy, fwhm=2.5)
        nodes = affine_nodes(matrix, star_xy - matrix @ target, (50, 50), 8)
        values, _, _ = call(image[None], np.ones((1, 60, 60)), nodes, (50, 50), kernel=kernel, step=8)
        assert np.abs(fitted_centre(values[0]) - target).max() < 0.01
        assert values[0].sum() == pytest.approx(1e5, rel=1e-3)


@pytest.mark.parametrize("kernel", ["lanczos3", "lanczos4"])
@pytest.mark.parametrize("zoom", [1.6, 1 / 1.6])
def test_a_stars_flux_is_kept_through_a_change_of_scale(kernel, zoom):
    """`zoom` frame pixels an output pixel; the area law multiplies values by zoom^2."""
    matrix, star_xy, target = rotation(20.0, zoom), np.array([50.3, 49.8]), np.array([40.2, 39.6])
    fwhm = 2.5 * max(zoom, 1.0)
    image = gaussian((100, 100), *star_xy, fwhm=fwhm)
    nodes = affine_nodes(matrix, star_xy - matrix @ target, (80, 80), 8)
    values, _, _ = call(image[None], np.ones((1, 100, 100)), nodes, (80, 80), kernel=kernel, step=8, scale=zoom**2)
    assert values[0].sum() == pytest.approx(1e5, rel=1e-3)


@pytest.mark.parametrize("kernel", ALL_KERNELS)
@pytest.mark.parametrize("rubbish", [np.nan, np.inf, 3e38])
def test_a_hole_never_spreads_beyond_the_kernel(kernel, rubbish):
    rng = np.random.default_rng(4)
    data = rng.normal(1000, 10, (1, 50, 50)).astype(np.float32)
    matrix, shift = rotation(12.0), (8.2, 3.1)
    nodes = affine_nodes(matrix, shift, (40, 40), 8)
    weight = np.ones((1, 50, 50), np.float32)
    clean, clean_weights, _ = call(data, weight, nodes, (40, 40), kernel=kernel, step=8)
    data[0, 25, 20], weight[0, 25, 20] = rubbish, 0
    values, weights, _ = call(data, weight, nodes, (40, 40), kernel=kernel, step=8)
    y, x = np.mgrid[:40, :40]
    px = matrix[0, 0] * x + matrix[0, 1] * y + shift[0] - 20
    py = matrix[1, 0] * x + matrix[1, 1] * y + shift[1] - 25
    # An output pixel's turned outline reaches 0.6 px, a frame pixel 0.5.
    reach = KERNEL_TAPS[kernel] / 2 if kernel in KERNEL_TAPS else 1.1
    far = np.maximum(np.abs(px), np.abs(py)) > reach
    assert np.isfinite(values).all()
    assert np.array_equal(values[0][far], clean[0][far])
    assert np.array_equal(weights[0][far], clean_weights[0][far])
    near = np.maximum(np.abs(px), np.abs(py)) < (0.5 if kernel in POINT_KERNELS else 0.2)
    assert near.any()
    assert (weights[0][near] == 0).all() or kernel == "drizzle"
    touched = (weights[0] > 0) & (values[0] != clean[0])
    assert np.abs(values[0] - clean[0])[touched].max(initial=0) < 30


@given(
    kernel=st.sampled_from(ALL_KERNELS),
    cut=st.tuples(st.integers(1, 39), st.integers(1, 39)),
    seed=st.integers(0, 99),
    margin=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_the_cut_of_the_output_leaves_every_byte(kernel, cut, seed, margin):
    """Four pieces, each from a window of its own, equal the whole."""
    rng = np.random.default_rng(seed)
    data = rng.normal(1000, 10, (2, 60, 60)).astype(np.float32)
    weight = np.where(rng.random((1, 60, 60)) < 0.02, 0, rng.choice([1.0, 0.7], (1, 60, 60))).astype(np.float32)
    matrix, shift, step = rotation(17.0, 1.1), (7.3, 1.2), 8
    nodes = affine_nodes(matrix, shift, (40, 40), step)
    scale, offset = rng.uniform(1, 2, (2, *nodes.shape[1:])), rng.uniform(-9, 9, (2, *nodes.shape[1:]))
    same = {"kernel": kernel, "step": step, "taper_box": (2, 55, 1, 58), "taper_px": 10.0}
    whole = call(data, weight, nodes, (40, 40), scale=scale, offset=offset, **same)
    for y0, y1 in ((0, cut[0]), (cut[0], 40)):
        for x0, x1 in ((0, cut[1]), (cut[1], 40)):
            corner = matrix @ np.array([[x0, x1, x0, x1], [y0, y0, y1, y1]]) + np.array(shift)[:, None]
            low = np.maximum(np.floor(corner.min(axis=1)).astype(int) - 5 - margin, 0)
            high = np.ceil(corner.max(axis=1)).astype(int) + 6
            part = (slice(None), slice(low[1], high[1]), slice(low[0], high[0]))
            j0, i0 = y0 // step, x0 // step
            cells = (slice(None), slice(j0, -(-y1 // step) + 1), slice(i0, -(-x1 // step) + 1))
            piece = call(
                data[part], weight[part], np.ascontiguousarray(nodes[cells]), (y1 - y0, x1 - x0),
                start=(y0 - j0 * step, x0 - i0 * step), origin=(low[1], low[0]),
                scale=scale[cells], offset=offset[cells], **same,
            )  # fmt: skip
            for got, expected in zip(piece, whole, strict=True):
                assert got.tobytes() == np.ascontiguousarray(expected[..., y0:y1, x0:x1]).tobytes()


@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_alpha_rises_from_the_edge_and_gives_the_variance(kernel):
    rng = np.random.default_rng(5)
    weight = rng.choice([0.5, 1.0], (1, 80, 80)).astype(np.float32)
    nodes = affine_nodes(np.eye(2), (0.25, 0.25), (80, 80), 8)
    same = {"kernel": kernel, "step": 8, "scale": 1.3, "inverse_variance": np.array([1 / 14.0**2])}
    data = np.ones((1, 80, 80))
    _, tapered, alpha = call(data, weight, nodes, (80, 80), taper_px=16.0, **same)
    _, full, _ = call(data, weight, nodes, (80, 80), taper_px=0.0, **same)
    seen = tapered[0] > 0
    variance = (alpha[seen] / 127) / tapered[0][seen]
    np.testing.assert_allclose(variance, 1 / full[0][seen], rtol=1e-6)
    assert (np.diff(alpha[40, :14].astype(int)) > 0).all()
    assert alpha[40, 0] < 3
    assert (alpha[16:63, 16:63] == 127).all()
    if kernel == "nearest":
        np.testing.assert_allclose(full[0], weight[0] / (1.3 * 14) ** 2, rtol=1e-6)


def test_saturation_is_flagged_on_the_four_nearest_pixels():
    data, weight = np.zeros((1, 20, 20), np.float32), np.ones((1, 20, 20), np.float32)
    data[0, 10, 10] = 60000
    nodes = affine_nodes(np.eye(2), (0.4, 0.4), (19, 19), 8)
    for kernel in POINT_KERNELS:
        _, _, alpha = call(data, weight, nodes, (19, 19), kernel=kernel, step=8, saturation=60000.0)
        assert set(zip(*np.nonzero(alpha & 128), strict=True)) == {(9, 9), (9, 10), (10, 9), (10, 10)}
        assert (alpha[4:15, 4:15] & 127 == 127).all()
    _, _, alpha = call(data, weight, nodes, (19, 19), kernel="lanczos3", step=8)
    assert not (alpha & 128).any()


def test_clamping_takes_the_ringing():
    data = np.zeros((1, 40, 40), np.float32)
    data[:, :, 20:] = 1000
    nodes = affine_nodes(np.eye(2), (4.4, 4.0), (30, 30), 8)
    plain, _, _ = call(data, np.ones((1, 40, 40)), nodes, (30, 30), kernel="lanczos3", step=8)
    half, _, _ = call(data, np.ones((1, 40, 40)), nodes, (30, 30), kernel="lanczos3", step=8, clamp=0.5)
    clamped, _, _ = call(data, np.ones((1, 40, 40)), nodes, (30, 30), kernel="lanczos3", step=8, clamp=1.0)
    assert plain.max() > 1050
    assert clamped.max() == pytest.approx(1000, abs=1e-3)
    np.testing.assert_allclose(half, (plain + clamped) / 2, atol=1e-3)


def test_nodes_without_coordinates_give_no_weight():
    nodes = affine_nodes(np.eye(2), (0, 0), (40, 40), 8)
    nodes[:, 2, 2] = np.nan
    plane = np.ones((1, 40, 40))
    for kernel in ALL_KERNELS:
        values, weights, alpha = call(plane, plane, nodes, (40, 40), kernel=kernel, step=8)
        lost = np.zeros((40, 40), bool)
        lost[8:24, 8:24] = True
        assert np.array_equal(weights[0] == 0, lost)
        assert np.array_equal(alpha == 0, lost)
        assert np.array_equal(values[0] == 0, lost)


@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_a_slice_of_a_stack_is_filled_in_place(kernel):
    rng = np.random.default_rng(6)
    data = rng.normal(0, 1, (3, 30, 30)).astype(np.float32)
    weight = np.ones((3, 30, 30), np.float32)
    nodes = affine_nodes(rotation(5.0), (2, 1), (20, 20), 8)
    values, weights, alpha = call(data, weight, nodes, (20, 20), kernel=kernel, step=8)
    stack = np.full((2, 3, 4, 26, 27), 7.0, np.float32)
    codes = np.full((4, 26, 27), 7, np.uint8)
    window = Window(
        data, weight, origin=(0, 0), nodes_xy=nodes, nodes_scale=np.ones((3, *nodes.shape[1:])),
        nodes_offset=np.zeros((3, *nodes.shape[1:])), step=8, start=(0, 0), inverse_variance=np.ones(3),
        taper_box=(0, 30, 0, 30), taper_px=0.0,
    )  # fmt: skip
    run(window, Output(stack[0, :, 2], stack[1, :, 2], codes[2], (3, 23, 4, 24)), kernel)
    assert np.array_equal(stack[0, :, 2, 3:23, 4:24], values)
    assert np.array_equal(stack[1, :, 2, 3:23, 4:24], weights)
    assert np.array_equal(codes[2, 3:23, 4:24], alpha)
    stack[:, :, 2, 3:23, 4:24] = 7
    codes[2, 3:23, 4:24] = 7
    assert (stack == 7).all()
    assert (codes == 7).all()


@pytest.mark.parametrize("lobes", [2, 3, 4])
def test_every_row_of_the_table_sums_to_one(lobes):
    table = lanczos_table(lobes)
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=3e-7)
    whole = np.zeros(8)
    whole[lobes - 1] = 1
    np.testing.assert_array_equal(table[0], whole)
    np.testing.assert_array_equal(table[-1], np.roll(whole, 1))
    np.testing.assert_allclose(table[:, : 2 * lobes], table[::-1, : 2 * lobes][:, ::-1], atol=1e-7)


def test_what_does_not_fit_is_refused():
    nodes, plane = affine_nodes(np.eye(2), (0, 0), (20, 20), 8), np.ones((1, 20, 20))
    with pytest.raises(ValueError, match="kernel must be one of nearest, bilinear"):
        call(plane, plane, nodes, (20, 20), kernel="sinc", step=8)
    with pytest.raises(ValueError, match=r"weight must have shape \(1 or 1, 20, 20\), got \(2, 20, 20\)"):
        call(plane, np.ones((2, 20, 20)), nodes, (20, 20), kernel="nearest", step=8)
    with pytest.raises(ValueError, match="4 x 4 nodes of step 8 do not cover pixels"):
        call(plane, plane, nodes, (25, 20), kernel="nearest", step=8)
    with pytest.raises(ValueError, match="do not cover"):
        call(plane, plane, nodes, (20, 20), kernel="nearest", step=8, start=(-1, 0))
    with pytest.raises(ValueError, match=r"target \(0, 21, 0, 20\) is not inside"):
        call(plane, plane, nodes, (20, 20), kernel="nearest", step=8, target=(0, 21, 0, 20))


def test_a_window_of_more_pixels_than_32_bits_count_is_refused():
    far, corrections = np.broadcast_to(np.float32(1), (1, 2**16, 2**15)), np.ones((1, 2, 2))
    nodes = affine_nodes(np.eye(2), (0, 0), (4, 4), 8)[:, :2, :2]
    window = Window(far, far, (0, 0), nodes, corrections, corrections, 8, (0, 0), np.ones(1), (0, 9, 0, 9), 0.0)
    out = Output(*np.zeros((2, 1, 4, 4), np.float32), np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="65536 x 32768 pixels is too large"):
        prepare(window, out)
