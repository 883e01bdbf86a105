"""Gains of all images and the responses of their cameras, from the stars that images share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.match.gains import Detections
from zemosaic.stages.match.camera_field import real_parts, slopes_of_centre
from zemosaic.stages.match.gain_error_parts import (
    HELD,
    response_errors,
    scatter_over_stated,
    shared_variance,
    tilt_errors,
)
from zemosaic.stages.match.star_equations import StarEquations, StarNormals
from zemosaic.stages.match.star_ties import StarTies
from zemosaic.stages.numeric.robust import MEDIAN_CHI2_1, cauchy_weight, excess_scatter, mad_sigma

__all__ = ["GainSolution", "solve_gains"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_LEAST_SNR = 5.0
"""Signal to noise of a flux in one channel below which its logarithm is skewed by more than 2 % of its error."""

_ROUNDS = 6
"""Reweighted solves: weights of outliers have settled to a percent by then."""

_FLOOR_START = 0.01
"""Intrinsic scatter of a star to start from, ln units: flat fields are seldom worse."""

_FLOOR_RANGE = 5e-4, 0.1
"""Bounds of a star's intrinsic scatter: flat fields and pixel response leave at least the lower."""

_LEAST_DETECTIONS = 10
"""Fewer do not tell their own scatter."""

_LEAST_SHARE = 0.1
"""A detection that is nearly all of its star's weight has nearly no residual: its pull is not blown up by more."""

_SYSTEMATIC = 3e-4
"""What apertures on sampled, changing profiles leave of an image's scale beyond all errors that average out."""

_BETWEEN_CAMERAS = 2e-3
"""What they leave between cameras: pixels of 1.6 times the size, under one sky of stars with wings, gave 2.3e-3."""

_PRIOR_SD = 0.5
"""Spread of ln gain about its prior; only images without ties feel it."""

_RESPONSE_SD = 0.1
"""Spread of each coefficient of ln response."""

_LEAST_RESPONSE = 0.003
"""Rms of ln F over the field below which a camera counts as flat: flat fields leave as much."""

_CAUCHY = 2.0
"""Errors at which a detection's weight is halved: variable stars and blends are common."""

_LEAST_IMAGES = 8
"""Fewer gains do not tell how far headers can be trusted."""

_LEAST_PRIOR_SD = 1e-6
"""Headers are never taken as better than this."""

_PRIOR_GAP = 5e-3
"""Expected gains of one calibration differ from one to the next by less: air mass and gain steps are far larger."""

_USELESS_PRIOR = 10.0
"""A prior wider than so many errors of a star gain changes nothing."""

_UNITS_APART = float(np.log(3))
"""Gap of ln gain beyond what headers expect from which images have different units.

12 bits and 16 differ by 16, 0 to 1 and 16 bits by 65535; a cloud that takes two thirds of the light is rare.
"""

_HONEST_HEADER = 0.1
"""ln gain beyond what its header expects that the transparency of a good night explains."""

_FALSE_HEADER = float(np.log(1.5))
"""And what no header is believed beyond, however the gains of few images scatter: exposures of 10 and of 20 s."""

_STANDS_OUT = 4.0
"""Sigma from its header's gain at which an image is left to its stars: a cloud, not noise."""


@dataclass(frozen=True, slots=True, eq=False)
class GainSolution:
    """Gains of one channel.

    Attributes
    ----------
    log_gain, log_gain_error : ndarray, shape (n,)
        Relative to the mean over the priors of the component's images of one unit, those that are the most; error inf
        where no star ties the image.
    response : ndarray, shape (cameras, k)
        Coefficients of ln F without the constant; zeros for cameras whose response is flat or not determined.
    response_error : ndarray, shape (cameras, k)
        Their errors by the stars; 0 where they are held at 0.
    component : ndarray, shape (n,), int64
        Groups of images tied by stars.
    n_stars : ndarray, shape (n,), int64
        Shared stars of each image that counted.
    floor : float
        Intrinsic scatter of a star, ln units, added to its error.
    log_unit : ndarray, shape (n,)
        ln of the unit of each image's values over that of most of its component; 0 where it is theirs.
    tilt : ndarray, shape (n,)
        Error of ln gain that images share where a camera's light falls off about a middle that is not known;
        `log_gain_error` does not hold it.
    """

    log_gain: F8
    log_gain_error: F8
    response: F8
    response_error: F8
    component: Ints
    n_stars: Ints
    floor: float
    log_unit: F8
    tilt: F8


