"""Log lines of a command: into a file, and onto the screen."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["logged"]

_LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


@contextmanager
def logged(file: Path | None, verbose: int) -> Iterator[None]:
    """Send the package's log lines where the user wants them, while the context lasts.

    Parameters
    ----------
    file : Path or None
        Takes all lines, DEBUG and up; begun anew.
    verbose : int
        0: no line on standard error; 1: INFO and up; 2 or more: DEBUG too.

    Raises
    ------
    OSError
        When the file cannot be written.
    """
    handlers: list[logging.Handler] = []
    if file is not None:
        handlers.append(logging.FileHandler(file, mode="w", encoding="utf-8"))
        handlers[-1].setLevel(logging.DEBUG)
    # Without any, Python shows warnings by itself: whoever watches the run is told of them in plain words already.
    handlers.append(logging.NullHandler())
    if verbose:
        handlers.append(logging.StreamHandler(sys.stderr))
        handlers[-1].setLevel(logging.INFO if verbose == 1 else logging.DEBUG)
    logger = logging.getLogger("zemosaic")
    before = logger.level
    for handler in handlers:
        handler.setFormatter(logging.Formatter(_LINE))
        logger.addHandler(handler)
    levels = [handler.level for handler in handlers if handler.level]
    if levels:
        logger.setLevel(min(levels))
    try:
        yield
    finally:
        logger.setLevel(before)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
