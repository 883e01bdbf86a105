"""A coarse sky that surfaces follow: quadratic B-splines on every `factor`-th node. Serial, nogil.

Its matrix is a band, since an image reaches a few coarse nodes.
"""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, leaf, part
from zemosaic.kernels.match.values import LANES

__all__ = ["add_sky", "factorise_band", "find_reach", "gather_cross", "list_coarse_nodes", "take_surfaces"]

_DX = (0, 1, 2, -1, 0, 1, 0)
"""Steps along x to the neighbours of a node that the sky's stencil names."""

_ROWS = (0, 3, 6, 7)
"""Which of them lie in the node's own row, in the next and in that after it: from each number to the one below."""


@kernel
def list_coarse_nodes(local, coarse, out_start, out_nodes):
    """List the coarse nodes that the nodes of each image touch; returns their total number.

    Parameters
    ----------
    local : ImageNodes
    coarse : CoarseNodes
    out_start : int64 (n + 1,), output
    out_nodes : int32, output; an empty array only counts
    """
    start, nodes = local
    last_image = np.full(coarse.n, -1, np.int32)
    total = 0
    for i in range(len(start) - 1):
        out_start[i] = total
        for a in range(start[i], start[i + 1]):
            y, x = nodes[a] // coarse.fine_nx // coarse.factor, nodes[a] % coarse.fine_nx // coarse.factor
            for corner in range(9):
                node = (y + corner // 3) * coarse.step_y + (x + corner % 3) * coarse.step_x
                if last_image[node] != i:
                    last_image[node] = i
                    if len(out_nodes) > 0:
                        out_nodes[total] = node
                    total += 1
    out_start[len(start) - 1] = total
    return total


@kernel
def find_reach(local, coarse):
    """How far apart in their list coarse nodes lie at most that an image, or the sky's stencil, ties to each other."""
    start, nodes = local
    most = 3 * coarse.step_y + 3 * coarse.step_x
    for i in range(len(start) - 1):
        low, high = coarse.n, 0
        for a in range(start[i], start[i + 1]):
            low, high = min(low, nodes[a]), max(high, nodes[a])
        most = max(most, high - low)
    return most


@kernel
def gather_cross(local, coarse, coarse_local, cross, out):
    """What each image's surface shares with coarse nodes, ``R^T C_i``, R from coarse nodes to fine ones.

    Parameters
    ----------
    local, coarse_local : ImageNodes
        Fine and coarse nodes of each image.
    coarse : CoarseNodes
    cross : float64 (locals, k)
    out : float64 (coarse locals, k), output
    """
    start, nodes = local
    factor, spline = coarse.factor, coarse.spline
    place = np.empty(coarse.n, np.int64)
    out[:] = 0.0
    for i in range(len(start) - 1):
        for a in range(coarse_local.start[i], coarse_local.start[i + 1]):
            place[coarse_local.nodes[a]] = a
        for a in range(start[i], start[i + 1]):
            y, x = nodes[a] // coarse.fine_nx, nodes[a] % coarse.fine_nx
            across, along = spline[y % factor], spline[x % factor]
            corner = y // factor * coarse.step_y + x // factor * coarse.step_x
            for dy in range(3):
                for dx in range(3):
                    share = across[dy] * along[dx]
                    at = place[corner + dy * coarse.step_y + dx * coarse.step_x]
                    for p in range(cross.shape[1]):
                        out[at, p] += share * cross[a, p]


@kernel
def add_sky(stencil, coarse, band):
    """Add ``R^T N R`` to a coarse band, N the sky's own matrix."""
    factor, spline, nx = coarse.factor, coarse.spline, coarse.fine_nx
    ny = len(stencil) // nx
    # One row with the next 0, 1, 2: along x first, where two coarse nodes lie up to 3 apart.
    along = np.empty((coarse.nx, 7))
    for y in range(ny):
        for dy in range(min(3, ny - y)):
            along[:] = 0.0
            for x in range(nx):
                for s in range(_ROWS[dy], _ROWS[dy + 1]):
                    value = stencil[y * nx + x, s]
                    if value == 0.0:
                        continue
                    # Both halves of the matrix are added below, its diagonal twice.
                    value *= 0.5 if s == 0 else 1.0
                    other = x + _DX[s]
                    first, apart = x // factor, other // factor - x // factor + 3
                    near, far = spline[x % factor], spline[other % factor]
                    for a in range(3):
                        for b in range(3):
                            along[first + a, apart + b - a] += value * near[a] * far[b]
            near, far = spline[y % factor], spline[(y + dy) % factor]
            first, second = y // factor, (y + dy) // factor
            for x in range(coarse.nx):
                for apart in range(7):
                    if along[x, apart] == 0.0:
                        continue
                    for a in range(3):
                        for b in range(3):
                            value = along[x, apart] * near[a] * far[b]
                            one = (first + a) * coarse.step_y + x * coarse.step_x
                            two = (second + b) * coarse.step_y + (x + apart - 3) * coarse.step_x
                            band[min(one, two), abs(one - two)] += value if one != two else 2.0 * value


@kernel
def take_surfaces(local, gathered, own_inverse, band):
    """Take from a coarse band what eliminating the surfaces takes: ``(R^T C_i) P_i^-1 (R^T C_i)^T``.

    `local` names the coarse nodes of each image, `gathered` (coarse locals, k) is what its surface shares with them.
    """
    start, nodes = local
    k = gathered.shape[1]
    y = np.empty(k)
    for i in range(len(start) - 1):
        for a in range(start[i], start[i + 1]):
            for p in range(k):
                y[p] = 0.0
                for q in range(k):
                    y[p] += own_inverse[i, p, q] * gathered[a, q]
            for b in range(start[i], start[i + 1]):
                apart = nodes[b] - nodes[a]
                if apart < 0:
                    continue
                entry = 0.0
                for p in range(k):
                    entry += gathered[b, p] * y[p]
                band[nodes[a], apart] -= entry


@leaf
def _take_off(factor, source, target):
    for e in range(target.size):
        target[e] -= factor * source[e]


@leaf
def _take_off_four(factors, first, second, third, fourth, target):
    """What four columns have in a row, taken off in their order; the later ones reach one entry further each."""
    f1, f2, f3, f4 = factors
    n = first.size
    for e in range(n):
        target[e] = target[e] - f1 * first[e] - f2 * second[e] - f3 * third[e] - f4 * fourth[e]
    target[n] = target[n] - f2 * second[n] - f3 * third[n] - f4 * fourth[n]
    target[n + 1] = target[n + 1] - f3 * third[n + 1] - f4 * fourth[n + 1]
    target[n + 2] -= f4 * fourth[n + 2]


@kernel
def factorise_band(lift, band):
    """Replace a band by the columns of its Cholesky factor, four at a time: each row behind them is fetched once.

    The diagonal is lifted by a share, so that modes which only round-off would decide do no harm; where it is 0, as
    of coarse nodes without blocks, 1 takes its place.
    """
    n, width = band.shape
    for i in range(n):
        band[i, 0] = band[i, 0] * (1.0 + lift) if band[i, 0] > 0.0 else 1.0
    for i in range(0, n, 4):
        end = min(i + 4, n)
        for k in range(i, end):
            root = np.sqrt(band[k, 0])
            for d in range(width):
                band[k, d] /= root
            for row in range(k + 1, min(end, k + width)):
                _take_off(band[k, row - k], band[k, row - k :], band[row, : width - row + k])
        for row in range(end, min(end - 1 + width, n)):
            d = row - i
            if d < width:
                b, c, e = band[i + 1, d - 1 :], band[i + 2, d - 2 :], band[i + 3, d - 3 :]
                factors = band[i, d], b[0], c[0], e[0]
                if factors != (0.0, 0.0, 0.0, 0.0):
                    _take_off_four(factors, band[i, d:], b, c, e, band[row])
                continue
            for k in range(row - width + 1, end):
                _take_off(band[k, row - k], band[k, row - k :], band[row, : width - row + k])


@part
def solve_band(band, x):
    """Solve ``L L^T x = x`` in place, all lanes."""
    n, width = band.shape
    for i in range(n):
        for lane in range(LANES):
            x[i, lane] /= band[i, 0]
        for d in range(1, min(width, n - i)):
            for lane in range(LANES):
                x[i + d, lane] -= band[i, d] * x[i, lane]
    for i in range(n - 1, -1, -1):
        for d in range(1, min(width, n - i)):
            for lane in range(LANES):
                x[i, lane] -= band[i, d] * x[i + d, lane]
        for lane in range(LANES):
            x[i, lane] /= band[i, 0]


@part
def add_rest_to_coarse(fine, product, coarse, out):
    """Add ``R^T (fine - product)`` to `out` (coarse nodes, LANES)."""
    factor, spline, nx = coarse.factor, coarse.spline, coarse.fine_nx
    along = np.empty((coarse.nx, LANES))
    for y in range(len(fine) // nx):
        along[:] = 0.0
        for x in range(nx):
            for a in range(3):
                for lane in range(LANES):
                    rest = fine[y * nx + x, lane] - product[y * nx + x, lane]
                    along[x // factor + a, lane] += spline[x % factor, a] * rest
        for a in range(3):
            for x in range(coarse.nx):
                at = (y // factor + a) * coarse.step_y + x * coarse.step_x
                for lane in range(LANES):
                    out[at, lane] += spline[y % factor, a] * along[x, lane]


@part
def add_to_fine(values, coarse, out):
    """Add ``R values`` to `out` (nodes, LANES)."""
    factor, spline, nx = coarse.factor, coarse.spline, coarse.fine_nx
    along = np.empty((coarse.nx, LANES))
    for y in range(len(out) // nx):
        along[:] = 0.0
        for a in range(3):
            for x in range(coarse.nx):
                at = (y // factor + a) * coarse.step_y + x * coarse.step_x
                for lane in range(LANES):
                    along[x, lane] += spline[y % factor, a] * values[at, lane]
        for x in range(nx):
            for a in range(3):
                for lane in range(LANES):
                    out[y * nx + x, lane] += spline[x % factor, a] * along[x // factor + a, lane]
