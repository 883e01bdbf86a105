"""Background surfaces of all images and the sky below them: one sparse robust least-squares problem.

Per channel, every block mean over its gain is ``sky at the block + surface of its image + noise``; the sky is
bilinear between nodes, the surface a polynomial with a Gaussian prior on each coefficient. Surfaces are eliminated
image by image (Schur complement) and the sky is found by conjugate gradients: the preconditioner adds the sky's own
matrix, surfaces held, and a coarse sky on splines that can follow the surfaces (about ten iterations), so
time and memory are linear in the number of images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.kernels.match import background as kernel
from zemosaic.model.photo_scale import n_terms
from zemosaic.stages.match.sky_nodes import BlockTable

__all__ = ["BackgroundSystem", "Normals"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Int4 = npt.NDArray[np.int32]

_MAX_ITERATIONS = 300

_CHI2_LEFT = 1e-5
"""Conjugate gradients end when less than this is left to gain in chi squared: 0.1 % of an error bar in any mode."""


@dataclass(slots=True, eq=False)
class Normals:
    """Normal equations of one table of blocks, surfaces to be eliminated."""

    nx: int
    local_start: Ints
    local_nodes: Int4
    cross: F8
    own_inverse: F8
    rhs_own: F8
    stencil: F8
    rhs_sky: F8
    bending: scipy.sparse.csr_array

    def apply(self, x: F8) -> F8:
        """Schur matrix times x."""
        out = np.empty_like(x)
        kernel.apply_schur(
            x, self.stencil, self.nx, self.local_start, self.local_nodes, self.cross, self.own_inverse, out
        )
        return np.asarray(out + self.bending @ x)

    def reduced(self, rhs_sky: F8, rhs_own: F8) -> F8:
        """Right-hand side with the surfaces eliminated."""
        out = np.empty_like(rhs_sky)
        kernel.reduced_rhs(rhs_sky, rhs_own, self.local_start, self.local_nodes, self.cross, self.own_inverse, out)
        return out

    def surfaces(self, sky: F8, rhs_own: F8) -> F8:
        """Surface coefficients (images, k) that go with a sky."""
        out = np.empty_like(rhs_own)
        kernel.recover_surfaces(sky, self.local_start, self.local_nodes, self.cross, self.own_inverse, rhs_own, out)
        return out

    def coarse(self, factor: int) -> tuple[scipy.sparse.linalg.SuperLU, scipy.sparse.csr_array]:
        """Factorised Schur matrix on coarse nodes, and the splines that lead from them to the fine ones."""
        ny, nx = len(self.rhs_sky) // self.nx, self.nx
        spline = _spline_weights(factor)
        splines = scipy.sparse.csr_array(
            scipy.sparse.kron(_splines_1d(ny, factor, spline), _splines_1d(nx, factor, spline))
        )
        coarse_nx, size = (nx - 1) // factor + 3, splines.shape[1]
        args = (nx, factor, coarse_nx, size, spline, self.local_start, self.local_nodes, self.cross, self.own_inverse)
        none = np.empty(0, np.int32)
        n = kernel.coarse_surfaces(*args, none, none, np.empty(0))
        rows, cols, values = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n)
        kernel.coarse_surfaces(*args, rows, cols, values)
        surfaces = scipy.sparse.csr_array(scipy.sparse.coo_array((values, (rows, cols)), shape=(size, size)))
        # The triplets are the largest arrays of a large match: they go before anything else comes.
        del rows, cols, values
        sky = splines.T @ self._sky_matrix() @ splines
        diagonal = sky.diagonal()
        # A hair on the diagonal: coarse nodes without blocks, and modes that only round-off would decide.
        lift = np.where(diagonal > 0, 1e-12 * diagonal, 1.0)
        return _factorise(sky - surfaces + scipy.sparse.diags_array(lift)), splines

    def sky_alone(self) -> scipy.sparse.linalg.SuperLU:
        """Factorised sky matrix with all surfaces held: the same answer but for what surfaces can mimic."""
        return _factorise(self._sky_matrix())

    def _sky_matrix(self) -> scipy.sparse.csr_array:
        size, nx = len(self.rhs_sky), self.nx
        offsets = [(s % 3 - 1) + (s // 3 - 1) * nx for s in range(9)]
        # diags_array wants column j of diagonal `offset` at position j; the stencil stores it at its row.
        columns = [np.roll(self.stencil[:, s], offset) for s, offset in enumerate(offsets)]
        stencil: Any = scipy.sparse.dia_array((np.array(columns, float), offsets), shape=(size, size))
        return scipy.sparse.csr_array(stencil + self.bending)


class BackgroundSystem:
    """The solve of one channel: weights and priors in, sky and surfaces out.

    Parameters
    ----------
    table : BlockTable
    order : int
        Order of the surfaces.
    extra : ndarray, shape (blocks,) or (0,), float32
        One more column for each image, or none.
    """

    def __init__(self, table: BlockTable, order: int, extra: F4 | None = None) -> None:
        self.table = table
        self.order = order
        self.extra = np.empty(0, np.float32) if extra is None else extra
        self.k = n_terms(order) + (0 if extra is None else 1)
        self._local = table.local_nodes()
        self._factor = _coarse_factor(table)
        self._bending = _bending_matrix(table.nodes.shape)
        self._coarse: tuple[scipy.sparse.linalg.SuperLU, scipy.sparse.csr_array, scipy.sparse.csr_array] | None = None
        self._normals: Normals | None = None
        self._sky_alone: scipy.sparse.linalg.SuperLU | None = None

    def load(self, value: F4, weight: F4, prior: F8, centre: F8, bend_sd: float, *, renew: bool = True) -> None:
        """Set the data, and precision and centre of every coefficient's prior, shape (images, k).

        `bend_sd` is the prior on the sky itself: the spread of its second differences from node to node. It is
        kept so wide that it only decides nodes which the blocks leave open. ``renew=False`` keeps the
        preconditioner of earlier weights, which costs a few more steps and saves its making.
        """
        # What came before goes first: two sets of these at once would be the peak of memory.
        self._normals = None
        renew = renew or self._sky_alone is None
        if renew:
            self._sky_alone = self._coarse = None
        self._normals = _build(
            self.table,
            self._local,
            self.order,
            self.extra,
            value,
            weight,
            prior,
            scipy.sparse.csr_array(self._bending / bend_sd**2),
        )
        self._normals.rhs_own += prior * centre
        if renew:
            # The coarse matrix needs most room while it is made: it comes before the other factors.
            factor, splines = self._normals.coarse(self._factor)
            self._coarse = factor, splines, scipy.sparse.csr_array(splines.T)
            self._sky_alone = self._normals.sky_alone()

    def solve(self, start: F8) -> tuple[F8, F8]:
        """Sky at the nodes (flat) and surfaces (images, k) for the loaded data, from a first guess of the sky."""
        normals = self._loaded()
        return self._solve(normals.rhs_sky, normals.rhs_own, start)

    def draw(self, seed: int, weight: F4, prior: F8) -> tuple[F8, F8]:
        """One draw from the error distribution of sky and surfaces."""
        normals, t = self._loaded(), self.table
        rhs_own, rhs_sky = np.empty_like(normals.rhs_own), np.empty_like(normals.rhs_sky)
        kernel.perturb(
            seed, t.start, t.cell, t.fx, t.fy, t.u, t.v, self.extra, weight, self.order, normals.nx, prior,
            rhs_own, rhs_sky,
        )  # fmt: skip
        return self._solve(rhs_sky, rhs_own, np.zeros_like(rhs_sky))

    def residuals(self, value: F4, sky: F8, surfaces: F8) -> F4:
        """Value minus model of every block."""
        t, out = self.table, np.empty(len(self.table.cell), np.float32)
        kernel.block_residuals(
            t.start, t.cell, t.fx, t.fy, t.u, t.v, self.extra, value, self.order, t.nodes.shape[1], sky, surfaces, out
        )
        return out

    def clustered_variance(self, residual: F4, weight: F4, n_side: int) -> F8:
        """Variance of each image's extra coefficient over what independent blocks would give it; NaN if unknown."""
        t, out = self.table, np.empty(self.table.n_images)
        inverse = self._loaded().own_inverse
        kernel.clustered_variance(t.start, t.u, t.v, self.extra, weight, residual, self.order, inverse, n_side, out)
        return out

    def _loaded(self) -> Normals:
        if self._normals is None:
            raise RuntimeError("no data loaded: call load first")
        return self._normals

    def _solve(self, rhs_sky: F8, rhs_own: F8, start: F8) -> tuple[F8, F8]:
        normals = self._loaded()
        rhs = normals.reduced(rhs_sky, rhs_own)
        sky = start.copy()
        residual = rhs - normals.apply(sky)
        z = self._precondition(residual)
        direction, rz = z, _dot(residual, z)
        for _ in range(_MAX_ITERATIONS):
            if rz < _CHI2_LEFT:
                break
            product = normals.apply(direction)
            step = rz / _dot(direction, product)
            sky += step * direction
            residual = residual - step * product
            z = self._precondition(residual)
            rz, previous = _dot(residual, z), rz
            direction = z + rz / previous * direction
        return sky, normals.surfaces(sky, rhs_own)

    def _precondition(self, r: F8) -> F8:
        if self._coarse is None or self._sky_alone is None:
            raise RuntimeError("no data loaded: call load first")
        factor, splines, transpose = self._coarse
        return np.asarray(self._sky_alone.solve(r) + splines @ factor.solve(transpose @ r))


