"""Operators of the background solve: sky nodes and per-image surfaces. Serial, nogil; never the whole matrix.

A block's model is the bilinear interpolation of four sky nodes plus its image's columns: the polynomial terms of
degree 0..order at (u, v) and, where given, one extra column. What travels together is named in `values`.
"""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel, part

__all__ = [
    "beyond_bilinear",
    "block_residuals",
    "build_normals",
    "cell_excess",
    "clustered_variance",
    "fill_columns",
    "list_local_nodes",
    "node_depth",
    "perturb",
    "project_values",
    "sky_at_blocks",
]


@part
def fill_columns(u, v, order, extra, out):
    """Fill `out` with the polynomial terms, ordered by degree, then by the power of v; then the extra column."""
    out[0] = 1.0
    # By name, which keeps them in registers; few surfaces have more.
    if order > 0:
        out[1], out[2] = u, v
    if order > 1:
        out[3], out[4], out[5] = u * u, u * v, v * v
    q = (order + 1) * (order + 2) // 2
    for degree in range(3, order + 1):
        first = degree * (degree + 1) // 2
        for j in range(degree):
            out[first + j] = u * out[first - degree + j]
        out[first + degree] = v * out[first - 1]
    if q < len(out):
        out[q] = extra


@kernel
def list_local_nodes(start, cell, nx, n_nodes, local_start, local_nodes):
    """List the nodes each image touches; returns their total number.

    Parameters
    ----------
    start : int64 (n + 1,); cell : int32 (blocks,)
    local_start : int64 (n + 1,), output
    local_nodes : int32, output; an empty array only counts
    """
    last_image = np.full(n_nodes, -1, np.int32)
    total = 0
    for i in range(len(start) - 1):
        local_start[i] = total
        for b in range(start[i], start[i + 1]):
            for corner in range(4):
                node = cell[b] + (corner & 1) + (corner >> 1) * nx
                if last_image[node] != i:
                    last_image[node] = i
                    if len(local_nodes) > 0:
                        local_nodes[total] = node
                    total += 1
    local_start[len(start) - 1] = total
    return total


@kernel
def build_normals(blocks, value, weight, local, parts):
    """Normal equations: each image's own block, its cross block with the sky, and the sky's stencil.

    Parameters
    ----------
    blocks : PlacedBlocks
    value, weight : float32 (blocks,)
    local : ImageNodes
    parts : NormalParts, output
    """
    start, cell, fx, fy, u, v, extra, order, nx = blocks
    cross, own, rhs_own, stencil, rhs_sky = parts
    local_start, local_nodes = local
    k = own.shape[1]
    columns = np.empty(k)
    local_of = np.empty(len(rhs_sky), np.int32)
    share = np.empty(4)
    cross[:] = 0.0
    own[:] = 0.0
    rhs_own[:] = 0.0
    stencil[:] = 0.0
    rhs_sky[:] = 0.0
    has_extra = len(extra) > 0
    for i in range(len(start) - 1):
        for a in range(local_start[i], local_start[i + 1]):
            local_of[local_nodes[a]] = a
        for b in range(start[i], start[i + 1]):
            w = float(weight[b])
            if w == 0.0:
                continue
            fill_columns(float(u[b]), float(v[b]), order, float(extra[b]) if has_extra else 0.0, columns)
            share[0], share[1] = (1.0 - fx[b]) * (1.0 - fy[b]), fx[b] * (1.0 - fy[b])
            share[2], share[3] = (1.0 - fx[b]) * fy[b], float(fx[b]) * fy[b]
            wv = w * value[b]
            for p in range(k):
                rhs_own[i, p] += wv * columns[p]
                wp = w * columns[p]
                for q in range(p + 1):
                    own[i, p, q] += wp * columns[q]
            for c in range(4):
                node = cell[b] + (c & 1) + (c >> 1) * nx
                ws = w * share[c]
                rhs_sky[node] += wv * share[c]
                a = local_of[node]
                for p in range(k):
                    cross[a, p] += ws * columns[p]
                for d in range(c, 4):
                    dx, dy = (d & 1) - (c & 1), (d >> 1) - (c >> 1)
                    stencil[node, dx + 4 * dy] += ws * share[d]
        for p in range(k):
            for q in range(p + 1, k):
                own[i, p, q] = own[i, q, p]


