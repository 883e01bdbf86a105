"""What is known of the sky before a frame is looked at."""

from __future__ import annotations

from dataclasses import dataclass

from zemosaic.io.astrometry.blind import installed_solvers
from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.model.sky.catalogue import Catalogue
from zemosaic.model.sky.star_field import BlindSolver

__all__ = ["KnownSky", "known_sky"]


@dataclass(frozen=True, slots=True)
class KnownSky:
    """Stars, and whom to ask where a field of stars lies.

    Attributes
    ----------
    catalogue : Catalogue
        Confirms and refines every place.
    solvers : tuple of BlindSolver
        Asked in this order about frames whose headers say too little.
    """

    catalogue: Catalogue
    solvers: tuple[BlindSolver, ...] = ()


def known_sky() -> KnownSky:
    """The packaged catalogue, and the blind solvers that are installed."""
    return KnownSky(tycho2(), tuple(installed_solvers()))