@dataclass(frozen=True, slots=True, eq=False)
class GainPriors:
    """What is known of the unknowns before any star.

    Attributes
    ----------
    centre, precision : ndarray, shape (unknowns,)
    flat : ndarray, shape (cameras, k), bool
        Terms of the responses held at 0.
    by_header : ndarray, shape (n,), bool
        Images whose gain is held to its header's as closely as the scatter of all images allows.
    offset_sd : ndarray, shape (n,)
        Error of the offset that such an image shares with its group; 0 for others.
    """

    centre: F8
    precision: F8
    flat: Flags
    by_header: Flags
    offset_sd: F8

    @classmethod
    def wide(cls, equations: StarEquations, log_gain: F8) -> GainPriors:
        """Priors that only images without ties feel, about the gains expected."""
        n, rest = equations.n_images, equations.n_unknowns - equations.n_images
        return cls(
            centre=np.concatenate([log_gain, np.zeros(rest)]),
            precision=np.concatenate([np.full(n, 1 / _PRIOR_SD**2), np.full(rest, 1 / _RESPONSE_SD**2)]),
            flat=np.zeros((equations.n_cameras, equations.n_response), bool),
            by_header=np.zeros(n, bool),
            offset_sd=np.zeros(n),
        )

    def with_flat(self, flat: Flags) -> GainPriors:
        """The same with the given terms of the responses held at 0."""
        precision = self.precision.copy()
        precision[len(self.by_header) :] = np.where(flat, HELD, 1 / _RESPONSE_SD**2).ravel()
        return replace(self, precision=precision, flat=flat)

    def errors(self, by_stars: F8) -> F8:
        """Errors of the gains, given those by stars alone, with what the headers add."""
        own = 1 / self.precision[: len(by_stars)]
        # Finite also where no star counts: there the prior is all that is known.
        stars = np.minimum(by_stars, 1e3) ** 2
        return np.where(self.by_header, np.sqrt(stars * own / (stars + own) + self.offset_sd**2), by_stars)


@dataclass(frozen=True, slots=True, eq=False)
class GainState:
    """Where the reweighting stands.

    Attributes
    ----------
    unknowns : ndarray, shape (unknowns,)
    weight : ndarray, shape (detections,)
        With which they were found.
    robust : ndarray, shape (detections,)
        Factors of the next weights.
    floor : float
        Intrinsic scatter of a star, ln units.
    """

    unknowns: F8
    weight: F8
    robust: F8
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
    equations = _equations(ties, channel, camera, response_order)
    priors = GainPriors.wide(equations, prior)
    state = _settle(equations, priors)
    if equations.n_response and len(equations.value):
        flat = ~_real_response(equations, priors, state, ties.growth.field_doubt[:, channel])
        if flat.any():
            priors = priors.with_flat(flat)
            state = _settle(equations, priors)
    between = _BETWEEN_CAMERAS * _share_of_others(camera, equations.components())
    growth = ties.growth.field_covariance[:, channel], np.hypot(ties.growth.error[:, channel], between)
    found = _conclude(equations, priors, state, prior, *growth)
    trusted = _trust_headers(priors, found, prior)
    if trusted is not None:
        priors = trusted
        found = _conclude(equations, priors, _settle(equations, priors), prior, *growth)
    return replace(found, log_gain_error=priors.errors(found.log_gain_error))


def _equations(ties: StarTies, channel: int, camera: Ints, order: int) -> StarEquations:
    """Equations of the detections that stand clear of the noise in a channel; `order` is that of ln F."""
    flux, error = ties.flux[channel], ties.flux_error[channel]
    good = (flux > _LEAST_SNR * error) & (error > 0)
    image = ties.image[good]
    detections = Detections(image, camera[image], ties.star[good], ties.u[good], ties.v[good], order, len(camera))
    n_cameras = int(camera.max()) + 1 if len(camera) else 0
    return StarEquations(detections, np.log(flux[good]), error[good] / flux[good], ties.n_stars, n_cameras)


