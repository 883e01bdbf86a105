"""Sentences of the page by code, in a language; numbers come in as they are marked up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from markupsafe import Markup, escape

__all__ = ["Words"]


@cache
def load_catalogue(language: str) -> Mapping[str, str]:
    """The sentences of a language by code."""
    text = Path(__file__).with_name(f"words_{language}.json").read_text(encoding="utf-8")
    catalogue: dict[str, str] = json.loads(text)
    return catalogue


class Words:
    """Says codes in one language."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._catalogue = load_catalogue(language)

    def plain(self, code: str) -> str:
        """A sentence without facts, as text: figures take it."""
        return self._catalogue[code]

    def has(self, code: str) -> bool:
        """Whether there is a sentence for a code."""
        return code in self._catalogue

    def say(self, code: str, **facts: object) -> Markup:
        """A sentence for the page; facts that are no `Markup` are text and lose their power."""
        return Markup(escape(self._catalogue[code])).format(**facts)
