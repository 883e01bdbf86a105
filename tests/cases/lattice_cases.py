"""Affine lattices and calls of the resampling kernels, for tests."""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.resample.areas import resample_polygon
from zemosaic.kernels.resample.points import resample
from zemosaic.kernels.resample.window import Output, Window

POINT_KERNELS = ("nearest", "bilinear", "lanczos2", "lanczos3", "lanczos4")
AREA_KERNELS = ("area", "drizzle")


def affine_nodes(matrix, shift, shape, step, start=(0, 0)):
    """Nodes (x, y) with frame position = matrix @ (x, y) + shift for the pixel (y, x) of an output of `shape`."""
    ny = -(-(start[0] + shape[0]) // step) + 1
    nx = -(-(start[1] + shape[1]) // step) + 1
    y, x = np.mgrid[:ny, :nx].astype(float) * step
    y, x = y - start[0], x - start[1]
    return np.stack([matrix[0][0] * x + matrix[0][1] * y + shift[0], matrix[1][0] * x + matrix[1][1] * y + shift[1]])


def rotation(degrees, scale=1.0):
    c, s = np.cos(np.deg2rad(degrees)) * scale, np.sin(np.deg2rad(degrees)) * scale
    return np.array([[c, -s], [s, c]])


def call(data, weight, nodes_xy, shape, *, kernel, step, start=(0, 0), origin=(0, 0), scale=1.0, offset=0.0, **more):
    """Resample and return (values, weights, alpha); scale, offset: a number or nodes."""
    data = np.ascontiguousarray(data, np.float32)
    weight = np.ascontiguousarray(weight, np.float32)
    c, h, w = data.shape
    nodes = (c, *nodes_xy.shape[1:])
    out = (
        np.full((c, *shape), np.nan, np.float32),
        np.full((c, *shape), np.nan, np.float32),
        np.full(shape, 255, np.uint8),
    )
    more.setdefault("inverse_variance", np.ones(c))
    more.setdefault("taper_box", (origin[0], origin[0] + h, origin[1], origin[1] + w))
    more.setdefault("taper_px", 0.0)
    how = {name: more.pop(name) for name in ("clamp", "dering", "pixfrac") if name in more}
    target = more.pop("target", None)
    window = Window(
        data,
        weight,
        origin=origin,
        nodes_xy=nodes_xy,
        nodes_scale=np.broadcast_to(np.asarray(scale, float), nodes).copy(),
        nodes_offset=np.broadcast_to(np.asarray(offset, float), nodes).copy(),
        step=step,
        start=start,
        **more,
    )
    run(window, Output(*out, target), kernel, **how)
    return out


def run(window, out, kernel, **how):
    """Any of the kernels by its name."""
    if kernel in AREA_KERNELS:
        resample_polygon(window, out, **{"pixfrac": 0.8 if kernel == "drizzle" else None} | how)
    else:
        resample(window, out, kernel, **how)
