"""Apply the gauge to a channel's surfaces, and tell what is left open."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import n_terms
from zemosaic.stages.gauge.reference import fit_reference
from zemosaic.stages.gauge.slow_modes import (
    SharedSurfaces,
    SlowModes,
    dark_sky_trend,
    disagreement,
    find_slow_modes,
    null_amplitudes,
    take_out,
    trend_above,
    weigh_modes,
)
from zemosaic.stages.gauge.ungauged import SurfaceSolution
from zemosaic.stages.match.sky_nodes import BlockTable
from zemosaic.stages.match.surface_priors import degrees
from zemosaic.stages.match.third_degree import THIRD
from zemosaic.text import Message, message

__all__ = ["GaugedSurfaces", "fix_gauge"]

F8 = npt.NDArray[np.float64]

_FROM_PRIOR = 0.5
"""Share of a coefficient's prior variance left after the solve from which it rests on the prior."""


@dataclass(frozen=True, slots=True, eq=False)
class GaugedSurfaces:
    """Sky and surfaces of one channel with every component's gauge fixed.

    Attributes
    ----------
    sky, depth : ndarray, shape (ny, nx)
    surfaces : ndarray, shape (n, k)
    level_error : ndarray, shape (n,)
        Error of each surface's mean over its image, gauge modes left out.
    determined_order : ndarray, shape (n,), int64
        Highest order of each surface that its overlaps determine; what lies above rests on the prior. -1 where not
        even the level is.
    slow_rms : float
        Expected rms of slow modes of degree 2 and more, of the component where it is largest.
    slow_error : ndarray, shape (ny, nx)
        Their expected size at the nodes; NaN where no component reaches.
    rules : list of Message
        How each component's gauge was chosen.
    prior_sd : ndarray, shape (order + 1,)
    is_beyond : ndarray, shape (n,), bool
        Images of nights whose surfaces have a third degree.
    """

    sky: F8
    depth: F8
    surfaces: F8
    level_error: F8
    determined_order: npt.NDArray[np.int64]
    slow_rms: float
    slow_error: F8
    rules: list[Message]
    prior_sd: F8
    is_beyond: npt.NDArray[np.bool_]

    @property
    def is_resting(self) -> npt.NDArray[np.bool_]:
        """Images whose overlaps do not determine all orders of their surface, shape (n,)."""
        return np.asarray(self.determined_order < len(self.prior_sd) - 1)

    def times(self, factor: float) -> GaugedSurfaces:
        """The same in another unit."""
        return replace(
            self,
            sky=self.sky * factor,
            depth=self.depth / factor**2,
            surfaces=self.surfaces * factor,
            level_error=self.level_error * factor,
            slow_rms=self.slow_rms * factor,
            slow_error=self.slow_error * factor,
            prior_sd=self.prior_sd * factor,
        )


def fix_gauge(
    table: BlockTable,
    found: SurfaceSolution,
    order: int,
    component: npt.NDArray[np.int32],
    shared: SharedSurfaces,
    reference: F8 | None,
    resolution_nodes: float,
) -> GaugedSurfaces:
    """Choose the slow modes of every component.

    With a reference they follow it; else the dark sky's flatness is weighed against the priors.

    Parameters
    ----------
    table : BlockTable
    found : SurfaceSolution
    order : int
    component : ndarray, shape (n,)
    shared : SharedSurfaces
    reference : ndarray, shape (ny, nx), or None
        External reference at the nodes.
    resolution_nodes : float
        Its resolution in node spacings.
    """
    degree, prior = degrees(order), 1 / found.image_sd**2
    sky, surfaces = found.sky, found.surfaces
    means = _mean_of_terms(order)
    squares = np.zeros(table.n_images)
    slow_rms, slow_error = 0.0, np.full(table.nodes.shape, np.nan)
    rules: list[Message] = []
    for number in range(int(component.max()) + 1 if len(component) else 0):
        members = np.flatnonzero(component == number)
        if len(members) == 1:
            # Nothing to agree with: its background stays its own, in the sky.
            surfaces = surfaces.copy()
            surfaces[members] = 0.0
            continue
        modes = find_slow_modes(table, found.weight, found.depth, prior, found.surfaces, members, shared)
        if not modes.covered.any():
            continue
        sky, surfaces = take_out(modes, modes.likeliest, sky, surfaces)
        amplitudes, added, off, rule = _outside_knowledge(sky, found.depth, modes, order, reference, resolution_nodes)
        sky, surfaces = take_out(modes, amplitudes, sky, surfaces)
        draws, misfits = ([drawn for _, drawn in some] for some in (found.draws, found.misfits))
        if reference is None and added.any() and order < THIRD:
            sky, surfaces = take_out(modes, trend_above(sky, modes, added, draws, misfits), sky, surfaces)
        error = modes.expected_error(draws, misfits, added, off)
        slow_rms = max(slow_rms, float(np.sqrt(np.nanmean(error**2))))
        slow_error = np.fmax(slow_error, error)
        rules.append(rule)
        squares[members] = np.maximum(
            _level_variance(found.draws, found.depth, modes, means),
            _level_variance(found.misfits, found.depth, modes, means),
        )
    is_beyond = _are_beyond(found, degree)
    determined = _determined_order(found, degree, is_beyond)
    return GaugedSurfaces(
        sky, found.depth, surfaces, np.sqrt(squares), determined, slow_rms, slow_error, rules, found.prior_sd, is_beyond
    )


