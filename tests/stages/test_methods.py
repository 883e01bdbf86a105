"""Ways to combine samples: one module each is all that a new one needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from test_stack import FWHM, SIGMA, SKY, cube_of, run

from zemosaic.errors import SettingError
from zemosaic.settings import StackSettings, load_settings
from zemosaic.stages.stack.methods import METHODS
from zemosaic.stages.stack.stack import stack_cube

PAGE = Path(__file__).parents[2] / "docs/method/rejection.md"


def test_the_modules_are_the_choices() -> None:
    assert set(get_args(StackSettings.model_fields["method"].annotation)) == set(METHODS)
    assert load_settings(assignments=["stack.method=ccdclip"]).stack.method == "ccdclip"
    with pytest.raises(SettingError, match="ccdclip"):
        load_settings(assignments=["stack.method=ccd"])


@pytest.mark.parametrize("name", METHODS)
def test_the_docs_know_every_method(name: str) -> None:
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")


def test_history_tells_what_acted() -> None:
    settings = StackSettings(kappa_low=2.5, minmax_low=2)
    told = {name: method.tell(settings) for name, method in METHODS.items()}
    assert told["mean"] == told["median"] == ""
    assert told["kappa_sigma"] == told["ccdclip"] == "kappa 2.5 3"
    assert told["minmax"] == "without 2 lowest and 1 highest"
    assert told["esd"] == "significance 0.05, at most 0.3 of the values"


def test_a_new_method_is_named_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The brightest sample: all that `stack_cube` wants to know is in one value."""

    def brightest(channel, settings, y0, y1, corner, planes):
        rows = slice(corner[0] + y0, corner[0] + y1), slice(corner[1], corner[1] + planes.data.shape[1])
        planes.data[y0:y1] = channel.samples.values[:, *rows].max(axis=0)

    monkeypatch.setitem(METHODS, "brightest", replace(METHODS["mean"], finish=brightest))
    values = np.random.default_rng(1).normal(SKY, SIGMA, (7, 30, 40)).astype(np.float32)
    settings = StackSettings.model_construct(**StackSettings().model_dump() | {"method": "brightest"})
    np.testing.assert_array_equal(stack_cube(cube_of(values), FWHM, settings).data[0], values.max(0))


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_ccdclip_drops_what_the_noise_cannot_make(n: int) -> None:
    """Two wild samples of few, on one side: they widen the scatter of the samples, not the noise of the frames."""
    values = np.random.default_rng(n).normal(SKY, SIGMA, (n, 60, 60))
    values[:2, 10:50:4, 10:50:4] += 40 * SIGMA
    wild = np.zeros((60, 60), bool)
    wild[10:50:4, 10:50:4] = True
    out = run(values, "ccdclip", grow_px=0, structure_guard=0)
    calm = values[2:].mean(0)
    if n > 4:
        assert np.all(out.rejected[0][wild] >= 2)
        assert np.abs(out.data[0] - calm)[wild].max() < 2 * SIGMA
        if n == 5:
            assert run(values, "kappa_sigma", grow_px=0, structure_guard=0).rejected[0][wild].mean() < 0.5
    assert out.rejected[0][~wild].mean() / n < 0.006
