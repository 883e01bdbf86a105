"""Background surfaces of all images and the sky below them: one sparse robust least-squares problem.

Per channel, every block mean over its gain is ``sky at the block + surface of its image + noise``; the sky is
bilinear between nodes, the surface a polynomial with a Gaussian prior on each coefficient. Surfaces are eliminated
image by image (Schur complement) and the sky is found by conjugate gradients. Each step corrects the sky with all
surfaces held, by factors of the sky's own matrix, and then on coarse splines that surfaces can follow: seven steps or
so, whatever the size, so time and memory are linear in the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.match import background as kernel
from zemosaic.kernels.match import coarse, schur
from zemosaic.kernels.match.factors import factorise_sky
from zemosaic.kernels.match.values import (
    LANES,
    CoarseNodes,
    CoarseSky,
    Coupling,
    ImageNodes,
    NormalParts,
    PlacedBlocks,
    SkyEquations,
    SkyFactors,
)
from zemosaic.model.each import Each
from zemosaic.stages.match.sky_nodes import BlockTable
from zemosaic.stages.numeric.conjugate import solve_conjugate

__all__ = ["BackgroundSystem", "Layout", "RightSide", "WeightedBlocks"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

_COARSE_ACROSS = 5
"""Coarse nodes along an image: with fewer, steps are more, with more, the coarse matrix takes as long as they save."""

_MAX_ITERATIONS = 300
"""Forty times what is needed: more only where nodes hang on nothing but round-off."""

_CHI2_LEFT = 1e-5
"""Conjugate gradients end when less than this is left to gain in chi squared: 0.1 % of an error bar in any mode."""

_CHI2_LEFT_ROUGHLY = 1e-3
"""The same where a percent or so of an error bar does no harm: draws, of which the size counts, and all but the last
rounds."""

_SLIVER = 0.5
"""Blocks round a node, shared out bilinearly, below which its value is hardly its own."""

_RIDGE = 1e-9
"""Precision that holds the sky itself at 0, over that of its second differences."""

_COARSE_LIFT = 1e-12
"""Share by which the coarse matrix's diagonal is lifted: modes that only round-off would decide."""

_HALFWAY = 6
"""Draws from which one image's variance (good to 60 %) is worth as much as what is typical of all."""

