"""What can go wrong, in words a user can act on.

Every error carries its numbers in `facts` (for reports and machines) and a
message that says what happened and what to do. `exit_code` is what the command
line returns when the error ends a run.
"""

from __future__ import annotations

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
    message : str
        One line: what happened, with numbers, and a way out.
    **facts
        The numbers again, by name, JSON-serialisable.
    """

    exit_code = 5

    def __init__(self, message: str, **facts: object) -> None:
        # One line whatever was quoted: headers may hold any byte.
        super().__init__(" ".join(message.split()))
        self.facts: dict[str, object] = facts


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

    The message is the one-line reason that is listed beside the frame.
    """
