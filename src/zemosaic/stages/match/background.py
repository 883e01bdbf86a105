"""Background surfaces of all images and the sky below them: one sparse robust least-squares problem.

Per channel, every block mean over its gain is ``sky at the block + surface of its image + noise``; the sky is
bilinear between nodes, the surface a polynomial with a Gaussian prior on each coefficient. Surfaces are eliminated
image by image (Schur complement) and the sky is found by conjugate gradients: the preconditioner adds the sky's own
matrix, surfaces held, and a coarse sky on splines that can follow the surfaces (about ten iterations), so
time and memory are linear in the number of images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.kernels.match import background as kernel
from zemosaic.kernels.match.values import CoarseNodes, Coupling, ImageNodes, NormalParts, PlacedBlocks
from zemosaic.stages.match.sky_nodes import BlockTable
from zemosaic.stages.numeric.conjugate import solve_conjugate

__all__ = ["BackgroundSystem", "Layout", "Preconditioner", "WeightedBlocks"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

_MAX_ITERATIONS = 300
"""Thirty times what the preconditioner needs: more only where nodes hang on nothing but round-off."""

_CHI2_LEFT = 1e-5
"""Conjugate gradients end when less than this is left to gain in chi squared: 0.1 % of an error bar in any mode."""

_SLIVER = 0.5
"""Blocks round a node, shared out bilinearly, below which its value is hardly its own."""

_NO_RESIDUAL = np.empty(0, np.float32)
"""In place of residuals where blocks have noise of their own."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """What does not change from round to round: where blocks lie, which nodes images touch, the coarse nodes.

    Attributes
    ----------
    table : BlockTable
    order : int
        Order of the surfaces.
    local : ImageNodes
    factor : int
        Fine nodes to a coarse one.
    bending : sparse array, shape (nodes, nodes)
        Sum of squared second differences of the sky, as a quadratic form.
    """

    table: BlockTable
    order: int
    local: ImageNodes
    factor: int
    bending: scipy.sparse.csr_array

    @classmethod
    def of(cls, table: BlockTable, order: int) -> Layout:
        """The layout of a table for surfaces of an order."""
        local = ImageNodes(*table.local_nodes())
        # About a third of an image, so that coarse skies hold what surfaces can mimic.
        typical = float(np.median(np.sqrt(np.diff(local.start)))) if table.n_images else 1.0
        return cls(table, order, local, max(round(typical / 3), 2), _bending_matrix(table.nodes.shape))

    def covered(self, used: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Nodes that hang on more than slivers of the blocks in use, shape of the nodes."""
        out = np.empty(self.table.nodes.n)
        kernel.node_depth(self.blocks(None), used.astype(np.float32), out)
        return out.reshape(self.table.nodes.shape) > _SLIVER

    def blocks(self, extra: F4 | None) -> PlacedBlocks:
        """The blocks as kernels take them, with one more column for each image, shape (blocks,), or None."""
        t = self.table
        column = np.empty(0, np.float32) if extra is None else extra
        return PlacedBlocks(t.start, t.cell, t.fx, t.fy, t.u, t.v, column, self.order, t.nodes.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class WeightedBlocks:
    """Data of one round.

    Attributes
    ----------
    value, error, weight : ndarray, shape (blocks,), float32
        Block means over gain and response, their errors, and the weights they get; weight 0 leaves a block out.
    extra : ndarray, shape (blocks,), float32, or None
        One more column for each image.
    prior, centre : ndarray, shape (images, k)
        Precision and centre of every coefficient's prior, that of the extra column last.
    bend_sd : float
        Prior on the sky itself: the spread of its second differences from node to node. So wide that it decides
        only nodes which the blocks leave open.
    """

    value: F4
    error: F4
    weight: F4
    extra: F4 | None
    prior: F8
    centre: F8
    bend_sd: float


@dataclass(frozen=True, slots=True, eq=False)
class Normals:
    """Normal equations of one round's data, surfaces to be eliminated.

    Attributes
    ----------
    nx : int
        Nodes in a row.
    coupling : Coupling
    stencil, rhs_own, rhs_sky : ndarray
        As in `NormalParts`, priors included.
    bending : sparse array, shape (nodes, nodes)
        The prior on the sky itself.
    """

    nx: int
    coupling: Coupling
    stencil: F8
    rhs_own: F8
    rhs_sky: F8
    bending: scipy.sparse.csr_array

    @classmethod
    def of(cls, layout: Layout, data: WeightedBlocks) -> Normals:
        """Sum up the blocks of all images."""
        (n, k), n_nodes = data.prior.shape, layout.table.nodes.n
        parts = NormalParts(
            cross=np.empty((len(layout.local.nodes), k)),
            own=np.empty((n, k, k)),
            rhs_own=np.empty((n, k)),
            stencil=np.empty((n_nodes, 9)),
            rhs_sky=np.empty(n_nodes),
        )
        kernel.build_normals(layout.blocks(data.extra), data.value, data.weight, layout.local, parts)
        parts.own[:, np.arange(k), np.arange(k)] += data.prior
        coupling = Coupling(layout.local, parts.cross, np.asarray(np.linalg.inv(parts.own), float))
        bending = scipy.sparse.csr_array(layout.bending / data.bend_sd**2)
        rhs_own = parts.rhs_own + data.prior * data.centre
        return cls(layout.table.nodes.shape[1], coupling, parts.stencil, rhs_own, parts.rhs_sky, bending)

    def apply(self, x: F8) -> F8:
        """Schur matrix times x."""
        out = np.empty_like(x)
        kernel.apply_schur(x, self.stencil, self.nx, self.coupling, out)
        return np.asarray(out + self.bending @ x)

    def reduced(self, rhs_sky: F8, rhs_own: F8) -> F8:
        """Right-hand side with the surfaces eliminated."""
        out = np.empty_like(rhs_sky)
        kernel.reduced_rhs(rhs_sky, rhs_own, self.coupling, out)
        return out

    def surfaces(self, sky: F8, rhs_own: F8) -> F8:
        """Surface coefficients (images, k) that go with a sky."""
        out = np.empty_like(rhs_own)
        kernel.recover_surfaces(sky, self.coupling, rhs_own, out)
        return out

    def sky_matrix(self) -> scipy.sparse.csr_array:
        """The sky's own matrix, all surfaces held."""
        size, nx = len(self.rhs_sky), self.nx
        offsets = [(s % 3 - 1) + (s // 3 - 1) * nx for s in range(9)]
        # diags_array wants column j of diagonal `offset` at position j; the stencil stores it at its row.
        columns = [np.roll(self.stencil[:, s], offset) for s, offset in enumerate(offsets)]
        stencil: Any = scipy.sparse.dia_array((np.array(columns, float), offsets), shape=(size, size))
        return scipy.sparse.csr_array(stencil + self.bending)


@dataclass(frozen=True, slots=True, eq=False)
class Preconditioner:
    """About the inverse of a Schur matrix: the sky's own matrix, surfaces held, plus a coarse sky that surfaces follow.

    It serves the normal equations of other weights as well, for a few more steps.

    Attributes
    ----------
    sky_alone, coarse : SuperLU
        Factors of the sky's matrix on fine nodes, and of the Schur matrix on coarse ones.
    splines, transpose : sparse arrays
        From coarse nodes to fine ones, and back.
    """

    sky_alone: scipy.sparse.linalg.SuperLU
    coarse: scipy.sparse.linalg.SuperLU
    splines: scipy.sparse.csr_array
    transpose: scipy.sparse.csr_array

    @classmethod
    def of(cls, layout: Layout, normals: Normals) -> Preconditioner:
        """Factorise."""
        # The coarse matrix needs most room while it is made: it comes before the other factors.
        coarse, splines = _factorise_coarse(layout.factor, normals)
        return cls(_factorise(normals.sky_matrix()), coarse, splines, scipy.sparse.csr_array(splines.T))

    def __call__(self, r: F8) -> F8:
        """Residual to correction of the sky."""
        return np.asarray(self.sky_alone.solve(r) + self.splines @ self.coarse.solve(self.transpose @ r))


def _factorise_coarse(factor: int, normals: Normals) -> tuple[scipy.sparse.linalg.SuperLU, scipy.sparse.csr_array]:
    """Factorised Schur matrix on coarse nodes, and the splines that lead from them to the fine ones."""
    ny, nx = len(normals.rhs_sky) // normals.nx, normals.nx
    spline = _spline_weights(factor)
    splines = scipy.sparse.csr_array(
        scipy.sparse.kron(_splines_1d(ny, factor, spline), _splines_1d(nx, factor, spline))
    )
    size = splines.shape[1]
    coarse = CoarseNodes(factor, nx, (nx - 1) // factor + 3, size, spline)
    none = np.empty(0, np.int32)
    n = kernel.coarse_surfaces(coarse, normals.coupling, none, none, np.empty(0))
    rows, cols, values = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n)
    kernel.coarse_surfaces(coarse, normals.coupling, rows, cols, values)
    surfaces = scipy.sparse.csr_array(scipy.sparse.coo_array((values, (rows, cols)), shape=(size, size)))
    # The triplets are the largest arrays of a large match: they go before anything else comes.
    del rows, cols, values
    sky = splines.T @ normals.sky_matrix() @ splines
    diagonal = sky.diagonal()
    # A hair on the diagonal: coarse nodes without blocks, and modes that only round-off would decide.
    lift = np.where(diagonal > 0, 1e-12 * diagonal, 1.0)
    return _factorise(sky - surfaces + scipy.sparse.diags_array(lift)), splines


@dataclass(frozen=True, slots=True, eq=False)
class BackgroundSystem:
    """The solve of one channel and round: data in, sky and surfaces out.

    Attributes
    ----------
    layout : Layout
    data : WeightedBlocks
    normals : Normals
    preconditioner : Preconditioner
    """

    layout: Layout
    data: WeightedBlocks
    normals: Normals
    preconditioner: Preconditioner

    @classmethod
    def of(cls, layout: Layout, data: WeightedBlocks, preconditioner: Preconditioner | None = None) -> BackgroundSystem:
        """Sum up the data; a preconditioner of earlier weights saves its making."""
        normals = Normals.of(layout, data)
        return cls(layout, data, normals, preconditioner or Preconditioner.of(layout, normals))

    def solve(self, start: F8 | None = None) -> tuple[F8, F8]:
        """Sky at the nodes (flat) and surfaces (images, k), from a first guess of the sky."""
        return self._solve(self.normals.rhs_sky, self.normals.rhs_own, start)

    def draw(self, seed: int) -> tuple[F8, F8]:
        """One draw from the error distribution of sky and surfaces."""
        return self._solve_noise(seed, _NO_RESIDUAL, self.data.prior)

    def draw_noise(self, seed: int) -> tuple[F8, F8]:
        """Sky and surfaces that the blocks' noise alone would give, were all images equal."""
        return self._solve_noise(seed, _NO_RESIDUAL, np.zeros_like(self.data.prior))

    def draw_misfit(self, seed: int, residual: F4) -> tuple[F8, F8]:
        """Sky and surfaces that residuals like those found would give, each image's with a sign of its own.

        Blocks' own errors are independent; what an image's surface cannot follow goes through all of its blocks. So
        each image is one witness (a wild cluster bootstrap).

        References
        ----------
        Cameron, Gelbach & Miller, Review of Economics and Statistics 90, 414 (2008).
        """
        return self._solve_noise(seed, residual, np.zeros_like(self.data.prior))

    def _solve_noise(self, seed: int, residual: F4, prior: F8) -> tuple[F8, F8]:
        """Solution for unit noise in the blocks, or for residuals, and for noise in priors of a precision."""
        rhs_own, rhs_sky = np.empty_like(self.normals.rhs_own), np.empty_like(self.normals.rhs_sky)
        blocks = self.layout.blocks(self.data.extra)
        kernel.perturb(seed, blocks, self.data.weight, residual, prior, rhs_own, rhs_sky)
        return self._solve(rhs_sky, rhs_own, None)

    def residuals(self, sky: F8, surfaces: F8) -> F4:
        """Value minus model of every block."""
        out = np.empty_like(self.data.value)
        kernel.block_residuals(self.layout.blocks(self.data.extra), self.data.value, sky, surfaces, out)
        return out

    def rest_of(self, column: F4) -> F4:
        """What neither a sky nor surfaces can take of a value at every block."""
        data = replace(self.data, value=column, centre=np.zeros_like(self.data.centre))
        normals = Normals.of(self.layout, data)
        sky, surfaces = self._solve(normals.rhs_sky, normals.rhs_own, None)
        return replace(self, data=data).residuals(sky, surfaces)

    def sky_at_blocks(self, sky: F8) -> F4:
        """The sky at every block."""
        nothing, out = np.zeros_like(self.data.value), np.empty_like(self.data.value)
        flat = np.zeros_like(self.normals.rhs_own)
        kernel.block_residuals(self.layout.blocks(self.data.extra), nothing, sky, flat, out)
        return np.asarray(-out)

    def beyond_bilinear(self, bends: tuple[F8, F8]) -> F4:
        """What a smooth sky has at every block beyond bilinear interpolation; `bends` as `smooth_bends` gives them."""
        table = self.layout.table
        out = np.zeros_like(self.data.value)
        for f, bend in zip((table.fy, table.fx), bends, strict=True):
            out -= f * (1 - f) / 2 * self.sky_at_blocks(bend.ravel())
        return out

    def clustered_variance(self, residual: F4, n_side: int) -> F8:
        """Variance of each image's extra coefficient over what independent blocks would give it; NaN if unknown."""
        out = np.empty(self.layout.table.n_images)
        blocks, inverse = self.layout.blocks(self.data.extra), self.normals.coupling.own_inverse
        kernel.clustered_variance(blocks, self.data.weight, residual, inverse, n_side, out)
        return out

    def extra_variance(self, drawn: F8, known: npt.NDArray[np.bool_]) -> F8:
        """Variance of each image's extra coefficient over draws (draws, n), less what all known ones share."""
        # What all images share is the gauge of the gains, not an error of one.
        centred = drawn - drawn[:, known].mean(axis=1, keepdims=True)
        # A few draws tell one image's variance badly. How far it exceeds that under a known sky they tell well for all
        # images together: halfway between. A sky that is not known tells no more than a known one.
        alone = self.normals.coupling.own_inverse[:, -1, -1]
        excess = np.mean(centred**2, axis=0) / alone
        return np.asarray(alone * np.maximum((excess + excess[known].mean()) / 2, 1))

    def depth(self) -> F8:
        """Summed weight of the blocks round each node, shape of the nodes."""
        out = np.empty(self.layout.table.nodes.n)
        kernel.node_depth(self.layout.blocks(None), self.data.weight, out)
        return out.reshape(self.layout.table.nodes.shape)

    def _solve(self, rhs_sky: F8, rhs_own: F8, start: F8 | None) -> tuple[F8, F8]:
        rhs = self.normals.reduced(rhs_sky, rhs_own)
        sky = solve_conjugate(
            self.normals.apply, self.preconditioner, rhs, start, enough=_CHI2_LEFT, most_steps=_MAX_ITERATIONS
        )
        return sky, self.normals.surfaces(sky, rhs_own)


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
