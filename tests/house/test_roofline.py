"""Two tables of `benchmarks/roofline.py` are compared, and a step that fell behind is an exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/roofline.py"
HEAD = "| step | of a | ns | least bytes | ceiling, ns | share of the ceiling, % |\n|---|---|---|---|---|---|\n"


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "old.md", tmp_path / "new.md"
    old.write_text(
        f"# Rooflines\n\n{HEAD}| warp | sample | 14.00 | 17.0 | 7.00 | 50.0 |\n"
        "| clip | sample | 2.00 | 9.0 | 0.40 | 20.0 |\n",
        encoding="utf-8",
    )
    # Twice as fast a machine, on which the warp reaches as much of its ceiling and the clip less.
    new.write_text(
        f"{HEAD}| warp | sample | 7.00 | 17.0 | 3.50 | 50.0 |\n| clip | sample | 1.25 | 9.0 | 0.20 | 16.0 |\n",
        encoding="utf-8",
    )
    return old, new


@pytest.mark.parametrize(("allowed", "code"), [("0.1", 1), ("0.25", 0)])
def test_what_fell_behind_is_named(tables: tuple[Path, Path], allowed: str, code: int) -> None:
    command = [sys.executable, str(SCRIPT), "--compare", *map(str, tables), "--allowed", allowed]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == code
    slips = ["clip reaches 16.0 % of its ceiling instead of 20.0 %"] if code else []
    assert [line for line in ran.stderr.splitlines() if line] == slips


def test_a_step_that_is_gone_is_named(tables: tuple[Path, Path]) -> None:
    old, new = tables
    new.write_text(HEAD, encoding="utf-8")
    command = [sys.executable, str(SCRIPT), "--compare", str(old), str(new)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "warp is not in" in ran.stderr
