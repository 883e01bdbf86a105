"""How a stage says that parts of its work may be done at once, without knowing how."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

__all__ = ["Each"]

T = TypeVar("T")
R = TypeVar("R")


class Each(Protocol):
    """Something like `map`: calls a function for each item, perhaps several at once."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterable[R]:
        """Results in the order of `items`."""
        ...
