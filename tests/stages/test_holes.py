"""Single missing pixels: what is filled, how well, and that they cost no star."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from zemosaic.kernels.measure.holes import FILLED_ALONG, FILLED_ROUND, fill_holes, find_holes
from zemosaic.model.measurements import Stars
from zemosaic.settings import MeasureSettings
from zemosaic.stages.measure.frame import measure_frame

SHAPE = (300, 360)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
Map = npt.NDArray[np.bool_]
F4 = npt.NDArray[np.float32]


def codes_of(*missing: tuple[int, int]) -> npt.NDArray[np.uint8]:
    bad = np.zeros((9, 9), np.uint8)
    for place in missing:
        bad[place] = 1
    code = np.empty_like(bad)
    assert find_holes(bad, code) == np.count_nonzero(code)
    return code


def test_which_pixels_can_be_filled() -> None:
    assert codes_of((4, 4))[4, 4] == FILLED_ROUND
    assert codes_of((4, 4), (3, 3))[4, 4] == FILLED_ALONG
    assert codes_of((4, 4), (4, 5))[4, 4] == FILLED_ALONG
    assert not codes_of(*((y, x) for y in range(3, 6) for x in range(3, 6)))[4, 4]
    assert not codes_of((0, 4), (4, 8)).any()  # on the border there are not both sides
    assert not codes_of(*((y, x) for y in range(9) for x in range(3))).any()  # nor beside a part without data


def test_a_hole_in_a_cubic_surface_is_filled_exactly() -> None:
    y, x = np.mgrid[-4.0:5, -4:5]
    surface = (5 + x - 2 * y + 0.3 * x * x - 0.2 * x * y + 0.1 * y**3 + 0.05 * x * x * y).astype(np.float32)
    bad, code = np.zeros((9, 9), np.uint8), np.empty((9, 9), np.uint8)
    bad[4, 4] = 1
    holed = np.where(bad, 0, surface)
    find_holes(bad, code)
    fill_holes(holed, code, bad)
    np.testing.assert_allclose(holed, surface, atol=1e-5)


def draw(fwhm_px: float, beta: float | None) -> F4:
    """Stars on a lattice with places between pixels, 3e3 to 3e5 ADU, on a sky of 1000 with a noise of 10."""
    rng = np.random.default_rng(4)
    image = rng.normal(1000, 10, SHAPE)
    for k, (j, i) in enumerate(np.ndindex(7, 8)):
        y, x = 30 + 40 * j + rng.uniform(-3, 3), 30 + 42 * i + rng.uniform(-3, 3)
        r2 = (X - x) ** 2 + (Y - y) ** 2
        if beta is None:
            profile = np.exp(-4 * np.log(2) * r2 / fwhm_px**2)
        else:
            profile = (1 + 4 * (2 ** (1 / beta) - 1) * r2 / fwhm_px**2) ** -beta
        image += 10 ** (3.5 + 2 * k / 55) * profile / profile.sum()
    return image.astype(np.float32)


def measured(image: F4, missing: Map) -> Stars:
    weight = (~missing).astype(np.float32)
    return measure_frame((image * weight)[None], weight[None], MeasureSettings()).stars


def clean(stars: Stars) -> Map:
    return ~(stars.saturated | stars.blended)


def pair(stars: Stars, others: Stars) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Clean stars that are the same."""
    near = np.hypot(stars.x[:, None] - others.x, stars.y[:, None] - others.y) < 1
    near &= clean(stars)[:, None] & clean(others)
    return np.nonzero(near)


@pytest.mark.parametrize(("fwhm_px", "beta"), [(2.8, None), (2.8, 2.5), (4.0, 4.0), (2.0, None)])
def test_three_percent_missing_cost_few_stars_and_no_flux(fwhm_px: float, beta: float | None) -> None:
    image = draw(fwhm_px, beta)
    whole = measured(image, np.zeros(SHAPE, bool))
    ratios, pulls, n_kept = [], [], []
    for seed in range(4):
        holed = measured(image, np.random.default_rng(seed).random(SHAPE) < 0.03)
        a, b = pair(whole, holed)
        n_kept.append(len(a) / clean(whole).sum())
        ratios += list(holed.flux[0, b] / whole.flux[0, a] - 1)
        pulls += list((holed.flux[0, b] - whole.flux[0, a]) / holed.flux_error[0, b])
        assert np.median(np.hypot(whole.x[a] - holed.x[b], whole.y[a] - holed.y[b])) < 0.02
    assert np.mean(n_kept) > (0.85 if fwhm_px > 2.5 else 0.6)
    assert abs(np.median(ratios)) < 1e-3
    # What holes add to the noise of a flux, which both measurements share: gains become less than a tenth worse.
    assert np.median(np.abs(pulls)) < 0.3
    assert np.std(pulls) < 1.4


def test_the_error_of_a_flux_tells_what_a_hole_costs() -> None:
    """The brightest star, 300 times its noise, with its highest pixel missing: the flux is within its error."""
    image = draw(2.8, None)
    whole = measured(image, np.zeros(SHAPE, bool))
    missing = np.zeros(SHAPE, bool)
    missing[round(whole.y[0]), round(whole.x[0])] = True
    holed = measured(image, missing)
    assert clean(holed)[0]
    assert holed.flux_error[0, 0] > 1.2 * whole.flux_error[0, 0]
    assert holed.flux[0, 0] == pytest.approx(whole.flux[0, 0], abs=2 * float(holed.flux_error[0, 0]))
    assert holed.flux[0, 0] == pytest.approx(whole.flux[0, 0], rel=0.01)


def test_a_wide_hole_costs_its_star() -> None:
    image = draw(2.8, None)
    whole = measured(image, np.zeros(SHAPE, bool))
    missing = (np.abs(whole.x[0] - X) < 2) & (np.abs(whole.y[0] - Y) < 2)
    assert len(pair(whole, measured(image, missing))[0]) == clean(whole).sum() - 1
