"""Parts of a frame whose stars have less light than its other stars, beside frames that show the same ones.

A shutter that did not open or close in time, a tree out of focus, the edge of a cloud: nothing there is sharp, the sky
falls with the stars, and no gain and no surface of the frame describes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.stages.quality.views import View, find_nearest, pool_places
from zemosaic.text import Message, message

__all__ = ["find_dimmed_parts"]

F8 = npt.NDArray[np.float64]

_DIM = 0.75
"""Light over that of the frame's clear part below which a part is dimmed: twice what clouds of a usable frame, and what
is left of a vignetting, change from side to side."""

_CLEAR = 85.0
"""Percentile of the light round the stars of a frame that is its clear part: a seventh of it is never dimmed."""

_NEAREST = 6
"""Stars, itself with them, whose median light is the light round a star: one flux may be wrong."""

_LEAST_SHARE = 0.08
"""Share of a frame's stars, but no fewer than `_NEAREST`, that a dimmed part holds."""

_LEAST_VIEWS = 2
"""Other frames that must show a star: of two frames nothing tells which is dimmed."""

_UNSEEN = float(np.log(0.1))
"""ln of the light of a star that is expected and not seen."""

_LEAST_FRAMES = 3
"""Frames of a camera that overlap before its own pattern, the vignetting, can be told from what one frame suffered."""

_ROUNDS, _CLIP, _LEAST_CLIP = 4, 3.0, 0.05
"""The pattern's fit forgets stars that are off by so many times their scatter, and by this much."""

_GAIN_ROUNDS = 10
"""Rounds in which each frame takes the median of what its neighbours say: what counts is how these few agree."""

_MOST_STARS = 20_000
"""Pairs of fluxes that the five terms of the pattern are fitted to: their errors are a thousandth by then."""


def find_dimmed_parts(
    views: Sequence[Sequence[View]], shapes: Sequence[tuple[int, int]], cameras: Sequence[str]
) -> list[Message | None]:
    """Of each frame whether it has a dimmed part, with the numbers; None where it has none.

    Parameters
    ----------
    views : sequence of sequences of View
        What each frame shows of the stars of those round it.
    shapes : sequence of (height, width)
    cameras : sequence of str
        Frames of one camera share a pattern of light over their pixels (vignetting), and are compared with each other.
    """
    found: list[Message | None] = [None] * len(views)
    for camera in sorted(set(cameras)):
        members = [i for i, name in enumerate(cameras) if name == camera]
        own = {i: [view for view in views[i] if cameras[view.other] == camera and view.light > 0] for i in members}
        if sum(bool(some) for some in own.values()) < _LEAST_FRAMES:
            continue
        pattern = _fit_pattern(own, shapes)
        lights = {i: [_lights(v, pattern, shapes[i], shapes[v.other]) for v in own[i]] for i in members}
        gain = _fit_gains(own, lights)
        for i in members:
            beside = [light - gain[i] + gain[view.other] for view, light in zip(own[i], lights[i], strict=True)]
            found[i] = _find_part(own[i], [np.maximum(np.nan_to_num(b, nan=_UNSEEN), _UNSEEN) for b in beside])
    return found


def _terms(xy: F8, shape: tuple[int, int]) -> F8:
    """Terms of the pattern at places of a frame, shape (n, 5): a quadratic without its constant."""
    u, v = 2 * (xy[:, 0] + 0.5) / shape[1] - 1, 2 * (xy[:, 1] + 0.5) / shape[0] - 1
    return np.column_stack([u, v, u * u, u * v, v * v])


def _fit_pattern(own: dict[int, list[View]], shapes: Sequence[tuple[int, int]]) -> F8:
    """The quadratic of ln light over the pixels of a camera that its frames share, shape (5,)."""
    terms, values = [np.zeros((0, 5))], [np.zeros(0)]
    for i, views in own.items():
        for view in views:
            seen = np.isfinite(view.log_light)
            if not seen.any():
                continue
            difference = _terms(view.xy[seen], shapes[i]) - _terms(view.other_xy[seen], shapes[view.other])
            terms.append(difference - np.median(difference, axis=0))
            values.append(view.log_light[seen] - np.median(view.log_light[seen]))
    every = max(sum(map(len, values)) // _MOST_STARS, 1)
    matrix: F8 = np.concatenate(terms)[::every]
    value: F8 = np.concatenate(values)[::every]
    kept, pattern = np.ones(len(value), bool), np.zeros(5)
    for _ in range(_ROUNDS):
        # Where frames hardly shift against each other, the least pattern that does is taken.
        normal = matrix[kept].T @ matrix[kept] + np.eye(5)
        pattern = np.asarray(np.linalg.solve(normal, matrix[kept].T @ value[kept]), float)
        rest = np.abs(value - matrix @ pattern)
        kept = rest < max(_CLIP * 1.4826 * float(np.median(rest)), _LEAST_CLIP)
    return pattern


def _lights(view: View, pattern: F8, shape: tuple[int, int], other_shape: tuple[int, int]) -> F8:
    """ln of the light of a view's stars beside the pattern; NaN of those not seen."""
    return np.asarray(view.log_light - (_terms(view.xy, shape) - _terms(view.other_xy, other_shape)) @ pattern)


def _fit_gains(own: dict[int, list[View]], lights: dict[int, list[F8]]) -> dict[int, float]:
    """ln of each frame's light by what most frames that overlap it say.

    A frame that meets another in its dimmed part alone has there less light than its others say, not another gain.
    """
    typical = {i: [float(np.nanmedian(light)) for light in some] for i, some in lights.items()}
    gain = dict.fromkeys(own, 0.0)
    for _ in range(_GAIN_ROUNDS):
        for i, views in own.items():
            if views:
                told = zip(typical[i], views, strict=True)
                gain[i] = float(np.median([light + gain[view.other] for light, view in told]))
    return gain


def _find_part(views: Sequence[View], rests: Sequence[F8]) -> Message | None:
    """Whether stars with less light than others stand together, with the numbers; None if not."""
    xy = pool_places(views)
    if len(xy) < 3 * _NEAREST:
        return None
    which = find_nearest(xy, np.concatenate([view.xy for view in views]))[0]
    value = np.concatenate(rests)
    order = np.lexsort((value, which))
    count = np.bincount(which, minlength=len(xy))
    # Of two middle values the one nearer to none: views that disagree tell of the other frames as well.
    first = np.cumsum(count) - count
    low, high = (value[order][np.minimum(first + n, len(value) - 1)] for n in ((count - 1) // 2, count // 2))
    middle = np.where(np.abs(low) < np.abs(high), low, high)
    xy, middle = xy[count >= _LEAST_VIEWS], middle[count >= _LEAST_VIEWS]
    if len(xy) < 3 * _NEAREST:
        return None
    light = np.median(middle[scipy.spatial.cKDTree(xy).query(xy, k=_NEAREST)[1]], axis=1)
    clear = float(np.percentile(light, _CLEAR))
    dim = light < clear + np.log(_DIM)
    if np.count_nonzero(dim) < max(_LEAST_SHARE * len(xy), _NEAREST):
        return None
    share = float(np.exp(np.median(light[dim]) - clear))
    return message("quality.dimmed", n_dim=np.count_nonzero(dim), share=share, n_stars=len(xy))
