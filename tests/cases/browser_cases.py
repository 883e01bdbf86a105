"""Pages in a browser: what hinders people who see, hear or move otherwise."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["find_barriers"]


def find_barriers(page: Any) -> list[tuple[str, str, str]]:
    """What axe finds on an open page: rule, how bad it is, and the first place; the test is skipped without axe."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    # Without preloading: it would fetch style sheets, which a page's policy forbids.
    options = {"resultTypes": ["violations"], "preload": False}
    violations = axe.Axe().run(page, options=options).response["violations"]
    return [(found["id"], found["impact"], found["nodes"][0]["html"][:200]) for found in violations]