def _build(
    table: BlockTable, local: tuple[Ints, Int4], order: int, extra: F4, value: F4, weight: F4, prior: F8,
    bending: scipy.sparse.csr_array,
) -> Normals:  # fmt: skip
    n, k = prior.shape
    local_start, local_nodes = local
    nx, n_nodes = table.nodes.shape[1], table.nodes.n
    cross, own, rhs_own = np.empty((len(local_nodes), k)), np.empty((n, k, k)), np.empty((n, k))
    stencil, rhs_sky = np.empty((n_nodes, 9)), np.empty(n_nodes)
    kernel.build_normals(
        table.start, table.cell, table.fx, table.fy, table.u, table.v, extra, value, weight, order, nx,
        local_start, local_nodes, cross, own, rhs_own, stencil, rhs_sky,
    )  # fmt: skip
    own[:, np.arange(k), np.arange(k)] += prior
    inverse = np.asarray(np.linalg.inv(own), float)
    return Normals(nx, local_start, local_nodes, cross, inverse, rhs_own, stencil, rhs_sky, bending)


def _coarse_factor(table: BlockTable) -> int:
    """Fine nodes to a coarse one: about a third of an image, so that coarse skies hold what surfaces can mimic."""
    local_start, _ = table.local_nodes()
    typical = float(np.median(np.sqrt(np.diff(local_start)))) if table.n_images else 1.0
    return max(round(typical / 3), 2)


