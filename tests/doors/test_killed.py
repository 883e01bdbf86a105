"""SIGKILL at random moments: nothing broken under a final name, nothing done twice, the same bytes in the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kill_loop import kill_loop

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")


def test_a_run_that_is_killed_loses_nothing(small_set: Path, tmp_path: Path) -> None:
    # Few frames, few writes: a larger chance, so that a run that may die does.
    tally = kill_loop(small_set, tmp_path, 3, chance=0.2)
    assert tally.faults == []
    assert tally.n_kills >= 3
