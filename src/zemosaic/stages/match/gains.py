"""Gains of all images and the responses of their cameras, from the stars that images share (SPEC R-15)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.kernels.match import gains as kernel
from zemosaic.model.photo_scale import n_terms, surface_basis
from zemosaic.stages.match.camera_field import real_parts
from zemosaic.stages.match.star_ties import StarTies

__all__ = ["GainSolution", "solve_gains"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ROUNDS = 6
_CHI2_LEFT = 1e-6
"""Conjugate gradients end when less than this is left to gain in chi squared: 0.1 % of an error bar."""

_FLOOR_RANGE = 5e-4, 0.1
"""Bounds of a star's intrinsic scatter: flat fields and pixel response leave at least the lower."""

_SYSTEMATIC = 3e-4
"""What apertures on sampled, changing profiles leave of an image's scale beyond all errors that average out."""

_PRIOR_SD = 0.5
"""Spread of ln gain about its prior; only images without ties feel it."""

_LEAST_IMAGES = 8
_LEAST_PRIOR_SD = 1e-6
_PRIOR_GAP = 5e-3
_USELESS_PRIOR = 10.0
"""A prior wider than so many errors of a star gain changes nothing."""

_RESPONSE_SD = 0.1
"""Spread of each coefficient of ln response."""

_LEAST_RESPONSE = 0.003
"""Rms of ln F over the field below which a camera counts as flat: flat fields leave as much."""

_HELD = 1e10
_CAUCHY = 2.0
_DENSE_IMAGES = 2000
"""Up to here errors come from the exact inverse; beyond it their common inflation is probed."""

_PROBES = 6


@dataclass(frozen=True, slots=True, eq=False)
class GainSolution:
    """Gains of one channel.

    Attributes
    ----------
    log_gain, log_gain_error : ndarray, shape (n,)
        Relative to the component's mean over the priors; error inf where no star ties the image.
    response : ndarray, shape (cameras, k)
        Coefficients of ln F without the constant; zeros for cameras whose response is flat or not determined.
    component : ndarray, shape (n,), int64
        Groups of images tied by stars.
    n_stars : ndarray, shape (n,), int64
        Shared stars of each image that counted.
    floor : float
        Intrinsic scatter of a star, ln units, added to its error.
    """

    log_gain: F8
    log_gain_error: F8
    response: F8
    component: Ints
    n_stars: Ints
    floor: float


def solve_gains(ties: StarTies, channel: int, camera: Ints, prior: F8, response_order: int) -> GainSolution:
    """Robust least squares of ``ln flux = ln g + ln F + ln star``, stars eliminated.

    Parameters
    ----------
    ties : StarTies
    channel : int
    camera : ndarray, shape (images,), int64
        Number of each image's camera.
    prior : ndarray, shape (images,)
        ln of the gain expected for each image.
    response_order : int
        Order of ln F; 0 for none.
    """
    solver = _Solver(ties, channel, camera, prior, response_order)
    theta, weight = solver.iterate()
    if solver.k and len(solver.image):
        held = ~solver.real_response(theta, weight, ties.growth.field_doubt[:, channel])
        if held.any():
            solver.hold_response(held)
            theta, weight = solver.iterate()
    growth = ties.growth.field_covariance[:, channel], ties.growth.error[:, channel]
    found = solver.conclude(theta, weight, *growth)
    if solver.trust_priors(found):
        theta, weight = solver.iterate()
        found = solver.conclude(theta, weight, *growth)
    return replace(found, log_gain_error=solver.with_priors(found.log_gain_error))


def _groups(prior: F8) -> Ints:
    """Number of each image's group: priors with no gap above 0.5 % between neighbours belong together."""
    order = np.argsort(prior, kind="stable")
    group = np.empty(len(prior), np.int64)
    group[order] = np.concatenate([[0], np.cumsum(np.diff(prior[order]) > _PRIOR_GAP)])
    return group


def _own_scatter(away: F8, error: F8) -> float:
    """Scatter of gains about their headers beyond their errors: the least that the data bear.

    Half of all squared deviations over ``own^2 + error^2`` lie below 0.455, give or take what their number leaves open:
    headers are doubted only where the deviations say so.
    """
    low, high = _LEAST_PRIOR_SD, 1.0
    limit = 0.455 * (1 + 2 / np.sqrt(len(away)))
    for _ in range(30):
        middle = np.sqrt(low * high)
        wide = float(np.median(away**2 / (error**2 + middle**2))) > limit
        low, high = (middle, high) if wide else (low, middle)
    return float(np.sqrt(low * high))


