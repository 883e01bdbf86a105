"""``python -m zemosaic``."""

import sys

from zemosaic.cli import main

sys.exit(main())
