"""Cholesky factors of a dense matrix, in one fixed order: LAPACK's last bits depend on the threads of its BLAS."""

from __future__ import annotations

from zemosaic.kernels.compiled import kernel, leaf

__all__ = ["add_squares", "factorise"]

ROWS = 32
"""Rows made together: each row above is fetched once for all of them."""

COLUMNS = 512
"""Columns worked on at a time: `ROWS` rows of them stay in the cache nearest to a core but one."""


@leaf
def _take_off(factor, source, target):
    for j in range(target.size):
        target[j] -= factor * source[j]


@kernel
def factorise(matrix):
    """Write U with ``U^T U = matrix`` into the upper triangle of a symmetric positive definite matrix, float64 (n, n).

    The lower triangle is left as it is.
    """
    n = matrix.shape[0]
    for i0 in range(0, n, ROWS):
        i1 = min(i0 + ROWS, n)
        for j0 in range(i0, n, COLUMNS):
            j1 = min(j0 + COLUMNS, n)
            for k in range(i0):
                for i in range(i0, i1):
                    _take_off(matrix[k, i], matrix[k, max(i, j0) : j1], matrix[i, max(i, j0) : j1])
        for k in range(i0, i1):
            root = matrix[k, k] ** 0.5
            for j in range(k, n):
                matrix[k, j] /= root
            for i in range(k + 1, i1):
                _take_off(matrix[k, i], matrix[k, i:], matrix[i, i:])


@kernel
def add_squares(factors, columns, first, out):
    """Add ``x^T matrix^-1 x`` of each column x to `out`.

    Parameters
    ----------
    factors : ndarray, float64, shape (n, n)
        From `factorise`.
    columns : ndarray, float64, shape (n, w)
        Overwritten.
    first : int
        Rows of `columns` before this one are 0.
    out : ndarray, float64, shape (w,)
    """
    n = columns.shape[0]
    for k in range(first, n):
        row = columns[k]
        for j in range(row.size):
            row[j] /= factors[k, k]
            out[j] += row[j] * row[j]
        for i in range(k + 1, n):
            _take_off(factors[k, i], row, columns[i])
