"""Settings from files, assignments and mappings."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zemosaic.errors import SettingError
from zemosaic.settings.models import Settings

__all__ = ["GivenSettings", "load_settings", "make_settings"]

GivenSettings = Settings | Mapping[str, Mapping[str, Any]] | None
"""Settings as Python gives them: made already, as ``{"stack": {"method": "median"}}``, or the defaults."""


def make_settings(given: GivenSettings, config: Path | None = None) -> Settings:
    """Settings of what Python code gives.

    Parameters
    ----------
    given : Settings, mapping of mappings or None
        ``{"stack": {"method": "median"}}`` sets one key, all others stand as in `config`.
    config : Path, optional
        Settings file under a mapping; not read where `given` is whole `Settings`.

    Raises
    ------
    SettingError
        As `load_settings`, and for a value of another type.
    """
    if isinstance(given, Settings):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise SettingError("setting.no-settings", type=type(given).__name__)
    return load_settings(config, overrides=given)


def load_settings(
    config: Path | None = None,
    assignments: Iterable[str] = (),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Settings from a TOML file, then ``stage.key=value`` assignments, then named overrides.

    Parameters
    ----------
    config : Path, optional
        TOML file with one table a stage.
    assignments : iterable of str
        ``"stack.method=median"``; values are parsed as TOML where they can be, else taken as text.
    overrides : mapping of mappings, optional
        Values by stage and key, strongest of all.

    Raises
    ------
    SettingError
        For unknown stages or keys (with the nearest known name), values out of range, an
        unreadable file.
    """
    tree = {} if config is None else _read_file(Path(config))
    for text in assignments:
        key, equals, value = text.partition("=")
        stage, dot, name = key.strip().partition(".")
        if not equals or not dot:
            raise SettingError("setting.no-assignment", text=text)
        _put(tree, stage, {name: _parse_value(value.strip())})
    for stage, values in (overrides or {}).items():
        _put(tree, stage, values)
    return Settings.model_validate(tree)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise SettingError("setting.file-unreadable", path=path, problem=problem.strerror) from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SettingError("setting.file-no-toml", path=path, problem=problem) from problem


def _put(tree: dict[str, Any], stage: str, values: object) -> None:
    """Lay values over those of a stage; what is no table replaces it, and the model refuses it."""
    before = tree.get(stage, {})
    both = isinstance(values, Mapping) and isinstance(before, Mapping)
    tree[stage] = {**before, **values} if both else values  # type: ignore[dict-item]


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text
