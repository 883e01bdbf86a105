"""A browser, and what on a page hinders people who see, hear or move otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["CHROMIUM", "find_barriers", "open_browser"]

CHROMIUM = Path("/usr/bin/chromium")


@contextmanager
def open_browser(program: Path = CHROMIUM) -> Iterator[Any]:
    """A headless Chromium, started by `program`; the test is skipped without playwright or Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(program), args=["--no-sandbox"])
        yield browser
        browser.close()


def find_barriers(page: Any) -> list[tuple[str, str, str]]:
    """What axe finds on an open page: rule, how bad it is, and the first place; the test is skipped without axe."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    # Without preloading: it would fetch style sheets, which a page's policy forbids.
    options = {"resultTypes": ["violations"], "preload": False}
    violations = axe.Axe().run(page, options=options).response["violations"]
    return [(found["id"], found["impact"], found["nodes"][0]["html"][:200]) for found in violations]
