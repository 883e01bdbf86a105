"""What can go wrong, in words a user can act on.

Every error carries a stable `code` and its numbers in `facts` (for reports and machines); its text, from the
catalogue of `zemosaic.text`, says what happened and what to do. `exit_code` is what the command line returns when
the error ends a run.
"""

from __future__ import annotations

from typing import Any

from zemosaic.text import message

__all__ = [
    "Cancelled",
    "EnvironmentProblem",
    "FrameRejected",
    "NothingToDo",
    "SettingError",
    "ZeMosaicError",
]


class ZeMosaicError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    code : str
        A key of the catalogue of sentences, which says what happened, with numbers, and a way out.
    **facts
        The numbers by name; see `zemosaic.text.message`.

    Attributes
    ----------
    told : Message
        Code and facts as one value.
    """

    exit_code = 5

    def __init__(self, code: str, /, **facts: object) -> None:
        super().__init__(code)
        self.told = message(code, **facts)

    @property
    def code(self) -> str:
        """What went wrong."""
        return self.told.code

    @property
    def facts(self) -> dict[str, Any]:
        """Its numbers by name."""
        return self.told.facts

    def __str__(self) -> str:
        return str(self.told)


class SettingError(ZeMosaicError):
    """A setting or an argument is unknown, out of range or contradicts another."""

    exit_code = 2


class NothingToDo(ZeMosaicError):
    """There is nothing to work on: no file, no usable frame, no overlap."""

    exit_code = 3


class EnvironmentProblem(ZeMosaicError):
    """The machine is in the way: space, permission, memory cap, a missing part."""

    exit_code = 4


class Cancelled(ZeMosaicError):
    """The user asked to stop; finished work stays in the store."""

    exit_code = 130


class FrameRejected(ZeMosaicError):
    """One frame cannot be used; the run goes on without it.

    Its text is the one-line reason that is listed beside the frame.
    """
