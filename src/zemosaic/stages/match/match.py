"""One sky: gains and background surfaces of all images, solved together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from zemosaic.model.each import Each
from zemosaic.model.measurements import Measurements
from zemosaic.model.photo_scale import N_TERMS, PhotoScale, n_terms, order_of, surface_terms
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.settings import MatchSettings
from zemosaic.stages.figures.stars import StarFigures, figure_stars
from zemosaic.stages.gauge.fix_gauge import fix_gauge
from zemosaic.stages.gauge.reference import ReferenceSky, reference_on_nodes
from zemosaic.stages.gauge.slow_modes import SharedSurfaces
from zemosaic.stages.gauge.ungauged import SurfaceSolution
from zemosaic.stages.match.camera_field import N_FIELD, SeenSky, is_steep, untold_share
from zemosaic.stages.match.gains import GainSolution, solve_gains
from zemosaic.stages.match.pedestal import find_pedestal, give_back
from zemosaic.stages.match.scales import (
    Channel,
    make_scales,
    padded,
    pattern_notices,
    patterns_of,
    solve_notices,
    star_notices,
    third_degree_notices,
    tilt_notices,
    widths_of,
)
from zemosaic.stages.match.seams import SeamFigure, Squares, measure_seams, noise_in_mosaic
from zemosaic.stages.match.sensor_pattern import PatternBasis
from zemosaic.stages.match.sky_nodes import (
    BlockTable,
    SkyNodes,
    affordable_spacing,
    make_block_table,
    with_alike_blocks,
)
from zemosaic.stages.match.star_ties import StarTies, find_star_ties
from zemosaic.stages.match.surfaces import fit_surfaces
from zemosaic.stages.match.third_degree import highest_order
from zemosaic.stages.numeric.units import noise_unit
from zemosaic.text import Message

__all__ = ["ImageFacts", "MatchSolution", "channel_bytes", "match"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_IMAGE_BYTES, _BLOCK_BYTES = 200_000, 60
"""Each image's coarse nodes with each other while the coarse matrix is made, and its cross block; each block's weights
and residuals with their temporary copies."""

_GAIN_SPREAD = 0.4
"""Spread of ln gain about its prior where stars say nothing: thin cloud, another gain setting, no more."""

_SURFACES_OF_FIELD = 2
"""Order of surfaces beside which the sky is asked for what responses have beyond quadratics."""

_FIELD_TURNS = 3
"""Times the sky is asked: ln F is linear in small changes only, and what it tells changes what stars do."""


@dataclass(frozen=True, slots=True, eq=False)
class MatchSolution:
    """What the match found, image by image in the order given.

    Attributes
    ----------
    scales : tuple of PhotoScale
    n_stars : ndarray, shape (n,), int64
        Shared stars that counted for the image's gain.
    n_ties : int
        Stars seen by two images or more.
    nodes : SkyNodes
        Where the sky nodes lie.
    sky : ndarray, shape (c, ny, nx)
        The matched sky at the nodes, mosaic units; NaN where no block reaches.
    prior_sd : ndarray, shape (c, order + 1)
        Scatter of level, slope, curvature between images.
    slow_rms, slow_error : ndarray, shape (c,) and (c, ny, nx)
        Expected rms over the mosaic of what differences between images cannot tell (trends of degree 2 and more), and
        its size at each node; NaN where nothing was matched.
    notices : tuple of Message
        What a reader must know of the whole solve.
    seams_before, seams_after : tuple of SeamFigure
        Steps at the images' borders, channel by channel: with the gains expected from headers alone, and matched.
    noise : ndarray, shape (c, n)
        Noise of a pixel of each image in mosaic units.
    stars : StarFigures
        How alike images show the stars that they share.
    """

    scales: tuple[PhotoScale, ...]
    n_stars: Ints
    n_ties: int
    nodes: SkyNodes
    sky: F8
    prior_sd: F8
    slow_rms: F8
    slow_error: F8
    notices: tuple[Message, ...]
    seams_before: tuple[SeamFigure, ...]
    seams_after: tuple[SeamFigure, ...]
    noise: F8
    stars: StarFigures


@dataclass(frozen=True, slots=True, eq=False)
class ImageFacts:
    """What is known of the images before their pixels and stars are compared.

    Attributes
    ----------
    cameras : sequence of str, or None
        Images of one camera share a response and a pattern. None: no image has either.
    nights : sequence of str, or None
        Surfaces of images of one night are about equally large. None: those of all images are.
    gain_priors : array_like, shape (n,), or None
        Gains expected from headers; 1 where unknown. None: unknown for all.
    pixel_values : {"counts", "surface"}
        How values follow a pixel's area inside an image.
    """

    cameras: Sequence[str] | None = None
    nights: Sequence[str] | None = None
    gain_priors: npt.ArrayLike | None = None
    pixel_values: str = "counts"


def match(
    measurements: Sequence[Measurements],
    wcs: Sequence[CelestialWcs],
    grid: SkyGrid,
    settings: MatchSettings,
    facts: ImageFacts | None = None,
    *,
    reference: ReferenceSky | None = None,
    each: Each = map,
) -> MatchSolution:
    """Solve gains, responses, backgrounds and gauge of all images of one filter.

    A pixel of image i reads, channel by channel,

        d = g_i F(p) (A(p) / A_ref) (S + B_i(p)) + noise

    with g_i the image's gain, F the response of its camera over the field, A the area of the pixel on the sky, S the
    sky and B_i the image's background, a polynomial of order 0 to 3 and its sensor's pattern. All g, F, B and S are
    found together: g and F from the stars that images share, B and S (and g, where stars are few) from block means. An
    image is compared with the sky, never with one other image.

    It needs overlaps: groups of images that share no sky get a gauge each. It cannot tell a polynomial over the whole
    mosaic, up to the surfaces' order, from the sky: dark sky, a `reference` or the smallest surfaces decide.
    What the sensor adds to all images is found where dithers tell it, and third degree where a night stands out by it;
    other gradients of third degree, glows and reflections are no part of the model and stay in the mosaic. Time and
    memory are linear in the images: 0.2 s and 0.1 MB each at 50 deep, and 470 MB at most to couple them to the sky.

    The mathematics: ``docs/method/matching.md``; what was measured: ``docs/measured/match.md``.

    Parameters
    ----------
    measurements, wcs : sequences of length n
        Of frames or tiles alike, with one number of channels.
    grid : SkyGrid
        The output grid; its centre pixel's area is A_ref.
    settings : MatchSettings
    facts : ImageFacts, optional
        None: nothing is known.
    reference : ReferenceSky, optional
        Picture of the same sky that fixes the slow trends.
    each : callable
        Channels, and parts of one, may be solved at once: nothing that they share is changed.

    Returns
    -------
    MatchSolution
        An image that nothing ties to others keeps its prior gain and surface 0, and its note says so.

    Raises
    ------
    ValueError
        When the sequences differ in length or the images in their number of channels.
    """
    n = len(measurements)
    if n == 0 or len(wcs) != n or len({m.n_channels for m in measurements}) != 1:
        raise ValueError(f"{n} measurements and {len(wcs)} WCS must belong to the same images of one kind")
    facts, measurements = facts or ImageFacts(), with_alike_blocks(measurements)
    camera = _numbers(facts.cameras, n)
    order = highest_order(settings.surface_order)
    node_px = affordable_spacing(measurements, wcs, grid, settings.node_px, order)
    # One after the other: both are many short calls, between which two threads wait for each other.
    table = make_block_table(measurements, wcs, grid, node_px, facts.pixel_values)
    ties = find_star_ties(measurements, wcs, grid, camera)
    problem = _Problem(
        settings=settings,
        grid=grid,
        wcs=wcs,
        node_px=node_px,
        table=table,
        unit=noise_unit(float(np.median([m.noise for m in measurements]))),
        ties=ties,
        component=table.components(),
        camera=camera,
        sensor=camera if facts.cameras is not None else np.arange(n),
        night=_numbers(facts.nights, n),
        log_prior=np.zeros(n) if facts.gain_priors is None else np.log(np.asarray(facts.gain_priors, float)),
        response_order=settings.response_order if facts.cameras is not None and settings.solve_gain else 0,
        reference=reference,
        each=each,
    )
    found = list(each(problem.solve_channel, range(measurements[0].n_channels)))
    scales = make_scales(problem.table, problem.component, found, camera)
    noise = noise_in_mosaic(measurements, wcs, grid, scales)
    return problem.conclude(found, scales, noise)


def channel_bytes(measurements: Sequence[Measurements]) -> int:
    """About what solving one channel takes beside what channels share."""
    return _IMAGE_BYTES * len(measurements) + _BLOCK_BYTES * sum(len(m.blocks) for m in with_alike_blocks(measurements))


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """What all channels share.

    Attributes
    ----------
    settings, grid, wcs
        As given.
    node_px : int
        Spacing of the sky nodes.
    table : BlockTable
    unit : float
        Noise by which values are divided for the solve of surfaces: what keeps a division from failing is far below it.
    ties : StarTies
    component : ndarray, shape (n,), int32
        Group of images that share sky.
    camera, sensor, night : ndarray, shape (n,), int64
        Numbers of what shares a response, a pattern, widths of surfaces.
    log_prior : ndarray, shape (n,)
        ln of the gains that headers tell.
    response_order : int
        0 where no response is solved for.
    reference : ReferenceSky or None
    each : callable
        What channels, and parts of one, are done with.
    """

    settings: MatchSettings
    grid: SkyGrid
    wcs: Sequence[CelestialWcs]
    node_px: int
    table: BlockTable
    unit: float
    ties: StarTies
    component: npt.NDArray[np.int32]
    camera: Ints
    sensor: Ints
    night: Ints
    log_prior: F8
    response_order: int
    reference: ReferenceSky | None
    each: Each

    def solve_channel(self, c: int) -> Channel:
        """Gains, surfaces and gauge of one channel.

        Where the response is steep, the sky is asked for what it has beyond the stars' quadratic, and all is solved
        again with that.
        """
        order, table = self.settings.surface_order, self.table.times(1 / self.unit)
        tilt = np.zeros(table.n_images)
        field, more = np.zeros((int(self.camera.max()) + 1, 0)), order == _SURFACES_OF_FIELD
        for turn in range(_FIELD_TURNS + 1):
            gain = self._tell_gains(c, field)
            # What the sky tells later of a response leaves the slopes open that the first solve found open.
            tilt = gain.tilt if turn == 0 else tilt
            free = _open_gains(gain, self.component)
            response = _response_at_blocks(table, gain, self.camera)
            value, error = _flatten(table, c, gain, response)
            # Where stars show none or little the sky is not asked: a pattern of its own would be taken for one.
            more = more and turn < _FIELD_TURNS and is_steep(gain.response)
            patterns = PatternBasis.of(
                table, value, np.arange(table.n_images) if more else self.sensor, self.night, order
            )
            seen = _seen_sky(table, value, self.camera, field) if more else None
            level = np.nan_to_num(table.medians(value))
            pedestal = find_pedestal(table.medians((table.mean[c] / response).astype(np.float32)), gain.log_gain)
            del response
            value -= (pedestal * np.exp(-gain.log_gain)).astype(np.float32)[table.image]
            found = fit_surfaces(value, error, free, patterns, self.night, seen, self.each)
            found = give_back(found, pedestal, gain.log_gain + found.log_gain)
            if not more:
                break
            more = bool(found.field.any())
            field = padded(field, found.field.shape[1]) + found.field
        order = len(found.prior_sd) - 1
        shared = _shared_by_cameras(level, gain, self.camera, order)
        gauged = fix_gauge(table, found, order, self.component, shared, *self._reference_at_nodes(c))
        return Channel(
            _with_structure(replace(gain, tilt=tilt), found, free),
            gauged.times(self.unit),
            patterns.surfaces(found.pattern) * self.unit,
            found.disagree,
        )

    def _tell_gains(self, c: int, field: F8) -> GainSolution:
        """Gains and responses by the stars, beside what the sky has told of the responses' fields."""
        ties = self.ties.without(field, self.camera)
        gain = solve_gains(ties, c, self.camera, self.log_prior, self.response_order)
        gain = _only_determined(gain, self.log_prior)
        if not self.settings.solve_gain:
            gain = replace(gain, log_gain=self.log_prior, log_gain_error=np.zeros_like(self.log_prior))
        return replace(gain, response=padded(gain.response, field.shape[1]) + field) if field.any() else gain

    def _reference_at_nodes(self, c: int) -> tuple[F8 | None, float]:
        """The reference's values, in units of the noise, and its resolution in node spacings."""
        if self.reference is None:
            return None, 0.0
        at_nodes = reference_on_nodes(self.reference, self.grid, self.table.nodes, c) / self.unit
        return at_nodes, self.reference.resolution_arcsec / self.grid.scale_arcsec / self.node_px

    def conclude(self, found: Sequence[Channel], scales: tuple[PhotoScale, ...], noise: F8) -> MatchSolution:
        """The solution with its seams, sky and notices; `noise` is that of a pixel of each image, (c, n)."""
        gains, surfaces = [f.gain for f in found], [f.surfaces for f in found]
        no_surface = np.zeros((len(found), N_TERMS))
        before = [PhotoScale(np.full(len(found), g), no_surface) for g in np.exp(self.log_prior)]

        def see(c: int) -> tuple[SeamFigure, SeamFigure]:
            squares = Squares.of(self.table, c, noise[c])
            old, new = (measure_seams(squares, c, surfaces[c].sky, some) for some in (before, scales))
            return old, new

        tasks: list[Callable[[], Any]] = [partial(see, c) for c in range(len(found))]
        tasks.append(lambda: figure_stars(self.ties.corrected(scales), self.wcs, self.grid))
        *seams, stars = self.each(lambda do: do(), tasks)
        seams_before, seams_after = zip(*seams, strict=True)
        return MatchSolution(
            scales=scales,
            n_stars=gains[0].n_stars,
            n_ties=self.ties.n_stars,
            nodes=self.table.nodes,
            sky=np.stack([np.where(s.depth > 0, s.sky, np.nan) for s in surfaces]),
            prior_sd=widths_of(surfaces),
            slow_rms=np.array([s.slow_rms for s in surfaces]),
            slow_error=np.stack([s.slow_error for s in surfaces]),
            notices=(
                *solve_notices(self.component, gains, surfaces, self.response_order, self.node_px, self.settings),
                *star_notices(found),
                *tilt_notices(gains),
                *third_degree_notices(surfaces),
                *pattern_notices(patterns_of(found), self.camera),
            ),
            seams_before=seams_before,
            seams_after=seams_after,
            noise=noise,
            stars=stars,
        )


