"""The robust loop round the background solve: weights, sub-node structure, priors from the data's own scatter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.kernels.match import background as kernel
from zemosaic.model.photo_scale import n_terms, surface_basis
from zemosaic.stages.match.background import BackgroundSystem
from zemosaic.stages.match.sky_nodes import BlockTable

__all__ = ["SurfaceSolution", "fit_surfaces"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ROUNDS = 5
_MOST_ROUNDS = 14
_RENEWALS = (0, 1, 3, 7)
"""Rounds that make the preconditioner anew; weights change little between the others."""

_GAIN_SETTLED = 2e-4
_PRIOR_SETTLED = 0.2
"""Change of ln sd of the priors from one round to the next below which they are taken as found."""

_FAR = 2.0
"""Sigma of its prior from which an image pulls no harder, however far off: a cloud's level, another night's slopes."""

_HELD_SD = 1e-7
_STRUCTURE_ROUNDS = 3
_STRUCTURE = 6.0
"""Variance of the sky's structure over that of a block from which a gain may be found in it."""

_CAUCHY = 2.5
_BEND = 30.0
_CORRELATED = 3.0
"""Neighbouring blocks share the sky's structure below a node: as witnesses of a gain, at least so many count as one."""

_PARTS = 4
"""Parts along an image's side whose residuals tell how many count as one."""

_SEEN = 3.0
"""Sigma by which some degree's coefficients must scatter more than those of equal images would."""

_STARLIGHT = 0.15
"""Of a block's error (a two-hundredth of a pixel's noise): what masks leave of the stars' wings differs by less."""

_MANY_IMAGES = 500
"""From so many images on, fewer draws from the error distribution tell as much."""


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceSolution:
    """Sky and surfaces of one channel.

    Attributes
    ----------
    sky : ndarray, shape (ny, nx)
        At the nodes, mosaic units; meaningful where `depth` > 0.
    depth : ndarray, shape (ny, nx)
        Summed weight of the blocks round each node.
    surfaces : ndarray, shape (n, k)
        Coefficients of `surface_basis`.
    log_gain, log_gain_error : ndarray, shape (n,)
        Change of ln gain found from the sky's structure, and its error (the given spread where nothing was found, 0
        where the gain was held).
    from_structure : ndarray, shape (n,), bool
        Images whose gain was found so.
    prior_sd : ndarray, shape (order + 1,)
        Scatter of the coefficients of each degree, found from the data.
    residual : ndarray, shape (blocks,), float32
    weight : ndarray, shape (blocks,), float32
        Final weights: inverse variance times the robust factor.
    draws : list of (ndarray (ny, nx), ndarray (n, k))
        Draws from the error distribution of sky and surfaces.
    """

    sky: F8
    depth: F8
    surfaces: F8
    log_gain: F8
    log_gain_error: F8
    from_structure: npt.NDArray[np.bool_]
    prior_sd: F8
    residual: F4
    weight: F4
    draws: list[tuple[F8, F8]]


def fit_surfaces(table: BlockTable, value: F4, error: F4, order: int, log_gain_sd: F8) -> SurfaceSolution:
    """Solve one channel for the sky, every image's surface and, where asked, its gain.

    Parameters
    ----------
    table : BlockTable
    value, error : ndarray, shape (blocks,), float32
        Block means over gain and response, and their errors; error 0 leaves a block out.
    order : int
        Order of the surfaces.
    log_gain_sd : ndarray, shape (n,)
        How far ln gain may still move; 0 holds it. A free gain is found from the sky's structure that no
        surface can mimic, all images at once and with the sky itself free: a regression with errors in both
        variables. Images that see no structure clear of the noise keep their gain.
    """
    loop = _Loop(table, value, error, order, log_gain_sd)
    for turn in range(_MOST_ROUNDS):
        moved = loop.step(turn)
        if turn + 1 >= _ROUNDS and moved < _GAIN_SETTLED and loop.has_priors:
            break
    return loop.finish()


