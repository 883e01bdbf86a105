"""What sky and camera add to the light of the sky: background, trails, cosmic hits, noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import n_terms

__all__ = [
    "SURFACE_ORDER",
    "Progress",
    "Trail",
    "add_cosmics",
    "add_noise",
    "add_trail",
    "draw_gradient",
    "draw_trail",
    "evaluate_surface",
    "vignette",
]

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with the number of exposures done and the number in all."""

Trail = tuple[float, float, float, float]
"""A point ``(x, y)`` on a trail, its angle in radians from +x, its peak in ADU."""

SURFACE_ORDER = 3
"""Light that leaks into a frame is smooth: gradients, vignetted moonlight, a glow in one corner."""

_TRAIL_SIGMA_PX = 1.6
"""Of a satellite's trail across: as narrow as stars are."""


def _axes(shape: tuple[int, int]) -> tuple[Array, Array]:
    u = 2 * (np.arange(shape[1]) + 0.5) / shape[1] - 1
    v = 2 * (np.arange(shape[0]) + 0.5) / shape[0] - 1
    return u, v


def draw_gradient(rng: np.random.Generator, edge_to_edge_adu: float, cubic_adu: float = 0.0) -> Array:
    """Random coefficients of `surface_basis` of order 3 with no constant term.

    Parameters
    ----------
    rng : Generator
        Source of the numbers.
    edge_to_edge_adu : float
        Standard deviation of a linear term's change from one edge to the other. Terms of second
        degree have 0.35 of it as coefficient of ``(x / width - 0.5)^2`` and its like.
    cubic_adu : float
        Standard deviation of the coefficients of third degree, on the same half-width axes.

    Returns
    -------
    ndarray, shape (10,)
    """
    c = np.zeros(n_terms(SURFACE_ORDER))
    c[1:3] = rng.normal(0, edge_to_edge_adu / 2, 2)
    c[3:6] = rng.normal(0, 0.35 * edge_to_edge_adu / 4, 3)
    c[6:10] = rng.normal(0, cubic_adu / 8, 4)
    return c


def evaluate_surface(coefficients: Array, shape: tuple[int, int]) -> Image:
    """Values of a surface (`surface_basis` of order 3) on all pixels of an image."""
    u, v = _axes(shape)
    image = np.zeros(shape, np.float32)
    # Grouped by powers of v: four products of a column and a row instead of ten full images.
    for j in range(SURFACE_ORDER + 1):
        row = sum(
            coefficients[degree * (degree + 1) // 2 + j] * u ** (degree - j) for degree in range(j, SURFACE_ORDER + 1)
        )
        image += (v**j).astype(np.float32)[:, None] * np.asarray(row, np.float32)[None]
    return image


def vignette(image: Image, fall_off: float) -> None:
    """Multiply by the response ``exp(k (1/3 - (u^2 + v^2) / 2))``, in place."""
    u, v = _axes((image.shape[0], image.shape[1]))
    image *= np.exp(fall_off * (1 / 3 - v * v / 2)).astype(np.float32)[:, None]
    image *= np.exp(-fall_off * u * u / 2).astype(np.float32)[None]


def draw_trail(rng: np.random.Generator, shape: tuple[int, int], low_adu: float, high_adu: float) -> Trail:
    """A satellite trail through the middle part of an image."""
    x, y = rng.uniform(0.2, 0.8) * shape[1], rng.uniform(0.2, 0.8) * shape[0]
    return float(x), float(y), float(rng.uniform(0, np.pi)), float(rng.uniform(low_adu, high_adu))


def add_trail(image: Image, trail: Trail) -> None:
    """Add a straight trail of Gaussian profile (sigma 1.6 pixels) across the image, in place."""
    x, y, angle, amplitude_adu = trail
    height, width = image.shape
    along_row = (np.arange(width) - x) * np.sin(angle)
    along_column = (np.arange(height) - y) * np.cos(angle)
    across = along_row[None] - along_column[:, None]
    near = np.abs(across) < 6 * _TRAIL_SIGMA_PX
    image[near] += (amplitude_adu * np.exp(-0.5 * (across[near] / _TRAIL_SIGMA_PX) ** 2)).astype(np.float32)


def add_cosmics(image: Image, rng: np.random.Generator, n: int) -> None:
    """Add `n` cosmic hits: straight tracks of 1 to 6 pixels of 200 to 8000 ADU each."""
    height, width = image.shape
    for _ in range(n):
        x, y, angle = rng.uniform(8, width - 8), rng.uniform(8, height - 8), rng.uniform(0, np.pi)
        step = np.arange(rng.integers(1, 7))
        rows = np.rint(y + step * np.sin(angle)).astype(int)
        columns = np.rint(x + step * np.cos(angle)).astype(int)
        np.add.at(image, (rows, columns), rng.uniform(200, 8000, len(step)).astype(np.float32))


def add_noise(image: Image, rng: np.random.Generator, variance: Image) -> None:
    """Add Gaussian noise of the given variance per pixel, in place; `variance` is consumed."""
    np.sqrt(variance, out=variance)
    variance *= rng.standard_normal(image.shape, dtype=np.float32)
    image += variance
