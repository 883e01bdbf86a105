"""All frames adjusted together: one distortion a camera, a small linear model a frame.

The observations are the frames' star positions. Stars that frames share tie the frames to
each other to a fraction of a pixel; catalogue stars, with their own larger error, tie the
whole to the sky. One robust least-squares problem, relinearised as stars are matched
again with the better places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.model.sky.catalogue import Catalogue, CatalogueStars
from zemosaic.model.sky.celestial import unit_vectors
from zemosaic.model.sky.star_field import StarField
from zemosaic.model.sky.tan_sip import TanSip
from zemosaic.settings import RefineSettings
from zemosaic.stages.numeric.robust import mad_sigma
from zemosaic.stages.refine.equations import Equations, solve_equations
from zemosaic.stages.refine.state import ARCSEC, AstrometricState, Noise, find_leftovers, local_axes, start_state
from zemosaic.stages.solve.sky_stars import group_on_sky
from zemosaic.stages.solve.verify import match_nearest

__all__ = ["Refined", "refine"]

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

_ROUNDS = ((3.0, 10.0, 2), (3.0, 4.0, 1), (2.0, 2.5, 2), (1.5, 2.0, 3))
"""(radius of a star, radius of a catalogue match, both in pixels; rounds of robust weights): headers may be 10 pixels
off, and what is left shrinks from match to match."""

_SHEAR_SIGMA = 5e-4
"""How far a frame's shear may be from its camera's: refraction and flexure change it by a few 1e-4."""

_MATRIX_SIGMA = 3e-3
"""How far a frame's matrix may be from its start: focus changes a scale by less than 0.3 %."""


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """Plates of all frames after the adjustment.

    Attributes
    ----------
    plates : list of TanSip
        One a frame, in the order given.
    rms_px : ndarray, shape (n_frames,)
        Root mean square distance per coordinate of a frame's stars from their common places,
        clipped at 4 sigma; NaN where a frame shares no star.
    n_ties : ndarray of int, shape (n_frames,)
        Stars that a frame shares with other frames or the catalogue.
    catalogue_rms_arcsec : float
        Robust spread per coordinate of catalogue stars about the common places.
    n_catalogue : int
        Stars tied to the catalogue.
    """

    plates: list[TanSip]
    rms_px: Array
    n_ties: Index
    catalogue_rms_arcsec: float
    n_catalogue: int


@dataclass(frozen=True, slots=True, eq=False)
class _Detections:
    """All detections used, most trusted first; brightness in units of the frame's faint stars."""

    frame: Index
    xy: Array
    brightness: Array


@dataclass(frozen=True, slots=True, eq=False)
class _Ties:
    """Detections (`row`) of shared stars, the stars' places, and which of them the catalogue knows."""

    row: Index
    star: Index
    place: Array
    known_star: Index
    known_place: Array


def refine(
    fields: Sequence[StarField],
    plates: Sequence[TanSip],
    catalogue: Catalogue | None,
    settings: RefineSettings,
    *,
    matrix_sigma: float = _MATRIX_SIGMA,
) -> Refined:
    """Adjust the plates of all frames together.

    Parameters
    ----------
    fields : sequence of StarField
        Star lists; `camera` and `shape` tell which frames share a distortion.
    plates : sequence of TanSip
        Start: good to about 3 pixels, or 10 against the catalogue.
    catalogue : Catalogue or None
        Ties the whole to the sky; without one the frames are tied to each other alone, and the mean of their places
        stays where it was.
    settings : RefineSettings
    matrix_sigma : float
        How far a frame's matrix may be from its start, relative: what a solution of one frame's stars leaves open.

    Returns
    -------
    Refined

    Notes
    -----
    Per camera: SIP polynomials of degree 2 to `distortion_order` about the middle of the field, and a mean
    shear. Per frame: shift and linear map, its shear held to the camera's within 5e-4,
    its matrix to the start within `matrix_sigma`.
    Observations get Cauchy weights; their error is measured from the residuals as a
    function of a star's brightness in its frame, the catalogue's from its own residuals.
    Linear in detections. Where no star is shared, the plates stay as they are. Raises ValueError for sequences of
    different length or no frame.
    """
    if len(fields) != len(plates) or not fields:
        raise ValueError(f"{len(fields)} star lists for {len(plates)} plates")
    state = start_state(fields, plates, settings.distortion_order)
    detections = _detections(fields, settings.max_stars)
    nothing = np.zeros(0)
    sky = CatalogueStars(nothing, nothing, nothing, 1.0)
    if catalogue is not None:
        sky = _catalogue_over(fields, plates, catalogue)
    for group_px, catalogue_px, n_weights in _ROUNDS:
        ties = _tie(state, detections, sky, group_px, catalogue_px)
        if not len(ties.row):
            unknown = np.full(len(fields), np.nan)
            return Refined(list(plates), unknown, np.zeros(len(fields), np.int64), np.nan, 0)
        noise = Noise.start(len(ties.row), len(ties.known_star), 0.3 * state.scale_arcsec, sky.error_arcsec)
        for _ in range(n_weights):
            equations = _linearise(state, detections, ties, noise, matrix_sigma)
            change = solve_equations(equations)
            noise = noise.measured(*find_leftovers(equations, change), detections.brightness[ties.row])
        state = state.moved(change)
    return _report(state, detections.frame[ties.row], noise, *find_leftovers(equations, change))


