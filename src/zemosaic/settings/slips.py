"""A slip in settings, in words: which key, what was given, what it may be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic import ValidationError

from zemosaic.errors import SettingError
from zemosaic.text import message

__all__ = ["find_slip", "tell_unknown"]


def tell_unknown(stage: str, name: str, known: Iterable[str]) -> SettingError:
    """An error about a name that is not known, a key's in its stage, with the nearest that is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = message("setting.did-you-mean", near=near[0]) if near else message("setting.known-names", known=known)
    if stage:
        return SettingError("setting.unknown-key", stage=stage, name=name, hint=hint)
    return SettingError("setting.unknown-stage", name=name, hint=hint)


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
            return tell_unknown(stage, str(first["loc"][-1]), known)
        case "model_type":
            return SettingError("setting.no-table", where=where, given=repr(first["input"]))
    given = repr(first["input"])
    if first["type"] != "value_error":
        text = first["msg"]
        return SettingError("setting.refused", where=where, given=given, problem=text[:1].lower() + text[1:])
    why = first["ctx"]["error"]
    reads_on = str(why).startswith(("is ", "leaves "))
    return SettingError("setting.bad-value" if reads_on else "setting.refused", where=where, given=given, problem=why)