_MANY_IMAGES = 500
"""From so many images on, two threads are begun for each step: for fewer that takes as long as it saves."""

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
    bending : ndarray, shape (nodes, 7)
        Sum of squared second differences of the sky, as a stencil.
    coarse : CoarseNodes
    coarse_local : ImageNodes
        Coarse nodes that images touch.
    reach : int
        How far apart in their list coarse nodes of one image lie at most.
    """

    table: BlockTable
    order: int
    local: ImageNodes
    bending: F8
    coarse: CoarseNodes
    coarse_local: ImageNodes
    reach: int

    @classmethod
    def of(cls, table: BlockTable, order: int) -> Layout:
        """The layout of a table for surfaces of an order."""
        local = ImageNodes(*table.local_nodes())
        typical = float(np.median(np.sqrt(np.diff(local.start)))) if table.n_images else 1.0
        nodes = _coarse_nodes(table.nodes.shape, max(round(typical / _COARSE_ACROSS), 2))
        coarse_local = _coarse_local(local, nodes)
        reach = coarse.find_reach(coarse_local, nodes)
        return cls(table, order, local, _bending_stencil(table.nodes.shape), nodes, coarse_local, reach)

    def covered(self, used: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Nodes that hang on more than slivers of the blocks in use, shape of the nodes."""
        out = np.empty(self.table.nodes.n)
        kernel.node_depth(self.blocks(None), used.astype(np.float32), out)
        return out.reshape(self.table.nodes.shape) > _SLIVER

    def blocks(self, extra: F4 | None) -> PlacedBlocks:
        """The blocks as kernels take them, with one more column for each image, shape (blocks,), or None."""
        return self.table.placed(self.order, extra)


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
    sky : SkyEquations
    rhs_own, rhs_sky : ndarray
        As in `NormalParts`, priors included.
    """

    sky: SkyEquations
    rhs_own: F8
    rhs_sky: F8

    @classmethod
    def of(cls, layout: Layout, data: WeightedBlocks) -> Normals:
        """Sum up the blocks of all images."""
        (n, k), n_nodes = data.prior.shape, layout.table.nodes.n
        parts = NormalParts(
            cross=np.empty((len(layout.local.nodes), k)),
            own=np.empty((n, k, k)),
            rhs_own=np.empty((n, k)),
            stencil=np.empty((n_nodes, 7)),
            rhs_sky=np.empty(n_nodes),
        )
        kernel.build_normals(layout.blocks(data.extra), data.value, data.weight, layout.local, parts)
        parts.own[:, np.arange(k), np.arange(k)] += data.prior
        parts.stencil[:] += layout.bending / data.bend_sd**2
        coupling = Coupling(layout.local, parts.cross, np.asarray(np.linalg.inv(parts.own), float))
        sky = SkyEquations(parts.stencil, layout.table.nodes.shape[1], coupling)
        return cls(sky, parts.rhs_own + data.prior * data.centre, parts.rhs_sky)

    def factorise(self) -> SkyFactors:
        """Factors of the sky's own matrix."""
        return SkyFactors(*factorise_sky(self.sky.stencil, self.sky.nx))

    def coarse_sky(self, layout: Layout) -> CoarseSky:
        """The Schur matrix on coarse nodes, factorised."""
        coupling = self.sky.coupling
        gathered = np.empty((len(layout.coarse_local.nodes), coupling.cross.shape[1]))
        coarse.gather_cross(layout.local, layout.coarse, layout.coarse_local, coupling.cross, gathered)
        band = np.zeros((layout.coarse.n, layout.reach + 1))
        coarse.add_sky(self.sky.stencil, layout.coarse, band)
        coarse.take_surfaces(layout.coarse_local, gathered, coupling.own_inverse, band)
        coarse.factorise_band(_COARSE_LIFT, band)
        return CoarseSky(layout.coarse, layout.coarse_local, gathered, band)


@dataclass(frozen=True, slots=True, eq=False)
class RightSide:
    """One right-hand side of the normal equations.

    Attributes
    ----------
    sky, own : ndarray, shapes (nodes,), (images, k)
    enough : float
        Chi squared that may be left to gain.
    start : ndarray, shape (nodes,), or None
        A first guess of the sky.
    """

    sky: F8
    own: F8
    enough: float = _CHI2_LEFT
    start: F8 | None = None


