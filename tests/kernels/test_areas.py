"""Area and drizzle kernels against a clipped-polygon reference, the drizzle package, and known fluxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lattice_cases import affine_nodes, call, rotation
from zemosaic.kernels.resample.areas import MIN_USED


def clip_polygon(points, left, low, side):
    """Sutherland-Hodgman: the part of a polygon inside a square."""
    for axis, bound, sign in ((0, left, 1), (0, left + side, -1), (1, low, 1), (1, low + side, -1)):
        kept = []
        for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
            inside_a, inside_b = sign * (a[axis] - bound) >= 0, sign * (b[axis] - bound) >= 0
            if inside_a:
                kept.append(a)
            if inside_a != inside_b:
                t = (bound - a[axis]) / (b[axis] - a[axis])
                kept.append(a + t * (b - a))
        points = np.array(kept)
        if len(points) < 3:
            return np.zeros((0, 2))
    return points


def shoelace(points):
    if len(points) < 3:
        return 0.0
    x, y = points.T
    return 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def reference(data, weight, outline, pixfrac):
    """(value, m) of one output pixel, or None."""
    side, by_weight = (1.0, False) if pixfrac is None else (pixfrac, True)
    total = counted = weighed = 0.0
    for j, i in np.ndindex(*data.shape):
        overlap = shoelace(clip_polygon(outline, i - side / 2, j - side / 2, side))
        if weight[j, i] > 0 and overlap > 0:
            counts = overlap * float(weight[j, i]) if by_weight else overlap
            total += counts * float(data[j, i])
            counted += counts
            weighed += overlap * float(weight[j, i])
    area = shoelace(outline)
    if counted < (1e-5 if by_weight else MIN_USED * area):
        return None
    return total / counted, weighed / (area * side**2), counted / area


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    pixfrac=st.sampled_from([None, 1.0, 0.8, 0.3]),
    degrees=st.one_of(st.sampled_from([0.0, 45.0, 90.0, 180.0]), st.floats(-180, 180)),
    zoom=st.sampled_from([0.4, 1.0, 2.3]),
    shear=st.floats(-0.4, 0.4),
    holes=st.sampled_from([0.0, 0.2, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_matches_clipped_polygons(seed, shape, pixfrac, degrees, zoom, shear, holes):
    rng = np.random.default_rng(seed)
    data = rng.normal(100, 10, (2, *shape)).astype(np.float32)
    weight = rng.uniform(0.2, 2, (1, *shape)).astype(np.float32)
    weight[rng.random(weight.shape) < holes] = 0
    garbage = np.where(weight > 0, data, np.float32(np.nan))
    matrix = rotation(degrees, zoom) @ np.array([[1, shear], [0, 1]])
    shift = rng.uniform(-1, 5, 2)
    nodes = affine_nodes(matrix, shift, (4, 4), 4)
    values, weights, alpha = call(
        garbage, weight, nodes, (4, 4), kernel="area" if pixfrac is None else "drizzle", pixfrac=pixfrac, step=4
    )
    assert np.isfinite(values).all()
    for oy, ox in np.ndindex(4, 4):
        square = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
        outline = (square + np.array([ox, oy])) @ matrix.T + shift
        x, y = matrix @ (ox, oy) + shift
        if min(abs(v + 0.5 - round(v + 0.5)) for v in (x, y)) < 1e-6:
            continue  # rounding decides whether it is on the frame
        on_frame = -0.5 < x < shape[1] - 0.5 and -0.5 < y < shape[0] - 0.5
        for k in range(2):
            wanted = reference(data[k], weight[0], outline, pixfrac) if on_frame else None
            if wanted is None:
                assert weights[k, oy, ox] == values[k, oy, ox] == 0 or weights[k, oy, ox] < 1e-3
            elif pixfrac is not None or abs(wanted[2] - MIN_USED) > 1e-6:
                assert values[k, oy, ox] == pytest.approx(wanted[0], rel=1e-5)
                assert weights[k, oy, ox] == pytest.approx(wanted[1], rel=1e-4, abs=1e-6)
                assert alpha[oy, ox] == 127


@pytest.mark.parametrize(("kernel", "pixfrac"), [("area", None), ("drizzle", 1.0)])
@pytest.mark.parametrize("zoom", [1.6, 1.0, 1 / 1.6])
def test_all_flux_arrives(kernel, pixfrac, zoom):
    """An image inside an empty rim keeps its sum through rotation and scale, whatever it holds."""
    data = np.zeros((1, 60, 60), np.float32)
    data[0, 15:45, 15:45] = np.random.default_rng(1).uniform(0, 100, (30, 30))
    matrix = rotation(33.0, zoom)
    size = int(60 / zoom) + 6
    nodes = affine_nodes(matrix, np.array([30.2, 29.7]) - matrix @ (size / 2, size / 2), (size, size), 8)
    values, _, _ = call(
        data, np.ones((1, 60, 60)), nodes, (size, size), kernel=kernel, pixfrac=pixfrac, step=8, scale=zoom**2
    )
    assert values.sum() == pytest.approx(data.sum(), rel=1e-6)


@pytest.mark.parametrize("pixfrac", [1.0, 0.7, 0.4])
@pytest.mark.parametrize("zoom", [1.0, 0.6, 1.5])
def test_drizzle_agrees_with_the_drizzle_package(pixfrac, zoom):
    drizzle = pytest.importorskip("drizzle.resample")

    rng = np.random.default_rng(2)
    data = rng.normal(100, 10, (50, 60)).astype(np.float32)
    weight = rng.uniform(0.5, 2, (50, 60)).astype(np.float32)
    weight[rng.random(weight.shape) < 0.03] = 0
    matrix, shape = rotation(25.0, zoom), (int(60 / zoom), int(60 / zoom))
    shift = np.array([29.5, 24.5]) - matrix @ (shape[1] / 2, shape[0] / 2)
    y, x = np.mgrid[:50, :60]
    to_output = np.tensordot(np.linalg.inv(matrix), np.stack([x, y]) - shift[:, None, None], 1)
    oracle = drizzle.Drizzle(kernel="square", out_shape=shape, fillval="0.0")
    oracle.add_image(
        data, 1.0, np.moveaxis(to_output, 0, -1).copy(), pixfrac=pixfrac, weight_map=weight, in_units="cps"
    )
    nodes = affine_nodes(matrix, shift, shape, 8)
    values, weights, _ = call(data[None], weight[None], nodes, shape, kernel="drizzle", pixfrac=pixfrac, step=8)
    # At the rims of frame and output the package leaves drops out: compare away from both.
    oy, ox = np.mgrid[: shape[0], : shape[1]]
    frame_x, frame_y = np.tensordot(matrix, np.stack([ox, oy]), 1) + shift[:, None, None]
    inside = (frame_x > 2.5) & (frame_x < 56.5) & (frame_y > 2.5) & (frame_y < 46.5)
    inside &= (np.minimum(oy, ox) > 1) & (oy < shape[0] - 2) & (ox < shape[1] - 2)
    assert inside.sum() > 800
    unit = np.median(oracle.out_wht[inside] / np.maximum(weights[0][inside], 1e-6))
    both = inside & (weights[0] > 1e-3)
    assert np.array_equal(both, inside & (oracle.out_wht > 1e-3 * unit))
    np.testing.assert_allclose(values[0][both], oracle.out_img[both], rtol=1e-4)
    np.testing.assert_allclose(oracle.out_wht[both], unit * weights[0][both], rtol=1e-4, atol=1e-5 * unit)


def test_plain_pixels_weigh_one_on_average():
    nodes = affine_nodes(rotation(20.0, 0.7), (10.3, 20.1), (60, 60), 8)
    for kernel, pixfrac in (("area", None), ("drizzle", 0.8), ("drizzle", 0.3)):
        _, weights, _ = call(
            np.zeros((1, 80, 80)), np.ones((1, 80, 80)), nodes, (60, 60), kernel=kernel, pixfrac=pixfrac, step=8
        )
        assert weights[0, 20:40, 20:40].mean() == pytest.approx(1, rel=1e-5 if pixfrac is None else 0.02)


def test_saturation_is_flagged_under_the_outline():
    data = np.zeros((1, 20, 20), np.float32)
    data[0, 10, 10] = 60000
    nodes = affine_nodes(np.eye(2), (0.25, 0.25), (19, 19), 8)
    for kernel in ("area", "drizzle"):
        _, _, alpha = call(data, np.ones((1, 20, 20)), nodes, (19, 19), kernel=kernel, step=8, saturation=5e4)
        assert set(zip(*np.nonzero(alpha & 128), strict=True)) == {(9, 9), (9, 10), (10, 9), (10, 10)}


@pytest.mark.parametrize("pixfrac", [0.0, 1.01, -0.5])
def test_a_drop_must_fit_its_pixel(pixfrac):
    nodes = affine_nodes(np.eye(2), (0, 0), (8, 8), 8)
    with pytest.raises(ValueError, match=r"pixfrac must be in \(0, 1\]"):
        call(np.zeros((1, 8, 8)), np.ones((1, 8, 8)), nodes, (8, 8), kernel="drizzle", pixfrac=pixfrac, step=8)