class _Loop:
    """State of the robust loop: weights, priors, sky; one `step` a round."""

    def __init__(self, table: BlockTable, value: F4, error: F4, order: int, log_gain_sd: F8) -> None:
        self.table, self.value, self.error, self.order = table, value, error, order
        self.k = n_terms(order)
        self.degree = np.repeat(np.arange(order + 1), np.arange(1, order + 2))
        self.free = log_gain_sd > 0
        self.log_gain_sd = log_gain_sd
        self.correlated = np.full(table.n_images, _CORRELATED)
        self.log_gain = np.zeros(table.n_images)
        self.structured = np.zeros(table.n_images, bool)
        self.extra = np.zeros(len(value), np.float32) if self.free.any() else None
        self.system = BackgroundSystem(table, order, self.extra)
        self.level = np.float32(np.median(value[error > 0])) if (error > 0).any() else np.float32(0)
        self.sd = _first_guess(table, value, error, order)
        self.surfaces = np.zeros((table.n_images, self.k))
        self.has_priors, self.differ = False, True
        self.structure = np.zeros(table.nodes.shape)
        self.robust = np.ones(len(value), np.float32)
        self.bend_sd = float(10 * self.sd[0])
        self.sky = np.zeros(table.nodes.n)

    def step(self, turn: int) -> float:
        """One reweighted solve; returns the largest change of a free gain."""
        scale = np.exp(-self.log_gain)[self.table.image].astype(np.float32)
        value, error = self.value * scale - self.level, self.error * scale
        self.weight = np.where(error > 0, self.robust / _variance(self.table, error, self.structure), 0)
        self.weight = self.weight.astype(np.float32)
        self.prior, centre = self._prior()
        self.system.load(value, self.weight, self.prior, centre, self.bend_sd, renew=turn in _RENEWALS)
        self.sky, self.surfaces = self.system.solve(self.sky)
        residual = self.residual = self.system.residuals(value, self.sky, self.surfaces)
        if turn >= 1 and not self.has_priors:
            seeds = range(97 * turn, 97 * turn + self._draws(2, 1))
            draws = np.stack([self.system.draw(seed, self.weight, self.prior)[1] for seed in seeds])
            least = _STARLIGHT * float(np.median(error[error > 0])) if (error > 0).any() else 0.0
            before = self.sd
            self.sd, self.differ = _scatter(
                self.surfaces[:, : self.k], draws[:, :, : self.k], self.degree, before, least
            )
            change = float(np.max(np.abs(np.log(self.sd / before))))
            self.has_priors = turn + 1 >= _ROUNDS and (change < _PRIOR_SETTLED or not self.differ)
        self.structure = _structure(self.table, residual, error, self.structure)
        pull2 = residual**2 / _variance(self.table, error, self.structure)
        self.robust = (1 / (1 + pull2 / _CAUCHY**2)).astype(np.float32)
        self.bend_sd = _bend_spread(self.sky.reshape(self.table.nodes.shape), _depth(self.table, self.weight))
        if self.extra is None:
            return 0.0
        if 1 <= turn <= 4:
            self.correlated = self._correlation(error)
        return self._move_gains(value, turn)

    def _correlation(self, error: F4) -> F8:
        """How many blocks of each image count as one witness of its gain."""
        found = self.system.clustered_variance(self.residual, self.weight, _PARTS)
        known = self.structured & np.isfinite(found)
        if not known.any():
            return self.correlated
        # A few parts tell it badly: what is typical of all images is the least that is taken.
        least = max(float(np.median(found[known])), _CORRELATED)
        out = np.maximum(np.where(known, found, least), least)
        # What the nodes cannot follow is wrong in the same places block after block: it does not average out.
        variance = _variance(self.table, error, self.structure)
        for i in np.flatnonzero(self.structured):
            part = slice(self.table.start[i], self.table.start[i + 1])
            noise2 = error[part] ** 2
            used = noise2 > 0
            out[i] = max(out[i], _CORRELATED * float(np.median(variance[part][used] / noise2[used])))
        return out

    def _draws(self, few_images: int, many_images: int) -> int:
        return few_images if self.table.n_images < _MANY_IMAGES else many_images

    def _prior(self) -> tuple[F8, F8]:
        n = self.table.n_images
        prior, centre = 1 / self.sd[self.degree] ** 2 * self._trust(), np.zeros((n, self.k))
        if self.extra is not None:
            # Instead of weighing the blocks down for their correlation, what stars know is weighed up by as much.
            gain_sd = np.where(self.free, self.log_gain_sd / np.sqrt(self.correlated), _HELD_SD)
            prior = np.column_stack([prior, 1 / gain_sd**2])
            # The whole change of ln gain has its prior at 0, not only this round's.
            centre = np.column_stack([centre, np.where(self.free, -self.log_gain, 0)])
        return prior, centre

    def _trust(self) -> F8:
        """How much of its prior each coefficient feels, shape (images, k): less than 1 where its degree lies far out.

        Surfaces of real images have longer tails than a Gaussian. Slow trends of the sky, which differences cannot
        tell, go where the priors of all images together want them: one with a level a hundred sigma off would decide
        them alone. Equal images have no tails.
        """
        if not self.differ:
            return np.ones((self.table.n_images, len(self.degree)))
        pull2 = (self.surfaces[:, : self.k] / self.sd[self.degree]) ** 2
        each = np.stack([pull2[:, self.degree == d].mean(axis=1) for d in range(self.order + 1)], axis=1)
        # After a large step of the prior all are beyond it.
        far = each / (_FAR**2 * np.maximum(np.median(each, axis=0), 1))
        return np.asarray(1 / np.maximum(far, 1)[:, self.degree])

    def _move_gains(self, value: F4, turn: int) -> float:
        """Take this round's gain changes over, and set the next round's column: the sky's structure."""
        change = np.where(self.structured, np.clip(self.surfaces[:, self.k], -0.3, 0.3), 0)
        self.log_gain += change
        sky = -self.system.residuals(np.zeros_like(value), self.sky, np.zeros_like(self.surfaces))
        self.extra = np.zeros_like(value)
        for i in np.flatnonzero(self.free):
            part = slice(self.table.start[i], self.table.start[i + 1])
            if turn < _STRUCTURE_ROUNDS:
                self.structured[i] = _has_structure(self.table, part, sky[part], self.weight[part], self.order)
            if self.structured[i]:
                self.extra[part] = sky[part]
        self.system.extra = self.extra
        return float(np.max(np.abs(change), initial=0.0)) if self.structured.any() else 0.0

    def _excess_variance(self, drawn: F8) -> F8:
        """Variance of each gain over that of its draws, whose star prior is weighed up by `correlated`.

        Blocks are weighed with caution; how much their witness really scatters, their residuals tell. Both parts of
        a weighted mean have their own variance: stars `correlated` times the drawn, blocks what their clusters show.
        """
        found = self.system.clustered_variance(self.residual, self.weight, _PARTS)
        blocks = np.minimum(np.fmax(found, 1.0), self.correlated)
        stars = np.clip(drawn * self.correlated / np.where(self.free, self.log_gain_sd, np.inf) ** 2, 0, 1)
        return np.asarray(blocks + (self.correlated - blocks) * stars)

    def finish(self) -> SurfaceSolution:
        """The solution, with draws from its error distribution."""
        draws = [self.system.draw(1000 + s, self.weight, self.prior) for s in range(self._draws(6, 3))]
        shape = self.table.nodes.shape
        gain_error = np.where(self.free, self.log_gain_sd, 0)
        if self.structured.any():
            drawn = np.array([b[:, self.k] for _, b in draws])
            # What all images share is the gauge of the gains, not an error of one.
            drawn -= drawn[:, self.structured].mean(axis=1, keepdims=True)
            each = np.mean(drawn**2, axis=0)
            each *= self._excess_variance(each)
            spread = np.sqrt((each + each[self.structured].mean()) / 2)
            gain_error = np.where(self.structured, spread, gain_error)
        return SurfaceSolution(
            sky=self.sky.reshape(shape) + self.level,
            depth=_depth(self.table, self.weight),
            surfaces=self.surfaces[:, : self.k],
            log_gain=self.log_gain,
            log_gain_error=gain_error,
            from_structure=self.structured,
            prior_sd=self.sd,
            residual=self.residual,
            weight=self.weight,
            draws=[(sky.reshape(shape), b[:, : self.k]) for sky, b in draws],
        )