class _Solver:
    def __init__(self, ties: StarTies, channel: int, camera: Ints, prior: F8, order: int) -> None:
        flux, error = ties.flux[channel], ties.flux_error[channel]
        good = (flux > 5 * error) & (error > 0)
        self.image, self.star = ties.image[good], ties.star[good]
        self.u, self.v = ties.u[good], ties.v[good]
        self.n, self.n_stars, self.order, self.prior = len(camera), ties.n_stars, order, prior
        self.camera = camera[self.image]
        self.log_flux, self.error = np.log(flux[good]), error[good] / flux[good]
        self.n_cameras = int(camera.max()) + 1 if len(camera) else 0
        self.k = n_terms(order) - 1
        size = self.n + self.n_cameras * self.k
        self.ridge = np.concatenate([
            np.full(self.n, 1 / _PRIOR_SD**2), np.full(size - self.n, 1 / _RESPONSE_SD**2)
        ])  # fmt: skip
        self.held = np.zeros((self.n_cameras, self.k), bool)
        self.prior_held = np.zeros(self.n, bool)
        self.group_sd = np.zeros(self.n)
        self.centre = np.concatenate([prior, np.zeros(size - self.n)])

    def real_response(self, theta: F8, weight: F8, doubt: F8) -> npt.NDArray[np.bool_]:
        """Terms of each camera's response that are real, shape (cameras, k); `doubt` is that of its growth field."""
        found = theta[self.n :].reshape(self.n_cameras, self.k)
        out = np.zeros(found.shape, bool)
        for c in range(self.n_cameras):
            rows = self._response_columns(np.flatnonzero(np.arange(self.n_cameras * self.k) // self.k == c), weight)
            covariance = rows[:, self.n + c * self.k : self.n + (c + 1) * self.k]
            # What a growth field misses or invents, stars show as response, term by term.
            shared = min(self.k, doubt.shape[1])
            covariance[:shared, :shared] += doubt[c, :shared, :shared]
            out[c] = real_parts(found[c], covariance, self.order, _LEAST_RESPONSE)
        return out

    def hold_response(self, held: npt.NDArray[np.bool_]) -> None:
        """Keep the given terms of the cameras' responses, shape (cameras, k), at 0."""
        self.held = held
        self.ridge[self.n :] = np.where(held, _HELD, 1 / _RESPONSE_SD**2).ravel()

    def trust_priors(self, found: GainSolution) -> bool:
        """Hold gains to their priors as closely as the scatter of all images about them allows.

        Images whose headers state nearly the same gain were calibrated together: they share an offset, which their
        stars tell together, and differ by little more. Where the stars' gains scatter about that by hardly more
        than their own errors, it is better than an image's few stars. An image that stands out by more than
        four sigma is left to its stars.

        Returns
        -------
        bool
            Whether anything was changed, so that the solve must be repeated.
        """
        error = found.log_gain_error
        known = np.isfinite(error)
        if known.sum() < _LEAST_IMAGES:
            return False
        group = _groups(self.prior)
        weight = np.where(known, 1 / np.maximum(error, 1e-6) ** 2, 0)
        away = np.where(known, found.log_gain - self.prior, 0)
        offset = np.bincount(group, weight * away) / np.maximum(np.bincount(group, weight), 1e-300)
        away = away - offset[group]
        several = known & (np.bincount(group, known)[group] > 1)
        if several.sum() < _LEAST_IMAGES:
            return False
        noise = float(np.median(error[several]))
        own = _own_scatter(away[several], error[several])
        if own > _USELESS_PRIOR * noise:
            return False
        held = several & (np.abs(away) < 4 * np.hypot(own, error))
        self.ridge[: self.n][held] = 1 / own**2
        self.centre[: self.n][held] = (self.prior + offset[group])[held]
        # Of an offset that all share nothing is seen: it is the gauge of the gains.
        own_weight = np.maximum(np.bincount(group, weight)[group], 1e-300)
        self.group_sd = np.where(held, np.sqrt(np.maximum(1 / own_weight - 1 / weight.sum(), 0)), 0)
        self.prior_held = held
        return True

    def with_priors(self, error: F8) -> F8:
        """Errors of the gains with what the headers add."""
        own = 1 / self.ridge[: self.n]
        # Finite also where no star counts: there the prior is all that is known.
        stars = np.minimum(error, 1e3) ** 2
        return np.where(self.prior_held, np.sqrt(stars * own / (stars + own) + self.group_sd**2), error)

    def iterate(self) -> tuple[F8, F8]:
        """Reweighted solves; the intrinsic floor is found on the way."""
        floor, robust = 0.01, np.ones(len(self.image))
        theta = self.centre.copy()
        weight = robust
        for _ in range(_ROUNDS):
            variance = self.error**2 + floor**2
            weight = robust / variance
            totals = self._totals(weight)
            theta = self._solve(weight, totals, theta)
            residual = self.residual(theta, weight, totals)
            # A residual about its own star's mean is smaller than the error by the star's other detections.
            share = 1 - weight / np.maximum(totals[self.star], 1e-300)
            pull = residual / np.sqrt(variance * np.maximum(share, 0.1))
            floor = self._floor(residual**2 / np.maximum(share, 0.1), floor)
            robust = 1 / (1 + (pull / _CAUCHY) ** 2)
        self.floor = floor
        return theta, weight

    def _floor(self, squares: F8, floor: float) -> float:
        """Scatter beyond the sky noise that makes the pulls of the brighter stars unit-wide."""
        if len(squares) < 10:
            return floor
        rank = min(max(len(squares) // 3, 50), len(squares) - 1)
        bright = self.error <= np.partition(self.error, rank)[rank]
        low, high = _FLOOR_RANGE
        for _ in range(12):
            middle = np.sqrt(low * high)
            wide = float(np.median(squares[bright] / (self.error[bright] ** 2 + middle**2))) > 0.455
            low, high = (middle, high) if wide else (low, middle)
        return float(np.sqrt(low * high))

    def residual(self, theta: F8, weight: F8, totals: F8) -> F8:
        """ln flux minus model, stars at their weighted means."""
        model, sums = np.empty_like(self.log_flux), np.empty(self.n_stars)
        kernel.log_model(theta, self.image, self.camera, self.u, self.v, self.order, self.n, model)
        out: F8 = self.log_flux - model
        kernel.remove_star_means(out, weight, self.star, sums, totals)
        return out

    def _totals(self, weight: F8) -> F8:
        """Summed weight of every star."""
        return np.asarray(np.bincount(self.star, weight, self.n_stars), float)

    def _solve(self, weight: F8, totals: F8, start: F8) -> F8:
        """Conjugate gradients on the normal equations, diagonal preconditioner."""
        values, sums = self.log_flux.copy(), np.empty(self.n_stars)
        kernel.remove_star_means(values, weight, self.star, sums, totals)
        rhs = np.empty_like(start)
        kernel.project_to_unknowns(weight * values, self.image, self.camera, self.u, self.v, self.order, self.n, rhs)
        return self._conjugate(rhs + self.ridge * self.centre, weight, totals, start)

    def _conjugate(self, rhs: F8, weight: F8, totals: F8, start: F8, enough: float = _CHI2_LEFT) -> F8:
        """Solve to within `enough` of the least chi squared."""
        apply = self._operator(weight, totals)
        diagonal = self._diagonal(weight, totals)
        x = start.copy()
        r = rhs - apply(x)
        z = r / diagonal
        p, rz = z.copy(), float(r @ z)
        for _ in range(2000):
            if rz < enough:
                break
            q = apply(p)
            step = rz / float(p @ q)
            x += step * p
            r -= step * q
            z = r / diagonal
            rz, previous = float(r @ z), rz
            p = z + rz / previous * p
        return x

    def _operator(self, weight: F8, totals: F8) -> Callable[[F8], F8]:
        work, sums, out = np.empty_like(self.log_flux), np.empty(self.n_stars), np.empty(len(self.ridge))

        def apply(x: F8) -> F8:
            kernel.apply_normal(
                x, self.image, self.camera, self.star, self.u, self.v, weight, totals, self.order, self.n,
                work, sums, out,
            )  # fmt: skip
            return np.asarray(out + self.ridge * x)

        return apply

    def _diagonal(self, weight: F8, totals: F8) -> F8:
        own = weight * (1 - weight / np.maximum(totals[self.star], 1e-300))
        squares = np.empty(len(self.ridge))
        kernel.project_to_unknowns(own, self.image, self.camera, self.u**2, self.v**2, self.order, self.n, squares)
        return np.asarray(squares + self.ridge)

    def conclude(self, theta: F8, weight: F8, growth_field: F8, growth_error: F8) -> GainSolution:
        """Gauge, errors by the stars alone, counts; growth curves as in `Growth`, of one channel."""
        component = self._components()
        gain = theta[: self.n].copy()
        for c in range(int(component.max()) + 1 if self.n else 0):
            members = component == c
            gain[members] -= np.mean(gain[members] - self.prior[members])
        counted = np.bincount(self.image, minlength=self.n)
        shared = self.shared_variance(weight, growth_field, component)
        error = np.sqrt(self._gain_errors(weight, component) ** 2 + shared + growth_error**2 + _SYSTEMATIC**2)
        error[counted == 0] = np.inf
        response = np.where(self.held, 0.0, theta[self.n :].reshape(self.n_cameras, self.k))
        return GainSolution(gain, error, response, component, counted, self.floor)

    def _components(self) -> Ints:
        graph = scipy.sparse.coo_array(
            (np.ones(len(self.image), np.int8), (self.image, self.n + self.star)), shape=(self.n + self.n_stars,) * 2
        )
        label = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][: self.n]
        return np.unique(label, return_inverse=True)[1].astype(np.int64)

    def _gain_errors(self, weight: F8, component: Ints) -> F8:
        """From the normal matrix, each component's mean held fixed."""
        totals = self._totals(weight)
        diagonal = self._diagonal(weight, totals)[: self.n]
        if self.n > _DENSE_IMAGES:
            return self._probed_errors(weight, totals, diagonal)
        order = np.argsort(self.star, kind="stable")
        start = np.searchsorted(self.star[order], np.arange(self.n_stars + 1))
        matrix = np.empty((self.n, self.n))
        kernel.gain_curvature(self.image, start, weight, totals, order, matrix)
        same = component[:, None] == component[None]
        size = np.bincount(component)[component]
        # Adding the projector on a component's mean makes the matrix regular and leaves the rest alone.
        held = np.where(same, diagonal.mean() / size[:, None], 0) + np.diag(1e-3 * self.ridge[: self.n])
        inverse = np.linalg.inv(matrix + held)
        centred = np.diag(inverse) - 1 / diagonal.mean() / size
        return np.asarray(np.sqrt(np.maximum(centred, 0)))

    def _probed_errors(self, weight: F8, totals: F8, diagonal: F8) -> F8:
        """1 / sqrt(diagonal) times a common inflation, found from random right-hand sides."""
        rng = np.random.default_rng(20)
        ratios = []
        for _ in range(_PROBES):
            z = np.zeros(len(self.ridge))
            z[: self.n] = rng.choice([-1.0, 1.0], self.n) * np.sqrt(diagonal)
            z[: self.n] -= diagonal * (z[: self.n].sum() / diagonal.sum())
            x = self._conjugate(z, weight, totals, np.zeros_like(z), enough=1e-3 * self.n)
            ratios.append(float(z @ x) / self.n)
        return np.asarray(np.sqrt(np.mean(ratios) / diagonal))

    def shared_variance(self, weight: F8, growth: F8, component: Ints) -> F8:
        """Variance that each gain has from fields which images of a camera share: response and growth curve.

        Parameters
        ----------
        weight : ndarray, shape (detections,)
        growth : ndarray, shape (cameras, 5, 5)
            Covariance of each camera's growth field.
        component : ndarray, shape (images,)
        """
        out = np.zeros(self.n)
        if len(self.image) == 0:
            return out
        free = np.flatnonzero(~self.held.ravel())
        if len(free):
            rows = self._response_columns(free, weight)
            out += _variance_through(
                _centred(rows[:, : self.n], component), np.asarray(np.linalg.inv(rows[:, self.n + free]), float)
            )
        for c, covariance in enumerate(growth):
            terms = np.flatnonzero(np.diag(covariance) > 1 / _HELD)
            if len(terms):
                rows = self._answers_to_growth(c, terms, weight)
                out += _variance_through(_centred(rows, component), covariance[np.ix_(terms, terms)])
        return out

    def _response_columns(self, terms: Ints, weight: F8) -> F8:
        """Rows of the covariance of all unknowns that belong to the given terms of the responses."""
        totals = self._totals(weight)
        # Larger than one, so that the solver's absolute stop comes late enough.
        unit = np.zeros((len(terms), len(self.ridge)))
        unit[np.arange(len(terms)), self.n + terms] = 1e3
        return np.stack([self._conjugate(row, weight, totals, 0 * row) / 1e3 for row in unit])

    def _answers_to_growth(self, camera: int, terms: Ints, weight: F8) -> F8:
        """Change of every gain when a term of a camera's growth field changes, shape (terms, images)."""
        totals, sums = self._totals(weight), np.empty(self.n_stars)
        basis = surface_basis(self.u + 0.5, self.v + 0.5, (2, 2))[1:]
        out = []
        for q in terms:
            # Again larger than one for the sake of the stop.
            values = np.where(self.camera == camera, 1e3 * basis[q], 0.0)
            kernel.remove_star_means(values, weight, self.star, sums, totals)
            rhs = np.empty(len(self.ridge))
            kernel.project_to_unknowns(
                weight * values, self.image, self.camera, self.u, self.v, self.order, self.n, rhs
            )
            # 1e3 in the right-hand side is 1e6 in chi squared.
            out.append(self._conjugate(rhs, weight, totals, 0 * rhs, enough=1.0)[: self.n] / 1e3)
        return np.stack(out)


def _centred(rows: F8, component: Ints) -> F8:
    """Rows (m, images) with the mean of every component taken out."""
    size = np.bincount(component)
    return np.stack([row - (np.bincount(component, row) / size)[component] for row in rows])


def _variance_through(rows: F8, matrix: F8) -> F8:
    """Diagonal of ``rows^T matrix rows``."""
    return np.asarray(np.sum(rows * (matrix @ rows), axis=0))
