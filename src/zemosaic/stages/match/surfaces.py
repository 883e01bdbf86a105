"""The robust loop round the background solve: weights, sub-node structure, priors and gains from the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zemosaic.model.each import Each
from zemosaic.stages.gauge.common_trends import CommonTrends
from zemosaic.stages.gauge.ungauged import SurfaceSolution
from zemosaic.stages.match import surface_priors as priors
from zemosaic.stages.match.background import BackgroundSystem, Layout, WeightedBlocks
from zemosaic.stages.match.camera_field import SeenSky, solve_shared_field
from zemosaic.stages.match.common_texture import find_surplus, unit_noise
from zemosaic.stages.match.sensor_pattern import PatternBasis, own_gradients
from zemosaic.stages.match.structure_errors import PARTS, structure_gain_errors
from zemosaic.stages.match.surface_state import ROUNDS, SurfaceProblem, SurfaceState
from zemosaic.stages.match.third_degree import highest_order, is_a_night_beyond
from zemosaic.stages.numeric.robust import cauchy_weight

__all__ = ["fit_surfaces"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_MOST_ROUNDS = 14
"""Rounds at most: gains that structure alone tells come nearer by a fixed share a round."""

_PRIOR_SETTLED = 0.2
"""Change of ln sd of the priors from one round to the next below which they are taken as found."""

_SPENT = np.empty(0, np.float32)
"""In place of what is used up: a round has its weights from the start, and makes residuals and factors of its own."""

_EQUAL = 1e-3
"""Widths of equal images' priors go down to so much of a block's error: no pixel shows the rest."""

_HELD_SD = 1e-7
"""Spread of ln gain that holds a gain: far below what any structure tells."""

_STRUCTURE_ROUNDS = 3
"""Rounds that decide which images see structure; later changes of mind would keep the loop from settling."""

_MOST_GAIN_STEP = 0.3
"""Change of ln gain in one round, at most: the column is the sky as it was, right for small changes only."""

_MOST_GAIN = 3.0
"""Change of ln gain in all rounds together, at most, in units of how far it may move: a frame whose sky shows no
structure would run away step by step."""

_PATTERN_TURN = 2
"""Round that decides whether a camera has a pattern: weights and surfaces are about right by then."""

_TEXTURE_TURN = 3
"""Round that tells what texture of the sky is in the blocks' errors: patterns are out of the residuals by then."""

_CAUCHY = 2.5
"""Errors at which a block's weight is halved: trails and ghosts fall away, noise hardly does."""

_CORRELATED = 3.0
"""Neighbouring blocks share the sky's structure below a node: as witnesses of a gain, at least so many count as one."""

_ALIKE_NODES = 3
"""Nodes along a side of an area in which what they cannot follow may be wrong alike: the sky is bilinear between them,
and what it misses changes its sign from one to the next."""

_CORRELATION_ROUNDS = range(1, 5)
"""Rounds that tell it: of the first residuals most is the start's; later ones would keep the loop from settling."""


def fit_surfaces(
    value: F4,
    error: F4,
    log_gain_sd: F8,
    patterns: PatternBasis,
    night: Ints | None = None,
    seen: SeenSky | None = None,
    each: Each = map,
) -> SurfaceSolution:
    """Solve one channel for the sky, every image's surface and, where asked, its gain.

    Parameters
    ----------
    value, error : ndarray, shape (blocks,), float32
        Block means over gain and response, and their errors; error 0 leaves a block out.
    log_gain_sd : ndarray, shape (n,)
        How far ln gain may still move; 0 holds it. A free gain is found from the sky's structure that no surface can
        mimic, all images at once and with the sky itself free: a regression with errors in both variables. Images that
        see no structure clear of the noise keep their gain.
    patterns : PatternBasis
        Of the same blocks, with the order of the surfaces. A pattern is taken where it stands clear of what images have
        of their own.
    night : ndarray, shape (n,), int64, optional
        Number of each image's night, from 0: nights of larger surfaces have wider priors. Default: one night.
    seen : SeenSky, optional
        The sky, where it shall tell more of the cameras' responses.
    each : callable
        Parts of a round may be done at once.
    """
    table, order = patterns.table, patterns.order
    night = np.zeros(table.n_images, np.int64) if night is None else night
    level = np.float32(np.median(value[error > 0])) if (error > 0).any() else np.float32(0)
    scatter = priors.level_scatter(table, value, error)
    layout, trends = Layout.of(table, order), CommonTrends.of(table, order)
    covered = layout.covered(error > 0)
    problem = SurfaceProblem(layout, value, error, log_gain_sd, level, scatter, night, patterns, trends, covered)
    state, system = _settle(problem, each)
    # Responses are asked for beside quadratics; a lower order was asked for.
    if seen is None and highest_order(order) > order and is_a_night_beyond(system, state.residual, night):
        del system
        problem = problem.of_order(highest_order(order))
        state, system = _settle(problem, each)
    return _conclude(problem, state, system, seen)


