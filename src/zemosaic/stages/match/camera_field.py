"""Fields that all images of a camera share: which of their terms to believe, and what the sky tells of them.

A slope that a camera's images share acts on their gains like a trend along the mosaic: in a chain of twenty images an
error of 0.3 mmag a half-width adds up to 8 mmag. So such a part is taken only where it stands clear of its error.
Responses and growth curves are such fields.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import n_terms, order_of, surface_terms
from zemosaic.stages.match.background import BackgroundSystem

__all__ = [
    "N_FIELD",
    "REAL_ERRORS",
    "SeenSky",
    "is_steep",
    "real_parts",
    "slopes_of_centre",
    "solve_shared_field",
    "untold_share",
]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]

REAL_ERRORS = 4.0
"""Errors by which a part of a shared field must stand out to be taken."""

_LOW_TERMS = n_terms(2)

_RESPONSE_ORDER = 8
"""Order up to which the sky tells a response: it follows a steep vignetting of 40 % at the corners to 0.02 % rms, order
4 to 0.6 %."""

N_FIELD = n_terms(_RESPONSE_ORDER) - 1
"""Terms of a response that the sky tells, the constant left out."""

_RESPONSE_SD = 0.05
"""Width of the prior on each term: what a vignetting of 40 % has beyond its quadratic."""

_MOST_BLOCKS = 50_000
"""Blocks that tell the fields, an even selection of more: 39 fields at so many take 16 MB."""

_STEEP = 0.2
"""Range of ln F over the field from which it is sought beyond its quadratic: half of it has a quarter of the rest."""

_CENTRE = 0.035
"""How far from the middle of a frame the middle of a lens's field may well lie, in half sides: ten pixels in 600. Under
a fall-off of 40 % that is a slope which tilts the gains of three panels by 0.1."""

_NO_LIGHT = 0.1
"""Share of an image's level that may well be no light: a bias of 500 ADU, under a sky of 5000."""

_WITNESSES = 3.0
"""Neighbouring blocks that count as one: they share the sky's structure below the nodes."""


@dataclass(frozen=True, slots=True, eq=False)
class SeenSky:
    """What shall tell more of the cameras' responses.

    Attributes
    ----------
    level : ndarray, shape (cameras, images)
        Of the sky in each image of a camera; 0 in those of others.
    known : ndarray, shape (cameras, 44)
        What it has told before, and values are already over.
    """

    level: F8
    known: F8


def _odd_terms(order: int) -> npt.NDArray[np.bool_]:
    """Which terms of `surface_basis` without the constant are odd: those that can look like a trend of the gains."""
    return np.asarray(np.repeat(np.arange(1, order + 1), np.arange(2, order + 2)) % 2 == 1)


def real_parts(
    coefficients: F8, covariance: F8, order: int, least: float = 0.0, even_errors: float = REAL_ERRORS
) -> npt.NDArray[np.bool_]:
    """Which terms of a field shared by a camera's images are real: its odd and its even part, each as a whole.

    Parameters
    ----------
    coefficients : ndarray, shape (k,)
        Over `surface_basis` of `order`, without the constant.
    covariance : ndarray, shape (k, k)
    order : int
    least : float
        Rms over the field that a part must have at least.
    even_errors : float
        Errors by which the even part must stand out; the odd part always needs four.

    Returns
    -------
    ndarray, shape (k,), bool
        True for the terms of parts whose rms over the field exceeds `least` and so many times its error.
    """
    u, v = np.meshgrid(*[np.linspace(-1, 1, 9)] * 2)
    basis = surface_terms(u.ravel(), v.ravel(), order)[1:]
    basis -= basis.mean(axis=1, keepdims=True)
    product = basis @ basis.T / basis.shape[1]
    odd = _odd_terms(order)
    out = np.zeros(len(coefficients), bool)
    for part, errors in ((np.flatnonzero(odd), REAL_ERRORS), (np.flatnonzero(~odd), even_errors)):
        inner = np.ix_(part, part)
        size2 = float(coefficients[part] @ product[inner] @ coefficients[part])
        error2 = float(np.sum(product[inner] * covariance[inner]))
        out[part] = size2 > max(least**2, errors**2 * error2)
    return out


def _beyond_quadratics() -> F8:
    """Polynomials of degree 3 to 8 without what quadratics can take of them, shape (39, 44).

    Rows are fields, columns coefficients of `surface_basis` without the constant.
    """
    u, v = np.meshgrid(*[np.linspace(-1, 1, 41)] * 2)
    basis = surface_terms(u.ravel(), v.ravel(), _RESPONSE_ORDER).T
    low, high = basis[:, :_LOW_TERMS], basis[:, _LOW_TERMS:]
    taken = np.linalg.lstsq(low, high, rcond=None)[0]
    return np.asarray(np.column_stack([-taken.T[:, 1:], np.eye(high.shape[1])]))


