"""Conjugate gradients: the one loop that the match, the joint astrometry and their error estimates run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["inner_product", "solve_conjugate"]

F8 = npt.NDArray[np.float64]


def inner_product(a: F8, b: F8) -> F8:
    """Sum of products by numpy's own loop: the last bits of a BLAS dot depend on how many threads the BLAS has.

    Along the first axis: of columns each its own.
    """
    products = a * b
    # Numpy sums columns one by one five times as fast as side by side.
    return np.asarray([np.sum(column) for column in products.T] if products.ndim > 1 else np.sum(products))


def solve_conjugate(correct: Callable[[F8], tuple[F8, F8]], rhs: F8, *, enough: float | F8, most_steps: int) -> F8:
    """Solve ``A x = rhs`` for a symmetric positive definite A by preconditioned conjugate gradients.

    Parameters
    ----------
    correct : callable
        r to ``P r`` and ``A P r``, P symmetric, positive definite and near the inverse of A.
    rhs : ndarray, shape (n,) or (n, m)
        Of columns each is a system of its own, and ends by itself.
    enough : float, or ndarray, shape (m,)
        The loop ends when ``r . P r`` has come down to it, r = rhs - A x. For the normal equations of a least-squares
        problem that is about the chi squared still to be gained.
    most_steps : int
        The loop ends after so many steps in any case.

    Returns
    -------
    ndarray, as `rhs`
        The same bits whatever the number of threads, where `correct` gives the same.
    """
    x, residual = np.zeros_like(rhs), rhs
    direction, product = correct(residual)
    rz = inner_product(residual, direction)
    for _ in range(most_steps):
        going = rz > enough
        if not going.any():
            break
        step = np.where(going, rz, 0) / np.where(going, inner_product(direction, product), 1)
        x += step * direction
        residual = residual - step * product
        z, product_of_z = correct(residual)
        rz, before = inner_product(residual, z), rz
        share = rz / np.where(going, before, 1)
        direction, product = z + share * direction, product_of_z + share * product
    return x
