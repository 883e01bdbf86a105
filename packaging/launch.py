"""Where a packed ZeMosaic begins: as the command; without a word, as the app."""

import multiprocessing
import sys

if __name__ == "__main__":
    multiprocessing.freeze_support()
    from zemosaic.cli import enter

    sys.exit(enter(sys.argv[1:] or ["gui"]))