def _settle(problem: SurfaceProblem, each: Each) -> tuple[SurfaceState, BackgroundSystem]:
    """Rounds until none changes anything: the last state, and the system it was found by."""
    state = _start(problem)
    while True:
        system = BackgroundSystem.of(problem.layout, _weigh(problem, state), each)
        state = replace(state, residual=_SPENT, robust=_SPENT)
        state = step(problem, state, system)
        if state.settled or state.turn >= _MOST_ROUNDS:
            return replace(state, between=_SPENT, robust=_SPENT, extra=None), system
        # It goes before the next comes: two sets of normal equations at once would be the peak of memory.
        del system


def _start(problem: SurfaceProblem) -> SurfaceState:
    """Wide priors, equal weights, no sky."""
    n, table = len(problem.value), problem.table
    widths = priors.first_widths(problem.scatter, problem.layout.order)
    return SurfaceState(
        turn=0,
        sky=np.zeros(table.nodes.n),
        surfaces=np.zeros((table.n_images, problem.n_terms)),
        between=np.zeros(n, np.float32),
        residual=np.zeros(n, np.float32),
        robust=np.ones(n, np.float32),
        structure=np.zeros(table.nodes.shape),
        bend_sd=priors.first_bend_spread(widths),
        widths=widths,
        scales=np.ones((table.n_images, problem.n_terms)),
        differ=True,
        has_priors=False,
        surplus=1.0,
        log_gain=np.zeros(table.n_images),
        moved=0.0,
        structured=np.zeros(table.n_images, bool),
        correlated=np.full(table.n_images, _CORRELATED),
        disagree=1.0,
        extra=np.zeros(n, np.float32) if problem.free.any() else None,
        pattern=problem.patterns.none,
    )


def _weigh(problem: SurfaceProblem, state: SurfaceState) -> WeightedBlocks:
    """The data of a round."""
    table = problem.table
    scale = np.exp(-state.log_gain).astype(np.float32)[table.image]
    value, error = problem.value * scale - problem.level - state.between, problem.error * scale
    if state.pattern.coefficients.any():
        value -= problem.patterns.at_blocks(state.pattern)
    weight = np.where(error > 0, state.robust / priors.block_variance(table, error, state.structure), 0).astype(
        np.float32
    )
    prior = 1 / (state.scales * state.widths[priors.degrees(problem.layout.order)]) ** 2
    # Equal images have no tails.
    if state.differ:
        prior = prior * priors.weigh_priors(state.surfaces[:, : problem.n_terms] / state.scales, state.widths)
    # Instead of weighing the blocks up, which tell gains no better, priors of surfaces are weighed down.
    prior /= state.surplus
    centre = np.zeros_like(prior)
    if state.extra is not None:
        # Instead of weighing the blocks down for their correlation, what stars know is weighed up by as much.
        gain_sd = np.where(problem.free, state.disagree * problem.log_gain_sd / np.sqrt(state.correlated), _HELD_SD)
        prior = np.column_stack([prior, 1 / gain_sd**2])
        # The whole change of ln gain has its prior at 0, not only this round's.
        centre = np.column_stack([centre, np.where(problem.free, -state.log_gain, 0)])
    return WeightedBlocks(value, error, weight, state.extra, prior, centre, state.bend_sd)


