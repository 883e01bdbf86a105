"""What differences between images cannot tell: written out, given a size, and fixed by a stated rule.

For surfaces of order p every polynomial of degree <= p over the mosaic can move from the sky into the surfaces without
any difference changing, and slower trends of higher degree nearly so. Such *slow modes* are polynomials q_k on the
sky together with the answer of every surface to them. Their precision (what data and priors know of each) is found
mode by mode; outside knowledge (dark sky, an external reference) is then weighed against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import n_terms, order_of, surface_terms
from zemosaic.stages.match.sky_nodes import BlockTable
from zemosaic.stages.numeric.robust import mad_sigma

__all__ = [
    "SharedSurfaces",
    "SlowModes",
    "dark_sky_trend",
    "disagreement",
    "find_slow_modes",
    "null_amplitudes",
    "take_out",
    "trend_above",
    "weigh_modes",
]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_EXTRA_DEGREES = 2
"""Degrees above the surfaces' order whose size is told too."""

_RIM = 0.1
"""Share of the median depth below which a node does not count as covered."""

_TILES = 8
"""Tiles along the mosaic's longer side: enough to find dark sky between nebulae, each still of many nodes."""

_TILE_QUANTILE = 0.15
"""Share of a tile's nodes that lie below its dark level: low, so that stars and wisps do not count, but no minimum,
which would be noise."""
_LEAST_TILES = 0.5
"""Share of the tiles that must count as dark for the rule to act."""

_ALIKE = 1e-12
"""Least precision of a combination of polynomials over the greatest: below, the nodes do not tell them apart."""

_CORRELATION = 4.0
"""Neighbouring dark tiles err together: their number counts divided by this."""


@dataclass(frozen=True, slots=True, eq=False)
class SharedSurfaces:
    """What the surfaces of a camera's images have in common: the sky through a response that is known to so much.

    Attributes
    ----------
    camera : ndarray, shape (n,), int64
    sd : ndarray, shape (n, k)
        Width of each coefficient in each image, were the camera's response off by one error; 0 where nothing is shared.
    """

    camera: Ints
    sd: F8


@dataclass(frozen=True, slots=True, eq=False)
class SlowModes:
    """Slow modes of one component and channel.

    Attributes
    ----------
    on_nodes : ndarray, shape (m, ny, nx)
        Polynomials at the nodes, by degree; the first is the constant.
    response : ndarray, shape (images, k, m)
        Change of every member's surface when a mode enters the sky (about minus the polynomial itself).
    precision : ndarray, shape (m, m)
        Inverse covariance of the modes' amplitudes by data and priors, were the sky nothing but these modes.
    seen : ndarray, shape (m, m)
        Sums over the weighted blocks of the products of two modes.
    in_surfaces : ndarray, shape (images, k, m)
        The same of every member's surface terms and the modes.
    members : ndarray, shape (images,), int64
        Images of the component.
    covered : ndarray, shape (ny, nx), bool
        Nodes the component's blocks reach.
    n_null : int
        Modes that differences cannot tell at all.
    likeliest : ndarray, shape (m,)
        Amplitudes to take out of the sky for the likeliest one: what surfaces of a camera share counts once.
    """

    on_nodes: F8
    response: F8
    precision: F8
    seen: F8
    in_surfaces: F8
    members: Ints
    covered: Flags
    n_null: int
    likeliest: F8

    def expected_error(
        self, draws: Sequence[F8], misfits: Sequence[F8], extra_precision: F8, disagreement: float
    ) -> F8:
        """Expected size of all modes of degree 2 and more at the nodes, planes taken out; NaN where none is covered.

        Modes that differences cannot tell lie as far off as priors and outside knowledge say. Those above differences
        tell, with a sky that is free to be anything else besides: draws of the whole solve know how well, and where
        surfaces cannot follow their images those of the misfits.

        Parameters
        ----------
        draws, misfits : sequence of ndarray, shape (n, k)
            Surfaces of all images, from the error distributions of a solve without outside knowledge: as priors and
            blocks have it, and as the residuals have it.
        extra_precision : ndarray, shape (m, m)
            What outside knowledge adds.
        disagreement : float
            By how much it lies off priors and data, over what both state; errors of both grow by as much.
        """
        q = self.on_nodes[:, self.covered].T
        n_low = max(self.n_null, 3)
        low, plane = q[:, :n_low], q[:, :3]
        as_low = _least_squares(low, q[:, n_low:])
        bent = low[:, 3:] - plane @ _least_squares(plane, low[:, 3:])
        above = q[:, n_low:] - low @ as_low
        covariance = np.asarray(np.linalg.pinv(self.precision + extra_precision, hermitian=True), np.float64)
        to_low = np.hstack([np.eye(n_low), as_low])[3:]
        left = [self.left_open(some, covariance)[:, n_low:] for some in (draws, misfits)]
        told = (covariance @ extra_precision @ covariance)[n_low:, n_low:]
        variance = disagreement**2 * _quadratic(bent, to_low @ covariance @ to_low.T)
        variance += np.maximum(*(_quadratic(above, some.T @ some / max(len(some), 1) + told) for some in left))
        error = np.full(self.covered.shape, np.nan)
        error[self.covered] = np.sqrt(np.maximum(variance, 0.0))
        return error

    def left_open(self, draws: Sequence[F8], covariance: F8) -> F8:
        """What surfaces put into the mosaic, as amplitudes (draws, m), with outside knowledge's share taken out."""
        pulls = np.array([np.einsum("ikm,ik->m", self.in_surfaces, one[self.members]) for one in draws])
        amplitudes = np.linalg.lstsq(self.seen, pulls.reshape(len(draws), -1).T, rcond=None)[0]
        return np.asarray((covariance @ (self.precision @ amplitudes)).T)


