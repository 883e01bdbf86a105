"""``python -m zemosaic``."""

import sys

from zemosaic.cli import enter

sys.exit(enter())