def _detections(fields: Sequence[StarField], max_stars: int) -> _Detections:
    """The brightest stars of each frame; the order of all is by brightness over the frame's own limit."""
    frame, xy, brightness = [], [], []
    for k, field in enumerate(fields):
        brightest = np.argsort(-field.flux, kind="stable")[:max_stars]
        faint = np.quantile(field.flux, 0.1) if len(field.flux) else 1.0
        frame.append(np.full(len(brightest), k, np.int64))
        xy.append(field.xy[brightest])
        brightness.append(np.maximum(field.flux[brightest] / max(faint, 1e-30), 0.1))
    order = np.argsort(-np.concatenate(brightness), kind="stable")
    return _Detections(np.concatenate(frame)[order], np.concatenate(xy)[order], np.concatenate(brightness)[order])


def _catalogue_over(fields: Sequence[StarField], plates: Sequence[TanSip], catalogue: Catalogue) -> CatalogueStars:
    """All catalogue stars that any frame may show."""
    centres = unit_vectors([plate.ra_deg for plate in plates], [plate.dec_deg for plate in plates])
    middle = centres.mean(axis=0) / np.linalg.norm(centres.mean(axis=0))
    reach = [np.hypot(*field.shape) * plate.scale_arcsec / 3600 for field, plate in zip(fields, plates, strict=True)]
    away = 2 * np.rad2deg(np.arcsin(np.clip(np.linalg.norm(centres - middle, axis=1) / 2, 0, 1)))
    ra, dec = np.rad2deg(np.arctan2(middle[1], middle[0])), np.rad2deg(np.arcsin(np.clip(middle[2], -1, 1)))
    return catalogue.cone(float(ra), float(dec), min(float(np.max(away + reach)), 180.0))


def _tie(
    state: AstrometricState, detections: _Detections, sky: CatalogueStars, group_px: float, catalogue_px: float
) -> _Ties:
    """Detections grouped into stars, stars matched with the catalogue; stars that tie nothing are dropped."""
    vectors = state.vectors(detections.frame, detections.xy)
    star = group_on_sky(vectors, detections.frame, group_px * state.scale_arcsec)
    row = np.flatnonzero(star >= 0)
    star = star[row]
    n_seen = np.bincount(star)
    total = np.stack([np.bincount(star, vectors[row, axis]) for axis in range(3)], axis=1)
    place: Array = total / np.linalg.norm(total, axis=1, keepdims=True)
    known_star, known_place = np.zeros(0, np.int64), np.zeros((0, 3))
    if len(sky):
        there = unit_vectors(sky.ra_deg, sky.dec_deg)
        radius = np.deg2rad(max(catalogue_px * state.scale_arcsec, 4 * sky.error_arcsec) / 3600)
        known_star, ref, _ = match_nearest(place, scipy.spatial.cKDTree(there), radius)
        known_place = there[ref]
    useful = n_seen >= 2
    useful[known_star] = True
    number = np.cumsum(useful) - 1
    kept = useful[star]
    return _Ties(row[kept], number[star[kept]], place[useful], number[known_star], known_place)


def _linearise(
    state: AstrometricState, detections: _Detections, ties: _Ties, noise: Noise, matrix_sigma: float
) -> Equations:
    """Equations of all ties about the present places."""
    frame = detections.frame[ties.row]
    camera = state.camera_of_frame[frame]
    linear, basis, plane = state.project(frame, detections.xy[ties.row])
    goal, star_effect = state.project_stars(frame, ties.place[ties.star])
    cd = state.cd[frame]
    no_shear = np.zeros((len(frame), 2, 2))
    effect = np.concatenate([cd[:, :, :1] * basis[:, None], cd[:, :, 1:] * basis[:, None], no_shear], axis=2)
    shear, own_shear = state.shear_equations()
    east, north = local_axes(ties.place[ties.known_star])
    known = ties.known_place - ties.place[ties.known_star]
    offset = np.stack([np.sum(known * east, axis=1), np.sum(known * north, axis=1)], axis=1)
    return Equations(
        frame_of=frame,
        camera_of=camera,
        star_of=ties.star,
        residual=goal - plane,
        sigma=noise.sigma,
        linear=linear,
        camera=effect,
        star=star_effect,
        known_star=ties.known_star,
        known_offset=offset * ARCSEC,
        known_sigma=noise.known_sigma,
        shear=shear,
        shear_residual=state.mean_shear[state.camera_of_frame] - own_shear,
        shear_sigma=_SHEAR_SIGMA,
        camera_of_frame=state.camera_of_frame,
        camera_sigma=state.camera_sigma(),
        camera_residual=-state.camera_numbers(),
        frame_residual=state.matrix_drift(),
        frame_sigma=state.scale_arcsec * np.array([20.0, *np.full(2, matrix_sigma * state.half.max())]),
        n_stars=len(ties.place),
    )


def _report(state: AstrometricState, frame: Index, noise: Noise, left: Array, known_left: Array) -> Refined:
    """Figures of the last round."""
    n_frames = len(state.ra_deg)
    good = np.hypot(*left.T) < 4 * noise.plain_sigma * np.sqrt(2)
    n_ties = np.bincount(frame[good], minlength=n_frames)
    square = np.bincount(frame[good], (left[good] ** 2).sum(axis=1) / 2, minlength=n_frames)
    with np.errstate(invalid="ignore", divide="ignore"):
        rms = np.sqrt(square / n_ties) / state.frame_scale_arcsec()
    # Robust: stars of large proper motion are no error of the plates.
    known_rms = mad_sigma(known_left, 0) if len(known_left) else float("nan")
    return Refined(state.plates(), rms, n_ties, known_rms, len(known_left))