def _bending_matrix(shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """Sum of squared second differences along rows and columns of the nodes, as a quadratic form."""
    along = []
    for n in shape:
        d = scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(max(n - 2, 0), n))
        along.append(d.T @ d)
    eye_y, eye_x = scipy.sparse.diags_array(np.ones(shape[0])), scipy.sparse.diags_array(np.ones(shape[1]))
    # A hair of plain ridge: a grid of two nodes, or an image of one block, has no second difference to hold it.
    return scipy.sparse.csr_array(
        scipy.sparse.kron(eye_y, along[1])
        + scipy.sparse.kron(along[0], eye_x)
        + 1e-9 * scipy.sparse.diags_array(np.ones(shape[0] * shape[1]))
    )


def _spline_weights(factor: int) -> F8:
    """Quadratic B-spline weights of the three coarse nodes at each of `factor` fine nodes."""
    u = np.arange(factor) / factor
    return np.stack([(1 - u) ** 2 / 2, (1 + 2 * u - 2 * u**2) / 2, u**2 / 2], axis=1)


def _splines_1d(n: int, factor: int, spline: F8) -> scipy.sparse.coo_array:
    at = np.arange(n)
    rows, cols = np.repeat(at, 3), (at[:, None] // factor + np.arange(3)).ravel()
    return scipy.sparse.coo_array((spline[at % factor].ravel(), (rows, cols)), shape=(n, (n - 1) // factor + 3))


def _factorise(matrix: scipy.sparse.csr_array) -> scipy.sparse.linalg.SuperLU:
    """Sparse factors of a symmetric positive matrix, ordered and pivoted as one."""
    return scipy.sparse.linalg.splu(
        scipy.sparse.csc_array(matrix),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )


def _dot(a: F8, b: F8) -> float:
    """Inner product without BLAS, whose threads would make it slow here and its last bits depend on them."""
    return float(np.sum(a * b))
