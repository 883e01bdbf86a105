"""Values as bytes and as digests: what the store keeps, and what its keys are made of.

A value is made of None, numbers, text, numpy arrays, tuples, lists, mappings and dataclasses. Its bytes hold one
JSON text that says how it is put together, and the arrays one behind the other. Nothing in them is code: a reader
names the dataclasses that it is ready to make.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

__all__ = ["HasIdentity", "decode", "digest_of", "encode"]

AnyArray = npt.NDArray[Any]

_ALIGN = 8


@runtime_checkable
class HasIdentity(Protocol):
    """A value that says itself what makes it what it is: a frame is its content, wherever its file lies."""

    @property
    def identity(self) -> object:
        """What goes into digests in place of the value's fields."""
        ...


class _Packer:
    """Takes a value apart into a JSON tree and arrays."""

    def __init__(self, *, by_identity: bool) -> None:
        self.arrays: list[AnyArray] = []
        self._by_identity = by_identity

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
        if self._by_identity and isinstance(value, HasIdentity):
            return {"identity": type(value).__name__, "of": self.tree(value.identity)}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            parts = {f.name: self.tree(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
            return {"dataclass": type(value).__name__, "fields": parts}
        if isinstance(value, list):
            return [self.tree(item) for item in value]
        if isinstance(value, tuple):
            return {"tuple": [self.tree(item) for item in value]}
        if isinstance(value, Mapping):
            return {"mapping": [[self.tree(key), self.tree(item)] for key, item in value.items()]}
        if self._by_identity and isinstance(value, BaseModel):
            return self.tree(value.model_dump())
        raise TypeError(f"a value of type {type(value).__name__} cannot be stored")


def encode(value: object) -> bytes:
    """The bytes of a value; `decode` is the inverse.

    Raises
    ------
    TypeError
        For types that the module's docstring does not name.
    """
    packer = _Packer(by_identity=False)
    text = json.dumps(packer.tree(value)).encode()
    parts = [len(text).to_bytes(8, "little"), text]
    for array in packer.arrays:
        parts += [bytes(-sum(map(len, parts[1:])) % _ALIGN), array.tobytes()]
    return b"".join(parts)


def decode(content: bytes, types: Iterable[type] = ()) -> Any:
    """The value of bytes that `encode` made.

    Parameters
    ----------
    content : bytes
    types : iterable of type
        The dataclasses that may occur; each is made by its constructor, so it checks itself. Fields that it does not
        take from its caller are made anew.

    Raises
    ------
    ValueError
        When the bytes are no such value, or hold a type that was not named.
    """
    known = {kind.__name__: kind for kind in types}
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
    packer = _Packer(by_identity=True)
    digest.update(json.dumps(packer.tree(values)).encode())
    for array in packer.arrays:
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()