@part
def _bilinear(sky, c, nx, fx, fy):
    """The sky between four nodes, c that of the lower left."""
    low = sky[c] * (1.0 - fx) + sky[c + 1] * fx
    high = sky[c + nx] * (1.0 - fx) + sky[c + nx + 1] * fx
    return low * (1.0 - fy) + high * fy


@kernel
def sky_at_blocks(blocks, sky, out):
    """The sky at every block, bilinear between nodes; float32 (blocks,)."""
    _, cell, fx, fy, _, _, _, _, nx = blocks
    for b in range(len(cell)):
        out[b] = _bilinear(sky, cell[b], nx, fx[b], fy[b])


@kernel
def beyond_bilinear(blocks, bend_y, bend_x, out):
    """What a smooth sky has at every block beyond that, by its second differences at the nodes; float32 (blocks,)."""
    _, cell, fx, fy, _, _, _, _, nx = blocks
    for b in range(len(cell)):
        along_y = fy[b] * (1.0 - fy[b]) / 2 * _bilinear(bend_y, cell[b], nx, fx[b], fy[b])
        along_x = fx[b] * (1.0 - fx[b]) / 2 * _bilinear(bend_x, cell[b], nx, fx[b], fy[b])
        out[b] = -along_y - along_x


@kernel
def block_residuals(blocks, value, sky, surfaces, residual):
    """``residual = value - bilinear(sky) - columns . surface`` of every block; float32 (blocks,)."""
    start, cell, fx, fy, u, v, extra, order, nx = blocks
    k = surfaces.shape[1]
    columns = np.empty(k)
    has_extra = len(extra) > 0
    for i in range(len(start) - 1):
        for b in range(start[i], start[i + 1]):
            fill_columns(float(u[b]), float(v[b]), order, float(extra[b]) if has_extra else 0.0, columns)
            model = _bilinear(sky, cell[b], nx, fx[b], fy[b])
            for p in range(k):
                model += columns[p] * surfaces[i, p]
            residual[b] = value[b] - model


@kernel
def project_values(blocks, value, weight, rhs_own, rhs_sky):
    """Right-hand sides of a value at every block, as `build_normals` has them.

    Parameters
    ----------
    blocks : PlacedBlocks
    value, weight : float32 (blocks,)
    rhs_own : float64 (n, k), rhs_sky : float64 (nodes,), output
    """
    start, cell, fx, fy, u, v, extra, order, nx = blocks
    columns = np.empty(rhs_own.shape[1])
    has_extra = len(extra) > 0
    rhs_own[:] = 0.0
    rhs_sky[:] = 0.0
    for i in range(len(start) - 1):
        for b in range(start[i], start[i + 1]):
            wv = np.float64(weight[b] * value[b])
            if wv == 0.0:
                continue
            fill_columns(float(u[b]), float(v[b]), order, float(extra[b]) if has_extra else 0.0, columns)
            for p in range(len(columns)):
                rhs_own[i, p] += wv * columns[p]
            c = cell[b]
            rhs_sky[c] += wv * ((1.0 - fx[b]) * (1.0 - fy[b]))
            rhs_sky[c + 1] += wv * (fx[b] * (1.0 - fy[b]))
            rhs_sky[c + nx] += wv * ((1.0 - fx[b]) * fy[b])
            rhs_sky[c + nx + 1] += wv * (fx[b] * fy[b])


@kernel
def perturb(seed, blocks, weight, residual, prior, rhs_own, rhs_sky):
    """Right-hand sides of one random draw: what unit noise in data and priors would add.

    Solving with them gives a draw from the solution's error distribution (perturb and solve). Where residuals are
    given, they take the place of the blocks' noise, with one random sign an image (a wild cluster bootstrap).

    Parameters
    ----------
    seed : int
    blocks : PlacedBlocks
    weight : float32 (blocks,)
    residual : float32 (blocks,), or empty
    prior : float64 (n, k), precision of each coefficient
    rhs_own : float64 (n, k), rhs_sky : float64 (nodes,), output
    """
    start, cell, fx, fy, u, v, extra, order, nx = blocks
    np.random.seed(seed)
    k = prior.shape[1]
    columns = np.empty(k)
    has_extra, has_residual = len(extra) > 0, len(residual) > 0
    sign = 1.0
    rhs_sky[:] = 0.0
    for i in range(len(start) - 1):
        for p in range(k):
            rhs_own[i, p] = np.sqrt(prior[i, p]) * np.random.standard_normal()
        if has_residual:
            sign = 1.0 if np.random.standard_normal() > 0 else -1.0
        for b in range(start[i], start[i + 1]):
            if weight[b] == 0.0:
                continue
            if has_residual:
                e = sign * weight[b] * residual[b]
            else:
                e = np.sqrt(weight[b]) * np.random.standard_normal()
            fill_columns(float(u[b]), float(v[b]), order, float(extra[b]) if has_extra else 0.0, columns)
            for p in range(k):
                rhs_own[i, p] += e * columns[p]
            c = cell[b]
            rhs_sky[c] += e * (1.0 - fx[b]) * (1.0 - fy[b])
            rhs_sky[c + 1] += e * fx[b] * (1.0 - fy[b])
            rhs_sky[c + nx] += e * (1.0 - fx[b]) * fy[b]
            rhs_sky[c + nx + 1] += e * fx[b] * fy[b]