def is_steep(response: F8) -> bool:
    """Whether a camera's response, (cameras, k), falls off so much that quadratics may not follow it."""
    if not response.any():
        return False
    u, v = np.meshgrid(*[np.linspace(-1, 1, 9)] * 2)
    log_response = np.tensordot(response, surface_terms(u.ravel(), v.ravel(), order_of(response.shape[1]))[1:], 1)
    return bool(np.max(np.ptp(log_response, axis=1)) > _STEEP)


def slopes_of_centre(response: F8) -> F8:
    """Slopes along u and v that a fall-off about a point beside the middle has, (cameras, 2), as far as may well be.

    0 for cameras whose light hardly falls off, as what flats have left does about no middle, and where stars tell them.
    """
    out = np.zeros((len(response), 2))
    for c, own in enumerate(response):
        if is_steep(own[None]) and not own[:2].any():
            out[c] = 2 * _CENTRE * own[[2, 4]]
    return out


def untold_share(response: F8, error: F8) -> F8:
    """What a sky through each camera's field may show that stars do not tell, over its level, shape (cameras, k).

    Stars tell what light goes through: a bias, which most headers do not state, is no part of it, and is like a field
    that falls off less. And where stars tell no slopes, a field may fall off about a point beside the middle.

    Parameters
    ----------
    response, error : ndarray, shapes (cameras, any) and (cameras, k)
        As stars and sky have found it, and the stars' errors, 0 where they hold a term at 0.

    Returns
    -------
    ndarray
        Widths of the terms; 0 beyond quadratics, and for cameras whose light hardly falls off.
    """
    out = np.zeros_like(error)
    u, v = np.meshgrid(*[np.linspace(-1, 1, 9)] * 2)
    terms = surface_terms(u.ravel(), v.ravel(), order_of(response.shape[1]))
    for c in [c for c in range(len(response)) if is_steep(response[c : c + 1])]:
        falls = np.linalg.lstsq(terms[:_LOW_TERMS].T, terms[1:].T @ response[c], rcond=None)[0]
        out[c, 2 : _LOW_TERMS - 1] = _NO_LIGHT * np.abs(falls[3:])[: error.shape[1] - 2]
        if not error[c, :2].any():
            out[c, :2] = 2 * _CENTRE * np.abs(falls[[3, 5]])
    return out


def solve_shared_field(system: BackgroundSystem, residual: F4, seen: SeenSky | None) -> F8:
    """What the sky adds to ln of each camera's response beyond quadratics, shape (cameras, 44); zeros where not real.

    A part is real by all that is known of it: what a first solve misses, later ones add, however little.

    A sky through vignetting is vignetted. Images that overlap with different parts of the field tell the part which no
    surface can take, and where the sky is bright they tell it far better than stars. Each field is a column of
    the solve, with the sky and all surfaces eliminated.

    Parameters
    ----------
    system : BackgroundSystem
        As it was solved.
    residual : ndarray, shape (blocks,), float32
        Of that solution.
    seen : SeenSky or None
        None where the sky is not asked.
    """
    if seen is None:
        return np.zeros((0, N_FIELD))
    table, fields = system.layout.table, _beyond_quadratics()
    used = np.arange(0, len(residual), max(len(residual) // _MOST_BLOCKS, 1))
    weight = system.data.weight[used].astype(float)
    out = np.zeros((len(seen.level), fields.shape[1]))
    for c, (level, known) in enumerate(zip(seen.level, seen.known, strict=True)):
        rest = np.empty((len(fields), len(used)))
        for k, field in enumerate(fields):
            column = level[table.image] * np.sum(
                field[:, None] * surface_terms(table.u, table.v, _RESPONSE_ORDER)[1:], axis=0
            )
            rest[k] = system.rest_of(column.astype(np.float32))[used]
        normal = np.array([np.sum(rest * (weight * row), axis=1) for row in rest]) / _WITNESSES
        covariance = np.asarray(np.linalg.inv(normal + np.eye(len(fields)) / _RESPONSE_SD**2), float)
        found = np.sum(covariance * (np.sum(rest * (weight * residual[used]), axis=1) / _WITNESSES), axis=1)
        coefficients = np.sum(fields.T * found, axis=1)
        real = real_parts(known + coefficients, fields.T @ covariance @ fields, _RESPONSE_ORDER)
        out[c] = np.where(real, coefficients, 0.0)
    return out
