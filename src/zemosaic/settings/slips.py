"""A slip in settings, in words: which key, what was given, what it may be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic import ValidationError

from zemosaic.errors import SettingError

__all__ = ["find_slip", "tell_unknown"]


def tell_unknown(kind: str, name: str, known: Iterable[str]) -> SettingError:
    """An error about a name that is not known, with the nearest that is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
    return SettingError(f"unknown {kind} '{name}'; {hint}", name=name)


def find_slip(problem: ValidationError, stage: str, known: Iterable[str]) -> SettingError:
    """The first slip of what a model refuses, as an error of the package.

    Parameters
    ----------
    problem : ValidationError
    stage : str
        Name of the stage whose model it is; "" for the settings as a whole.
    known : iterable of str
        Names that the model has.
    """
    first = problem.errors()[0]
    path = [stage] if stage else []
    where = ".".join(path + [str(part) for part in first["loc"]])
    match first["type"]:
        case "extra_forbidden":
            kind = f"key in stage '{stage}'" if stage else "settings stage"
            return tell_unknown(kind, str(first["loc"][-1]), known)
        case "model_type":
            return SettingError(f"'{where}' must be a table of keys, got {first['input']!r}")
    value, message = repr(first["input"]), first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and message.startswith(("is ", "leaves ")):
        return SettingError(f"{where} = {value} {message}")
    return SettingError(f"{where} = {value}: {message[:1].lower()}{message[1:]}")
