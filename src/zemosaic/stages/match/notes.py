"""What a reader must know of a match: per image and of the whole, in words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import surface_terms
from zemosaic.settings import MatchSettings
from zemosaic.stages.gauge.fix_gauge import GaugedSurfaces
from zemosaic.stages.match.gains import GainSolution

__all__ = ["image_note", "pattern_notices", "solve_notices"]

F8 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_WEAK_GAIN = 0.02
"""Error of ln gain from which a reader is told."""

_DEGREES = "level", "slope", "curvature", "third degree"
"""Names of a surface's degrees."""


def image_note(
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
    order = min(int(s.determined_order[i]) for s in surfaces)
    wanted = len(surfaces[0].prior_sd) - 1
    if order < wanted:
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
) -> list[str]:
    """Facts of the whole solve that a reader must know."""
    out = []
    n_groups = int(component.max()) + 1
    if n_groups > 1:
        sizes = ", ".join(str(np.count_nonzero(component == g)) for g in range(n_groups))
        out.append(
            f"the images fall into {n_groups} groups that share no sky ({sizes} images): each has a gauge of its own, "
            "levels and gains of different groups cannot be compared"
        )
    if n_others := int(np.count_nonzero(gains[0].log_unit)):
        factors = ", ".join(f"{np.exp(unit):.3g}" for unit in np.unique(gains[0].log_unit) if unit)
        out.append(
            f"{n_others} of {len(component)} images hold values of another unit than most, by their stars {factors} "
            "times theirs (0 to 1 beside 0 to 65535, 12 bits beside 16, electrons beside counts? or a thick cloud): "
            "they are scaled to the mosaic, whose unit is that of most images; match.ecsv notes which they are"
        )
    if node_px > settings.node_px:
        out.append(f"sky nodes {node_px} px apart instead of {settings.node_px}, to stay within memory")
    if response_order:
        flat = [c for c in range(len(gains[0].response)) if not any(g.response[c].any() for g in gains)]
        if flat:
            cameras = f"{len(flat)} of {len(gains[0].response)} camera(s)"
            out.append(f"no vignetting or other response was found in {cameras}: taken as flat")
    unknown = int(np.count_nonzero(np.max([g.log_gain_error for g in gains], axis=0) == np.inf))
    if unknown and len(component) > 1:
        out.append(
            f"{unknown} of {len(component)} image(s) share too few stars and no structure with the others: their gains "
            "are those that headers tell, or 1 (wider overlaps or longer exposures would tell them)"
        )
    out.extend(_weak_parts(component, gains, surfaces))
    rules = dict.fromkeys(rule for s in surfaces for rule in s.rules)
    out.extend(f"slow trends of the background: {rule}" for rule in rules)
    return out


def pattern_notices(patterns: F8, camera: Ints) -> list[str]:
    """What stays with the sensors, from each image's pattern over `surface_terms` of order 4, shape (n, c, 15)."""
    u, v = np.meshgrid(*[np.linspace(-1, 1, 9)] * 2)
    values = np.tensordot(patterns, surface_terms(u.ravel(), v.ravel(), 4), 1)
    rms = np.sqrt(np.mean(values**2, axis=2)).max(axis=1)
    with_one = np.unique(camera[rms > 0])
    if not len(with_one):
        return []
    return [
        f"{len(with_one)} of {len(np.unique(camera))} camera(s) add a pattern to the sky that stays with the sensor "
        f"(missing flat, light inside?), {rms.max():.3g} rms at the most: it is a part of the surfaces, b10 and more"
    ]


def _weak_parts(
    component: npt.NDArray[np.int32], gains: list[GainSolution], surfaces: list[GaugedSurfaces]
) -> list[str]:
    """Gains with large errors, and surfaces that rest on their priors, of images that overlap others."""
    tied = np.bincount(component)[component] > 1
    error = np.max([g.log_gain_error for g in gains], axis=0)
    weak = tied & (error > _WEAK_GAIN) & np.isfinite(error)
    out = []
    if weak.any():
        out.append(
            f"{np.count_nonzero(weak)} of {len(component)} gain(s) are uncertain by over {100 * _WEAK_GAIN:.0f} %, "
            f"the worst by {100 * float(error[weak].max()):.1f} %: they share few stars and little structure"
        )
    order = np.min([s.determined_order for s in surfaces], axis=0)
    resting = tied & (order < len(surfaces[0].prior_sd) - 1)
    if resting.any():
        widths = np.max([s.prior_sd for s in surfaces], axis=0)
        expected = ", ".join(f"{w:.3g} of {name}" for w, name in zip(widths, _DEGREES, strict=False))
        out.append(
            f"overlaps do not determine the whole surface of {np.count_nonzero(resting)} of {len(component)} image(s): "
            f"what they leave open is held near 0 (expected spread {expected})"
        )
    return out
