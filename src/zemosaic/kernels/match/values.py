"""What the kernels of the background solve take and fill: blocks, nodes and normal equations by name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "LANES",
    "CoarseNodes",
    "CoarseSky",
    "Coupling",
    "ImageNodes",
    "NormalParts",
    "PlacedBlocks",
    "SkyEquations",
    "SkyFactors",
]

LANES = 4
"""Right-hand sides that are solved side by side: the matrix is read once for all. Long loops name each lane."""


class PlacedBlocks(NamedTuple):
    """Blocks of all images, image after image, between sky nodes, and the columns their images' surfaces have.

    Attributes
    ----------
    start : ndarray, shape (n + 1,), int64
        Blocks of image i are ``start[i]:start[i + 1]``.
    cell : ndarray, shape (blocks,), int32
        Flat index of the node at the block's lower left.
    fx, fy : ndarray, shape (blocks,), float32
        Place between that node and the next, 0 to 1.
    u, v : ndarray, shape (blocks,), float32
        Place in the image, -1 to 1.
    extra : ndarray, shape (blocks,) or (0,), float32
        One more column of each image, or none.
    order : int
        Of the surfaces.
    nx : int
        Nodes in a row of the sky.
    """

    start: npt.NDArray[np.int64]
    cell: npt.NDArray[np.int32]
    fx: npt.NDArray[np.float32]
    fy: npt.NDArray[np.float32]
    u: npt.NDArray[np.float32]
    v: npt.NDArray[np.float32]
    extra: npt.NDArray[np.float32]
    order: int
    nx: int


class ImageNodes(NamedTuple):
    """Sky nodes that each image touches: those of image i are ``nodes[start[i]:start[i + 1]]``.

    Attributes
    ----------
    start : ndarray, shape (n + 1,), int64
    nodes : ndarray, shape (locals,), int32
    """

    start: npt.NDArray[np.int64]
    nodes: npt.NDArray[np.int32]


class NormalParts(NamedTuple):
    """Parts of the normal equations, k columns an image; float64.

    Attributes
    ----------
    cross : ndarray, shape (locals, k)
        Of each image with the nodes it touches.
    own : ndarray, shape (n, k, k)
        Of each image with itself.
    rhs_own : ndarray, shape (n, k)
    stencil : ndarray, shape (nodes, 7)
        Of the sky with itself, which is symmetric: each node with itself, the next two in its row, the three nearest in
        the next row, and the one two rows on.
    rhs_sky : ndarray, shape (nodes,)
    """

    cross: npt.NDArray[np.float64]
    own: npt.NDArray[np.float64]
    rhs_own: npt.NDArray[np.float64]
    stencil: npt.NDArray[np.float64]
    rhs_sky: npt.NDArray[np.float64]


class Coupling(NamedTuple):
    """What eliminating the surfaces needs: C_i and P_i^-1 of every image.

    Attributes
    ----------
    local : ImageNodes
    cross : ndarray, shape (locals, k), float64
    own_inverse : ndarray, shape (n, k, k), float64
    """

    local: ImageNodes
    cross: npt.NDArray[np.float64]
    own_inverse: npt.NDArray[np.float64]


class SkyEquations(NamedTuple):
    """The Schur matrix, never assembled: the sky with all surfaces eliminated.

    Attributes
    ----------
    stencil : ndarray, shape (nodes, 7), float64
        The sky's own matrix, as in `NormalParts`, its prior included.
    nx : int
        Nodes in a row.
    coupling : Coupling
    """

    stencil: npt.NDArray[np.float64]
    nx: int
    coupling: Coupling


class SkyFactors(NamedTuple):
    """Factors ``L D L^T`` of about the sky's own matrix; single precision is good enough.

    Attributes
    ----------
    start : ndarray, shape (nodes + 1,), int32
        Column j of L below its diagonal, which is 1, is ``start[j]:start[j + 1]``.
    rows : ndarray, shape (entries,), int32
    values : ndarray, shape (entries,), float32
    inverse : ndarray, shape (nodes,), float64
        Of D.
    """

    start: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    inverse: npt.NDArray[np.float64]


class CoarseNodes(NamedTuple):
    """Quadratic B-splines from coarse nodes to fine ones; coarse nodes are listed along their shorter side first.

    Attributes
    ----------
    factor : int
        Fine nodes to a coarse one.
    fine_nx : int
        Fine nodes in a row.
    nx, n : int
        Coarse nodes in a row, and in all.
    step_y, step_x : int
        Steps in the list from a coarse node to the next along y and x.
    spline : ndarray, shape (factor, 3), float64
        Weights of the three coarse nodes at each fine node of a cell.
    """

    factor: int
    fine_nx: int
    nx: int
    n: int
    step_y: int
    step_x: int
    spline: npt.NDArray[np.float64]


class CoarseSky(NamedTuple):
    """The Schur matrix on coarse nodes.

    Attributes
    ----------
    nodes : CoarseNodes
    local : ImageNodes
        Coarse nodes that each image touches.
    gathered : ndarray, shape (coarse locals, k), float64
        What its surface shares with them.
    band : ndarray, shape (coarse nodes, reach + 1), float64
        Columns of the matrix's Cholesky factor: each coarse node with itself and those after it in the list.
    """

    nodes: CoarseNodes
    local: ImageNodes
    gathered: npt.NDArray[np.float64]
    band: npt.NDArray[np.float64]