def _flatten(table: BlockTable, channel: int, gain: GainSolution, response: F8) -> tuple[F4, F4]:
    """Block means of one channel over gain and response, and their errors."""
    factor = (np.exp(-gain.log_gain).astype(np.float32)[table.image] / response).astype(np.float32)
    return table.mean[channel] * factor, table.error[channel] * factor


def _seen_sky(table: BlockTable, value: F4, camera: Ints, field: F8) -> SeenSky:
    """Median block of each image, and what is known of the cameras' fields."""
    level = np.nan_to_num(table.medians(value))
    return SeenSky(np.where(camera == np.arange(len(field))[:, None], level, 0.0), padded(field, N_FIELD))


def _shared_by_cameras(level: F8, gain: GainSolution, camera: Ints, order: int) -> SharedSurfaces:
    """What is not known of the responses, seen in each image's sky of a level; nothing where a response is flat."""
    k = min(gain.response_error.shape[1] + 1, N_TERMS)
    share = np.hypot(gain.response_error, untold_share(gain.response, gain.response_error))
    sd = np.zeros((len(level), max(n_terms(order), N_TERMS)))
    sd[:, 1:k] = np.abs(level)[:, None] * share[camera, : k - 1]
    return SharedSurfaces(camera, sd)


def _only_determined(gain: GainSolution, log_prior: F8) -> GainSolution:
    """Gains with those that stars tell no better than headers do put back to their priors, error inf."""
    unknown = gain.log_gain_error > _GAIN_SPREAD
    return replace(
        gain,
        log_gain=np.where(unknown, log_prior, gain.log_gain),
        log_gain_error=np.where(unknown, np.inf, gain.log_gain_error),
    )


