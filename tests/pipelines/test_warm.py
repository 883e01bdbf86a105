"""What a run compiles before it calls it is what it calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CALLED = """
import importlib, pkgutil, sys
import zemosaic.kernels
from zemosaic.cli import main
from zemosaic.kernels.compiled import _types_of
from zemosaic.pipelines.run.kernels import list_kernels
from zemosaic.pipelines.run.warm import choose_groups
from zemosaic.settings import Settings

groups = set()
for frames, out, raw in zip(sys.argv[1::2], sys.argv[2::2], (True, False)):
    assert main(["build", frames, "-o", out]) == 0
    groups |= {*choose_groups(Settings(), matched=True, raw=raw)}
    known = {(id(kernel), _types_of(examples)) for group in groups for kernel, examples in list_kernels(group)}
    for found in pkgutil.walk_packages(zemosaic.kernels.__path__, "zemosaic.kernels."):
        for name, kernel in vars(importlib.import_module(found.name)).items():
            if hasattr(kernel, "overloads") and not kernel.targetoptions.get("no_cpython_wrapper"):
                for types in kernel.overloads:
                    print(name, "known" if (id(kernel), types) in known else types)
"""
"""Builds, of raw frames first.

After each it tells the kernels that were called, and the types of arguments where they were not expected.
"""


def test_a_build_calls_no_kernel_that_is_not_compiled_before(small_set: Path, raw_set: Path, tmp_path: Path) -> None:
    folders = [str(path) for k, frames in enumerate((raw_set, small_set)) for path in (frames, tmp_path / str(k))]
    ran = subprocess.run([sys.executable, "-c", CALLED, *folders], capture_output=True, text=True, check=True)
    called = [line.split(maxsplit=1) for line in ran.stdout.splitlines() if " known" in line or "(" in line]
    assert len(called) > 45
    assert [line for line in called if line[1] != "known"] == []
