"""What matching knows of an image: its gain, response and background surface.

The model of every image, per channel:

    d = g F(p) (A(p) / A_ref) (S + B(p)) + noise

``g`` is the image's gain (always a response, never a correction), ``F`` the
response of its camera over the field, ``A`` the area of a pixel on the sky,
``S`` the sky and ``B`` the image's own background surface.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

__all__ = [
    "N_TERMS",
    "PATTERN_ORDER",
    "PhotoScale",
    "n_terms",
    "order_of",
    "places_in",
    "surface_basis",
    "surface_terms",
]

Array = npt.NDArray[np.float64]

N_TERMS = 6
"""Coefficients of a background surface: 1, u, v, u^2, uv, v^2."""

PATTERN_ORDER = 6
"""Order of a surface with a sensor's pattern: of a glow that falls by e over a sixth of the side it leaves a
twentieth, the fourth order a quarter."""


def n_terms(order: int) -> int:
    """Number of polynomial terms of total degree <= `order`."""
    return (order + 1) * (order + 2) // 2


def order_of(n_coefficients: int) -> int:
    """Least order of a polynomial with so many coefficients beside its constant."""
    return next(p for p in range(9) if n_terms(p) - 1 >= n_coefficients)


def surface_basis(x: npt.ArrayLike, y: npt.ArrayLike, shape: tuple[int, int], order: int = 2) -> Array:
    """Polynomial terms at pixel positions of an image of `shape`.

    ``u = 2 (x + 0.5) / width - 1`` and ``v`` likewise, so both run from -1 to 1
    over the image whatever its size; the terms are those of `surface_terms`.

    Returns
    -------
    ndarray, shape (n_terms, *x.shape)
    """
    return surface_terms(*places_in(x, y, shape), order)


def places_in(x: npt.ArrayLike, y: npt.ArrayLike, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Pixel positions of an image of `shape` as places, -1 to 1 over its width (u) and height (v)."""
    u = 2 * (np.asarray(x, float) + 0.5) / shape[1] - 1
    return u, 2 * (np.asarray(y, float) + 0.5) / shape[0] - 1


def surface_terms(u: npt.ArrayLike, v: npt.ArrayLike, order: int = 2) -> Array:
    """Polynomial terms at places of an image, -1 to 1 over its width and height.

    Ordered by degree, then by the power of v: 1, u, v, u^2, uv, v^2, ...

    Returns
    -------
    ndarray, shape (n_terms, *u.shape), float64
    """
    u, v = np.asarray(u, float), np.asarray(v, float)
    terms = np.ones((n_terms(order), *u.shape))
    for degree in range(1, order + 1):
        first, below = n_terms(degree - 1), n_terms(degree - 2)
        terms[first : first + degree] = u * terms[below:first]
        terms[first + degree] = v * terms[first - 1]
    return terms


@dataclass(frozen=True, slots=True, eq=False)
class PhotoScale:
    """Gain, response and background surface of one image, per channel.

    Attributes
    ----------
    gain : ndarray, shape (c,)
        Response relative to the run's reference; > 0.
    surface : ndarray, shape (c, 6), or (c, 28) with a sensor's pattern
        Background `B` in mosaic units (input units per A_ref, already divided by the gain),
        coefficients of `surface_basis`; terms above the fitted order are 0.
    response : ndarray, shape (c, k) or None
        Coefficients of ln F over `surface_basis` *without* its constant term; None means F = 1.
    gain_error : ndarray, shape (c,)
        One-sigma relative error of the gain; inf where it was not determined.
    level_error : ndarray, shape (c,)
        One-sigma error of the mean of `B` over the image, mosaic units.
    component : int
        Number of the connected group of images this one was solved in.
    note : str
        What a reader must know: lowered order, prior only, too few stars ...
    """

    gain: Array
    surface: Array
    response: Array | None = None
    gain_error: Array = field(default_factory=lambda: np.full(1, np.inf))
    level_error: Array = field(default_factory=lambda: np.full(1, np.inf))
    component: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        c = len(self.gain)
        if self.surface.shape not in [(c, N_TERMS), (c, n_terms(PATTERN_ORDER))]:
            raise ValueError(
                f"surface must have shape ({c}, {N_TERMS}) or ({c}, {n_terms(PATTERN_ORDER)}), got {self.surface.shape}"
            )
        if not (np.all(np.isfinite(self.gain)) and np.all(self.gain > 0)):
            raise ValueError(f"gains must be finite and positive, got {self.gain}")
        if not np.all(np.isfinite(self.surface)):
            raise ValueError("surface coefficients must be finite")

    @classmethod
    def neutral(cls, n_channels: int, note: str = "") -> PhotoScale:
        """Gain 1, response 1, surface 0."""
        return cls(
            np.ones(n_channels),
            np.zeros((n_channels, N_TERMS)),
            gain_error=np.full(n_channels, np.inf),
            level_error=np.full(n_channels, np.inf),
            note=note,
        )

    def response_at(self, x: npt.ArrayLike, y: npt.ArrayLike, shape: tuple[int, int]) -> Array:
        """F at pixel positions of the image, shape ``(c, *x.shape)``."""
        return self.response_of(surface_basis(x, y, shape, self._response_order))

    def response_in(self, u: npt.ArrayLike, v: npt.ArrayLike) -> Array:
        """F at places of the image, -1 to 1, shape ``(c, *u.shape)``."""
        return self.response_of(surface_terms(u, v, self._response_order))

    @property
    def _surface_order(self) -> int:
        return 2 if self.surface.shape[1] == N_TERMS else PATTERN_ORDER

    @property
    def _response_order(self) -> int:
        n_own = 0 if self.response is None else self.response.shape[1]
        return order_of(n_own)

    @property
    def order(self) -> int:
        """Of the polynomial terms that `response_of` and `surface_of` want at least."""
        return max(self._surface_order, self._response_order)

    def response_of(self, terms: Array) -> Array:
        """F from polynomial terms (`surface_terms`), whose constant it does not use."""
        if self.response is None:
            return np.ones((len(self.gain), *terms.shape[1:]))
        return np.asarray(np.exp(_sum_terms(self.response, terms[1 : self.response.shape[1] + 1])))

    def surface_at(self, x: npt.ArrayLike, y: npt.ArrayLike, shape: tuple[int, int]) -> Array:
        """B at pixel positions of the image, shape ``(c, *x.shape)``, mosaic units."""
        return _sum_terms(self.surface, surface_basis(x, y, shape, self._surface_order))

    def in_unit(self, unit: float) -> PhotoScale:
        """The same for a mosaic whose values are `unit` times smaller."""
        return replace(self, gain=self.gain * unit, surface=self.surface / unit, level_error=self.level_error / unit)

    def plus_surface(self, added: Array) -> PhotoScale:
        """The same with terms (c, 6) or (c, 28) added to its surface."""
        total = np.zeros((len(self.gain), max(self.surface.shape[1], added.shape[1])))
        for part in (self.surface, added):
            total[:, : part.shape[1]] += part
        return replace(self, surface=total)

    def surface_of(self, terms: Array) -> Array:
        """B from polynomial terms (`surface_terms`), mosaic units."""
        return _sum_terms(self.surface, terms[: self.surface.shape[1]])


def _sum_terms(coefficients: Array, terms: Array) -> Array:
    """Polynomials (c, k) from their terms (k, ...), shape (c, ...); without a BLAS and its threads."""
    return np.asarray(np.einsum("ck,k...->c...", coefficients, terms))
