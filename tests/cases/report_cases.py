"""The numbers of a report page, read back from its HTML."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

__all__ = ["compare_numbers"]


class _FactsOfPage(HTMLParser):
    """Numbers and texts of a page with the paths that they claim."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, float, str, bool]] = []
        self._open: tuple[str, float, bool] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        for name, is_number in (("data-fact", True), ("data-fact-text", False)):
            if name in given:
                self._open = str(given[name]), float(given.get("data-scale") or 1), is_number

    def handle_data(self, data: str) -> None:
        if self._open:
            path, scale, is_number = self._open
            self.found.append((path, scale, data, is_number))
            self._open = None


def _value_at(report: Any, path: str) -> Any:
    for key in path.split("/"):
        report = report[int(key)] if isinstance(report, list) else report[key]
    return report


def compare_numbers(report: Any, text: str, has_comma: bool) -> tuple[int, list[str]]:
    """How many numbers a page shows, and the paths of those numbers and texts that report.json holds otherwise.

    Parameters
    ----------
    report : dict
        What ``report.json`` holds.
    text : str
        The page.
    has_comma : bool
        Numbers are written as in French.
    """
    found = _FactsOfPage(text).found
    unlike = []
    for path, scale, shown, is_number in found:
        value = _value_at(report, path)
        if not is_number:
            unlike += [path] if shown != str(value) else []
            continue
        plain = shown.replace("\u202f", "").replace(",", ".") if has_comma else shown.replace(",", "")
        digits = len(plain.partition(".")[2])
        # A whole number may have been rounded to two digits that count.
        wanted = pytest.approx(value * scale, abs=0.51 * 10.0**-digits, rel=6e-2 if digits == 0 else 0)
        unlike += [path] if float(plain) != wanted else []
    return sum(is_number for *_, is_number in found), unlike
