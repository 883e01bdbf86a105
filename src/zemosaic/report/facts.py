"""Numbers of report.json on a page: each carries the path of its fact, so that a test can compare all of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from zemosaic.text import Message, say

__all__ = ["Facts"]

MINUTE_S, HOUR_S = 60, 3600


class Facts:
    """What a report holds, written in the way of a language.

    Parameters
    ----------
    report : mapping
        ``report.json``.
    language : {"en", "fr"}
    """

    def __init__(self, report: Mapping[str, Any], language: str) -> None:
        self._report = report
        self._language, self._comma = language, language == "fr"

    def get(self, path: str) -> Any:
        """The value at a path of keys and indices, parted by slashes; None where there is none."""
        value: Any = self._report
        for key in path.split("/"):
            if isinstance(value, Mapping):
                value = value.get(key)
            elif isinstance(value, Sequence) and not isinstance(value, str):
                value = value[int(key)] if int(key) < len(value) else None
            else:
                return None
        return value

    def has(self, path: str) -> bool:
        """Whether there is a number, or text, at a path."""
        value = self.get(path)
        return value is not None and not (isinstance(value, float) and not math.isfinite(value))

    def number(self, path: str, form: str = ".3g", scale: float = 1) -> Markup:
        """The number at a path, times `scale`; a dash where it is not known."""
        value = self.get(path)
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return Markup("–")
        shown = self.write(value * scale if scale != 1 else value, form)
        factor = Markup(' data-scale="{}"').format(repr(scale)) if scale != 1 else ""
        return Markup('<data value="{}" data-fact="{}"{}>{}</data>').format(value, path, factor, shown)

    def text(self, path: str) -> Markup:
        """The text at a path."""
        return Markup('<span data-fact-text="{}">{}</span>').format(path, str(self.get(path)))

    def told(self, path: str) -> Markup:
        """The sentence of what an entry of the report tells by its code and facts."""
        return Markup('<span data-told="{}">{}</span>').format(path, say(_message_of(self.get(path)), self._language))

    def file_name(self, path: str) -> str:
        """The last part of the file name at a path."""
        return re.split(r"[/\\\\]", str(self.get(path)))[-1]

    def duration(self, path: str) -> Markup:
        """Seconds at a path in the unit that suits them."""
        value = self.get(path)
        if value is None:
            return Markup("–")
        for unit, length, form in (("h", HOUR_S, ".1f"), ("min", MINUTE_S, ".1f")):
            if value >= 2 * length:
                return self.number(path, form, 1 / length) + Markup("&#8239;") + escape(unit)
        return self.number(path, ".3g") + Markup("&#8239;s")

    def write(self, value: float, form: str) -> str:
        """A number as the language writes it: thousands apart, its decimal sign, no exponent where figures do."""
        if form.endswith("g") and value and 1e-4 <= abs(value) < 1e7:
            digits = int(form[1:-1])
            places = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
            text = f"{float(f'{value:.{digits}g}'):,.{places}f}"
        else:
            text = format(value, form.replace("d", ",d") if form == "d" else form)
        if text.startswith("-") and not re.search("[1-9]", text):
            text = text[1:]  # what is nothing in so many digits has no sign
        return text.replace(",", "\u202f").replace(".", ",") if self._comma else text


def _message_of(told: Any) -> Any:
    """A message, or a fact of one, from what the report holds of it."""
    if isinstance(told, Mapping):
        return Message(told["code"], tuple((name, _message_of(fact)) for name, fact in told["facts"].items()))
    return tuple(_message_of(item) for item in told) if isinstance(told, list) else told