def step(problem: SurfaceProblem, state: SurfaceState, system: BackgroundSystem) -> SurfaceState:
    """One round: sky and surfaces, then what they tell of priors, weights and gains."""
    sides, seeds = [system.data_side(state.sky, roughly=state.turn + 1 < ROUNDS)], range(0)
    # In the first round surfaces are still those of the start.
    if state.turn > 0 and not state.has_priors:
        # 97 seeds apart: no round draws what another has drawn.
        seeds = range(97 * state.turn, 97 * state.turn + priors.n_draws(problem.table.n_images, 2, 1))
    noises = [unit_noise(system)] if state.turn == _TEXTURE_TURN and state.differ else []
    noise_sides = [system.value_side(noise, roughly=True) for noise in noises]
    found, *drawn = system.solve([*sides, *system.draws(seeds), *noise_sides])
    noise_left = [system.residuals(*drawn.pop(), noise) for noise in noises]
    sky, surfaces = problem.trends.take_out(*found, system.data.prior)
    between = system.beyond_bilinear(priors.smooth_bends(sky.reshape(problem.covered.shape), problem.covered))
    residual = system.residuals(sky, surfaces) + state.between - between
    state = replace(state, sky=sky, surfaces=surfaces, between=between, residual=residual)
    if drawn:
        opened = [problem.trends.draw(*own, system.data.prior, seed) for own, seed in zip(drawn, seeds, strict=True)]
        draws = np.stack([surfaces for _, surfaces in opened])[..., : problem.n_terms] / np.sqrt(state.surplus)
        state = _find_priors(problem, state, system, draws)
    weighed = _find_weights(problem, state, system)
    decides = state.turn == _PATTERN_TURN
    pattern = problem.patterns.follow(state.pattern, residual, system.data.weight, decides)
    if noise_left and state.differ:
        weighed = replace(weighed, surplus=find_surplus(system, residual, *noise_left))
    return replace(_find_gains(problem, weighed, system), pattern=pattern, turn=state.turn + 1)


def _find_priors(problem: SurfaceProblem, state: SurfaceState, system: BackgroundSystem, draws: F8) -> SurfaceState:
    """Widths of the priors, until they have settled; `draws` (draws, images, k) of the surfaces' errors."""
    found = state.surfaces[:, : problem.n_terms]
    error = priors.typical_error(system.data.error)
    differ = priors.differ_by_variance(found, draws, state.widths, error)
    if not differ:
        noises = system.solve(system.draw_noises(range(97 * state.turn, 97 * state.turn + min(len(draws), 2))))
        noises = [problem.trends.take_out(*own, system.data.prior) for own in noises]
        noise = np.stack([surfaces for _, surfaces in noises])[..., : problem.n_terms] / np.sqrt(state.surplus)
        differ = priors.differ_by_noise(found, noise, problem.layout.order, error)
    scales = priors.night_scales(found, problem.night, problem.layout.order) if differ else np.ones_like(found)
    widths = priors.update_widths(found / scales, draws / scales, state.widths, problem.scatter if differ else 0.0)
    change = float(np.max(np.abs(np.log(widths / state.widths))))
    settled = change < _PRIOR_SETTLED if differ else bool(np.all(widths <= _EQUAL * error))
    has_priors = settled and state.turn + 1 >= ROUNDS
    return replace(state, widths=widths, scales=scales, differ=differ, has_priors=has_priors)


def _find_weights(problem: SurfaceProblem, state: SurfaceState, system: BackgroundSystem) -> SurfaceState:
    """Structure below the nodes, robust factors and the sky's own prior, from the residuals."""
    error, table = system.data.error, problem.table
    structure = priors.structure_below_nodes(table, state.residual, error, state.structure)
    pull2 = state.residual**2 / priors.block_variance(table, error, structure)
    bend_sd = priors.bend_spread(state.sky.reshape(table.nodes.shape), system.depth())
    robust = cauchy_weight(pull2, _CAUCHY)
    return replace(state, structure=structure, robust=robust, bend_sd=bend_sd)


def _find_gains(problem: SurfaceProblem, state: SurfaceState, system: BackgroundSystem) -> SurfaceState:
    """Take this round's gain changes over, and make the next round's column: the sky's structure."""
    if state.extra is None:
        return state
    table, order = problem.table, problem.layout.order
    correlated = _correlation(problem, state, system) if state.turn in _CORRELATION_ROUNDS else state.correlated
    step_size = np.clip(state.surfaces[:, problem.n_terms], -_MOST_GAIN_STEP, _MOST_GAIN_STEP)
    most = _MOST_GAIN * state.disagree * problem.log_gain_sd
    log_gain = np.clip(state.log_gain + np.where(state.structured, step_size, 0), -most, most)
    change = log_gain - state.log_gain
    sky, structured = system.sky_at_blocks(state.sky), state.structured
    if state.turn < _STRUCTURE_ROUNDS:
        structured = problem.free & priors.have_structure(table, sky, system.data.weight, order)
    extra = np.where(structured[table.image], sky, np.float32(0))
    moved = float(np.max(np.abs(change), initial=0.0)) if structured.any() else 0.0
    disagree = _disagreement(problem, state, system, log_gain) if state.turn in _CORRELATION_ROUNDS else state.disagree
    return replace(
        state, log_gain=log_gain, moved=moved, structured=structured, correlated=correlated, disagree=disagree,
        extra=extra,
    )  # fmt: skip


