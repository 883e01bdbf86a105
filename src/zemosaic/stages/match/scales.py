"""From solved channels to one correction an image, and what a reader must know of these, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import N_TERMS, PATTERN_ORDER, PhotoScale, n_terms, surface_terms
from zemosaic.settings import MatchSettings
from zemosaic.stages.gauge.fix_gauge import GaugedSurfaces
from zemosaic.stages.match.gains import GainSolution
from zemosaic.stages.match.sky_nodes import BlockTable
from zemosaic.stages.match.third_degree import THIRD
from zemosaic.text import Message, message

__all__ = [
    "Channel",
    "make_scales",
    "padded",
    "pattern_notices",
    "patterns_of",
    "solve_notices",
    "star_notices",
    "third_degree_notices",
    "tilt_notices",
    "widths_of",
]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_TILTED = 0.01
"""Error of gains by the middle of a camera's fall-off that is told: ten times what gains are else known to."""

_WEAK_GAIN = 0.02
"""Error of ln gain from which a reader is told."""

_DISAGREE = 2.0
"""Factor of the stars' errors from which a reader is told: a few images give 1.5 by chance."""

_DEGREES = (
    message("match.level"),
    message("match.slope"),
    message("match.curvature"),
    message("match.third-degree"),
)
"""Names of a surface's degrees."""


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """What is found of one channel.

    Attributes
    ----------
    gain : GainSolution
    surfaces : GaugedSurfaces
    patterns : ndarray, shape (n, 28)
        What each image's sensor adds, as terms of its surface.
    disagree : float
        By how much structure in the sky differs from the stars beyond their errors.
    """

    gain: GainSolution
    surfaces: GaugedSurfaces
    patterns: F8
    disagree: float


def padded(coefficients: F8, n: int) -> F8:
    """Coefficients of a polynomial of higher order, shape (rows, n)."""
    return np.pad(coefficients, ((0, 0), (0, max(n - coefficients.shape[1], 0))))


def widths_of(surfaces: Sequence[GaugedSurfaces]) -> F8:
    """Widths of the surfaces' priors by degree, shape (c, orders); 0 above a channel's own."""
    most = max(len(s.prior_sd) for s in surfaces)
    return np.concatenate([padded(s.prior_sd[None], most) for s in surfaces])


def patterns_of(found: Sequence[Channel]) -> F8:
    """Patterns of all channels, shape (n, c, 28)."""
    return np.stack([channel.patterns for channel in found], axis=1)


def make_scales(
    table: BlockTable, component: npt.NDArray[np.int32], found: Sequence[Channel], camera: Ints
) -> tuple[PhotoScale, ...]:
    """The correction of each image, its sensor's pattern included.

    Parameters
    ----------
    table : BlockTable
    component : ndarray, shape (n,), int32
        Group of images that share sky.
    found : sequence of Channel
    camera : ndarray, shape (n,), int64
        Number of what shares a response.
    """
    gains, surfaces = [channel.gain for channel in found], [channel.surfaces for channel in found]
    total, patterns = _total_errors(table, found), patterns_of(found)
    is_patterned = bool(patterns.any())
    n_response = max(gain.response.shape[1] for gain in gains)
    beyond = any(s.surfaces.shape[1] > N_TERMS for s in surfaces)
    n_coefficients = n_terms(PATTERN_ORDER) if beyond else N_TERMS
    responses = np.stack([padded(gain.response, n_response) for gain in gains], axis=1)
    scales = []
    for i in range(table.n_images):
        surface = np.zeros((len(found), n_coefficients))
        for own, channel in zip(surface, surfaces, strict=True):
            own[: channel.surfaces.shape[1]] = channel.surfaces[i]
        response = responses[camera[i]]
        scale = PhotoScale(
            gain=np.exp([gain.log_gain[i] for gain in gains]),
            surface=surface,
            response=response if response.any() else None,
            gain_error=np.array([gain.log_gain_error[i] for gain in gains]),
            level_error=total[:, i],
            component=int(component[i]),
            note=_note_of(i, component, gains, surfaces),
        )
        scales.append(scale.plus_surface(patterns[i]) if is_patterned else scale)
    return tuple(scales)


def _total_errors(table: BlockTable, found: Sequence[Channel]) -> F8:
    """Errors of the surfaces' levels, shape (c, n): of the solve, and of the gain that scales the whole background."""
    out = []
    for mean, channel in zip(table.mean, found, strict=True):
        level = np.nan_to_num(table.medians(mean)) * np.exp(-channel.gain.log_gain)
        out.append(np.hypot(channel.surfaces.level_error, channel.gain.log_gain_error * level))
    return np.array(out)


def _note_of(
    i: int, component: npt.NDArray[np.int32], gains: list[GainSolution], surfaces: list[GaugedSurfaces]
) -> str:
    """Note of image `i`: what of its correction its overlaps or stars did not determine; empty when all was."""
    if np.count_nonzero(component == component[i]) == 1:
        return "overlaps no other image: prior gain, no surface"
    parts = []
    if unit := float(gains[0].log_unit[i]):
        parts.append(f"its values are {np.exp(unit):.3g} times those of most images: another unit, or a thick cloud?")
    n_stars = int(gains[0].n_stars[i])
    worst = max(float(g.log_gain_error[i]) for g in gains)
    if worst == np.inf:
        parts.append(f"gain is its prior: {n_stars} shared star(s) and no structure tie it to the others")
    elif worst > _WEAK_GAIN:
        parts.append(f"gain uncertain by {100 * worst:.1f} % ({n_stars} shared stars)")
    elif n_stars == 0 and worst > 0:
        parts.append("no shared star: gain from the sky's structure")
    # Of one image, one colour may have a third degree and another none.
    if resting := [int(s.determined_order[i]) for s in surfaces if s.is_resting[i]]:
        order = min(resting)
        parts.append(
            "surface rests on its prior" if order < 0 else f"surface of order {order}: overlaps determine no more"
        )
    return "; ".join(parts)


