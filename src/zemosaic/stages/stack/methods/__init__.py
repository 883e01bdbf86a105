"""Ways to combine samples: each is a module whose name is the value of ``stack.method``, and holds a `Method`.

A module that is put here is a choice of the setting, is checked, and runs: there is no list to add it to.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from zemosaic.stages.stack.method import Method

__all__ = ["METHODS"]

METHODS: dict[str, Method] = {
    found.name: import_module(f"{__name__}.{found.name}").METHOD for found in pkgutil.iter_modules(__path__)
}
"""All of them by name."""
