"""Values as bytes and as digests: what the store keeps, and what its keys are made of.

A value is made of None, numbers, text, numpy arrays, tuples, lists, mappings and dataclasses. Its bytes hold one
JSON text that says how it is put together, and the arrays one behind the other. Nothing in them is code: who writes and
who reads name one type, and only the dataclasses that its annotations lead to can occur.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

__all__ = ["HasIdentity", "decode", "digest_of", "encode", "types_within"]

AnyArray = npt.NDArray[Any]

_ALIGN = 8
"""Arrays begin at multiples of so many bytes, the size of the largest number, so they can be looked at in place."""


@runtime_checkable
class HasIdentity(Protocol):
    """A value that says itself what makes it what it is: a frame is its content, wherever its file lies."""

    @property
    def identity(self) -> object:
        """What goes into digests in place of the value's fields."""
        ...


@cache
def types_within(kind: Any) -> dict[str, type]:
    """The dataclasses that a value of a type may hold, by name: those that its annotations lead to.

    Parameters
    ----------
    kind : type or type expression
        A dataclass, or an expression such as ``tuple[Solution, PointingHint] | str``; None for plain values.

    Raises
    ------
    TypeError
        When two of the dataclasses share a name, or an annotation cannot be resolved.
    """
    found: dict[str, type] = {}
    wanted, seen = [kind], set()
    while wanted:
        part = wanted.pop()
        wanted += typing.get_args(part)
        if not (isinstance(part, type) and dataclasses.is_dataclass(part)) or part in seen:
            continue
        seen.add(part)
        if found.setdefault(part.__name__, part) is not part:
            raise TypeError(f"two types are called {part.__name__}: stored values could not be told apart")
        try:
            wanted += typing.get_type_hints(part).values()
        except NameError as problem:
            raise TypeError(f"{part.__name__} cannot be stored: {problem} while its annotations are read") from problem
    return found


@cache
def _parts_of(kind: type) -> tuple[str, ...]:
    """What a dataclass is made of: the fields that its constructor takes."""
    return tuple(field.name for field in dataclasses.fields(kind) if field.init)


class _Packer:
    """Takes a value apart into a JSON tree and arrays; of dataclasses those in `known`, or all by their identity."""

    def __init__(self, known: Mapping[str, type] | None) -> None:
        self.arrays: list[AnyArray] = []
        self._known = known
        self._by_identity = known is None

    def tree(self, value: object) -> Any:
        """The JSON tree of a value; its arrays are kept in order."""
        if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, np.generic)):
            return value
        if isinstance(value, np.ndarray | np.generic):
            array = np.ascontiguousarray(value)
            if array.dtype.hasobject:
                raise TypeError("an array of objects cannot be stored")
            self.arrays.append(array)
            return {"array": [array.dtype.str, list(np.shape(value))], "scalar": isinstance(value, np.generic)}
        # First: most of what a value is made of are these.
        if isinstance(value, list):
            return [self.tree(item) for item in value]
        if isinstance(value, tuple):
            return {"tuple": [self.tree(item) for item in value]}
        if self._by_identity and hasattr(value, "identity"):  # to ask for the protocol takes ten times as long
            return {"identity": type(value).__name__, "of": self.tree(cast(HasIdentity, value).identity)}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            if self._known is not None and self._known.get(type(value).__name__) is not type(value):
                names = ", ".join(sorted(self._known)) or "plain values"
                raise TypeError(f"a value of type {type(value).__name__} cannot be stored as one of {names}")
            parts = {name: self.tree(getattr(value, name)) for name in _parts_of(type(value))}
            return {"dataclass": type(value).__name__, "fields": parts}
        if isinstance(value, Mapping):
            return {"mapping": [[self.tree(key), self.tree(item)] for key, item in value.items()]}
        if self._by_identity and isinstance(value, BaseModel):
            return self.tree(value.model_dump())
        raise TypeError(f"a value of type {type(value).__name__} cannot be stored")


def encode(value: object, kind: Any = None) -> bytes:
    """The bytes of a value of a type; `decode` is the inverse.

    Parameters
    ----------
    value : object
    kind : type or type expression
        What the value is; None for one without dataclasses. See `types_within`.

    Raises
    ------
    TypeError
        For types that the module's docstring does not name, and for dataclasses that `kind` does not lead to.
    """
    packer = _Packer(types_within(kind))
    text = json.dumps(packer.tree(value)).encode()
    parts, n_bytes = [len(text).to_bytes(8, "little"), text], len(text)
    for array in packer.arrays:
        gap = -n_bytes % _ALIGN
        parts += [bytes(gap), array.tobytes()]
        n_bytes += gap + array.nbytes
    return b"".join(parts)


def decode(content: bytes, kind: Any = None) -> Any:
    """The value of bytes that `encode` made.

    Parameters
    ----------
    content : bytes
    kind : type or type expression
        What the value is; see `types_within`. Each dataclass is made by its constructor, so it checks itself. Fields
        that it does not take from its caller are made anew.

    Raises
    ------
    ValueError
        When the bytes are no such value, or hold a type that `kind` does not lead to.
    """
    known = types_within(kind)
    end = 8 + int.from_bytes(content[:8], "little")
    position = end

    def make(tree: Any) -> Any:
        if isinstance(tree, list):
            return [make(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        if "array" in tree:
            dtype, shape = tree["array"]
            return take_array(dtype, shape, tree["scalar"])
        if "tuple" in tree:
            return tuple(make(item) for item in tree["tuple"])
        if "mapping" in tree:
            return {make(key): make(item) for key, item in tree["mapping"]}
        fields = {name: make(item) for name, item in tree["fields"].items()}
        return known[tree["dataclass"]](**fields)

    def take_array(dtype: str, shape: list[int], scalar: bool) -> Any:
        nonlocal position
        position += -(position - 8) % _ALIGN
        n_items = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(content, dtype, n_items, position).reshape(shape).copy()
        position += array.nbytes
        return array[()] if scalar else array

    try:
        return make(json.loads(content[8:end]))
    except (KeyError, TypeError, ValueError) as problem:
        raise ValueError(f"no stored value of {', '.join(known) or 'plain types'}: {problem!r}") from problem


def digest_of(*values: object) -> str:
    """Hex digest of values: the same for equal content, another for any difference in number, text, type or shape.

    A value with an `identity` counts by it alone. The order of a mapping counts.
    """
    digest = hashlib.blake2b(digest_size=20)
    packer = _Packer(None)
    digest.update(json.dumps(packer.tree(values)).encode())
    for array in packer.arrays:
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()
