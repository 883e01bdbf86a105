"""Equations of what stars show: numbers of images, fields of cameras, stars eliminated; nothing is ever assembled.

Unknowns are one vector: a number of every image (ln gain, the loss of its aperture), then each camera's coefficients of
a field (ln response, the loss's change) without the constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.match import gains as kernel
from zemosaic.kernels.match.images import group_images
from zemosaic.model.photo_scale import n_terms, surface_terms
from zemosaic.stages.match.gain_errors import gain_variances
from zemosaic.stages.numeric.conjugate import inner_product, solve_conjugate

__all__ = ["StarEquations", "StarNormals"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CHI2_LEFT = 1e-6
"""Conjugate gradients end when less than this is left to gain in chi squared: 0.1 % of an error bar."""

_MOST_STEPS = 2000
"""A chain of images needs about as many steps as it has links; more than this only round-off asks for."""

_UNIT = 1e3
"""Size of right-hand sides that ask for a column of the covariance: large, so that the absolute stop comes late."""

_DENSE = 2000
"""Up to the work of so many images with as many stars errors come from the exact inverse (a second); beyond it their
common inflation is probed."""

_PROBES = 6
"""Random right-hand sides: their mean tells the inflation of 2000 errors to 1 %."""

_HAIR = 1e-3
"""Share of the priors' precision that keeps the matrix of the gains regular where images have no star."""


@dataclass(frozen=True, slots=True, eq=False)
class StarEquations:
    """``value = image + field + star`` for all detections of one channel.

    Attributes
    ----------
    detections : kernels.match.gains.Detections
    value, error : ndarray, shape (detections,)
        A logarithm (of a flux, or of a ratio of two) and its error by noise.
    n_stars, n_cameras : int
    """

    detections: kernel.Detections
    value: F8
    error: F8
    n_stars: int
    n_cameras: int

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self.detections.n_images

    @property
    def n_response(self) -> int:
        """Coefficients of one camera's response."""
        return n_terms(self.detections.order) - 1

    @property
    def n_unknowns(self) -> int:
        """Length of the vector of unknowns."""
        return self.n_images + self.n_cameras * self.n_response

    def response(self, unknowns: F8) -> F8:
        """Coefficients of ln F in a vector of unknowns, shape (cameras, k)."""
        return unknowns[self.n_images :].reshape(self.n_cameras, self.n_response)

    def model(self, unknowns: F8) -> F8:
        """What images and fields give of every value, shape (detections,)."""
        out = np.empty_like(self.value)
        kernel.log_model(unknowns, self.detections, out)
        return out

    def components(self) -> Ints:
        """Number of the group of every image: images tied by stars."""
        group = np.empty(self.n_images, np.int64)
        group_images(self.start, self.detections.star, self.n_stars, group)
        return group

    @property
    def start(self) -> Ints:
        """Detections of image i are those from ``start[i]`` to ``start[i + 1]``."""
        return np.searchsorted(self.detections.image, np.arange(self.n_images + 1))


