"""Calibration: the formula, masters that shrug off cosmics, the right master with the mismatches named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from frame_cases import make_frame, vary_frame
from zemosaic.model.frame import Frame, FrameId, FrameKind
from zemosaic.stages.raw.calibrate import (
    choose_master,
    combine_flats,
    combine_frames,
    find_bad_pixels,
    flat_levels,
    group_for_masters,
    noise_variance,
    scale_dark,
)
from zemosaic.stages.raw.window import calibrate_window

SHAPE = (60, 80)
FLOATS = hnp.arrays(np.float32, (4, 5), elements=st.floats(0, 65504, width=16))


def vignetting(shape=SHAPE, depth=0.4):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (1 - depth * ((y / shape[0] - 0.5) ** 2 + (x / shape[1] - 0.5) ** 2)).astype(np.float32)


@given(raw=FLOATS, dark=FLOATS, response=hnp.arrays(np.float32, (4, 5), elements=st.floats(0.25, 2, width=16)))
@settings(deadline=None)
def test_the_formula(raw, dark, response):
    data, weight = calibrate_window(raw, np.ones_like(raw), dark=dark, flat=response)
    expected = (raw.astype(float) - dark) / response
    np.testing.assert_allclose(data, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(weight, response, rtol=1e-5)


def test_windows_agree_and_inputs_stay():
    rng = np.random.default_rng(1)
    raw, dark, flat = (rng.uniform(a, b, SHAPE).astype(np.float32) for a, b in ((500, 900), (90, 110), (0.5, 1.5)))
    bad, ones = rng.random(SHAPE) < 0.1, np.ones(SHAPE, np.float32)
    copies = [array.copy() for array in (raw, dark, flat, bad)]
    whole = calibrate_window(raw, ones, dark=dark, flat=flat, bad=bad, read_share=0.3)
    part = np.s_[7:33, 12:50]
    cut = calibrate_window(raw[part], ones[part], dark=dark[part], flat=flat[part], bad=bad[part], read_share=0.3)
    for a, b in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(a[part], b)
    for array, copy in zip((raw, dark, flat, bad), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("read_share", [0.0, 0.4, 1.0])
def test_the_weight_is_the_inverse_variance(read_share):
    """Noise of sky seen through a vignetted sensor: read noise and photons in the stated shares."""
    rng, flat = np.random.default_rng(2), vignetting(depth=1.5)
    variance = 400.0
    frames = [
        rng.normal(0, np.sqrt(read_share * variance), SHAPE)
        + rng.normal(0, np.sqrt((1 - read_share) * variance * flat))
        for _ in range(800)
    ]
    ones = np.ones(SHAPE, np.float32)
    done = [calibrate_window(f.astype(np.float32), ones, flat=flat, read_share=read_share) for f in frames]
    found = np.var([data for data, _ in done], axis=0)
    ratio = found * done[0][1] / variance
    edge = flat < 0.55
    assert ratio[edge].mean() == pytest.approx(1, abs=0.02)
    assert ratio[~edge].mean() == pytest.approx(1, abs=0.02)


def test_bad_and_dark_corners_get_no_weight_and_saturation_still_tells():
    raw = np.full((4, 4), 1000, np.float32)
    raw[0, 0], raw[0, 1] = np.nan, 60000
    weight, flat, bad = np.ones_like(raw), np.full((4, 4), 1.25, np.float32), np.zeros((4, 4), bool)
    weight[0, 0], flat[1, 1], flat[1, 2], bad[2, 2] = 0, 0, np.nan, True
    data, out = calibrate_window(raw, weight, dark=0 * flat + 100, flat=flat, bad=bad, saturation_adu=60000)
    lost = [(0, 0), (1, 1), (1, 2), (2, 2)]
    assert {tuple(p) for p in np.argwhere(out == 0).tolist()} >= {(0, 0), (1, 1), (2, 2)}
    assert np.isfinite(data).all()
    assert all(data[p] == 0 for p in lost if out[p] == 0)
    assert data[0, 1] == 60000
    assert data[3, 3] == pytest.approx(720)


def test_bad_arguments():
    ones = np.ones((4, 4), np.float32)
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 2"):
        calibrate_window(ones, ones, read_share=2)
    with pytest.raises(ValueError, match=r"flat has shape \(3, 4\), raw \(4, 4\)"):
        calibrate_window(ones, ones, flat=ones[:3])
    with pytest.raises(ValueError, match="n > 0"):
        combine_frames(np.ones((0, 4, 4), np.float32))
    with pytest.raises(ValueError, match="brighter than its bias, got a level of -1"):
        flat_levels(ones, 2 * ones, True)
    with pytest.raises(ValueError, match="needs a master"):
        find_bad_pixels()
    with pytest.raises(ValueError, match="must be positive, got 0"):
        scale_dark(ones, ones, 0, 10)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 20])
def test_masters_are_means_without_cosmics(n):
    rng, level = np.random.default_rng(n), 100 + 50 * vignetting()
    frames = np.rint(rng.normal(level, 4, (n, *SHAPE))).astype(np.float32)
    if n <= 2:
        np.testing.assert_allclose(combine_frames(frames), frames.mean(axis=0), rtol=1e-6)
        return
    hit = rng.choice(frames[0].size, 40, replace=False)
    frames[n // 2].ravel()[hit] += 5000
    error = combine_frames(frames) - level
    # The scatter of the median of five is 1.2 times that of the mean; a cosmic drags it by one place.
    assert error.std() < {6: 1.15, 20: 1.05}.get(n, 1.35) * 4 / np.sqrt(n)
    assert np.abs(error.ravel()[hit]).max() < 16
    assert abs(error.mean()) < 0.2


def test_masters_of_whole_numbers_are_not_rounded():
    """A bias whose noise is below one unit: most values of a pixel are equal, the rest must count."""
    frames = np.rint(np.random.default_rng(8).normal(100.3, 0.4, (50, *SHAPE))).astype(np.float32)
    master = combine_frames(frames)
    assert master.mean() == pytest.approx(frames.mean(), abs=0.02)
    assert master.std() < 0.1


def test_a_flat_has_no_colour_of_the_lamp():
    rng, shape = np.random.default_rng(3), vignetting(depth=0.8)
    lamp = np.array([[3000, 9000], [5000, 2000]], np.float32)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    bias = rng.normal(300, 5, SHAPE).astype(np.float32)
    flats = np.stack([
        bias + rng.normal(lamp[y % 2, x % 2] * shape * brightness, 20) for brightness in rng.uniform(0.5, 1.5, 15)
    ]).astype(np.float32)
    levels = np.stack([flat_levels(flat, bias, True) for flat in flats])
    master = combine_flats(flats, levels, bias)
    np.testing.assert_allclose(master, shape / np.median(shape), rtol=0.02)
    part = np.s_[11:40, 6:31]
    window = combine_flats(flats[:, *part], levels, bias[part], origin=(11, 6))
    np.testing.assert_allclose(window, master[part], rtol=1e-6)
    mono = flat_levels(flats[0], bias, False)
    assert (mono == mono[0, 0]).all()


def test_darks_of_another_exposure():
    rng = np.random.default_rng(4)
    bias, current = rng.normal(300, 3, SHAPE).astype(np.float32), rng.exponential(2, SHAPE).astype(np.float32)
    scaled = scale_dark(bias + 10 * current, bias, 30, 10)
    np.testing.assert_allclose(scaled, bias + 30 * current, rtol=1e-5)


def test_bad_pixels_of_dark_and_flat():
    rng = np.random.default_rng(5)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    dark = (rng.normal(300, 3, SHAPE) + 20 * (y % 2) + 0.2 * x).astype(np.float32)
    flat = vignetting() * rng.normal(1, 0.01, SHAPE).astype(np.float32)
    dark[10, 11], dark[20, 21] = 800, 0
    flat[30, 31], flat[40, 41], flat[50, 51] = 0.3, 2.5, np.nan
    bad = find_bad_pixels(dark, flat)
    assert {tuple(p) for p in np.argwhere(bad).tolist()} == {(10, 11), (20, 21), (30, 31), (40, 41), (50, 51)}
    assert np.count_nonzero(find_bad_pixels(dark)) == 2
    assert np.count_nonzero(find_bad_pixels(flat=flat)) == 3


def test_the_noise_of_differences() -> None:
    rng = np.random.default_rng(6)
    for sigma in (0.8, 12.0):
        a, b = (np.rint(rng.normal(500.3, sigma, (200, 300))).astype(np.float32) for _ in range(2))
        a.ravel()[rng.choice(a.size, 100, replace=False)] += 4000
        # Rounding to whole numbers adds a twelfth.
        assert noise_variance(a - b) == pytest.approx(sigma**2 + 1 / 12, rel=0.03)
    assert noise_variance(np.zeros((3, 4), np.float32)) == 0


FRAME = make_frame(
    "f", "f.fits", (1080, 1920), filter="IRCUT", instrument="cam", exposure_s=10.0,
    gain_setting=80.0, temperature_c=24.0, rotation_deg=90.0, date_obs="2025-03-27T01:20:00",
)  # fmt: skip


def chosen(found: Sequence[Frame]) -> tuple[int | None, tuple[str, ...]]:
    """Which master fits, and what is said of it."""
    choice = choose_master(FRAME, found)
    return choice.index, tuple(map(str, choice.notes))


def masters(kind: FrameKind, *changes: dict[str, object]) -> list[Frame]:
    return [vary_frame(FRAME, id=FrameId(f"{k}"), kind=kind, **change) for k, change in enumerate(changes)]


def test_the_nearest_dark_is_taken_and_mismatches_are_named() -> None:
    darks = masters(
        "dark", {"gain_setting": 100.0}, {"exposure_s": 20.0}, {"temperature_c": 10.0}, {"temperature_c": 25.5},
        {"shape": (540, 960)},
    )  # fmt: skip
    assert chosen(darks) == (3, ())
    assert chosen(darks[:3]) == (2, ("dark: temperature 10 C, the frame has 24 C",))
    assert chosen(darks[:2]) == (1, ("dark: exposure 20 s, the frame has 10 s",))
    assert chosen(darks[:1]) == (0, ("dark: gain 100, the frame has 80",))
    assert chosen(darks[4:]) == (None, ())
    assert chosen([]) == (None, ())
    unknown = masters("dark", {"gain_setting": None, "instrument": ""})
    assert chosen(unknown)[1] == (
        "dark: camera 'unknown', the frame has 'cam'",
        "dark: gain of the dark is not known",
    )


def test_a_bias_needs_the_gain_alone() -> None:
    biases = masters("bias", {"gain_setting": 100.0}, {"exposure_s": None, "temperature_c": None, "filter": ""})
    assert chosen(biases) == (1, ())


def test_the_flat_of_the_filter_rotation_and_session() -> None:
    flats = masters(
        "flat", {"filter": "Ha"}, {"rotation_deg": -90.0}, {"date_obs": "2025-03-21T01:20:00"}, {"rotation_deg": 449.0}
    )
    assert chosen(flats) == (3, ())
    assert chosen(flats[:3]) == (2, ("flat: taken 6 days away from the frame",))
    assert chosen(flats[:2]) == (1, ("flat: camera turned by 180 deg against the frame's",))
    assert chosen(flats[:1]) == (0, ("flat: filter 'Ha', the frame has 'IRCUT'",))
    assert chosen(masters("flat", {"rotation_deg": None, "date_obs": ""})) == (0, ())


def test_what_belongs_together_makes_one_master() -> None:
    darks = masters(
        "dark", {}, {"temperature_c": 24.5}, {"temperature_c": 4.0}, {"exposure_s": 20.0}, {}, {"is_master": True},
        {"date_obs": ""},
    )  # fmt: skip
    groups = group_for_masters(darks[::-1])
    assert [[frame.id for frame in group] for group in groups] == [["0", "1", "4", "6"], ["2"], ["3"], ["5"]]
    flats = masters("flat", {}, {"filter": "Ha"}, {"date_obs": "2025-03-21T01:20:00"}, {"exposure_s": 3.0})
    groups = group_for_masters(flats)
    assert [[frame.id for frame in group] for group in groups] == [["0", "3"], ["1"], ["2"]]