@dataclass(frozen=True, slots=True, eq=False)
class BackgroundSystem:
    """The solve of one channel and round: data in, sky and surfaces out.

    Attributes
    ----------
    layout : Layout
    data : WeightedBlocks
    normals : Normals
    factors : SkyFactors
        Of the sky's own matrix, all surfaces held.
    coarse : CoarseSky
    each : callable
        Parts of the work may be done at once: nothing that they share is changed.
    """

    layout: Layout
    data: WeightedBlocks
    normals: Normals
    factors: SkyFactors
    coarse: CoarseSky
    each: Each

    @classmethod
    def of(cls, layout: Layout, data: WeightedBlocks, each: Each = map) -> BackgroundSystem:
        """Sum up the data, and prepare what solving takes."""
        normals = Normals.of(layout, data)
        parts: tuple[Callable[[], Any], ...] = normals.factorise, lambda: normals.coarse_sky(layout)
        factors, coarse_sky = each(lambda make: make(), parts)
        return cls(layout, data, normals, factors, coarse_sky, each)

    def data_side(self, start: F8 | None = None, *, roughly: bool = False) -> RightSide:
        """The data, and a first guess of the sky; `roughly` for what another round will better."""
        enough = _CHI2_LEFT_ROUGHLY if roughly else _CHI2_LEFT
        return RightSide(self.normals.rhs_sky, self.normals.rhs_own, enough, start)

    def draws(self, seeds: Iterable[int]) -> list[RightSide]:
        """What gives draws from the error distribution of sky and surfaces, one a seed."""
        return list(self.each(lambda seed: self._noise(seed, _NO_RESIDUAL, self.data.prior), seeds))

    def draw_noises(self, seeds: Iterable[int]) -> list[RightSide]:
        """What gives skies and surfaces that the blocks' noise alone would give, were all images equal."""
        return list(self.each(lambda seed: self._noise(seed, _NO_RESIDUAL, np.zeros_like(self.data.prior)), seeds))

    def draw_misfits(self, seeds: Iterable[int], residual: F4) -> list[RightSide]:
        """What gives skies and surfaces that residuals like those found would give, each image's with its own sign.

        Blocks' own errors are independent; what an image's surface cannot follow goes through all of its blocks. So
        each image is one witness (a wild cluster bootstrap).

        References
        ----------
        Cameron, Gelbach & Miller, Review of Economics and Statistics 90, 414 (2008).
        """
        return list(self.each(lambda seed: self._noise(seed, residual, np.zeros_like(self.data.prior)), seeds))

    def _noise(self, seed: int, residual: F4, prior: F8) -> RightSide:
        """Unit noise in the blocks, or residuals, and noise in priors of a precision."""
        rhs_own, rhs_sky = np.empty_like(self.normals.rhs_own), np.empty_like(self.normals.rhs_sky)
        blocks = self.layout.blocks(self.data.extra)
        kernel.perturb(seed, blocks, self.data.weight, residual, prior, rhs_own, rhs_sky)
        return RightSide(rhs_sky, rhs_own, _CHI2_LEFT_ROUGHLY)

    def residuals(self, sky: F8, surfaces: F8, value: F4 | None = None) -> F4:
        """Value of every block, by default that of the data, minus model."""
        value = self.data.value if value is None else value
        out = np.empty_like(value)
        kernel.block_residuals(self.layout.blocks(self.data.extra), value, sky, surfaces, out)
        return out

    def value_side(self, value: F4, *, roughly: bool = False) -> RightSide:
        """Some value at every block in place of the data, priors about 0."""
        rhs_own, rhs_sky = np.empty_like(self.normals.rhs_own), np.empty_like(self.normals.rhs_sky)
        kernel.project_values(self.layout.blocks(self.data.extra), value, self.data.weight, rhs_own, rhs_sky)
        return RightSide(rhs_sky, rhs_own, _CHI2_LEFT_ROUGHLY if roughly else _CHI2_LEFT)

    def rest_of(self, value: F4) -> F4:
        """What neither a sky nor surfaces can take of a value at every block."""
        return self.residuals(*self.solve([self.value_side(value)])[0], value)

    def sky_at_blocks(self, sky: F8) -> F4:
        """The sky at every block."""
        out = np.empty_like(self.data.value)
        kernel.sky_at_blocks(self.layout.blocks(None), sky, out)
        return out

    def beyond_bilinear(self, bends: tuple[F8, F8]) -> F4:
        """What a smooth sky has at every block beyond bilinear interpolation; `bends` as `smooth_bends` gives them."""
        out = np.empty_like(self.data.value)
        kernel.beyond_bilinear(self.layout.blocks(None), bends[0].ravel(), bends[1].ravel(), out)
        return out

    def clustered_variance(self, residual: F4, n_side: int) -> F8:
        """Variance of each image's extra coefficient over what independent blocks would give it; NaN if unknown."""
        out = np.empty(self.layout.table.n_images)
        blocks, inverse = self.layout.blocks(self.data.extra), self.normals.sky.coupling.own_inverse
        kernel.clustered_variance(blocks, self.data.weight, residual, inverse, n_side, out)
        return out

    def extra_variance(self, drawn: F8, known: npt.NDArray[np.bool_]) -> F8:
        """Variance of each image's extra coefficient over draws (draws, n), less what all known ones share."""
        # What all images share is the gauge of the gains, not an error of one.
        centred = drawn - drawn[:, known].mean(axis=1, keepdims=True)
        # A few draws tell one image's variance badly. How far it exceeds that under a known sky they tell well for all
        # images together: `_HALFWAY` draws count as much. A sky that is not known tells no more than a known one.
        alone = self.normals.sky.coupling.own_inverse[:, -1, -1]
        excess, own = np.mean(centred**2, axis=0) / alone, len(drawn) / (len(drawn) + _HALFWAY)
        return np.asarray(alone * np.maximum(own * excess + (1 - own) * excess[known].mean(), 1))

    def without_common_gain(self, sky: F8, surfaces: F8, found: F8, known: npt.NDArray[np.bool_]) -> tuple[F8, F8]:
        """A drawn sky and surfaces, the sky without what goes with a common change of all gains.

        That is the gauge of the gains, and no error of a level. Where one gain is held there is no such change.

        Parameters
        ----------
        sky, surfaces : ndarray, shapes (nodes,), (images, k)
        found : ndarray, shape (nodes,)
            The sky that the extra column holds.
        known : ndarray, shape (images,), bool
            Images that have an extra column.
        """
        return (sky + surfaces[:, -1].mean() * found if known.all() else sky), surfaces

    def depth(self) -> F8:
        """Summed weight of the blocks round each node, shape of the nodes."""
        out = np.empty(self.layout.table.nodes.n)
        kernel.node_depth(self.layout.blocks(None), self.data.weight, out)
        return out.reshape(self.layout.table.nodes.shape)

    def solve(self, sides: Sequence[RightSide]) -> list[tuple[F8, F8]]:
        """Sky at the nodes (flat) and surfaces (images, k) of each right-hand side, several solved at once."""
        lanes = [sides[first : first + LANES] for first in range(0, len(sides), LANES)]
        return [found for some in self.each(self._solve_lanes, lanes) for found in some]

    def _solve_lanes(self, sides: Sequence[RightSide]) -> list[tuple[F8, F8]]:
        """The same for as many as there are lanes; those left over hold zeros."""
        (n, k), n_nodes = self.data.prior.shape, len(self.normals.rhs_sky)
        rhs_sky, start = np.zeros((2, n_nodes, LANES))
        rhs_own = np.zeros((n, k, LANES))
        for lane, side in enumerate(sides):
            rhs_sky[:, lane], rhs_own[..., lane] = side.sky, side.own
            start[:, lane] = 0 if side.start is None else side.start
        enough = np.full(LANES, np.inf)
        enough[: len(sides)] = [side.enough for side in sides]
        sky = self._solve_reduced(self._reduced(rhs_sky, rhs_own), start, enough)
        surfaces = np.empty_like(rhs_own)
        schur.recover_surfaces(sky, self.normals.sky, rhs_own, surfaces)
        return [(sky[:, lane].copy(), surfaces[..., lane].copy()) for lane in range(len(sides))]

    def _reduced(self, rhs_sky: F8, rhs_own: F8) -> F8:
        """Right-hand sides with the surfaces eliminated, shape (nodes, LANES)."""
        out = np.empty_like(rhs_sky)
        schur.reduced_rhs(rhs_sky, rhs_own, self.normals.sky, out)
        return out

    def _solve_reduced(self, rhs: F8, start: F8, enough: F8) -> F8:
        """The sky, shape (nodes, LANES)."""
        rest = np.empty_like(rhs)
        schur.apply_schur(start, self.normals.sky, rest)
        rest = rhs - rest
        # What follows counts on a start from which coarse splines have nothing more to gain.
        smooth, product = self._correct(rest, is_smooth=True)
        found = solve_conjugate(self._correct, rest - product, enough=enough, most_steps=_MAX_ITERATIONS)
        return start + smooth + found

    def _correct(self, r: F8, is_smooth: bool = False) -> tuple[F8, F8]:
        """Residuals to corrections of the sky, and what these change of the residuals; shape (nodes, LANES).

        First the sky with its surfaces held, which smooth residuals need not, then what is left on a coarse sky that
        surfaces follow (two levels, one after the other: A-DEF2 of Tang, Nabben, Vuik & Erlangga, J. Sci. Comput. 39,
        340, 2009). Each image is read twice, as it is where the matrix alone is applied.
        """
        sky, coarse_sky = self.normals.sky, self.coarse
        n, k = self.data.prior.shape
        pulls, (out, product) = np.zeros((n, k, LANES)), np.zeros((2, *r.shape))
        parts = _parts_of(n)
        level = np.zeros((len(parts), coarse_sky.nodes.n, LANES))
        taken = np.zeros((len(parts), *r.shape))
        if not is_smooth:
            schur.correct_held(r, sky, self.factors, out, product)
            self._each_part(lambda p: schur.gather_surfaces(out, sky, coarse_sky, *parts[p], pulls, level[p]), parts)
        whole = np.sum(level, axis=0)
        schur.correct_coarse(r, sky, coarse_sky, whole, out, product)
        self._each_part(lambda p: schur.spread_surfaces(whole, sky, coarse_sky, *parts[p], pulls, taken[p]), parts)
        return out, product + np.sum(taken, axis=0)

    def _each_part(self, work: Callable[[int], None], parts: Sequence[tuple[int, int]]) -> None:
        """Do the work of all parts, several at once where there are several."""
        for _ in self.each(work, range(len(parts))) if len(parts) > 1 else map(work, range(len(parts))):
            pass


