"""Places that headers give, moved by what the frames' shared stars say: a fraction of a pixel, sometimes more.

A header's projection and distortion are kept; only its reference pixel and matrix change. What the shared stars find
is taken where it is more than its error: a header that is right stays as it is. Headers of one folder come from one
source: where most are off by more than the stars err, one that happens to be nearly right is moved like the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zemosaic.model.sky.celestial import CelestialWcs, ra_dec_of, unit_vectors
from zemosaic.model.sky.star_field import StarField
from zemosaic.model.sky.tan_sip import TanSip, plane_to_sky, sky_to_plane
from zemosaic.settings import RefineSettings
from zemosaic.stages.numeric.robust import mad_sigma
from zemosaic.stages.refine.refine import Refined, refine

__all__ = ["HeaderMove", "align_headers", "fit_move", "lattice_of"]

Array = npt.NDArray[np.float64]

_FEWEST_TIES = 6
"""Shared stars that a frame needs before its header is moved at all."""

_LEAST_MOVE_PX = 0.05
"""What is less does no harm: a twentieth of a pixel costs a star of 2.5 px FWHM 0.1 % of its peak."""

_SIGNIFICANT = 4.0
"""A move is taken where it, or the typical header's, is this many times its error: then the header tells less of the
place than the stars do."""

_ERROR_OF_RMS = 2.0
"""A star that two frames share lies midway between them, and each frame's own numbers take up some of what is left:
the error of a place is so many times what the scatter about common places over the root of their number says."""

_MATRIX_SIGMA = 2e-4
"""What a header's matrix is off by, relative: a tenth of a pixel at the corner of a frame of 1000.

Stars that lie in thin overlaps alone hardly hold the matrices of a chain of frames; their headers do.
"""

_MATRIX_TIES = 20
"""Shared stars from which the matrix is moved, too; fewer tell a shift alone."""


@dataclass(frozen=True, slots=True, eq=False)
class HeaderMove:
    """How far a frame's place is moved.

    Attributes
    ----------
    matrix : ndarray, shape (2, 2)
    shift_px : ndarray, shape (2,)
        The sky at pixel ``p`` is what the header has at ``middle + matrix (p - middle) + shift_px``, ``(x, y)``.
    largest_px : float
        Largest distance that a corner moves; 0 where the header stays.
    n_ties : int
        Stars that the frame shares with others.
    rms_px : float
        Distance per coordinate of its stars from their common places, after the move; NaN where it shares none.
    """

    matrix: Array
    shift_px: Array
    largest_px: float
    n_ties: int
    rms_px: float


def align_headers(
    fields: Sequence[StarField], places: Sequence[CelestialWcs], settings: RefineSettings
) -> list[HeaderMove]:
    """What the stars that frames share say of the places in their headers.

    Parameters
    ----------
    fields : sequence of StarField
    places : sequence of CelestialWcs
        As the headers have it, good to 3 pixels against each other.
    settings : RefineSettings
        Its `max_stars` counts.

    Returns
    -------
    list of HeaderMove
        One a frame. Most frames stay where they were: a common shift, turn and scale is not what stars can tell.

    Notes
    -----
    Each frame's stars are put on its tangent plane by its own header, distortion and all; the adjustment of all frames
    (`refine`, without distortion and catalogue) then finds a linear map of each plane: what the header lacks.
    """
    moves = [HeaderMove(np.eye(2), np.zeros(2), 0.0, 0, float("nan"))] * len(fields)
    able = [k for k, field in enumerate(fields) if len(field.xy) >= _FEWEST_TIES]
    if len(able) < 2:
        return moves
    planes = [_on_plane(fields[k], places[k]) for k in able]
    on_planes, start = [field for field, _ in planes], [plate for _, plate in planes]
    plain = settings.model_copy(update={"distortion_order": 0})
    own = [places[k] for k in able]
    refined = refine(on_planes, start, None, plain, matrix_sigma=_MATRIX_SIGMA)
    found = _moves_of(own, start, refined)
    if any(move.largest_px for move in found):
        # Once more from there: a matrix that is truly off is then held to what the stars made of it, not to the header.
        found = _moves_of(own, start, refine(on_planes, refined.plates, None, plain, matrix_sigma=_MATRIX_SIGMA))
    for k, move in zip(able, found, strict=True):
        moves[k] = move
    return moves


def _moves_of(places: Sequence[CelestialWcs], start: Sequence[TanSip], refined: Refined) -> list[HeaderMove]:
    """How far each place is moved, by the plates that its stars' tangent plane had and has."""
    plates = _without_drift(start, refined.plates)
    found = [
        _move_of(place, before, plate, int(n_ties), float(rms_px))
        for place, before, plate, n_ties, rms_px in zip(
            places, start, plates, refined.n_ties, refined.rms_px, strict=True
        )
    ]
    tied = [move.largest_px for move in found if move.largest_px]
    typical_px = float(np.median(tied)) if tied else 0.0
    return [
        move
        if move.largest_px > _LEAST_MOVE_PX and max(move.largest_px, typical_px) > _SIGNIFICANT * _error_px(move)
        else replace(move, matrix=np.eye(2), shift_px=np.zeros(2), largest_px=0.0)
        for move in found
    ]