@dataclass(frozen=True, slots=True, eq=False)
class StarNormals:
    """Normal equations for one set of weights and priors.

    Attributes
    ----------
    equations : StarEquations
    weight : ndarray, shape (detections,)
        Inverse variance times the robust factor.
    precision : ndarray, shape (unknowns,)
        Of the prior of every unknown.
    totals : ndarray, shape (stars,)
        Summed weight of every star, with the precision of its prior at 0 where it has one.
    about_mean : bool
        Whether the priors hold the images' numbers to their common mean, which is free, and not to 0.
    """

    equations: StarEquations
    weight: F8
    precision: F8
    totals: F8
    about_mean: bool

    @classmethod
    def of(cls, equations: StarEquations, weight: F8, precision: F8, star_precision: F8 | None = None) -> StarNormals:
        """For the given weights and prior precisions; with those of stars the images are held to their mean."""
        totals = np.asarray(np.bincount(equations.detections.star, weight, equations.n_stars), float)
        if star_precision is None:
            return cls(equations, weight, precision, totals, False)
        return cls(equations, weight, precision, totals + star_precision, True)

    def share_left(self) -> F8:
        """Share of each detection's variance that its star's mean, taken out, leaves; shape (detections,)."""
        return np.asarray(1 - self.weight / np.maximum(self.totals[self.equations.detections.star], 1e-300))

    def project(self, values: F8) -> F8:
        """Right-hand side for values (detections,) of which each star's mean is taken out first."""
        eq, sums = self.equations, np.empty(self.equations.n_stars)
        centred, out = values.copy(), np.empty(eq.n_unknowns)
        kernel.remove_star_means(centred, self.weight, eq.detections.star, sums, self.totals)
        kernel.project_to_unknowns(self.weight * centred, eq.detections, out)
        return out

    def solve(self, rhs: F8, start: F8 | None = None, enough: float = _CHI2_LEFT) -> F8:
        """Unknowns for a right-hand side, to within `enough` of the least chi squared."""
        eq, diagonal = self.equations, self.diagonal()
        work, sums, out = np.empty_like(eq.value), np.empty(eq.n_stars), np.empty(eq.n_unknowns)
        start_of_image = eq.start

        def apply(x: F8) -> F8:
            kernel.apply_normal(x, eq.detections, start_of_image, self.weight, self.totals, work, sums, out)
            return np.asarray(out + self.precision * self._held(x))

        def correct(r: F8) -> tuple[F8, F8]:
            change = r / diagonal
            return change, apply(change)

        rest = rhs if start is None else rhs - apply(start)
        change = solve_conjugate(correct, rest, enough=enough, most_steps=_MOST_STEPS)
        return change if start is None else start + change

    def _held(self, unknowns: F8) -> F8:
        """What the priors draw to 0."""
        if not self.about_mean:
            return unknowns
        n, out = self.equations.n_images, unknowns.copy()
        out[:n] -= np.sum(out[:n]) / n
        return out

    def residual(self, unknowns: F8) -> F8:
        """Values minus model, stars at their (shrunk) weighted means; shape (detections,)."""
        eq, sums = self.equations, np.empty(self.equations.n_stars)
        out: F8 = eq.value - eq.model(unknowns)
        kernel.remove_star_means(out, self.weight, eq.detections.star, sums, self.totals)
        return out

    def star_means(self, unknowns: F8) -> tuple[F8, F8]:
        """What is left of each star's values, weighted mean and its error, priors of stars apart; shapes (stars,)."""
        eq = self.equations
        total = np.bincount(eq.detections.star, self.weight, eq.n_stars)
        left = np.bincount(eq.detections.star, self.weight * (eq.value - eq.model(unknowns)), eq.n_stars)
        return left / total, 1 / np.sqrt(total)

    def diagonal(self) -> F8:
        """Diagonal of the normal matrix, stars eliminated."""
        seen = self.equations.detections
        squares = np.empty(self.equations.n_unknowns)
        kernel.project_to_unknowns(
            self.weight * self.share_left(), seen._replace(u=seen.u**2, v=seen.v**2), squares
        )  # fmt: skip
        return np.asarray(squares + self.precision)

    def gain_errors(self, component: Ints) -> F8:
        """Errors of the gains by the stars alone, each component's mean held fixed; shape (images,)."""
        n = self.equations.n_images
        diagonal = self.diagonal()[:n]
        if n * min(n, self.equations.n_stars) ** 2 > _DENSE**3:
            return self._probed_errors(diagonal)
        size = np.bincount(component)[component]
        # The projector on a component's mean makes the matrix regular and leaves the rest alone.
        hold = diagonal.mean() / size
        seen, least = self.equations.detections, _HAIR * self.precision[:n]
        inverse = gain_variances(seen, self.weight, self.totals, least, hold, component)
        return np.asarray(np.sqrt(np.maximum(inverse - 1 / diagonal.mean() / size, 0)))

    def _probed_errors(self, diagonal: F8) -> F8:
        """1 / sqrt(diagonal) times a common inflation, found from random right-hand sides."""
        rng, n = np.random.default_rng(20), self.equations.n_images
        ratios = []
        for _ in range(_PROBES):
            z = np.zeros(self.equations.n_unknowns)
            z[:n] = rng.choice([-1.0, 1.0], n) * np.sqrt(diagonal)
            z[:n] -= diagonal * (z[:n].sum() / diagonal.sum())
            # A thousandth of what is looked for: the sum over n images of about 1 each.
            ratios.append(float(inner_product(z, self.solve(z, enough=1e-3 * n))) / n)
        return np.asarray(np.sqrt(np.mean(ratios) / diagonal))

    def response_columns(self, terms: Ints) -> F8:
        """Rows of the covariance of all unknowns that belong to the given terms of the responses, (terms, unknowns)."""
        unit = np.zeros((len(terms), self.equations.n_unknowns))
        unit[np.arange(len(terms)), self.equations.n_images + terms] = _UNIT
        return np.stack([self.solve(row) / _UNIT for row in unit])

    def answers_to_growth(self, camera: int, terms: Ints) -> F8:
        """Change of every gain when a term of a camera's growth field changes, shape (terms, images)."""
        seen = self.equations.detections
        basis = surface_terms(seen.u, seen.v)[1:]
        out = []
        for q in terms:
            rhs = self.project(np.where(seen.camera == camera, _UNIT * basis[q], 0.0))
            # The unit counts squared in chi squared.
            out.append(self.solve(rhs, enough=_CHI2_LEFT * _UNIT**2)[: self.equations.n_images] / _UNIT)
        return np.stack(out)