def _parts_of(n_images: int) -> list[tuple[int, int]]:
    """Images of each part of those that are worked on at once, first and end: as many whatever the threads."""
    ends = [n_images // 2, n_images] if n_images >= _MANY_IMAGES else [n_images]
    return list(zip([0, *ends], ends, strict=False))


def _bending_stencil(shape: tuple[int, int]) -> F8:
    """Sum of squared second differences along rows and columns of the nodes, shape (nodes, 7)."""
    out = np.zeros((*shape, 7))
    # A hair of plain ridge: a grid of two nodes, or an image of one block, has no second difference to hold it.
    out[..., 0] = _RIDGE
    for turned, one, two in ((out, 1, 2), (out.swapaxes(0, 1), 4, 6)):
        turned[:, :-2, 0] += 1
        turned[:, 1:-1, 0] += 4
        turned[:, 2:, 0] += 1
        turned[:, :-2, one] -= 2
        turned[:, 1:-1, one] -= 2
        turned[:, :-2, two] += 1
    return out.reshape(-1, 7)


def _coarse_local(local: ImageNodes, nodes: CoarseNodes) -> ImageNodes:
    """Coarse nodes that each image touches."""
    start = np.zeros_like(local.start)
    listed = np.empty(coarse.list_coarse_nodes(local, nodes, start, np.empty(0, np.int32)), np.int32)
    coarse.list_coarse_nodes(local, nodes, start, listed)
    return ImageNodes(start, listed)


def _coarse_nodes(shape: tuple[int, int], factor: int) -> CoarseNodes:
    """Coarse nodes over fine ones, listed along their shorter side first: so the band is narrow."""
    ny, nx = ((n - 1) // factor + 3 for n in shape)
    u = np.arange(factor) / factor
    spline = np.stack([(1 - u) ** 2 / 2, (1 + 2 * u - 2 * u**2) / 2, u**2 / 2], axis=1)
    step_y, step_x = (nx, 1) if nx <= ny else (1, ny)
    return CoarseNodes(factor, shape[1], nx, nx * ny, step_y, step_x, spline)
