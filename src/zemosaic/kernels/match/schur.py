"""The system of the sky alone, surfaces eliminated, for several right-hand sides at once. Serial, nogil; never assembled.

Vectors of the sky are (nodes, LANES), those of surfaces (images, k, LANES).
"""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, part
from zemosaic.kernels.match.coarse import add_to_coarse, add_to_fine, solve_band
from zemosaic.kernels.match.factors import solve_sky
from zemosaic.kernels.match.values import LANES

__all__ = ["apply_schur", "correct_sky", "recover_surfaces", "reduced_rhs"]


@part
def _multiply(matrix, x, out):
    """A small matrix times x, all lanes."""
    out[:] = 0.0
    for p in range(len(matrix)):
        for q in range(len(matrix)):
            for lane in range(LANES):
                out[p, lane] += matrix[p, q] * x[q, lane]


@part
def _gather(nodes, cross, sky, sign, out):
    """Add ``C^T sky`` of one image, times a sign, to `out` (k, LANES)."""
    for a in range(len(nodes)):
        for p in range(len(out)):
            for lane in range(LANES):
                out[p, lane] += sign * cross[a, p] * sky[nodes[a], lane]


@part
def _spread(nodes, cross, y, sign, out):
    """Add ``C y`` of one image, times a sign, to `out` (nodes, LANES)."""
    for a in range(len(nodes)):
        for p in range(len(y)):
            for lane in range(LANES):
                out[nodes[a], lane] += sign * cross[a, p] * y[p, lane]


@part
def _apply_sky(x, stencil, nx, out):
    """The sky's own matrix times x."""
    n = len(x)
    steps = 0, 1, 2, nx - 1, nx, nx + 1, 2 * nx
    out[:] = 0.0
    for node in range(n):
        for lane in range(LANES):
            out[node, lane] += stencil[node, 0] * x[node, lane]
        for s in range(1, 7):
            other = node + steps[s]
            if other < n:
                for lane in range(LANES):
                    out[node, lane] += stencil[node, s] * x[other, lane]
                    out[other, lane] += stencil[node, s] * x[node, lane]


@kernel
def apply_schur(x, sky, out):
    """Sky normal matrix with all surfaces eliminated, times x: ``N x - sum_i C_i P_i^-1 C_i^T x``; `sky` SkyEquations."""
    stencil, nx, ((start, nodes), cross, own_inverse) = sky
    k = cross.shape[1]
    t, y = np.empty((k, LANES)), np.empty((k, LANES))
    _apply_sky(x, stencil, nx, out)
    for i in range(len(start) - 1):
        own = slice(start[i], start[i + 1])
        t[:] = 0.0
        _gather(nodes[own], cross[own], x, 1.0, t)
        _multiply(own_inverse[i], t, y)
        _spread(nodes[own], cross[own], y, -1.0, out)


@kernel
def correct_sky(r, sky, factors, coarse, is_smooth, out, product):
    """About the Schur matrix's inverse times r, and the Schur matrix times that.

    First the sky with its surfaces held, then what is left of r on a coarse sky that surfaces follow (two levels, one
    after the other: A-DEF2 of Tang, Nabben, Vuik & Erlangga, J. Sci. Comput. 39, 340, 2009). Each image is read twice,
    as it is where the matrix alone is applied.

    Parameters
    ----------
    r : float64 (nodes, LANES)
    sky : SkyEquations
    factors : SkyFactors
    coarse : CoarseSky
    is_smooth : bool
        Whether r has nothing for the first part, which is then left out.
    out, product : float64 (nodes, LANES), output
    """
    stencil, nx, ((start, nodes), cross, own_inverse) = sky
    coarse_nodes, (coarse_start, listed), gathered, band = coarse
    n, k = len(start) - 1, cross.shape[1]
    t, y = np.zeros((n, k, LANES)), np.empty((k, LANES))
    rest, level = r.copy(), np.zeros((coarse_nodes.n, LANES))
    if is_smooth:
        out[:] = 0.0
    else:
        solve_sky(factors, r, out)
        _apply_sky(out, stencil, nx, product)
        rest -= product
        for i in range(n):
            own, coarse_own = slice(start[i], start[i + 1]), slice(coarse_start[i], coarse_start[i + 1])
            _gather(nodes[own], cross[own], out, 1.0, t[i])
            _multiply(own_inverse[i], t[i], y)
            _spread(listed[coarse_own], gathered[coarse_own], y, 1.0, level)
    add_to_coarse(rest, coarse_nodes, level)
    solve_band(band, level)
    add_to_fine(level, coarse_nodes, out)
    _apply_sky(out, stencil, nx, product)
    for i in range(n):
        own, coarse_own = slice(start[i], start[i + 1]), slice(coarse_start[i], coarse_start[i + 1])
        _gather(listed[coarse_own], gathered[coarse_own], level, 1.0, t[i])
        _multiply(own_inverse[i], t[i], y)
        _spread(nodes[own], cross[own], y, -1.0, product)


@kernel
def recover_surfaces(x, sky, rhs_own, out):
    """Each image's coefficients given the sky x: ``P_i^-1 (r_i - C_i^T x)``, into `out` (n, k, LANES)."""
    _, _, ((start, nodes), cross, own_inverse) = sky
    for i in range(len(start) - 1):
        own = slice(start[i], start[i + 1])
        t = rhs_own[i].copy()
        _gather(nodes[own], cross[own], x, -1.0, t)
        _multiply(own_inverse[i], t, out[i])


@kernel
def reduced_rhs(rhs_sky, rhs_own, sky, out):
    """Right-hand side of the Schur system: ``r_sky - sum_i C_i P_i^-1 r_i``."""
    _, _, ((start, nodes), cross, own_inverse) = sky
    out[:] = rhs_sky
    y = np.empty(rhs_own.shape[1:])
    for i in range(len(start) - 1):
        own = slice(start[i], start[i + 1])
        _multiply(own_inverse[i], rhs_own[i], y)
        _spread(nodes[own], cross[own], y, -1.0, out)