def _open_gains(gain: GainSolution, component: npt.NDArray[np.int32]) -> F8:
    """How far ln gain of each image may still move, shape (n,): what the stars leave open, 0 where nothing ties it."""
    # Stars state errors about the mean of the images that they tie: of few images it goes along with each.
    tied = np.bincount(gain.component)[gain.component]
    free = np.minimum(gain.log_gain_error * np.sqrt(tied / np.maximum(tied - 1, 1)), _GAIN_SPREAD)
    # Groups that no star ties to the largest of their component: their common factor is open, not only each gain.
    for number in range(int(component.max()) + 1):
        members = np.flatnonzero(component == number)
        if len(members) == 1:
            free[members] = 0
            continue
        groups = np.bincount(gain.component[members])
        apart = members[gain.component[members] != np.argmax(groups)]
        free[apart] = np.where(free[apart] > 0, _GAIN_SPREAD, 0)
    return free


def _with_structure(gain: GainSolution, found: SurfaceSolution, free: F8) -> GainSolution:
    """Gains with what the sky's structure added; of a gain that was open and stays so the error is inf."""
    by_stars = np.where(free < _GAIN_SPREAD, gain.log_gain_error, np.inf)
    error = np.hypot(np.where(found.from_structure, found.log_gain_error, by_stars), gain.tilt)
    return replace(gain, log_gain=gain.log_gain + found.log_gain, log_gain_error=error)


def _numbers(names: Sequence[str] | None, n: int) -> Ints:
    """A number for each image, from 0, equal where names are; 0 for all without names."""
    if names is None:
        return np.zeros(n, np.int64)
    return np.unique(np.asarray(names, dtype=str), return_inverse=True)[1].astype(np.int64)


def _response_at_blocks(table: BlockTable, gain: GainSolution, camera: Ints) -> F8:
    """F at every block; one 1 for all where there is no response."""
    if not gain.response.any():
        return np.ones(1, np.float32)
    basis = surface_terms(table.u, table.v, order_of(gain.response.shape[1]))[1:]
    return np.asarray(np.exp(np.sum(basis * gain.response[camera[table.image]].T, axis=0)))