def _disagreement(problem: SurfaceProblem, state: SurfaceState, system: BackgroundSystem, log_gain: F8) -> float:
    """By how much the gains of structure lie off those of stars, over the stars' errors; 1 at least.

    Were the errors right, a gain would move by its prior's variance less what is left of that. Where gains move
    further, stars on structure are in error together, and their word counts less by as much (a Birge ratio).
    """
    known = state.structured
    if not known.any():
        return 1.0
    sd = problem.log_gain_sd[known]
    left = system.normals.sky.coupling.own_inverse[known, -1, -1] * system.data.prior[known, -1]
    told = np.clip(1 - left, 0, 1)
    return max(float(np.sqrt(np.sum(told * log_gain[known] ** 2 / sd**2) / max(np.sum(told**2), 1.0))), 1.0)


def _correlation(problem: SurfaceProblem, state: SurfaceState, system: BackgroundSystem) -> F8:
    """How many blocks of each image count as one witness of its gain."""
    table, error = problem.table, system.data.error
    found = system.clustered_variance(state.residual, PARTS)
    known = state.structured & np.isfinite(found)
    if not known.any():
        return state.correlated
    # A few parts tell it badly: what is typical of all images is the least that is taken.
    least = max(float(np.median(found[known])), _CORRELATED)
    out = np.maximum(np.where(known, found, least), least)
    out += own_gradients(system, state.residual, np.flatnonzero(state.structured))
    # What the nodes cannot follow is wrong in the same places block after block: near by it does not average out.
    variance = priors.block_variance(table, error, state.structure)
    alike = _ALIKE_NODES**2 * np.diff(table.start) / np.maximum(np.diff(problem.layout.local.start), 1)
    over_noise = np.divide(variance, error**2, out=np.full_like(variance, np.nan), where=error > 0)
    at_most = np.minimum(_CORRELATED * table.medians(over_noise), alike)
    return np.where(state.structured, np.fmax(out, at_most), out)


def _conclude(
    problem: SurfaceProblem, state: SurfaceState, system: BackgroundSystem, seen: SeenSky | None
) -> SurfaceSolution:
    """The solution, with draws from its error distribution."""
    seeds, k = range(1000, 1000 + priors.n_draws(problem.table.n_images, 6, 3)), problem.n_terms
    drawn_sides = system.draws(seeds) + system.draw_misfits(seeds, state.residual)
    solved = [system.without_common_gain(*drawn, state.sky, state.structured) for drawn in system.solve(drawn_sides)]
    opened = zip(solved, seeds, strict=False)
    draws = [problem.trends.draw(*drawn, system.data.prior, seed) for drawn, seed in opened]
    misfits = solved[len(seeds) :]
    shape, gain_error, share = problem.table.nodes.shape, problem.log_gain_sd, 1 / np.sqrt(state.surplus)
    if state.structured.any():
        drawn, misfit = (np.array([surfaces[:, k] for _, surfaces in some]) for some in (draws, misfits))
        star_sd = np.where(problem.free, state.disagree * problem.log_gain_sd, np.inf)
        found = structure_gain_errors(
            system, state.residual, state.structured, state.correlated, star_sd, (drawn, misfit)
        )
        gain_error = np.where(state.structured, found, gain_error)
    return SurfaceSolution(
        sky=state.sky.reshape(shape) + problem.level,
        depth=system.depth(),
        surfaces=state.surfaces[:, :k],
        log_gain=state.log_gain,
        log_gain_error=gain_error,
        from_structure=state.structured,
        disagree=state.disagree,
        pattern=state.pattern,
        field=solve_shared_field(system, state.residual, seen),
        prior_sd=state.widths,
        image_sd=state.scales * state.widths[priors.degrees(problem.layout.order)],
        weight=system.data.weight * np.float32(state.surplus),
        draws=[(sky.reshape(shape) * share, surfaces[:, :k] * share) for sky, surfaces in draws],
        misfits=[(sky.reshape(shape), surfaces[:, :k]) for sky, surfaces in misfits],
    )
