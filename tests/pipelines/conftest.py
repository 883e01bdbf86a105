"""Fixtures that tests of pipelines share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mosaic_cases import digests_of
from zemosaic import build
from zemosaic.cli import main
from zemosaic.settings import PRODUCT_NAMES


def digests_of_results(out: Path) -> dict[str, str]:
    """Of every file outside the work folder."""
    return {name: digest for name, digest in digests_of(out).items() if not name.startswith(".zemosaic")}


MADE = tuple(name for name in PRODUCT_NAMES if name != "hips-png")
"""All products but one that is slow to compress and has a small test of its own (``test_hips.py``)."""


@pytest.fixture(scope="session")
def exported(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a build left with its products, of which `export` then made all anew; not to be changed."""
    out = tmp_path_factory.mktemp("products") / "out"
    frames = digests_of(small_set)
    made = build(small_set, out, settings={"output": {"also": MADE}})
    built = digests_of_results(out)
    for path in made.products.values():
        path.unlink()
    assert main(["export", str(out), "--also", ",".join(MADE)]) == 0
    # The same bytes from both doors; the mosaic and the frames are as they were.
    assert digests_of_results(out) == built
    assert digests_of(small_set) == frames
    return out
