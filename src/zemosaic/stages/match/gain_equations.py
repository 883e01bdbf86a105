"""The equations of the gain solve: log fluxes of shared stars, the stars eliminated, nothing ever assembled.

Unknowns are one vector: ln gain of every image, then each camera's coefficients of ln response without the constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.kernels.match import gains as kernel
from zemosaic.model.photo_scale import n_terms, surface_terms
from zemosaic.stages.match.star_ties import StarTies
from zemosaic.stages.numeric.conjugate import inner_product, solve_conjugate

__all__ = ["GainEquations", "GainNormals"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LEAST_SNR = 5.0
"""Signal to noise of a flux in one channel below which its logarithm is skewed by more than 2 % of its error."""

_CHI2_LEFT = 1e-6
"""Conjugate gradients end when less than this is left to gain in chi squared: 0.1 % of an error bar."""

_MOST_STEPS = 2000
"""A chain of images needs about as many steps as it has links; more than this only round-off asks for."""

_UNIT = 1e3
"""Size of right-hand sides that ask for a column of the covariance: large, so that the absolute stop comes late."""

_DENSE_IMAGES = 2000
"""Up to here errors come from the exact inverse (2 s); beyond it their common inflation is probed."""

_PROBES = 6
"""Random right-hand sides: their mean tells the inflation of 2000 errors to 1 %."""

_HAIR = 1e-3
"""Share of the priors' precision that keeps the matrix of the gains regular where images have no star."""


@dataclass(frozen=True, slots=True, eq=False)
class GainEquations:
    """``ln flux = ln g + ln F + ln star`` for all detections of one channel.

    Attributes
    ----------
    detections : kernels.match.gains.Detections
    log_flux, error : ndarray, shape (detections,)
        ln flux and its error by noise.
    n_stars, n_cameras : int
    """

    detections: kernel.Detections
    log_flux: F8
    error: F8
    n_stars: int
    n_cameras: int

    @classmethod
    def of(cls, ties: StarTies, channel: int, camera: Ints, order: int) -> GainEquations:
        """Equations of the detections that stand clear of the noise in a channel; `order` is that of ln F."""
        flux, error = ties.flux[channel], ties.flux_error[channel]
        good = (flux > _LEAST_SNR * error) & (error > 0)
        image = ties.image[good]
        detections = kernel.Detections(
            image, camera[image], ties.star[good], ties.u[good], ties.v[good], order, len(camera)
        )
        n_cameras = int(camera.max()) + 1 if len(camera) else 0
        return cls(detections, np.log(flux[good]), error[good] / flux[good], ties.n_stars, n_cameras)

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

    def components(self) -> Ints:
        """Number of the group of every image: images tied by stars."""
        image, star, n = self.detections.image, self.detections.star, self.n_images
        graph = scipy.sparse.coo_array((np.ones(len(image), np.int8), (image, n + star)), shape=(n + self.n_stars,) * 2)
        label = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][:n]
        return np.unique(label, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class GainNormals:
    """Normal equations for one set of weights and priors.

    Attributes
    ----------
    equations : GainEquations
    weight : ndarray, shape (detections,)
        Inverse variance times the robust factor.
    precision : ndarray, shape (unknowns,)
        Of the prior of every unknown.
    totals : ndarray, shape (stars,)
        Summed weight of every star.
    """

    equations: GainEquations
    weight: F8
    precision: F8
    totals: F8

    @classmethod
    def of(cls, equations: GainEquations, weight: F8, precision: F8) -> GainNormals:
        """For the given weights and prior precisions."""
        totals = np.asarray(np.bincount(equations.detections.star, weight, equations.n_stars), float)
        return cls(equations, weight, precision, totals)

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
        work, sums, out = np.empty_like(eq.log_flux), np.empty(eq.n_stars), np.empty(eq.n_unknowns)

        def apply(x: F8) -> F8:
            kernel.apply_normal(x, eq.detections, self.weight, self.totals, work, sums, out)
            return np.asarray(out + self.precision * x)

        return solve_conjugate(
            apply, lambda r: np.asarray(r / diagonal), rhs, start, enough=enough, most_steps=_MOST_STEPS
        )

    def residual(self, unknowns: F8) -> F8:
        """ln flux minus model, stars at their weighted means; shape (detections,)."""
        eq, sums = self.equations, np.empty(self.equations.n_stars)
        model = np.empty_like(eq.log_flux)
        kernel.log_model(unknowns, eq.detections, model)
        out: F8 = eq.log_flux - model
        kernel.remove_star_means(out, self.weight, eq.detections.star, sums, self.totals)
        return out

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
        if n > _DENSE_IMAGES:
            return self._probed_errors(diagonal)
        star = self.equations.detections.star
        order = np.argsort(star, kind="stable")
        start = np.searchsorted(star[order], np.arange(self.equations.n_stars + 1))
        matrix, inverse = np.empty((n, n)), np.empty(n)
        kernel.gain_curvature(self.equations.detections.image, start, self.weight, self.totals, order, matrix)
        same = component[:, None] == component[None]
        size = np.bincount(component)[component]
        # Adding the projector on a component's mean makes the matrix regular and leaves the rest alone.
        matrix += np.where(same, diagonal.mean() / size[:, None], 0) + np.diag(_HAIR * self.precision[:n])
        kernel.inverse_diagonal(matrix, inverse)
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
            ratios.append(inner_product(z, self.solve(z, enough=1e-3 * n)) / n)
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
