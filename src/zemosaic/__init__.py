"""ZeMosaic: seamless, photometrically true mosaics of overlapping sky frames.

Public names are loaded when they are first used, so importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_NAMES = {
    "zemosaic.pipelines.api": ("CoaddResult", "build", "coadd"),
    "zemosaic.pipelines.modes.build": ("BuildOptions", "BuildResult"),
    "zemosaic.pipelines.modes.explain": ("explain",),
    "zemosaic.settings": ("Settings", "load_settings"),
    "zemosaic.errors": ("EnvironmentProblem", "NothingToDo", "SettingError", "ZeMosaicError"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = {"events": "zemosaic.engine.events"}
"""What a run tells while it works: the types that `on_event` receives."""

__all__ = sorted([*_HOMES, *_MODULES])  # noqa: PLE0605 - a sorted list of the names above


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("zemosaic")
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name not in _HOMES:
        raise AttributeError(f"module 'zemosaic' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
