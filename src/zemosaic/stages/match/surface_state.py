"""What the loop round the background solve is given, and where it stands after a number of rounds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zemosaic.model.photo_scale import n_terms
from zemosaic.stages.gauge.common_trends import CommonTrends
from zemosaic.stages.match.background import Layout
from zemosaic.stages.match.sensor_pattern import PatternBasis, SensorPattern
from zemosaic.stages.match.sky_nodes import BlockTable

__all__ = ["ROUNDS", "SurfaceProblem", "SurfaceState"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

ROUNDS = 5
"""Rounds at least: priors and robust weights of ordinary sets have settled by then."""

_GAIN_SETTLED = 2e-4
"""Change of ln gain in a round below which gains are taken as found: less than any stated error."""

_PATTERN_SETTLED = 0.1
"""Change of a pattern in a round, over a block's error, below which it is taken as found."""


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceProblem:
    """What is given.

    Attributes
    ----------
    layout : Layout
    value, error : ndarray, shape (blocks,), float32
        Block means over gain and response, and their errors; error 0 leaves a block out.
    log_gain_sd : ndarray, shape (n,)
        How far ln gain may still move; 0 holds it.
    level : float32
        Taken off all values, so that float32 holds what is left.
    scatter : float
        Of the images' levels.
    night : ndarray, shape (n,), int64
        Number of each image's night.
    patterns : PatternBasis
    trends : CommonTrends
    covered : ndarray, shape of the nodes, bool
        Nodes whose second differences tell how the sky bends.
    """

    layout: Layout
    value: F4
    error: F4
    log_gain_sd: F8
    level: np.float32
    scatter: float
    night: Ints
    patterns: PatternBasis
    trends: CommonTrends
    covered: Flags

    @property
    def table(self) -> BlockTable:
        """The blocks."""
        return self.layout.table

    @property
    def n_terms(self) -> int:
        """Coefficients of a surface."""
        return n_terms(self.layout.order)

    @property
    def free(self) -> Flags:
        """Images whose gain may move."""
        return self.log_gain_sd > 0

    def of_order(self, order: int) -> SurfaceProblem:
        """The same with surfaces of another order."""
        return replace(
            self,
            layout=replace(self.layout, order=order),
            patterns=replace(self.patterns, order=order),
            trends=CommonTrends.of(self.table, order),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceState:
    """Where the loop stands after a number of rounds.

    Attributes
    ----------
    turn : int
        Rounds done.
    sky, surfaces : ndarray, shapes (nodes,), (n, k)
        As found in the last one; an extra column's coefficient last.
    between, residual : ndarray, shape (blocks,), float32
        What that sky has beyond bilinear interpolation, and what is left of the values.
    robust : ndarray, shape (blocks,), float32
        Factors of the next weights.
    structure : ndarray, shape of the nodes
        Variance of the sky below a node's reach.
    bend_sd : float
        Prior on the sky's second differences.
    widths : ndarray, shape (order + 1,)
        Priors of the surfaces in a typical night.
    scales : ndarray, shape (n, k)
        How many times wider those of each image are.
    differ, has_priors : bool
        Whether the images differ at all, and whether the widths are found.
    surplus : float
        What blocks know of surfaces over what their errors state (`find_surplus`).
    log_gain : ndarray, shape (n,)
        Change so far; `moved` is the largest change of the last round.
    structured : ndarray, shape (n,), bool
        Images whose gain the sky's structure tells.
    correlated : ndarray, shape (n,)
        How many blocks count as one witness of a gain.
    disagree : float
        By how much stars and structure differ beyond the stars' errors; 1 where they do not.
    extra : ndarray, shape (blocks,), float32, or None
        The next column: the sky's structure; None where no gain is free.
    pattern : SensorPattern
    """

    turn: int
    sky: F8
    surfaces: F8
    between: F4
    residual: F4
    robust: F4
    structure: F8
    bend_sd: float
    widths: F8
    scales: F8
    differ: bool
    has_priors: bool
    surplus: float
    log_gain: F8
    moved: float
    structured: Flags
    correlated: F8
    disagree: float
    extra: F4 | None
    pattern: SensorPattern

    @property
    def settled(self) -> bool:
        """Whether another round would change nothing that counts."""
        still = self.moved < _GAIN_SETTLED and self.pattern.changed < _PATTERN_SETTLED
        return self.turn >= ROUNDS and still and self.has_priors
