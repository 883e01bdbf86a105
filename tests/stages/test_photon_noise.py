"""Electrons per ADU from headers and from skies of different level, on frames whose camera is known."""

from __future__ import annotations

import numpy as np
import pytest

from zemosaic.simulate.exposure import add_noise
from zemosaic.stages.measure.frame import measure_sky
from zemosaic.stages.measure.photon_noise import SkyNoise, find_photon_noise, fit_transfer

ADU_PER_ELECTRON = 0.25
READ_ADU = 9.0


def frames_of(levels, stated=None, *, counted=True, pedestal=500.0, scale=1.0, seed=1):
    """Flat simulated exposures of one camera under skies of these levels, measured."""
    rng = np.random.default_rng(seed)
    found = []
    for level in levels:
        image = np.full((160, 200), pedestal + level, np.float32)
        add_noise(image, rng, np.full(image.shape, READ_ADU**2 + ADU_PER_ELECTRON * level, np.float32))
        data = scale * (np.rint(image) if counted else image)[None]
        measured = measure_sky(data.astype(np.float32), np.ones_like(data, np.float32))
        found.append(SkyNoise("camera", measured.sky, measured.noise, stated, counted))
    return found


LEVELS = np.linspace(300, 2500, 14)


def test_skies_of_different_level_tell_the_slope():
    found = find_photon_noise(frames_of(LEVELS))
    assert np.allclose(found.slopes, ADU_PER_ELECTRON, rtol=0.12)
    assert "from the noise of skies" in str(found.notes[0])


def test_frames_off_the_line_do_not_move_it():
    """Two frames through a bright haze of moving cloud scatter more than their light; and one has a stuck noise."""
    frames = frames_of(LEVELS)
    sky, noise = np.array([f.sky[0] for f in frames]), np.array([f.noise[0] for f in frames])
    noise[[2, 7]] *= 3
    assert fit_transfer(sky, noise).slope == pytest.approx(ADU_PER_ELECTRON, rel=0.15)


@pytest.mark.parametrize("levels", [np.full(14, 900.0), np.linspace(850, 950, 14), LEVELS[::3]])
def test_skies_of_one_level_and_few_frames_tell_nothing(levels):
    found = find_photon_noise(frames_of(levels))
    assert not np.any(found.slopes)
    assert "not known" in str(found.notes[0])


def test_levels_that_have_nothing_to_do_with_noise_tell_nothing():
    """Pedestals that change from frame to frame are no light."""
    rng = np.random.default_rng(3)
    frames = [frames_of([900.0], pedestal=p, seed=int(p))[0] for p in rng.uniform(0, 2000, 14)]
    assert not np.any(find_photon_noise(frames).slopes)


def test_a_header_is_believed_where_nothing_speaks_against_it():
    for levels in (LEVELS, LEVELS[:2], [900.0]):
        found = find_photon_noise(frames_of(levels, stated=4.0))
        np.testing.assert_array_equal(found.slopes, ADU_PER_ELECTRON)
        assert "as their headers state" in str(found.notes[0])


def test_a_header_that_the_skies_contradict_is_not_believed():
    """Electrons per unit of a 12-bit converter in a file of 16 bits: 16 times too many."""
    found = find_photon_noise(frames_of(LEVELS, stated=64.0))
    assert np.allclose(found.slopes, ADU_PER_ELECTRON, rtol=0.12)
    assert "not believed: their skies show" in str(found.notes[0])
    few = find_photon_noise(frames_of([300.0, 2500.0, 9000.0], stated=0.25, counted=False))
    assert not np.any(few.slopes)
    assert "the brightest sky alone would" in str(few.notes[0])


def test_values_that_were_scaled_are_not_in_the_headers_units():
    found = find_photon_noise(frames_of([900.0], stated=4.0, counted=False, scale=1 / 65535))
    assert not np.any(found.slopes)
    assert "electrons" in str(found.notes[0])
    assert not np.any(find_photon_noise(frames_of(LEVELS, counted=False)).slopes)


def test_cameras_speak_for_themselves_in_any_order():
    one = frames_of(LEVELS)
    other = [SkyNoise("other", f.sky, f.noise, 2.0, True) for f in frames_of([700.0, 800.0], seed=2)]
    both = [x for pair in zip(one, other, strict=False) for x in pair] + one[len(other) :]
    there = find_photon_noise(both)
    back = find_photon_noise(both[::-1])
    np.testing.assert_array_equal(there.slopes, back.slopes[::-1])
    assert there.slopes[1] == 0.5
    np.testing.assert_array_equal(there.slopes[0], find_photon_noise(one).slopes[0])
