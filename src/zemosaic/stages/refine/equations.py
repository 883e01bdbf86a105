"""The sparse least-squares step of the joint astrometric adjustment.

Unknowns: six numbers a frame (a linear change of its tangent-plane position), the distortion
and the mean shear of each camera, two numbers a star. The stars are eliminated exactly, star by star;
what is left is solved by conjugate gradients with every frame's and camera's own block as preconditioner,
so memory and time grow with the number of detections.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from zemosaic.stages.numeric.conjugate import inner_product, solve_conjugate

__all__ = ["Change", "Equations", "solve_equations"]

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

_N_FRAME = 6
"""Unknowns of a frame: 1, u and v for each axis."""

_RELATIVE_ERROR = 1e-8
"""The solve ends when its residual has fallen by so much: unknowns of 10 arcsec are then right to 1e-7 arcsec."""

_MAX_ITERATIONS = 300
"""Several times what thousands of frames need with every frame's own block as preconditioner."""


@dataclass(frozen=True, slots=True, eq=False)
class Equations:
    """Linearised observations, all in arcsec.

    Each observation o of star s by frame f with camera c has two equations (east, north):
    ``residual = linear[o] . frame_f (per axis) + camera[o] . camera_c - star[o] . star_s``.

    Attributes
    ----------
    frame_of, camera_of, star_of : ndarray of int, shape (n,)
        Which unknowns an observation sees.
    residual : ndarray, shape (n, 2)
        Star's place minus the frame's, on the frame's tangent plane.
    sigma : ndarray, shape (n,)
        Error of one coordinate, robust weight included.
    linear : ndarray, shape (n, 3)
        (1, u, v), the same for both axes.
    camera : ndarray, shape (n, 2, k)
        Effect of the camera's `k` numbers.
    star : ndarray, shape (n, 2, 2)
        Effect of the star's (east, north).
    known_star : ndarray of int, shape (m,)
        Stars with a catalogue position.
    known_offset, known_sigma : ndarray, shapes (m, 2), (m,)
        Catalogue minus current place of those, and its error.
    shear, shear_residual, shear_sigma : ndarray, shapes (n_frames, 2, 4), (n_frames, 2), float
        Change of a frame's two shear numbers with its (u, v) terms (both axes), their difference
        from the camera's mean, and how large it may be. The last two camera numbers are the change of that mean.
    camera_of_frame : ndarray of int, shape (n_frames,)
    camera_sigma, camera_residual : ndarray, shape (n_cameras, k)
        Prior: its width, and the current value with the sign turned.
    frame_residual, frame_sigma : ndarray, shapes (n_frames, 2, 3), (3,)
        Prior on a frame's (1, u, v): difference from the start, and its width. A frame without ties stays where it
        is, and a set without a catalogue keeps its scale.
    """

    frame_of: Index
    camera_of: Index
    star_of: Index
    residual: Array
    sigma: Array
    linear: Array
    camera: Array
    star: Array
    known_star: Index
    known_offset: Array
    known_sigma: Array
    shear: Array
    shear_residual: Array
    shear_sigma: float
    camera_of_frame: Index
    camera_sigma: Array
    camera_residual: Array
    frame_residual: Array
    frame_sigma: Array
    n_stars: int

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.camera_of_frame)


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Solution of the equations.

    Attributes
    ----------
    frame : ndarray, shape (n_frames, 2, 3)
        Change (axis; 1, u, v), arcsec.
    camera : ndarray, shape (n_cameras, k)
    star : ndarray, shape (n_stars, 2)
        Change (east, north), arcsec.
    """

    frame: Array
    camera: Array
    star: Array


def solve_equations(eq: Equations) -> Change:
    """Least-squares solution of all equations at once."""
    matrix, target, star_matrix = _assemble(eq)
    n_frames, (n_cameras, k) = eq.n_frames, eq.camera_sigma.shape
    prior = np.zeros((2, matrix.shape[1]))
    prior[0, : n_frames * _N_FRAME] = np.tile(eq.frame_sigma**-2.0, 2 * n_frames)
    prior[1, : n_frames * _N_FRAME] = eq.frame_residual.ravel()
    normal = scipy.sparse.csr_array(matrix.T @ matrix + scipy.sparse.diags_array(prior[0]))
    coupling = scipy.sparse.csr_array(matrix.T @ star_matrix)
    star_root = _block_whitening(scipy.sparse.csr_array(star_matrix.T @ star_matrix), eq.n_stars, 2, 0)
    coupling = scipy.sparse.csr_array(coupling @ star_root)
    transposed = scipy.sparse.csr_array(coupling.T)
    star_target = star_root.T @ (star_matrix.T @ target)
    root = _block_whitening(normal, n_frames, _N_FRAME, n_cameras * k)
    root_transposed = scipy.sparse.csr_array(root.T)

    def correct(y: Array) -> tuple[Array, Array]:
        # The unknowns are whitened: no preconditioner is needed, and the residual is in units of sigma.
        x = root @ y
        return y, np.asarray(root_transposed @ (normal @ x - coupling @ (transposed @ x)))

    right = root_transposed @ (matrix.T @ target + prior[0] * prior[1] - coupling @ star_target)
    enough = _RELATIVE_ERROR**2 * float(inner_product(right, right))
    x = root @ solve_conjugate(correct, right, enough=enough, most_steps=_MAX_ITERATIONS)
    stars = star_root @ (star_target - transposed @ x)
    frame, camera = x[: n_frames * _N_FRAME], x[n_frames * _N_FRAME :]
    return Change(frame.reshape(n_frames, 2, 3), camera.reshape(n_cameras, k), stars.reshape(-1, 2))


def _assemble(eq: Equations) -> tuple[scipy.sparse.csr_array, Array, scipy.sparse.csr_array]:
    """Weighted matrix of frames and cameras, target, and matrix of stars.

    Rows, the same in all: observations, catalogue stars, shears of frames, priors of cameras.
    """
    weight = 1 / eq.sigma
    target = np.concatenate([
        (eq.residual * weight[:, None]).ravel(),
        (eq.known_offset / eq.known_sigma[:, None]).ravel(),
        (eq.shear_residual / eq.shear_sigma).ravel(),
        (eq.camera_residual / eq.camera_sigma).ravel(),
    ])
    return _frame_matrix(eq, weight, len(target)), target, _star_matrix(eq, weight, len(target))


def _frame_matrix(eq: Equations, weight: Array, n_rows: int) -> scipy.sparse.csr_array:
    n, n_frames = len(eq.frame_of), eq.n_frames
    n_cameras, k = eq.camera_sigma.shape
    first_camera, first_shear = n_frames * _N_FRAME, 2 * n + 2 * len(eq.known_star)
    axis = np.arange(2)
    row = (2 * np.arange(n)[:, None] + axis)[:, :, None]
    shear_row = (first_shear + 2 * np.arange(n_frames)[:, None] + axis)[:, :, None]
    own_terms = np.arange(n_frames)[:, None, None] * _N_FRAME + np.array([1, 2, 4, 5])
    mean_shear = (first_camera + eq.camera_of_frame * k + k - 2)[:, None] + axis
    priors = np.arange(n_cameras * k)
    blocks = [
        (
            row,
            (eq.frame_of[:, None] * _N_FRAME + 3 * axis)[:, :, None] + np.arange(3),
            np.repeat((eq.linear * weight[:, None])[:, None, :], 2, axis=1),
        ),
        (
            row,
            (first_camera + eq.camera_of * k)[:, None, None] + np.arange(k),
            eq.camera * weight[:, None, None],
        ),
        (shear_row, own_terms, eq.shear / eq.shear_sigma),
        (shear_row[:, :, 0], mean_shear, np.full((n_frames, 2), -1 / eq.shear_sigma)),
        (first_shear + 2 * n_frames + priors, first_camera + priors, 1 / eq.camera_sigma.ravel()),
    ]
    return _sparse(blocks, (n_rows, first_camera + n_cameras * k))


def _star_matrix(eq: Equations, weight: Array, n_rows: int) -> scipy.sparse.csr_array:
    n, axis = len(eq.frame_of), np.arange(2)
    row = (2 * np.arange(n)[:, None] + axis)[:, :, None]
    known_row = 2 * n + 2 * np.arange(len(eq.known_star))[:, None] + axis
    blocks = [
        (row, (2 * eq.star_of)[:, None, None] + axis, -eq.star * weight[:, None, None]),
        (known_row, 2 * eq.known_star[:, None] + axis, np.repeat(1 / eq.known_sigma[:, None], 2, axis=1)),
    ]
    return _sparse(blocks, (n_rows, 2 * eq.n_stars))


def _sparse(blocks: list[tuple[Index, Index, Array]], shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """Matrix of (rows, columns, values); rows and columns are broadcast to the shape of the values."""
    rows = np.concatenate([np.broadcast_to(row, value.shape).ravel() for row, _, value in blocks])
    columns = np.concatenate([np.broadcast_to(column, value.shape).ravel() for _, column, value in blocks])
    values = np.concatenate([value.ravel() for _, _, value in blocks])
    return scipy.sparse.csr_array((values, (rows, columns)), shape=shape)


def _block_whitening(normal: scipy.sparse.csr_array, n_blocks: int, size: int, n_rest: int) -> scipy.sparse.csr_array:
    """W with ``W^T N W = 1`` within each block on the diagonal; what comes after the blocks is one block more."""
    n = n_blocks * size
    entry = normal[:n, :n].tocoo()
    same = entry.row // size == entry.col // size
    dense = np.zeros((n_blocks, size, size))
    dense[entry.row[same] // size, entry.row[same] % size, entry.col[same] % size] = entry.data[same]
    inverse = _inverse_root(dense)
    base = np.arange(n_blocks)[:, None, None] * size
    at = np.arange(size)
    blocks = [(base + at[:, None], base + at, inverse)]
    if n_rest:
        rest = _inverse_root(normal[n:, n:].toarray()[None])[0]
        at = n + np.arange(n_rest)
        blocks.append((at[:, None], at, rest))
    return _sparse(blocks, (n + n_rest, n + n_rest))


def _inverse_root(blocks: Array) -> Array:
    """Upper triangular W with ``W^T B W = 1`` for a stack of positive (semi-)definite matrices."""
    size = blocks.shape[-1]
    scale = np.sqrt(np.maximum(np.einsum("nii->ni", blocks), 1e-30))
    correlation = blocks / scale[:, :, None] / scale[:, None, :]
    # Stars in one line leave some numbers of a frame almost undetermined.
    root = np.linalg.cholesky(correlation + 1e-10 * np.eye(size))
    return np.asarray(np.swapaxes(np.linalg.inv(root), 1, 2) / scale[:, :, None])
