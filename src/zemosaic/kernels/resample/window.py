"""What every resampling kernel takes: a window of a frame with its place on the output, and arrays to fill."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.resample.lattice import ALPHA_FULL, Edges, as_rows, find_taper

__all__ = [
    "Bytes",
    "Corners",
    "Doubles",
    "Floats",
    "Output",
    "Rows",
    "Window",
    "prepare",
    "taper_of",
]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Corners = tuple[int, int, int, int]
"""(y0, y1, x0, x1), half-open."""

Rows = tuple[Any, Any, Any]
"""Values, weights and alpha as `as_rows` gives them."""


class Window(NamedTuple):
    """A window of a frame, where it falls on the output, and how its samples are corrected and weighed.

    Attributes
    ----------
    data : ndarray, float32, shape (c, h, w)
        Raw samples: finite, and anything at all where the weight is 0.
    weight : ndarray, float32, shape (1, h, w) or (c, h, w)
        Relative inverse variance, 1 for a plain pixel; 0 (or less, or NaN) where there is no data.
    origin : tuple of int
        (y, x) of the window's first pixel in the frame.
    nodes_xy : ndarray, float64, shape (2, ny, nx)
        Frame coordinates (x, y) at the lattice nodes; NaN where there are none.
    nodes_scale, nodes_offset : ndarray, float64, shape (c, ny, nx)
        Correction at the nodes: ``value = scale * sample - offset``.
    step : int
        Output pixels between two nodes.
    start : tuple of int
        (y, x) of the first output pixel relative to node (0, 0). The nodes must reach beyond the last pixel.
    inverse_variance : ndarray, float64, shape (c,)
        ``1 / sigma^2`` of a raw sample of weight 1.
    taper_box : tuple of int
        (y0, y1, x0, x1), the frame's valid region: positions outside its pixels get weight 0.
    taper_px : float
        Distance from the box's edge, in frame pixels, over which alpha rises from 0 to 1
        (`zemosaic.kernels.resample.lattice.find_taper`); 0 for none.
    saturation : float
        Raw level at and above which a sample is flagged; inf for none.
    codes : ndarray, uint8, shape (h, w) of the output's target, optional
        Taper of the output pixels in 127ths where it has been found (`taper_of`); else edges and box tell it.
    """

    data: Floats
    weight: Floats
    origin: tuple[int, int]
    nodes_xy: Doubles
    nodes_scale: Doubles
    nodes_offset: Doubles
    step: int
    start: tuple[int, int]
    inverse_variance: Doubles
    taper_box: Corners
    taper_px: float
    saturation: float = math.inf
    codes: Bytes | None = None


class Output(NamedTuple):
    """Arrays that a resampling kernel fills.

    Attributes
    ----------
    values, weights : ndarray, float32, shape (c, H, W)
        Filled with corrected values and with ``alpha / 127 * m * inverse_variance / scale^2``, m the relative weight
        that the kernel finds. A value's variance is therefore ``(alpha / 127) / weight``. Both are 0 where there is
        no result.
    alpha : ndarray, uint8, shape (H, W)
        1 to 127 where any channel has weight, else 0; bit 128 marks saturated samples.
    target : tuple of int, optional
        (y0, y1, x0, x1), the part of the arrays to fill (default: all); ``Window.start`` belongs to its first pixel.
    """

    values: Floats
    weights: Floats
    alpha: Bytes
    target: Corners | None = None

    @property
    def corners(self) -> Corners:
        """The part to fill."""
        return self.target or (0, self.alpha.shape[0], 0, self.alpha.shape[1])

    def rows(self) -> Rows:
        """The arrays as compiled loops take them."""
        return as_rows(self.values), as_rows(self.weights), as_rows(self.alpha[None])

    def channel(self, k: int) -> Output:
        """One channel, with the alpha of all."""
        return Output(self.values[k : k + 1], self.weights[k : k + 1], self.alpha, self.target)


def taper_of(window: Window, out: Output) -> Bytes:
    """The taper of each output pixel, in 127ths.

    Returns
    -------
    ndarray, uint8, shape (h, w) of the target
        0 outside the window and the frame's valid region (`zemosaic.kernels.resample.lattice.find_taper`).
    """
    y0, y1, x0, x1 = out.corners
    codes = np.full((y1 - y0, x1 - x0), ALPHA_FULL, np.uint8)
    (top, left), (h, w) = window.origin, window.data.shape[1:]
    here = (top, top + h, left, left + w)
    edges = Edges(window.nodes_xy, window.step, window.start, here, window.taper_box, float(window.taper_px))
    find_taper(edges, codes)
    return codes


def prepare(window: Window, out: Output, n_channels: int | None = None) -> tuple[Window, Rows, Corners]:
    """Check that a window and its output fit each other (compiled code checks no index); both as loops take them.

    Parameters
    ----------
    window, out : Window, Output
    n_channels : int, optional
        Of the output, where a window of one plane holds more: the colours of a raw frame.

    Raises
    ------
    ValueError
        For shapes that do not fit, or nodes that do not cover the pixels.
    """
    c, h, w = window.data.shape
    if h * w >= 2**31:
        raise ValueError(f"a window of {h} x {w} pixels is too large: places in it are numbers of 32 bits")
    if window.weight.shape not in {(1, h, w), (c, h, w)}:
        raise ValueError(f"weight must have shape (1 or {c}, {h}, {w}), got {window.weight.shape}")
    c = n_channels or c
    ny, nx = window.nodes_xy.shape[1:]
    scale, offset = window.nodes_scale, window.nodes_offset
    if not scale.shape == offset.shape == (c, ny, nx):
        raise ValueError(f"corrections must have shape {(c, ny, nx)}, got {scale.shape} and {offset.shape}")
    y0, y1, x0, x1 = out.corners
    _, height, width = out.values.shape
    if not out.values.shape == out.weights.shape == (c, *out.alpha.shape):
        raise ValueError(
            f"outputs must have shapes {(c, height, width)} and {(height, width)}, got {out.values.shape}, "
            f"{out.weights.shape} and {out.alpha.shape}"
        )
    if not (0 <= y0 <= y1 <= height and 0 <= x0 <= x1 <= width):
        raise ValueError(f"target {out.corners} is not inside the output of {height} x {width} pixels")
    start, step = window.start, window.step
    last = (start[0] + y1 - y0, start[1] + x1 - x0)
    if min(start) < 0 or last[0] > (ny - 1) * step or last[1] > (nx - 1) * step:
        raise ValueError(f"{ny} x {nx} nodes of step {step} do not cover pixels {start} to {last}")
    # One compiled version for every caller: types that do not depend on how a number was written.
    codes = taper_of(window, out) if window.codes is None else window.codes
    plain = window._replace(taper_px=float(window.taper_px), saturation=np.float32(window.saturation), codes=codes)
    return plain, out.rows(), out.corners