def _has_structure(table: BlockTable, part: slice, sky: F4, weight: F4, order: int) -> bool:
    """Whether an image's sky varies, beyond any surface, well above the noise of its blocks."""
    used = np.flatnonzero(weight > 0)[:: max(len(weight) // 400, 1)]
    if len(used) < 4 * n_terms(order):
        return False
    basis = surface_basis(table.u[part][used] + 0.5, table.v[part][used] + 0.5, (2, 2), order).T
    # Normal equations: six tame terms on thousands of blocks, for every image and round.
    rest = sky[used] - basis @ np.linalg.solve(basis.T @ basis, basis.T @ sky[used])
    return float(np.median(rest**2)) > _STRUCTURE * 0.455 * float(np.median(1 / weight[used]))


def _first_guess(table: BlockTable, value: F4, error: F4, order: int) -> F8:
    """Wide priors to start from: the scatter of the images' levels, the same for slopes, half for the rest."""
    levels = np.array([
        np.median(v[e > 0]) if (e > 0).any() else np.nan
        for v, e in zip(np.split(value, table.start[1:-1]), np.split(error, table.start[1:-1]), strict=True)
    ])  # fmt: skip
    noise = float(np.median(error[error > 0])) if (error > 0).any() else 1.0
    off2 = np.square(levels - np.nanmedian(levels))[np.isfinite(levels)]
    spread = np.sqrt(_mean_of_tame(off2)) if len(off2) else 0.0
    sd = max(spread, 10 * noise)
    return np.array([3 * sd, sd, sd / 2, sd / 4][: order + 1])


def _mean_of_tame(squares: F8) -> float:
    """Mean of squares, robust against a few wild ones: they are cut at 9 times the median."""
    return float(np.mean(np.minimum(squares, 9 * np.median(squares) / 0.455)))


def _scatter(surfaces: F8, draws: F8, degree: Ints, sd: F8, least: float) -> tuple[F8, bool]:
    """Prior widths that the solution itself implies (MacKay's fixed point), one a degree; whether anything scatters.

    Where no degree scatters more than equal images would, all go to 0: equal images stay equal.

    Parameters
    ----------
    least : float
        Scatter that images which are equal on the sky may show beyond their noise.
    """
    out = sd.copy()
    variance = np.mean(draws**2, axis=0)
    seen = False
    for d in range(len(sd)):
        c, v = surfaces[:, degree == d], variance[:, degree == d]
        trust = np.clip(1 - v / sd[d] ** 2, 0, 1)
        determined = float(np.sum(trust))
        # Were all images equal, a coefficient would scatter by trust x its variance.
        equal = np.sum(trust * v) + c.size * least**2
        seen |= bool(np.sum(c**2) > (1 + _SEEN * np.sqrt(2 / c.size)) * equal)
        if determined > 3:
            out[d] = np.sqrt(_mean_of_tame(c**2) * c.size / determined)
            out[d] = np.clip(out[d], sd[d] / 30, sd[d] * 5)
    return (out, True) if seen else (sd / 30, False)


def _variance(table: BlockTable, error: F4, structure: F8) -> F4:
    return np.asarray(error**2 + structure.astype(np.float32).ravel()[table.cell] + np.float32(1e-20))


def _structure(table: BlockTable, residual: F4, error: F4, before: F8) -> F8:
    """Variance of the sky below a node's reach, from local residuals, smoothed over 3 x 3 cells."""
    count, excess = np.empty(table.nodes.n), np.empty(table.nodes.n)
    some = error[:: max(len(error) // 100_000, 1)]
    floor = float(np.median(some[some > 0])) ** 2 if (some > 0).any() else 0.0
    kernel.cell_excess(table.cell, residual, error, before.ravel(), floor, count, excess)
    count, excess = count.reshape(table.nodes.shape), excess.reshape(table.nodes.shape)
    count, excess = (
        scipy.ndimage.uniform_filter(count, 3, mode="constant"),
        scipy.ndimage.uniform_filter(excess, 3, mode="constant"),
    )
    return np.where(count > 0, np.maximum(excess, 0) / np.maximum(count, 1e-9), 0)


def _bend_spread(sky: F8, depth: F8) -> float:
    """A wide prior for the sky's second differences: `_BEND` times what well covered nodes show."""
    known = depth > 0.5 * np.median(depth[depth > 0])
    inner = known[:, :-2] & known[:, 1:-1] & known[:, 2:]
    bends = np.abs(sky[:, :-2] - 2 * sky[:, 1:-1] + sky[:, 2:])[inner]
    noise = 1 / np.sqrt(np.median(depth[known]))
    return float(_BEND * np.hypot(np.sqrt(np.mean(bends**2)) if len(bends) else 0.0, noise))


def _depth(table: BlockTable, weight: F4) -> F8:
    out = np.empty(table.nodes.n)
    kernel.node_depth(table.cell, table.fx, table.fy, weight, table.nodes.shape[1], out)
    return out.reshape(table.nodes.shape)
