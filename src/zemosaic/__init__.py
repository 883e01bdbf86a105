"""ZeMosaic: seamless, photometrically true mosaics of overlapping sky frames.

Public names are loaded when they are first used, so importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "CoaddResult": "zemosaic.pipelines.api",
    "coadd": "zemosaic.pipelines.api",
    "build": "zemosaic.pipelines.api",
    "load_settings": "zemosaic.settings",
    "Settings": "zemosaic.settings",
    "ZeMosaicError": "zemosaic.errors",
    "SettingError": "zemosaic.errors",
    "NothingToDo": "zemosaic.errors",
    "EnvironmentProblem": "zemosaic.errors",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - a sorted list of the names above


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("zemosaic")
    if name not in _HOMES:
        raise AttributeError(f"module 'zemosaic' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
