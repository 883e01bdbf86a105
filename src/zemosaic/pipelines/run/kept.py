"""What a step keeps, and what it leaves out with the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from zemosaic.engine.events import LeftOut

__all__ = ["Kept"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Kept(Generic[T]):
    """Frames, in whatever form a step takes them, after the step has judged them.

    Attributes
    ----------
    frames : list
        Those that go on, in the order in which they came.
    left_out : tuple of LeftOut
        The others, as they were announced.
    """

    frames: list[T]
    left_out: tuple[LeftOut, ...] = ()
