"""The command line: arguments in, a pipeline run, events shown, an exit code out."""

from __future__ import annotations

import os

__all__ = ["main"]


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
