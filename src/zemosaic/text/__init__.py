"""What the program says: a code, facts, and the sentences that a catalogue of a language makes of them.

Codes are stable, sentences are not: a program that watches a run looks at codes and facts, a person reads sentences.
A catalogue is a flat JSON file, ``code -> sentence``, whose ``{fields}`` name facts and say how they are written.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["LANGUAGES", "Message", "load_catalogue", "message", "message_from_json", "say"]

LANGUAGES = ("en", "fr")
"""Languages that have a catalogue; English is the one of files and of what Python raises."""

_UNITS = {" %": 100.0, " GiB": 2.0**-30, " GB": 1e-9}
"""A format that ends so writes the fact times this number, with the unit behind it: a share as percents."""


_SYSTEM = {
    os.strerror(errno.ENOSPC): "system.no-space",
    os.strerror(errno.EACCES): "system.no-permission",
    os.strerror(errno.EPERM): "system.not-permitted",
    os.strerror(errno.EROFS): "system.read-only",
    os.strerror(errno.ENOENT): "system.gone",
    os.strerror(errno.EIO): "system.fault",
    os.strerror(errno.EDQUOT): "system.quota",
    os.strerror(errno.ENOTDIR): "system.no-folder",
    os.strerror(errno.EISDIR): "system.is-folder",
}
"""Words of the operating system, which knows English alone, by our codes."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something to tell; `message` makes one.

    Attributes
    ----------
    code : str
        What is told, in lower case, its subject first: ``header.no-wcs``.
    pairs : tuple of (str, value)
        Names and values of its facts. Values are plain: text, numbers, None, other messages, tuples of these.
    """

    code: str
    pairs: tuple[tuple[str, Any], ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """The facts by name, as `message` takes them."""
        return dict(self.pairs)

    def as_json(self) -> dict[str, Any]:
        """``{"code": ..., "facts": {...}}`` of plain JSON values; numbers that are not finite become null."""
        return {"code": self.code, "facts": {name: _as_json(value) for name, value in self.pairs}}

    def __str__(self) -> str:
        return say(self)


def message(code: str, /, **facts: object) -> Message:
    """A code with its facts.

    Parameters
    ----------
    code : str
        A key of the catalogues.
    **facts
        At least those that its sentence names, with units in their names (``limit_px``). An error counts as what it
        tells; paths and other objects count as their text.
    """
    return Message(code, tuple((name, _plain(value)) for name, value in facts.items()))


def _plain(value: object) -> Any:
    if type(value) is str and value in _SYSTEM:
        return Message(_SYSTEM[value])
    if isinstance(value, BaseException):
        # An error of the house, or one that was raised with a message, tells its code; the words of others are text.
        told = getattr(value, "told", value.args[0] if value.args else None)
        return told if isinstance(told, Message) else str(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return tuple(_plain(item) for item in value)
    if value is None or type(value) in {str, bool, int, float, Message}:
        return value
    to_list = getattr(value, "tolist", None)  # numbers and arrays of numpy
    return _plain(to_list()) if to_list is not None else str(value)


def _as_json(value: Any) -> Any:
    if isinstance(value, Message):
        return value.as_json()
    if isinstance(value, tuple):
        return [_as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def message_from_json(told: Mapping[str, Any]) -> Message:
    """What `Message.as_json` wrote; other keys of the object are passed over."""
    return Message(told["code"], tuple((name, _from_json(value)) for name, value in told["facts"].items()))


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return message_from_json(value)
    return tuple(_from_json(item) for item in value) if isinstance(value, list) else value


def say(told: Message, language: str = "en") -> str:
    """The sentence of a message, on one line whatever its facts quote: headers may hold any byte.

    Parameters
    ----------
    told : Message
        A fact that is a message is said in the same language; several values are parted by commas, or by what their
        field gives as format (``{names:; }``); None is said as nothing.
    language : {"en", "fr"}

    Notes
    -----
    A code may have a second sentence, ``CODE.one``, for where its fact `n` is 1.
    """
    return " ".join(_write(told, language).split())


def _write(told: Message, language: str) -> str:
    """A sentence as the catalogue has it: one that is a part of another may begin with a space."""
    catalogue, facts = load_catalogue(language), told.facts
    singular = f"{told.code}.one"
    code = singular if facts.get("n") == 1 and singular in catalogue else told.code
    sentence = catalogue.get(code, code)  # a run must not end by what it tells; the suite finds codes without one
    return _Fields(language).vformat(sentence, (), facts)


_COORDINATE = re.compile(r"(^|_)(ra|dec)_deg$")
"""Names of facts that are places of the sky: they are told as they are typed, in every language."""


class _Coordinate(float):
    """A number that keeps its point."""


class _Fields(string.Formatter):
    """Writes facts as the fields of a sentence ask."""

    def __init__(self, language: str) -> None:
        self._language = language

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """A fact; one that a caller has not handed on is said as nothing."""
        fact = kwargs.get(str(key))
        return _Coordinate(fact) if _COORDINATE.search(str(key)) and isinstance(fact, float) else fact

    def format_field(self, value: Any, format_spec: str) -> str:
        """One fact; what does not go with its format is written plainly."""
        if value is None:
            return ""
        if isinstance(value, Message):
            return _write(value, self._language)
        if isinstance(value, tuple):
            return (format_spec or ", ").join(self.format_field(item, "") for item in value)
        unit = next((unit for unit in _UNITS if format_spec.endswith(unit)), "")
        try:
            text = format(value * _UNITS[unit] if unit else value, format_spec.removesuffix(unit)) + unit
        except (TypeError, ValueError):
            return str(value)
        # What has no format is quoted as it is typed.
        has_comma = self._language == "fr" and format_spec and type(value) is float
        return text.replace(".", ",") if has_comma else text


@cache
def load_catalogue(language: str) -> Mapping[str, str]:
    """The sentences of a language by code."""
    text = Path(__file__).with_name(f"{language}.json").read_text(encoding="utf-8")
    catalogue: dict[str, str] = json.loads(text)
    return catalogue