def find_slow_modes(
    table: BlockTable, weight: F4, depth: F8, prior: F8, surfaces: F8, members: Ints, shared: SharedSurfaces
) -> SlowModes:
    """Modes up to two degrees above the surfaces' order, and what data and priors know of them.

    Parameters
    ----------
    table : BlockTable
    weight : ndarray, shape (blocks,), float32
        Inverse variances of the solve.
    depth : ndarray, shape (ny, nx)
        Their sum round each node.
    prior, surfaces : ndarray, shape (images, k)
        Precision of each surface coefficient's prior, and the surfaces as these priors alone had them.
    members : ndarray, shape (m,), int64
        Images of one component.
    shared : SharedSurfaces
        What many images have in common costs their priors once, not once for each.
    """
    covered = np.zeros(table.nodes.n, bool)
    nx = table.nodes.shape[1]
    for i in members:
        cells = table.cell[table.start[i] : table.start[i + 1]]
        for corner in (0, 1, nx, nx + 1):
            covered[cells + corner] = True
    typical = float(np.median(depth[depth > 0])) if (depth > 0).any() else 0.0
    # Nodes at the very rim hang on a few pixels: they would only stretch the extent.
    covered = covered.reshape(table.nodes.shape) & (depth > _RIM * typical)
    frame = _Extent.of(covered)
    k = prior.shape[1]
    order = order_of(k - 1)
    degree = order + _EXTRA_DEGREES
    m = n_terms(degree)
    precision, seen = np.zeros((m, m)), np.zeros((m, m))
    response, to_shared = np.zeros((len(members), k, m)), np.zeros((len(members), k, k))
    in_surfaces = np.zeros((len(members), k, m))
    n_cameras = int(shared.camera.max(initial=-1)) + 1
    known, pulls = np.tile(np.eye(k), (n_cameras, 1, 1)), np.zeros((n_cameras, k, m))
    in_common = np.zeros((n_cameras, k))
    for row, i in enumerate(members):
        part = slice(table.start[i], table.start[i + 1])
        q = frame.terms(table.cell[part] % nx + table.fx[part], table.cell[part] // nx + table.fy[part], degree)
        b = surface_terms(table.u[part], table.v[part], order)
        w = weight[part].astype(float)
        own = (b * w) @ b.T + np.diag(prior[i, :k])
        in_surfaces[row] = cross = (b * w) @ q.T
        both = (q * w) @ q.T
        response[row] = -np.linalg.solve(own, cross)
        seen += both
        precision += both + cross.T @ response[row]
        pull = np.diag(prior[i, :k] * shared.sd[i, :k])
        to_shared[row] = np.linalg.solve(own, pull)
        known[shared.camera[i]] += np.diag(prior[i, :k] * shared.sd[i, :k] ** 2) - pull @ to_shared[row]
        pulls[shared.camera[i]] -= pull @ response[row]
        in_common[shared.camera[i]] += prior[i, :k] * shared.sd[i, :k] * surfaces[i]
    answer = -np.linalg.solve(known, pulls)
    precision += np.einsum("ckm,ckl->ml", pulls, answer)
    response += to_shared @ answer[shared.camera[members]]
    y, x = np.mgrid[: table.nodes.shape[0], :nx]
    likeliest = -np.linalg.pinv(precision, hermitian=True) @ np.einsum("ckm,ck->m", answer, in_common)
    return SlowModes(frame.terms(x, y, degree), response, precision, seen, in_surfaces, members, covered, k, likeliest)


def _quadratic(rows: F8, matrix: F8) -> F8:
    """Row by row, r M r."""
    return np.asarray(np.sum((rows @ matrix) * rows, axis=1))


@dataclass(frozen=True, slots=True)
class _Extent:
    """Box of nodes scaled to -1..1, so that polynomials over it are tame."""

    centre_x: float
    centre_y: float
    half: float

    @classmethod
    def of(cls, covered: Flags) -> _Extent:
        y, x = np.nonzero(covered)
        if len(x) == 0:
            return cls(0.0, 0.0, 1.0)
        half = max(int(np.ptp(x)), int(np.ptp(y)), 1) / 2
        return cls(float(x.min() + x.max()) / 2, float(y.min() + y.max()) / 2, float(half))

    def terms(self, x: npt.ArrayLike, y: npt.ArrayLike, degree: int) -> F8:
        """Monomials by degree at node coordinates, one scale for both axes."""
        u, v = (np.asarray(x, float) - self.centre_x) / self.half, (np.asarray(y, float) - self.centre_y) / self.half
        return surface_terms(u, v, degree)


def dark_sky_trend(sky: F8, modes: SlowModes, order: int) -> tuple[F8, F8] | None:
    """Trend of the darkest sky and how well it is known.

    The mosaic is cut into tiles; each tile's dark level is a low quantile of its nodes. A polynomial of degree
    1..order is fitted to them, tiles above it (nebulosity) falling away. What scatter is left tells how far the
    dark sky can be trusted to be flat.

    Parameters
    ----------
    sky : ndarray, shape (ny, nx)
    modes : SlowModes
    order : int

    Returns
    -------
    amplitudes : ndarray, shape (m,)
        Trend to be taken out of the sky, in the modes' polynomials; constant and higher modes 0.
    precision : ndarray, shape (m, m)
        Its inverse covariance.
    None
        When the dark tiles do not span the trend.
    """
    terms = n_terms(order)
    if order == 0:
        return None
    level, design = _dark_tiles(sky, modes, terms)
    if len(level) < 3 * terms:
        return None
    keep = np.ones(len(level), bool)
    scatter = 0.0
    for _ in range(20):
        fit = np.linalg.lstsq(design[keep], level[keep], rcond=None)[0]
        residual = level - design @ fit
        low = residual[keep]
        scatter = mad_sigma(low) + 1e-12
        again = residual < np.median(low) + 2.5 * scatter
        if np.array_equal(again, keep):
            break
        keep = again
        if np.count_nonzero(keep) < max(_LEAST_TILES * len(level), 2 * terms):
            return None
    m = len(modes.precision)
    amplitudes, precision = np.zeros(m), np.zeros((m, m))
    amplitudes[1:terms] = fit[1:]
    normal = design[keep].T @ design[keep] / (_CORRELATION * scatter**2)
    # The constant is free: take it out of the precision of the others.
    rest = normal[1:, 1:] - np.outer(normal[1:, 0], normal[0, 1:]) / normal[0, 0]
    precision[1:terms, 1:terms] = rest
    return amplitudes, precision


def _dark_tiles(sky: F8, modes: SlowModes, terms: int) -> tuple[F8, F8]:
    """Dark level of every well covered tile, (tiles,), and the modes' first terms there, (tiles, terms).

    Both are means over the nodes round the quantile, weighed by a triangle of their ranks up to twice its own: were one
    node taken, two of equal level would change places by rounding alone, and the trend with them.
    """
    y, x = np.nonzero(modes.covered)
    if len(x) == 0:
        return np.zeros(0), np.zeros((0, terms))
    size = max(np.ptp(x) + 1, np.ptp(y) + 1) / _TILES
    tile = ((y - y.min()) // size).astype(np.int64) * _TILES + ((x - x.min()) // size).astype(np.int64)
    values, polynomials = sky[y, x], modes.on_nodes[:terms, y, x]
    levels, design = [], []
    for t in np.unique(tile):
        inside = np.flatnonzero(tile == t)
        if len(inside) < 0.4 * size * size:
            continue
        middle = int(_TILE_QUANTILE * len(inside))
        dark = inside[np.argsort(values[inside], kind="stable")][: 2 * middle + 1]
        weight = 1 - np.abs(np.arange(2 * middle + 1) - middle) / (middle + 1)
        weight /= weight.sum()
        levels.append(np.sum(values[dark] * weight))
        design.append(np.sum(polynomials[:, dark] * weight, axis=1))
    return np.array(levels), np.array(design).reshape(-1, terms)


def weigh_modes(modes: SlowModes, amplitudes: F8, precision: F8) -> F8:
    """Mode amplitudes to take out of the sky: outside knowledge against what data and priors know."""
    total = modes.precision + precision
    return np.asarray(np.linalg.pinv(total, hermitian=True) @ (precision @ amplitudes))


def trend_above(sky: F8, modes: SlowModes, extra_precision: F8, draws: Sequence[F8], misfits: Sequence[F8]) -> F8:
    """Amplitudes, of the degree above that of the surfaces, to take out of the sky for the sake of its dark parts.

    Overlaps tell these modes, but badly: over a panel they are next to nothing beside its surface. So the dark sky's
    trend is weighed against what the solve's draws leave open. Where both lie further apart than they state it is the
    sky that is no polynomial (wings of a nebula), and its variance grows by as much.

    Parameters
    ----------
    sky : ndarray, shape (ny, nx)
        With all modes that differences cannot tell fixed.
    modes : SlowModes
    extra_precision : ndarray, shape (m, m)
        Of the outside knowledge that fixed them.
    draws, misfits : sequence of ndarray, shape (n, k)
        As in `SlowModes.expected_error`.

    Returns
    -------
    ndarray, shape (m,)
        0 where the dark tiles do not span such a trend.
    """
    k = modes.n_null
    degree = order_of(k - 1) + 1
    out, below, above = np.zeros(len(modes.precision)), slice(1, k), slice(k, n_terms(degree))
    dark = dark_sky_trend(sky, modes, degree)
    if dark is None:
        return out
    trend, known = dark[0][above], dark[1]
    # What lies below is free: it is taken out of the precision of what lies above.
    inner = np.linalg.pinv(known[below, below], hermitian=True)
    told = np.linalg.pinv(known[above, above] - known[above, below] @ inner @ known[below, above], hermitian=True)
    covariance = np.asarray(np.linalg.pinv(modes.precision + extra_precision, hermitian=True), np.float64)
    left = [modes.left_open(some, covariance)[:, above] for some in (draws, misfits)]
    one, other = (some.T @ some / len(some) for some in left)
    open_to = one if np.trace(one) > np.trace(other) else other
    chi2 = float(trend @ np.linalg.pinv(open_to + told, hermitian=True) @ trend)
    out[above] = open_to @ np.linalg.pinv(open_to + max(chi2 / len(trend), 1) * told, hermitian=True) @ trend
    return out


def disagreement(modes: SlowModes, amplitudes: F8, precision: F8) -> float:
    """By how much a trend of outside knowledge lies off what data and priors know, over what both state; 1 at least.

    Both err as they state where it is 1. Beyond, one of them is wrong by more than it knows, as a dark sky is round a
    nebula without end: which of them nobody can tell, so that errors of both count more by as much (a Birge ratio).
    """
    told = np.flatnonzero(np.diag(precision) > 0)
    if len(told) == 0:
        return 1.0
    part = np.ix_(told, told)
    own, outside = (np.linalg.pinv(one, hermitian=True)[part] for one in (modes.precision, precision))
    chi2 = amplitudes[told] @ np.linalg.solve(own + outside, amplitudes[told])
    return max(float(np.sqrt(chi2 / len(told))), 1.0)


def take_out(modes: SlowModes, amplitudes: F8, sky: F8, surfaces: F8) -> tuple[F8, F8]:
    """Sky and surfaces with the given amounts of the slow modes moved from the sky into the surfaces."""
    moved = surfaces.copy()
    moved[modes.members] -= modes.response @ amplitudes
    return sky - np.where(modes.covered, np.tensordot(amplitudes, modes.on_nodes, 1), 0), moved


def null_amplitudes(modes: SlowModes, skies: Sequence[F8], depth: F8) -> F8:
    """Amplitudes of the modes that differences cannot tell, in each of some skies, shape (skies, m).

    Least squares, nodes weighted by depth: the modes there are decomposed once for all skies.
    """
    root = np.sqrt(depth[modes.covered])
    design = modes.on_nodes[: modes.n_null, modes.covered].T * root[:, None]
    values = np.stack([sky[modes.covered] * root for sky in skies], axis=1)
    out = np.zeros((len(skies), len(modes.precision)))
    out[:, : modes.n_null] = _least_squares(design, values).T
    return out


def _least_squares(design: F8, values: F8) -> F8:
    """Coefficients (k, m) of k columns (nodes, k) for m others by their normal equations.

    The columns are polynomials of low degree over their box, far from alike: a decomposition of so many rows would take
    ten times as long and tell nothing more.
    """
    normal, pulls = (np.einsum("na,nb->ab", design, columns) for columns in (design, values))
    return np.asarray(np.linalg.pinv(normal, rcond=_ALIKE, hermitian=True) @ pulls)