def _settle(equations: StarEquations, priors: GainPriors) -> GainState:
    """Reweighted solves from equal weights on."""
    ones = np.ones(len(equations.value))
    state = GainState(priors.centre, ones, ones, _FLOOR_START)
    for _ in range(_ROUNDS):
        state = step(equations, priors, state)
    return state


def step(equations: StarEquations, priors: GainPriors, state: GainState) -> GainState:
    """One solve with the weights so far; from its residuals the intrinsic scatter and the next weights."""
    variance = equations.error**2 + state.floor**2
    normals = StarNormals.of(equations, state.robust / variance, priors.precision)
    rhs = normals.project(equations.value) + priors.precision * priors.centre
    unknowns = normals.solve(rhs, state.unknowns)
    residual = normals.residual(unknowns)
    # A residual about its own star's mean is smaller than the error by the star's other detections.
    share = np.maximum(normals.share_left(), _LEAST_SHARE)
    pull = residual / np.sqrt(variance * share)
    floor = _intrinsic_scatter(equations.error, residual**2 / share, state.floor)
    return GainState(unknowns, normals.weight, cauchy_weight(pull**2, _CAUCHY), floor)


def _intrinsic_scatter(error: F8, squares: F8, before: float) -> float:
    """Scatter beyond the sky noise that makes the pulls of the brighter stars unit-wide."""
    if len(squares) < _LEAST_DETECTIONS:
        return before
    # A third of the detections, but no fewer than fifty: their median is then good to a fifth.
    rank = min(max(len(squares) // 3, 50), len(squares) - 1)
    bright = error <= np.partition(error, rank)[rank]
    return excess_scatter(squares[bright], error[bright], *_FLOOR_RANGE, n_halvings=12)


def _real_response(equations: StarEquations, priors: GainPriors, state: GainState, doubt: F8) -> Flags:
    """Terms of each camera's response that are real, shape (cameras, k); `doubt` is that of its growth field."""
    normals = StarNormals.of(equations, state.weight, priors.precision)
    found, k = equations.response(state.unknowns), equations.n_response
    out = np.zeros(found.shape, bool)
    for c in range(equations.n_cameras):
        own = np.arange(c * k, (c + 1) * k)
        covariance = normals.response_columns(own)[:, equations.n_images + own]
        # What a growth field misses or invents, stars show as response, term by term.
        shared = min(k, doubt.shape[1])
        covariance[:shared, :shared] += doubt[c, :shared, :shared]
        out[c] = real_parts(found[c], covariance, equations.detections.order, _LEAST_RESPONSE)
    return out


def _trust_headers(priors: GainPriors, found: GainSolution, expected: F8) -> GainPriors | None:
    """Priors that hold gains to their headers as closely as the scatter of all images about them allows.

    Images whose headers state nearly the same gain were calibrated together: they share an offset, which their
    stars tell together, and differ by little more. Where the stars' gains scatter about that by hardly more
    than their own errors, it is better than an image's few stars. An image that stands out by more than
    four sigma is left to its stars.

    Returns
    -------
    GainPriors or None
        None where headers tell nothing that the stars do not.
    """
    error = found.log_gain_error
    known = np.isfinite(error)
    if known.sum() < _LEAST_IMAGES:
        return None
    group = _groups(expected)
    weight = np.where(known, 1 / np.maximum(error, 1e-6) ** 2, 0)
    away = np.where(known, found.log_gain - expected, 0)
    offset = np.bincount(group, weight * away) / np.maximum(np.bincount(group, weight), 1e-300)
    away = away - offset[group]
    several = known & (np.bincount(group, known)[group] > 1)
    if several.sum() < _LEAST_IMAGES:
        return None
    noise = float(np.median(error[several]))
    own = _own_scatter(away[several], error[several])
    if own > _USELESS_PRIOR * noise:
        return None
    held = several & (np.abs(away) < _STANDS_OUT * np.hypot(own, error))
    precision, centre, n = priors.precision.copy(), priors.centre.copy(), len(expected)
    precision[:n][held] = 1 / own**2
    centre[:n][held] = (expected + offset[group])[held]
    # Of an offset that all share nothing is seen: it is the gauge of the gains.
    own_weight = np.maximum(np.bincount(group, weight)[group], 1e-300)
    offset_sd = np.where(held, np.sqrt(np.maximum(1 / own_weight - 1 / weight.sum(), 0)), 0)
    return replace(priors, centre=centre, precision=precision, by_header=held, offset_sd=offset_sd)


def _groups(prior: F8) -> Ints:
    """Number of each image's group: priors with no gap above 0.5 % between neighbours belong together."""
    order = np.argsort(prior, kind="stable")
    group = np.empty(len(prior), np.int64)
    group[order] = np.concatenate([[0], np.cumsum(np.diff(prior[order]) > _PRIOR_GAP)])
    return group


def _own_scatter(away: F8, error: F8) -> float:
    """Scatter of gains about their headers beyond their errors: the least that the data bear.

    Half of all squared deviations over ``own^2 + error^2`` lie below `MEDIAN_CHI2_1`, give or take what their number
    leaves open: headers are doubted only where the deviations say so.
    """
    limit = MEDIAN_CHI2_1 * (1 + 2 / np.sqrt(len(away)))
    return excess_scatter(away**2, error, _LEAST_PRIOR_SD, 1.0, limit=limit, n_halvings=30)


def _conclude(
    equations: StarEquations, priors: GainPriors, state: GainState, expected: F8, growth_field: F8, growth_error: F8
) -> GainSolution:
    """Gauge, errors by the stars alone, counts; growth curves as in `Growth`, of one channel."""
    n, component = equations.n_images, equations.components()
    normals = StarNormals.of(equations, state.weight, priors.precision)
    gain, log_unit = state.unknowns[:n].copy(), np.zeros(n)
    for c in range(int(component.max()) + 1 if n else 0):
        members = component == c
        log_unit[members], most = _tell_units(gain[members] - expected[members])
        gain[members] -= most
    counted = np.bincount(equations.detections.image, minlength=n)
    shared = shared_variance(normals, priors.flat, growth_field, component)
    by_noise = scatter_over_stated(normals, state.unknowns, state.robust) * normals.gain_errors(component)
    error = np.sqrt(by_noise**2 + shared + growth_error**2 + _SYSTEMATIC**2)
    error[counted == 0] = np.inf
    response = np.where(priors.flat, 0.0, equations.response(state.unknowns))
    response_error = response_errors(normals, priors.flat)
    tilt = tilt_errors(normals, slopes_of_centre(response), component)
    return GainSolution(gain, error, response, response_error, component, counted, state.floor, log_unit, tilt)


def _share_of_others(camera: Ints, component: Ints) -> F8:
    """Share of other cameras among the images that stars tie to each image, shape (images,)."""
    _, pair, count = np.unique(np.stack([component, camera]), axis=1, return_inverse=True, return_counts=True)
    return np.asarray(1 - count[pair] / np.bincount(component)[component])


def _tell_units(away: F8) -> tuple[F8, float]:
    """ln of each image's unit over that of most images, and where those lie; of equal numbers that of larger values.

    Parameters
    ----------
    away : ndarray, shape (images,)
        ln gain less what headers expect. Images whose values lie in one unit have no wide gap between them.
    """
    order = np.argsort(away, kind="stable")
    unit = np.empty(len(away), np.int64)
    unit[order] = np.concatenate([[0], np.cumsum(np.diff(away[order]) > _UNITS_APART)])
    size = np.bincount(unit)
    means = np.array([_location(away[unit == u]) for u in range(len(size))])
    most = len(size) - 1 - int(np.argmax(size[::-1]))
    return means[unit] - means[most], float(means[most])


def _location(away: F8) -> float:
    """Mean of the values that lie with most: one false header must not give all of the mosaic another unit."""
    middle = float(np.median(away))
    limit = min(max(_STANDS_OUT * mad_sigma(away), _HONEST_HEADER), _FALSE_HEADER)
    return float(np.mean(away[np.abs(away - middle) <= limit]))
