"""Corrections that are given as a table."""

from types import SimpleNamespace

import numpy as np
import pytest

from zemosaic.model.photo_scale import PhotoScale
from zemosaic.pipelines.corrections.correcting import given_corrections


@pytest.mark.parametrize(("held", "level"), [("ab", "info"), ("a", "warning"), ("", "warning")])
def test_frames_that_a_given_solution_lacks_are_a_warning(held: str, level: str) -> None:
    decided = SimpleNamespace(gain_prior_key="", gain_prior=1.0)
    frames = [SimpleNamespace(frame=SimpleNamespace(id=name, n_channels=1, decided=decided)) for name in "ab"]
    told: list[tuple[object, str]] = []
    run = SimpleNamespace(log=SimpleNamespace(notice=lambda said, how: told.append((said.facts["n_known"], how))))
    given = {name: PhotoScale.neutral(1, "given") for name in held}
    made = given_corrections(frames, given, "match.ecsv", run)  # type: ignore[arg-type]
    assert told == [(len(held), level)]
    assert np.all([made.scales[name].gain == 1 for name in "ab"])
