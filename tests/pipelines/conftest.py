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


@pytest.fixture(scope="session")
def exported(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a build left with every product, of which `export` then made all anew; not to be changed."""
    out = tmp_path_factory.mktemp("products") / "out"
    frames = digests(small_set)
    made = build(small_set, out, settings={"output": {"also": PRODUCT_NAMES}})
    built = digests(out)
    for path in made.products.values():
        path.unlink()
    assert main(["export", str(out), "--also", ",".join(PRODUCT_NAMES)]) == 0
    # The same bytes from both doors; the mosaic and the frames are as they were.
    assert digests(out) == built
    assert digests(small_set) == frames
    return out
