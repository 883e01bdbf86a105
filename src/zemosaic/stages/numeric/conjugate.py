"""Conjugate gradients: the one loop that the match, the joint astrometry and their error estimates run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["inner_product", "solve_conjugate"]

F8 = npt.NDArray[np.float64]


def inner_product(a: F8, b: F8) -> float:
    """Sum of products by numpy's own loop: the last bits of a BLAS dot depend on how many threads the BLAS has."""
    return float(np.sum(a * b))


def solve_conjugate(
    apply: Callable[[F8], F8],
    precondition: Callable[[F8], F8],
    rhs: F8,
    start: F8 | None = None,
    *,
    enough: float,
    most_steps: int,
) -> F8:
    """Solve ``A x = rhs`` for a symmetric positive definite A by preconditioned conjugate gradients.

    Parameters
    ----------
    apply : callable
        x to A x.
    precondition : callable
        r to P r, P symmetric, positive definite and near the inverse of A.
    rhs : ndarray, shape (n,)
    start : ndarray, shape (n,), optional
        A first guess, which is not changed; None for 0.
    enough : float
        The loop ends when ``r . P r`` has come down to it, r = rhs - A x. For the normal equations of a least-squares
        problem that is about the chi squared still to be gained.
    most_steps : int
        The loop ends after so many steps in any case.

    Returns
    -------
    ndarray, shape (n,)
        The same bits whatever the number of threads, where `apply` and `precondition` give the same.
    """
    x = np.zeros_like(rhs) if start is None else start.copy()
    residual = rhs.copy() if start is None else rhs - apply(x)
    z = precondition(residual)
    direction, rz = z, inner_product(residual, z)
    for _ in range(most_steps):
        if rz <= enough:
            break
        product = apply(direction)
        step = rz / inner_product(direction, product)
        x += step * direction
        residual = residual - step * product
        z = precondition(residual)
        rz, before = inner_product(residual, z), rz
        direction = z + rz / before * direction
    return x
