"""The command line: arguments in, a pipeline run, events shown, an exit code out."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys

__all__ = ["enter", "main"]


def enter(argv: list[str] | None = None) -> int:
    """`main` for a process that does nothing else: once its code is known, the process ends without being taken apart.

    The interpreter frees each module and each array by itself as it ends, which the system does at a stroke. All that
    asks to be called at the end is called before: this asks first, so that its turn is last.
    """
    codes: list[int] = []
    atexit.register(_end, codes)
    codes.append(main(argv))
    return codes[0]


def _end(codes: list[int]) -> None:
    """End the process by its code; where it has none, by an error that nobody caught, Python ends it as ever."""
    if codes:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # whoever read it has gone, or it is closed
                stream.flush()
        os._exit(codes[0])


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name; the process's own by default.

    Returns
    -------
    int
        0 done, 2 usage or setting, 3 nothing to do, 4 environment, 5 internal, 130 stopped.
    """
    # One thread for linear algebra: results must not depend on how a library cuts its sums, and the
    # small systems here lose time on more. It only counts before numpy is loaded.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

    from zemosaic.cli.app import run

    return run(argv)
