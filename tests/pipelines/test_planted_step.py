"""A frame that lies a step off in a whole run: the first sentence of the report says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zemosaic import build
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.report.verdict import judge
from zemosaic.stages.match.match import _Problem

ODD = 4
"""The frame, by its place in the match."""


def mosaic_of(out: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))["mosaic"]
    return facts


def test_a_step_of_one_sigma_turns_the_verdict(
    small_set: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One frame is put off by the noise of one of its pixels after the match, as if that had not touched it."""
    assert judge(mosaic_of(built)["borders"]).grade == "clean"
    conclude = _Problem.conclude

    def conclude_beside(self: Any, found: Any, scales: Sequence[PhotoScale], noise: Any) -> Any:
        surface = scales[ODD].surface.copy()
        surface[0, 0] -= noise[0, ODD]
        scales = (*scales[:ODD], replace(scales[ODD], surface=surface), *scales[ODD + 1 :])
        return conclude(self, found, scales, noise)

    monkeypatch.setattr(_Problem, "conclude", conclude_beside)
    out = tmp_path / "out"
    build(small_set, out, settings={"output": {"also": ["report"]}})
    facts = mosaic_of(out)
    assert judge(facts["borders"]).grade == "look"
    after = facts["seams"][0]["after"]
    name = after["frames"][0]["frame"]
    assert sum(name in (place["frame"], place["other"]) for place in after["worst"]) >= 5
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "No border can be seen" not in page
    assert name in page