def _error_px(move: HeaderMove) -> float:
    """Error of a move at a corner."""
    matrix = 2.0 if move.n_ties >= _MATRIX_TIES else 1.0
    return float(_ERROR_OF_RMS * move.rms_px / np.sqrt(max(move.n_ties, 1)) * matrix)


def _without_drift(before: Sequence[TanSip], after: Sequence[TanSip]) -> list[TanSip]:
    """Plates of which most are where they were: what one bad header pulls the whole along is taken back.

    Stars that frames share say nothing of a common shift, turn and scale. The least absolute sum of moves fixes them
    (by weights of 1 over the distance, again and again). Of turn and scale the frames' matrices say something, too:
    where places are off by a pixel they tell far better than places within a few hundred pixels of each other.
    """
    vectors = np.array([unit_vectors(plate.ra_deg, plate.dec_deg) for plate in before])
    ra, dec = map(float, ra_dec_of(vectors.mean(axis=0)))
    old = np.array([sky_to_plane(plate.ra_deg, plate.dec_deg, ra, dec) for plate in before])
    new = np.array([sky_to_plane(plate.ra_deg, plate.dec_deg, ra, dec) for plate in after])
    extent = max(float(np.abs(old).max()), before[0].scale_arcsec / 3600)
    least = _LEAST_MOVE_PX * before[0].scale_arcsec / 3600 / 10
    nothing, one = np.zeros(len(old)), np.ones(len(old))
    east = np.stack([one, nothing, old[:, 0] / extent, -old[:, 1] / extent], axis=1)
    north = np.stack([nothing, one, old[:, 1] / extent, old[:, 0] / extent], axis=1)
    told, error = (value * extent for value in _turn_of_matrices(before, after))
    drift = np.zeros(4)
    for _ in range(30):
        left = new - old - np.stack([east @ drift, north @ drift], axis=1)
        distance = np.maximum(np.hypot(*left.T), least)
        weighed = np.concatenate([east / distance[:, None], north / distance[:, None]])
        # The mean distance is the width of the moves' own distribution: it brings both kinds of evidence to one scale.
        belief = np.array([0, 0, *distance.mean() / error**2])
        normal = np.concatenate([east, north]).T @ weighed + np.diag(belief)
        drift = np.linalg.solve(normal, weighed.T @ np.concatenate(new.T - old.T) + belief * np.array([0, 0, *told]))
    moved = new - np.stack([east @ drift, north @ drift], axis=1)
    scale, turn = drift[2:] / extent
    undo = np.linalg.inv(np.array([[1 + scale, -turn], [turn, 1 + scale]]))
    ra_deg, dec_deg = plane_to_sky(moved, ra, dec)
    return [
        replace(plate, ra_deg=float(ra_k), dec_deg=float(dec_k), cd=undo @ plate.cd)
        for plate, ra_k, dec_k in zip(after, ra_deg, dec_deg, strict=True)
    ]


