"""The system of the sky alone, surfaces eliminated, for several right-hand sides at once. Serial, nogil.

The matrix is never assembled. Vectors of the sky are (nodes, LANES), those of surfaces (images, k, LANES).
"""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, part
from zemosaic.kernels.match.coarse import add_rest_to_coarse, add_to_fine, solve_band
from zemosaic.kernels.match.factors import solve_sky
from zemosaic.kernels.match.values import LANES

__all__ = [
    "apply_schur",
    "correct_coarse",
    "correct_held",
    "gather_surfaces",
    "recover_surfaces",
    "reduced_rhs",
    "spread_surfaces",
]


@part
def _multiply(matrix, x, sign, out):
    """A small matrix times x, with a sign, all lanes."""
    out[:] = 0.0
    for p in range(len(matrix)):
        for q in range(len(matrix)):
            for lane in range(LANES):
                out[p, lane] += sign * matrix[p, q] * x[q, lane]


@part
def _gather(local, cross, i, sky, out):
    """Add ``C^T sky`` of image i to `out` (k, LANES); lanes by name, which keeps them in registers."""
    start, nodes = local
    for a in range(start[i], start[i + 1]):
        x = sky[nodes[a]]
        x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
        for p in range(len(out)):
            c, t = cross[a, p], out[p]
            t0, t1, t2, t3 = t[0] + c * x0, t[1] + c * x1, t[2] + c * x2, t[3] + c * x3
            t[0], t[1], t[2], t[3] = t0, t1, t2, t3


@part
def _spread(local, cross, i, y, out):
    """Add ``C y`` of image i to `out` (nodes, LANES); lanes by name."""
    start, nodes = local
    for a in range(start[i], start[i + 1]):
        s0 = s1 = s2 = s3 = 0.0
        for p in range(len(y)):
            c = cross[a, p]
            s0 += c * y[p, 0]
            s1 += c * y[p, 1]
            s2 += c * y[p, 2]
            s3 += c * y[p, 3]
        x = out[nodes[a]]
        x0, x1, x2, x3 = x[0] + s0, x[1] + s1, x[2] + s2, x[3] + s3
        x[0], x[1], x[2], x[3] = x0, x1, x2, x3


@part
def _apply_sky(x, stencil, nx, out):
    """The sky's own matrix times x; lanes by name."""
    n = len(x)
    steps = 0, 1, 2, nx - 1, nx, nx + 1, 2 * nx
    for node in range(n):
        c, y = stencil[node, 0], x[node]
        s0, s1, s2, s3 = c * y[0], c * y[1], c * y[2], c * y[3]
        for s in range(1, 7):
            after, before = node + steps[s], node - steps[s]
            if after < n:
                c, y = stencil[node, s], x[after]
                s0 += c * y[0]
                s1 += c * y[1]
                s2 += c * y[2]
                s3 += c * y[3]
            if before >= 0:
                c, y = stencil[before, s], x[before]
                s0 += c * y[0]
                s1 += c * y[1]
                s2 += c * y[2]
                s3 += c * y[3]
        y = out[node]
        y[0], y[1], y[2], y[3] = s0, s1, s2, s3


@kernel
def apply_schur(x, sky, out):
    """Sky normal matrix with all surfaces eliminated, times x: ``N x - sum_i C_i P_i^-1 C_i^T x``, by SkyEquations."""
    stencil, nx, (local, cross, own_inverse) = sky
    k = cross.shape[1]
    t, y = np.empty((k, LANES)), np.empty((k, LANES))
    _apply_sky(x, stencil, nx, out)
    for i in range(len(own_inverse)):
        t[:] = 0.0
        _gather(local, cross, i, x, t)
        _multiply(own_inverse[i], t, -1.0, y)
        _spread(local, cross, i, y, out)


@kernel
def correct_held(r, sky, factors, out, product):
    """The sky that r asks for with its surfaces held, and its own matrix times that; float64 (nodes, LANES), output."""
    solve_sky(factors, r, out)
    _apply_sky(out, sky.stencil, sky.nx, product)


@kernel
def gather_surfaces(x, sky, coarse, first, end, pulls, level):
    """What a sky x pulls at the surfaces of images first to end, and what these pull at the coarse sky.

    Parameters
    ----------
    x : float64 (nodes, LANES)
    sky : SkyEquations
    coarse : CoarseSky
    pulls : float64 (n, k, LANES), output of these images
    level : float64 (coarse nodes, LANES), output
    """
    local, cross, own_inverse = sky.coupling
    y = np.empty(pulls.shape[1:])
    level[:] = 0.0
    for i in range(first, end):
        pulls[i] = 0.0
        _gather(local, cross, i, x, pulls[i])
        _multiply(own_inverse[i], pulls[i], 1.0, y)
        _spread(coarse.local, coarse.gathered, i, y, level)


@kernel
def correct_coarse(r, sky, coarse, level, out, product):
    """What is left of r on a coarse sky that surfaces follow, added to `out`; then the sky's own matrix times `out`.

    Parameters
    ----------
    r : float64 (nodes, LANES)
    sky : SkyEquations
    coarse : CoarseSky
    level : float64 (coarse nodes, LANES)
        What surfaces pull; the coarse sky, output.
    out, product : float64 (nodes, LANES)
        The sky before, and its own matrix times that; output.
    """
    add_rest_to_coarse(r, product, coarse.nodes, level)
    solve_band(coarse.band, level)
    add_to_fine(level, coarse.nodes, out)
    _apply_sky(out, sky.stencil, sky.nx, product)


@kernel
def spread_surfaces(level, sky, coarse, first, end, pulls, out):
    """What the surfaces of images first to end take of the matrix times a sky: that of `pulls`, and a coarse one.

    Arguments as in `gather_surfaces`; `out` (nodes, LANES) is added to.
    """
    local, cross, own_inverse = sky.coupling
    y = np.empty(pulls.shape[1:])
    for i in range(first, end):
        _gather(coarse.local, coarse.gathered, i, level, pulls[i])
        _multiply(own_inverse[i], pulls[i], -1.0, y)
        _spread(local, cross, i, y, out)


@kernel
def recover_surfaces(x, sky, rhs_own, out):
    """Each image's coefficients given the sky x: ``P_i^-1 (r_i - C_i^T x)``, into `out` (n, k, LANES)."""
    _, _, (local, cross, own_inverse) = sky
    t = np.empty(rhs_own.shape[1:])
    for i in range(len(own_inverse)):
        for p in range(len(t)):
            for lane in range(LANES):
                t[p, lane] = -rhs_own[i, p, lane]
        _gather(local, cross, i, x, t)
        _multiply(own_inverse[i], t, -1.0, out[i])


@kernel
def reduced_rhs(rhs_sky, rhs_own, sky, out):
    """Right-hand side of the Schur system: ``r_sky - sum_i C_i P_i^-1 r_i``."""
    _, _, (local, cross, own_inverse) = sky
    for node in range(len(out)):
        for lane in range(LANES):
            out[node, lane] = rhs_sky[node, lane]
    y = np.empty(rhs_own.shape[1:])
    for i in range(len(own_inverse)):
        _multiply(own_inverse[i], rhs_own[i], -1.0, y)
        _spread(local, cross, i, y, out)