@kernel
def clustered_variance(blocks, weight, residual, own_inverse, n_side, out):
    """How much larger the variance of each image's extra coefficient is than its blocks' weights say.

    Residuals that go together over parts of an image, and not only block by block, make it so: their influence on
    the coefficient is summed over each of n_side x n_side parts before it is squared (a cluster-robust variance,
    after Liang & Zeger, Biometrika 73, 13, 1986, the sky held).

    Parameters
    ----------
    blocks : PlacedBlocks, with an extra column
    weight, residual : float32 (blocks,)
    own_inverse : float64 (n, k, k), inverse of each image's normal matrix, the extra column last
    out : float64 (n,), output; NaN where fewer than 2 k parts hold blocks
    """
    start, _, _, _, u, v, extra, order, _ = blocks
    k = own_inverse.shape[1]
    columns = np.empty(k)
    sums, filled = np.empty(n_side * n_side), np.empty(n_side * n_side, np.int64)
    for i in range(len(start) - 1):
        sums[:] = 0.0
        filled[:] = 0
        plain = 0.0
        for b in range(start[i], start[i + 1]):
            w = float(weight[b])
            if w == 0.0:
                continue
            fill_columns(float(u[b]), float(v[b]), order, float(extra[b]), columns)
            influence = 0.0
            for p in range(k):
                influence += own_inverse[i, k - 1, p] * columns[p]
            plain += influence * influence * w
            row = min(max(int((v[b] + 1) / 2 * n_side), 0), n_side - 1)
            column = min(max(int((u[b] + 1) / 2 * n_side), 0), n_side - 1)
            sums[row * n_side + column] += influence * w * residual[b]
            filled[row * n_side + column] = 1
        n, total = 0, 0.0
        for p in range(n_side * n_side):
            n += filled[p]
            total += sums[p] * sums[p]
        if n < 2 * k or plain == 0.0:
            out[i] = np.nan
        else:
            # The image's own terms were fitted to these residuals.
            out[i] = total / plain * n / (n - k)


@kernel
def cell_excess(cell, residual, error, before, floor, count, excess):
    """Sum over each cell's blocks of squared residual minus squared error, outliers cut; and their number.

    Parameters
    ----------
    cell : int32 (blocks,); residual, error : float32 (blocks,), error 0 leaves a block out
    before : float64 (nodes,), variance of the structure found so far
    floor : float, a squared error that any cut is at least of the order of
    count, excess : float64 (nodes,), output
    """
    count[:] = 0.0
    excess[:] = 0.0
    for b in range(len(cell)):
        if error[b] > 0.0:
            noise2 = float(error[b]) * error[b]
            # A trail or a star in one block must not count as structure.
            square = min(float(residual[b]) * residual[b], 9.0 * (noise2 + before[cell[b]] + floor))
            count[cell[b]] += 1.0
            excess[cell[b]] += square - noise2


@kernel
def node_depth(blocks, weight, out):
    """Summed weight of the blocks round each node, shared out bilinearly; float64 (nodes,)."""
    _, cell, fx, fy, _, _, _, _, nx = blocks
    out[:] = 0.0
    for b in range(len(cell)):
        w, c = float(weight[b]), cell[b]
        out[c] += w * (1.0 - fx[b]) * (1.0 - fy[b])
        out[c + 1] += w * fx[b] * (1.0 - fy[b])
        out[c + nx] += w * (1.0 - fx[b]) * fy[b]
        out[c + nx + 1] += w * fx[b] * fy[b]