def _outside_knowledge(
    sky: F8, depth: F8, modes: SlowModes, order: int, reference: F8 | None, resolution_nodes: float
) -> tuple[F8, F8, float, Message]:
    """Amplitudes to take out of the sky, the precision gained, how it disagrees, and the rule in words."""
    missed = None
    if reference is not None:
        fit = fit_reference(sky, depth, reference, modes, resolution_nodes)
        if fit is not None:
            rule = message("gauge.reference", scale=fit.scale, scatter=fit.scatter)
            # Its precision is made of how its own tiles scatter about the fit.
            return fit.amplitudes, fit.precision, 1.0, rule
        missed = message("gauge.reference-missed")
    dark = dark_sky_trend(sky, modes, order)
    nothing = np.zeros(len(modes.precision)), np.zeros_like(modes.precision)
    if dark is None:
        return *nothing, 1.0, message("gauge.priors", missed=missed)
    return weigh_modes(modes, *dark), dark[1], disagreement(modes, *dark), message("gauge.dark-sky", missed=missed)


def _are_beyond(found: SurfaceSolution, degree: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Images of nights whose third degree has a width of its own; the others have next to none."""
    if len(found.prior_sd) <= THIRD:
        return np.zeros(len(found.surfaces), bool)
    return np.asarray((found.image_sd[:, degree == THIRD] > found.prior_sd[THIRD]).any(axis=1))


def _determined_order(
    found: SurfaceSolution, degree: npt.NDArray[np.int64], is_beyond: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    left = np.mean([surfaces**2 for _, surfaces in found.draws], axis=0) / found.image_sd**2
    out = np.full(len(found.surfaces), -1)
    for d in range(len(found.prior_sd)):
        known = left[:, degree == d].mean(axis=1) < _FROM_PRIOR
        if d == THIRD:
            known |= ~is_beyond
        out = np.where((out == d - 1) & known, d, out)
    return out


def _level_variance(draws: list[tuple[F8, F8]], depth: F8, modes: SlowModes, means: F8) -> F8:
    """Variance of the members' mean levels over draws of sky and surfaces, gauge modes taken out of each draw."""
    amplitudes = null_amplitudes(modes, [sky for sky, _ in draws], depth)
    moved = zip(draws, amplitudes, strict=True)
    levels = [(surfaces[modes.members] - modes.response @ moves) @ means for (_, surfaces), moves in moved]
    each = np.mean(np.square(levels), axis=0)
    # A few draws tell one image's variance badly and the mean of all well: halfway between.
    return np.asarray((each + each.mean()) / 2)


def _mean_of_terms(order: int) -> F8:
    """Mean over the image of every term u^a v^b: 1 / ((a + 1) (b + 1)) for even powers, else 0."""
    powers = [(degree - j, j) for degree in range(order + 1) for j in range(degree + 1)]
    means = np.array([0.0 if a % 2 or b % 2 else 1 / ((a + 1) * (b + 1)) for a, b in powers])
    return means[: n_terms(order)]