def solve_notices(
    component: npt.NDArray[np.int32],
    gains: list[GainSolution],
    surfaces: list[GaugedSurfaces],
    response_order: int,
    node_px: int,
    settings: MatchSettings,
) -> list[Message]:
    """Facts of the whole solve that a reader must know."""
    out = []
    n_groups = int(component.max()) + 1
    if n_groups > 1:
        sizes = [np.count_nonzero(component == g) for g in range(n_groups)]
        out.append(message("match.groups", n_groups=n_groups, sizes=sizes))
    if n_others := int(np.count_nonzero(gains[0].log_unit)):
        factors = [f"{np.exp(unit):.3g}" for unit in np.unique(gains[0].log_unit) if unit]
        out.append(message("match.other-units", n_others=n_others, n_images=len(component), factors=factors))
    if node_px > settings.node_px:
        out.append(message("match.wide-nodes", node_px=node_px, wanted_px=settings.node_px))
    if response_order:
        flat = [c for c in range(len(gains[0].response)) if not any(g.response[c].any() for g in gains)]
        if flat:
            n_cameras = len(gains[0].response)
            out.append(message("match.flat-response", n_flat=len(flat), n_cameras=n_cameras))
    unknown = int(np.count_nonzero(np.max([g.log_gain_error for g in gains], axis=0) == np.inf))
    if unknown and len(component) > 1:
        out.append(message("match.gains-unknown", n_unknown=unknown, n_images=len(component)))
    out.extend(_weak_parts(component, gains, surfaces))
    rules = dict.fromkeys(rule for s in surfaces for rule in s.rules)
    out.extend(message("match.slow-trends", rule=rule) for rule in rules)
    return out


def star_notices(found: Sequence[Channel]) -> list[Message]:
    """What is told where stars on bright structure are wrong together."""
    most = max(channel.disagree for channel in found)
    return [message("match.stars-disagree", factor=most)] if most > _DISAGREE else []


def tilt_notices(gains: Sequence[GainSolution]) -> list[Message]:
    """What is told where light falls off to the corners about a middle that overlaps do not tell."""
    most = max(float(gain.tilt.max(initial=0)) for gain in gains)
    return [message("match.tilted-gains", most=most)] if most > _TILTED else []


def pattern_notices(patterns: F8, camera: Ints) -> list[Message]:
    """What stays with the sensors, from each image's pattern, shape (n, c, 28)."""
    u, v = np.meshgrid(*[np.linspace(-1, 1, 9)] * 2)
    values = np.tensordot(patterns, surface_terms(u.ravel(), v.ravel(), PATTERN_ORDER), 1)
    rms = np.sqrt(np.mean(values**2, axis=2)).max(axis=1)
    with_one = np.unique(camera[rms > 0])
    if not len(with_one):
        return []
    n_cameras = len(np.unique(camera))
    return [message("match.sensor-pattern", n_with=len(with_one), n_cameras=n_cameras, rms=rms.max())]


def third_degree_notices(surfaces: Sequence[GaugedSurfaces]) -> list[Message]:
    """What is told of nights whose surfaces have a third degree."""
    beyond = np.any([s.is_beyond for s in surfaces], axis=0)
    if not beyond.any():
        return []
    u, v = np.meshgrid(*[np.linspace(-1, 1, 9)] * 2)
    terms = surface_terms(u.ravel(), v.ravel(), THIRD)[N_TERMS:]
    above = np.concatenate([s.surfaces[s.is_beyond, N_TERMS:] for s in surfaces if s.is_beyond.any()])
    most = np.sqrt(np.mean((above @ terms) ** 2, axis=1)).max()
    n_beyond = np.count_nonzero(beyond)
    return [message("match.third-degree-nights", n_beyond=n_beyond, n_images=len(beyond), rms=most)]


def _weak_parts(
    component: npt.NDArray[np.int32], gains: list[GainSolution], surfaces: list[GaugedSurfaces]
) -> list[Message]:
    """Gains with large errors, and surfaces that rest on their priors, of images that overlap others."""
    tied = np.bincount(component)[component] > 1
    error = np.max([g.log_gain_error for g in gains], axis=0)
    weak = tied & (error > _WEAK_GAIN) & np.isfinite(error)
    out = []
    if weak.any():
        out.append(
            message(
                "match.gains-uncertain",
                n_weak=np.count_nonzero(weak),
                n_images=len(component),
                limit=_WEAK_GAIN,
                worst=error[weak].max(),
            )
        )
    resting = tied & np.any([s.is_resting for s in surfaces], axis=0)
    if resting.any():
        widths = widths_of(surfaces).max(axis=0)
        parts = [message("match.spread", spread=w, degree=name) for w, name in zip(widths, _DEGREES, strict=False)]
        n_resting = np.count_nonzero(resting)
        out.append(message("match.surfaces-held", n_resting=n_resting, n_images=len(component), spreads=parts))
    return out
