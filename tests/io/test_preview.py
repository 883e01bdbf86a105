"""The picture for people: reduced, stretched, written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mosaic_cases import tan_wcs
from zemosaic.io.write.avm_tags import avm_packet
from zemosaic.io.write.picture_file import write_picture
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.pipelines.outputs import preview
from zemosaic.pipelines.outputs.preview import write_preview
from zemosaic.stages.grid.plan import make_wcs
from zemosaic.stages.picture import stretch
from zemosaic.stages.picture.stretch import reduce_blocks, star_white, stretch_by_noise, stretch_rgba


def picture(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """A noisy sky of unlike levels in its channels, with some bright stars of one colour."""
    rng = np.random.default_rng(seed)
    data = rng.normal(0, 5, shape) + 1000 * (1 + np.arange(shape[0]))[:, None, None]
    for y, x in rng.integers(5, min(shape[1:]) - 5, (60, 2)):
        data[:, y - 2 : y + 3, x - 2 : x + 3] += np.linspace(900, 300, shape[0])[:, None, None]
    return data.astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(factor=st.integers(1, 7), height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 99))
def test_blocks_are_means_of_what_is_there(factor: int, height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.normal(100, 10, (2, height, width)).astype(np.float32)
    weight = (rng.random((2, height, width)) > 0.4).astype(np.float32)
    mean, covered = reduce_blocks(np.where(weight > 0, data, np.float32(np.nan)), factor)
    for j in range(mean.shape[1]):
        for i in range(mean.shape[2]):
            block = np.s_[:, j * factor : (j + 1) * factor, i * factor : (i + 1) * factor]
            counts = [int((w > 0).sum()) for w in weight[block]]
            assert covered[j, i] == (min(counts) > 0)
            for c, n in enumerate(counts):
                expected = data[c][block[1:]][weight[c][block[1:]] > 0].mean() if n else 0
                assert mean[c, j, i] == pytest.approx(expected, rel=1e-5)


def test_the_sky_is_dark_grey_without_a_cast() -> None:
    covered = np.ones((300, 400), bool)
    covered[:40] = False
    rgba = stretch_rgba(picture((3, 300, 400)), covered)
    sky = np.median(rgba[covered][:, :3], axis=0) / 255
    assert np.all((sky > 0.15) & (sky < 0.25))
    assert np.ptp(sky) < 0.02
    assert np.all(rgba[:40] == 0)
    assert np.all(rgba[40:, :, 3] == 255)


def test_a_nebula_that_fills_most_of_the_picture_leaves_the_dark_sky_neutral() -> None:
    data = picture((3, 300, 400))
    # Red, three times as bright in the first channel as in the last, over all but the right-hand third.
    nebula = np.clip(np.linspace(300, -150, 400), 0, None)
    data += (nebula[None, None, :] * np.array([3, 1.5, 1])[:, None, None]).astype(np.float32)
    rgba = stretch_rgba(data, np.ones((300, 400), bool))
    sky = np.median(rgba[:, 300:, :3], axis=(0, 1)) / 255
    assert np.all((sky > 0.15) & (sky < 0.25))
    assert np.ptp(sky) < 0.02
    red, _, blue = np.median(rgba[:, :100, :3], axis=(0, 1)) / 255
    assert red > blue + 0.1
    assert red < 0.9


def test_islands_without_common_sky_have_a_grey_sky_each() -> None:
    rng = np.random.default_rng(5)
    data = rng.normal(100, 5, (3, 80, 200)).astype(np.float32)
    covered = np.ones((80, 200), bool)
    covered[:, 90:95] = False
    data[:, :, 95:] += np.array([4000, -300, 900], np.float32)[:, None, None]
    data[:, 20::30, 20::30] += 2000
    data[:, ~covered] = 0
    rgba = stretch_rgba(data, covered)
    for columns in (slice(0, 90), slice(95, 200)):
        np.testing.assert_allclose(np.median(rgba[:, columns, :3], axis=(0, 1)), 0.2 * 255, atol=6)
    # Both by one curve: a star is as bright here as there.
    assert np.ptp(rgba[20::30, 20::30, :3].astype(int)) < 30
    assert (rgba[..., 3] == 255 * covered).all()


def test_stars_keep_their_colour_and_are_not_all_white() -> None:
    rgba = stretch_rgba(picture((3, 300, 400)), np.ones((300, 400), bool))
    bright = rgba[rgba[..., 0] > 200]
    assert len(bright) > 200
    # Redder than blue, in a picture whose channels had levels of 1000, 2000 and 3000.
    assert np.median(bright[:, 0].astype(int) - bright[:, 2]) > 10


def star_field(n_stars: int, response: tuple[float, float, float], seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Stars of all colours, the first the bluest, the middle one white, seen by a sensor, before a wide red nebula."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:300, :400]
    sensor = np.array(response)[:, None, None]
    wide = np.exp(-((y - 150) ** 2 + (x - 200) ** 2) / (2 * 80**2))
    data = rng.normal(1000, 5, (3, 300, 400)) + np.array([2000, 300, 200])[:, None, None] * sensor * wide
    places = rng.integers(8, [292, 392], (n_stars, 2))
    for k, (y0, x0) in enumerate(places):
        colour = np.exp(0.4 * (2 * k / (n_stars - 1) - 1) * np.array([1, 0, -1]))[:, None, None]
        star = np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * 1.2**2))
        data += rng.uniform(300, 5000) * colour * sensor * star
    return data.astype(np.float32), places


def test_the_typical_star_is_white_whatever_the_sensor_and_the_nebula() -> None:
    covered = np.ones((300, 400), bool)
    response = (0.8, 1.0, 0.5)
    data, places = star_field(81, response)
    white = star_white(data, covered)
    expected = np.mean(np.log(response)) - np.log(response)
    assert np.all(np.abs(np.log(white) - expected) < 0.08)
    assert np.prod(white) == pytest.approx(1)
    rgba = stretch_rgba(data, covered, white)
    sky = np.median(rgba[:, :60, :3], axis=(0, 1)) / 255
    assert np.ptp(sky) < 0.02
    blue, red = (np.array([rgba[y, x, :3].astype(int) for y, x in some]) for some in (places[:20], places[-20:]))
    assert np.mean(red[:, 0] - red[:, 2]) > 10
    assert np.mean(blue[:, 2] - blue[:, 0]) > 10


def test_a_grey_sensor_and_few_stars_change_no_colour() -> None:
    covered = np.ones((300, 400), bool)
    assert np.all(np.abs(np.log(star_white(star_field(81, (1, 1, 1))[0], covered))) < 0.08)
    assert np.array_equal(star_white(star_field(12, (0.8, 1, 0.5))[0], covered), np.ones(3))
    assert np.array_equal(star_white(star_field(80, (1, 1, 1))[0][:1], covered), np.ones(1))
    assert np.array_equal(star_white(np.zeros((3, 30, 40), np.float32), np.zeros((30, 40), bool)), np.ones(3))


def test_mono_is_grey() -> None:
    rgba = stretch_rgba(picture((1, 200, 200)), np.ones((200, 200), bool))
    assert np.array_equal(rgba[..., 0], rgba[..., 1])
    assert np.array_equal(rgba[..., 0], rgba[..., 2])


@pytest.mark.parametrize("value", [0.0, -3.5, 1e6])
def test_a_flat_picture_is_grey(value: float) -> None:
    rgba = stretch_rgba(np.full((1, 30, 40), value, np.float32), np.ones((30, 40), bool))
    assert np.all(np.abs(rgba[..., 0] / 255 - 0.2) < 0.05)


def test_nothing_covered_is_transparent() -> None:
    assert not stretch_rgba(np.zeros((1, 30, 40), np.float32), np.zeros((30, 40), bool)).any()


def test_a_sliver_of_coverage_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretch, "MAX_SAMPLES", 3)
    covered = np.zeros((300, 300), bool)
    covered[7, 1::2] = True
    rgba = stretch_rgba(picture((1, 300, 300)), covered)
    assert np.count_nonzero(rgba[..., 3]) == 150
    assert np.median(rgba[covered][:, 0]) / 255 == pytest.approx(0.2, abs=0.05)


def test_strips_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = picture((3, 301, 257))
    data[:, :20, :50] = np.nan

    def read_rows(y0: int, y1: int) -> np.ndarray:
        return data[:, y0:y1]

    for name, strip_px, strip_rows in (("a", 10**9, 10**9), ("b", 1000, 7)):
        monkeypatch.setattr(preview, "STRIP_PX", strip_px)
        monkeypatch.setattr(stretch, "STRIP_ROWS", strip_rows)
        write_preview(tmp_path / f"{name}.png", read_rows, make_wcs((0.01, 60.0), 5.0, (301, 257)), 120)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (86, 101)
        # The first row of a mosaic is at the bottom of its picture.
        assert image.getpixel((1, 100))[3] == 0
        assert image.getpixel((1, 1))[3] == 255


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize(
    ("center_deg", "turn_deg"), [((0.01, 60.0), 0.0), ((200.0, -89.0), 33.0), ((83.8, 22.0), 170.0)]
)
def test_tags_place_a_picture_on_the_sky(
    suffix: str, center_deg: tuple[float, float], turn_deg: float, tmp_path: Path
) -> None:
    pyavm = pytest.importorskip("pyavm")
    wcs = CelestialWcs(tan_wcs((301, 257), *center_deg, 5.0, turn_deg), (301, 257))
    write_preview(tmp_path / "p.png", lambda y0, y1: np.ones((3, y1 - y0, 257), np.float32), wcs, 120)
    tags = pyavm.AVM.from_image(tmp_path / f"p{suffix}")
    assert tags.Spatial.CoordinateFrame == "ICRS"
    with Image.open(tmp_path / f"p{suffix}") as image:
        assert tuple(tags.Spatial.ReferenceDimension) == image.size == (86, 101)
    x, y = np.array([0.0, 85, 0, 85, 40]), np.array([0.0, 0, 100, 100, 60])
    there = wcs.sky_to_pixel(*tags.to_wcs().all_pix2world(x, y, 0))
    np.testing.assert_allclose(there, [3 * x + 1, 3 * y + 1], atol=0.01)


def test_axes_that_are_sheared_have_no_tags() -> None:
    sheared = tan_wcs((40, 50))
    sheared.wcs.cd = [[-1e-3, 2e-4], [0, 1e-3]]
    assert avm_packet(CelestialWcs(sheared, (40, 50)), 2) == b""


def test_cores_of_stars_are_not_clipped_and_keep_their_colour() -> None:
    rng = np.random.default_rng(8)
    yy, xx = np.mgrid[:300, :400]
    data = rng.normal(100, 5, (3, 300, 400))
    places = rng.integers(10, [290, 390], (40, 2))
    for k, (y, x) in enumerate(places):
        colour = np.array([1.5, 1.0, 0.5])[:, None, None] if k % 2 else np.ones((3, 1, 1))
        data += colour * 200 * 1.2**k * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / 8)
    data += 2000 * np.exp(-((yy - 150) ** 2 + (xx - 200) ** 2) / 2 / 30**2)  # a core of a galaxy
    rgba = stretch_rgba(data.astype(np.float32), np.ones((300, 400), bool))
    assert (rgba[..., :3] == 255).all(axis=-1).mean() < 1e-3
    faint, bright = (rgba[y, x, 0].astype(int) for y, x in (places[30], places[38]))
    assert faint < bright  # no two cores are flat and alike
    red, green, blue = rgba[places[39][0], places[39][1], :3] / 255 - 0.2
    # Of a light of 1.5 : 1 : 0.5 as much is left as the top leaves.
    assert red > 0.75
    assert green / red == pytest.approx(1 / 1.5, abs=0.1)
    assert blue < green
    # A nebula of one sigma of the sky is seen beside it.
    faint_light = stretch_rgba((data + 5 * (yy > 280)).astype(np.float32), np.ones((300, 400), bool))
    assert np.median(faint_light[282:, :, 1]) - np.median(faint_light[:100, :, 1]) > 6


def test_a_picture_is_whole_or_absent(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        write_picture(tmp_path / "x.unknown", np.zeros((3, 3, 4), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_frame_behind_a_cloud_shows_fainter_stars_and_the_same_sky() -> None:
    clear = np.random.default_rng(3).normal(1000, 5, (1, 200, 200)).astype(np.float32)
    cloudy = clear + 300
    clear[0, 100, 100] += 400
    cloudy[0, 100, 100] += 40
    covered = np.ones((200, 200), bool)
    covered[:20] = False
    one, other = (stretch_by_noise(data, covered)[..., 0] for data in (clear, cloudy))
    assert abs(int(np.median(one[20:])) - int(np.median(other[20:]))) <= 1
    assert one[100, 100] > 1.5 * other[100, 100]
    assert not one[:20].any()
    assert not stretch_by_noise(clear, np.zeros((200, 200), bool)).any()