def _turn_of_matrices(before: Sequence[TanSip], after: Sequence[TanSip]) -> tuple[Array, Array]:
    """Common scale and turn by which the frames' matrices changed, and the errors of both."""
    change = np.array([new.cd @ np.linalg.inv(old.cd) for old, new in zip(before, after, strict=True)])
    each = np.stack([(change[:, 0, 0] + change[:, 1, 1]) / 2 - 1, (change[:, 1, 0] - change[:, 0, 1]) / 2])
    middle = np.median(each, axis=1)
    spread = np.array([mad_sigma(values, value) for values, value in zip(each, middle, strict=True)])
    return middle, np.maximum(spread, _MATRIX_SIGMA / 10) / np.sqrt(len(change))


def _middle(place: CelestialWcs) -> Array:
    return np.array([(place.shape[1] - 1) / 2, (place.shape[0] - 1) / 2])


def _on_plane(field: StarField, place: CelestialWcs) -> tuple[StarField, TanSip]:
    """A frame's stars on its tangent plane, in pixels of its scale about its middle, and the plate of that plane."""
    middle = _middle(place)
    ra, dec = place.pixel_to_sky(*middle)
    scale_deg = place.pixel_scale_arcsec() / 3600
    plate = TanSip(float(ra), float(dec), (float(middle[0]), float(middle[1])), np.diag([-scale_deg, scale_deg]))
    plane = sky_to_plane(*place.pixel_to_sky(*field.xy.T), plate.ra_deg, plate.dec_deg)
    xy = plane / np.diag(plate.cd) + middle
    return replace(field, xy=xy), plate


def lattice_of(place: CelestialWcs, n: int = 5) -> Array:
    """Points ``(x, y)`` evenly over a frame from corner to corner, `n` a side: shape (n * n, 2)."""
    height, width = place.shape
    x, y = np.meshgrid(np.linspace(0, width - 1, n), np.linspace(0, height - 1, n))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def fit_move(points: Array, goal: Array) -> tuple[Array, Array]:
    """`HeaderMove.matrix` and `HeaderMove.shift_px` that bring a frame's `lattice_of` to other pixels, both (n, 2)."""
    offset = goal - points
    shift = offset.mean(axis=0)
    return np.eye(2) + np.linalg.lstsq(points - points.mean(axis=0), offset - shift, rcond=None)[0].T, shift


def _move_of(place: CelestialWcs, start: TanSip, plate: TanSip, n_ties: int, rms_px: float) -> HeaderMove:
    """What the stars say of a place, however little it is; nothing where they are few."""
    if n_ties < _FEWEST_TIES or not np.isfinite(rms_px):
        return HeaderMove(np.eye(2), np.zeros(2), 0.0, n_ties, rms_px)
    middle = _middle(place)
    points = lattice_of(place)
    on_plane = sky_to_plane(*place.pixel_to_sky(*points.T), start.ra_deg, start.dec_deg) / np.diag(start.cd) + middle
    # Where the header has the sky that the adjustment sees at each point: what the header must be asked for instead.
    goal = np.stack(place.sky_to_pixel(*plate.pixel_to_sky(on_plane)), axis=1)
    matrix, shift = fit_move(points, goal)
    matrix = matrix if n_ties >= _MATRIX_TIES else np.eye(2)
    corners = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]) * middle
    largest = float(np.hypot(*(corners @ (matrix - np.eye(2)).T + shift).T).max())
    return HeaderMove(matrix, shift, largest, n_ties, rms_px)
