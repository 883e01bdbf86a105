"""Fixtures that tests of pipelines share."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from zemosaic import build
from zemosaic.cli import main
from zemosaic.settings import PRODUCT_NAMES


def digests(root: Path) -> dict[str, str]:
    """Of every file outside the work folder."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and ".zemosaic" not in path.parts]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


MADE = tuple(name for name in PRODUCT_NAMES if name != "hips-png")
"""All products but one that is slow to compress and has a small test of its own (``test_hips.py``)."""


@pytest.fixture(scope="session")
def exported(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a build left with its products, of which `export` then made all anew; not to be changed."""
    out = tmp_path_factory.mktemp("products") / "out"
    frames = digests(small_set)
    made = build(small_set, out, settings={"output": {"also": MADE}})
    built = digests(out)
    for path in made.products.values():
        path.unlink()
    assert main(["export", str(out), "--also", ",".join(MADE)]) == 0
    # The same bytes from both doors; the mosaic and the frames are as they were.
    assert digests(out) == built
    assert digests(small_set) == frames
    return out
