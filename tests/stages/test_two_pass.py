"""The second coverage pass: gains against the common mean, the tiles' own coverage as weights, diagnostics."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy.wcs import WCS, Sip
from scipy.ndimage import gaussian_filter

from mosaic_cases import tan_wcs
from zemosaic.engine.executor import ThreadExecutor
from zemosaic.errors import FrameRejected
from zemosaic.stages.classic import two_pass as coverage_renorm
from zemosaic.stages.classic.two_pass import (
    TwoPassDiagnostics,
    compute_per_tile_gains_from_coverage,
    run_second_pass_coverage_renorm,
)
from zemosaic.stages.two_pass import tiles as coverage_tiles

F4 = npt.NDArray[np.float32]
SHAPE = 300, 360
BOXES = [(0, 180, 0, 220), (0, 180, 140, 360), (120, 300, 0, 220), (120, 300, 140, 360)]
"""Four tiles that overlap by a third; in the middle all four."""

LOG = "zemosaic.stages.classic.two_pass"
CLIP = (0.5, 2.0)


def sky(n_channels: int = 3) -> F4:
    """Nebula and stars over a pedestal, (H, W, c)."""
    rng = np.random.default_rng(5)
    nebula = gaussian_filter(rng.normal(0, 1, SHAPE), 12) * 1500
    stars = np.zeros(SHAPE)
    stars[rng.integers(0, 300, 60), rng.integers(0, 360, 60)] = rng.uniform(1e3, 3e4, 60)
    one = 1000 + nebula + gaussian_filter(stars, 1.3)
    return np.stack([one * f for f in (1.0, 0.8, 0.6)[:n_channels]], axis=-1).astype(np.float32)


def cut_tiles(
    sigma: float = 8.0, gains: tuple[float, ...] = (1, 1, 1, 1), n_channels: int = 3
) -> tuple[list[F4], list[WCS]]:
    image, grid = sky(n_channels), tan_wcs(SHAPE)
    tiles, places = [], []
    for k, (y0, y1, x0, x1) in enumerate(BOXES):
        noise = np.random.default_rng(10 + k).normal(0, sigma, (y1 - y0, x1 - x0, n_channels))
        piece = image[y0:y1, x0:x1]
        level = np.median(piece, axis=(0, 1))
        tiles.append(((piece - level) * gains[k] + level + noise).astype(np.float32))
        wcs = grid.deepcopy()
        wcs.wcs.crpix = [grid.wcs.crpix[0] - x0, grid.wcs.crpix[1] - y0]
        wcs.array_shape = (y1 - y0, x1 - x0)
        places.append(wcs)
    return tiles, places


def counts() -> F4:
    count = np.zeros(SHAPE, np.float32)
    for y0, y1, x0, x1 in BOXES:
        count[y0:y1, x0:x1] += 1
    return count


def second_pass(tiles: list[F4], places: list[WCS], **options: Any) -> tuple[F4, F4]:
    given: dict[str, Any] = {"sigma_px": 50, "gain_clip": CLIP, **options}
    made = run_second_pass_coverage_renorm(tiles, places, tan_wcs(SHAPE), counts(), SHAPE, **given)
    assert made is not None
    return made


# --- gains --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma_px", [10, 50, 200])
@pytest.mark.parametrize("sigma", [0.0, 8.0, 40.0])
def test_equal_tiles_keep_gain_one(sigma_px: int, sigma: float) -> None:
    tiles, places = cut_tiles(sigma)
    gains = compute_per_tile_gains_from_coverage(tiles, places, tan_wcs(SHAPE), counts(), SHAPE, sigma_px, CLIP)
    assert gains.dtype == np.float32
    assert np.array_equal(gains, np.ones(4))


def test_noise_alone_tells_no_gain() -> None:
    tiles, places = cut_tiles(0)
    flat = [np.random.default_rng(k).normal(1000, 10, t.shape).astype(np.float32) for k, t in enumerate(tiles)]
    gains = compute_per_tile_gains_from_coverage(flat, places, tan_wcs(SHAPE), counts(), SHAPE, 50, CLIP)
    assert np.array_equal(gains, np.ones(4))


def test_unlike_gains_are_brought_to_the_mean() -> None:
    planted = (1.1, 0.95, 1.0, 1.0)
    tiles, places = cut_tiles(8.0, planted)
    gains = compute_per_tile_gains_from_coverage(tiles, places, tan_wcs(SHAPE), counts(), SHAPE, 20, CLIP)
    left = np.array(planted) / gains
    assert left / left.mean() == pytest.approx(np.ones(4), abs=0.012)
    mosaic, _ = second_pass(tiles, places, sigma_px=20)
    diag = TwoPassDiagnostics()
    again, _ = second_pass(tiles, places, sigma_px=20, debug_diag=diag)
    assert np.array_equal(mosaic, again)
    assert diag.gains is not None
    assert np.array_equal(diag.gains.gain, gains)
    clipped = compute_per_tile_gains_from_coverage(tiles, places, tan_wcs(SHAPE), counts(), SHAPE, 20, (0.99, 1.01))
    assert clipped.min() == pytest.approx(0.99)
    assert clipped.max() == pytest.approx(1.01)


def test_a_tile_without_overlap_keeps_its_gain() -> None:
    tiles, places = cut_tiles(8.0, (1.3, 1, 1, 1))
    for pair in ([0], [0, 3]):
        some = [tiles[k] for k in pair]
        some = [t[:100, :100] if k == 3 else t[:100] for k, t in zip(pair, some, strict=True)]
        gains = compute_per_tile_gains_from_coverage(
            some, [places[k] for k in pair], tan_wcs(SHAPE), counts(), SHAPE, 50, CLIP
        )
        assert np.array_equal(gains, np.ones(len(pair)))


def star_tiles(sigmas: tuple[float, float], seed: int) -> list[F4]:
    """Two tiles of 250 x 250 px that share 100 columns of one field of stars, each in its own seeing."""
    rng = np.random.default_rng(seed)
    x, y, flux = rng.uniform(0, 400, 150), rng.uniform(0, 250, 150), rng.uniform(500, 5000, 150)
    yy, xx = np.mgrid[:250, :400]
    tiles = []
    for s, x0 in zip(sigmas, (0, 150), strict=True):
        image = np.full((250, 400), 100.0)
        for x1, y1, f in zip(x, y, flux, strict=True):
            image += f / (2 * np.pi * s**2) * np.exp(-((xx - x1) ** 2 + (yy - y1) ** 2) / 2 / s**2)
        tiles.append((image[:, x0 : x0 + 250] + rng.normal(0, 1, (250, 250))).astype(np.float32))
    return tiles


@pytest.mark.parametrize("soft", [1.7, 1.8, 2.0, 2.3, 2.55])
def test_seeing_is_not_taken_for_a_gain(soft: float) -> None:
    grid = tan_wcs((250, 400))
    right = grid.deepcopy()
    right.wcs.crpix = [grid.wcs.crpix[0] - 150, grid.wcs.crpix[1]]
    diag = TwoPassDiagnostics()
    run_second_pass_coverage_renorm(
        star_tiles((1.7, soft), 1), [grid, right], grid, np.ones((250, 400)), (250, 400),
        sigma_px=50, gain_clip=(0.85, 1.18), debug_diag=diag,
    )  # fmt: skip
    assert diag.gains is not None
    assert np.isfinite(diag.gains.error).all()
    assert (np.abs(diag.gains.measured - 1) < 0.002 + 2 * diag.gains.error).all()


# --- the second coadd ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_channels", [1, 3])
def test_the_second_coadd_is_the_mean(n_channels: int) -> None:
    tiles, places = cut_tiles(0.0, n_channels=n_channels)
    mosaic, coverage = second_pass([t[..., 0] for t in tiles] if n_channels == 1 else tiles, places)
    assert mosaic.shape == (*SHAPE, n_channels)
    assert mosaic.dtype == coverage.dtype == np.float32
    assert np.abs(mosaic / sky(n_channels) - 1).max() < 1e-5
    assert coverage == pytest.approx(counts(), rel=1e-4)


def bordered() -> tuple[list[F4], list[WCS], list[F4]]:
    """Tiles whose outer 12 px are zeros, and maps that say so."""
    tiles, places = cut_tiles(0.0)
    maps = []
    for tile in tiles:
        inside = np.zeros(tile.shape[:2], np.float32)
        inside[12:-12, 12:-12] = 7.0
        tile[inside == 0] = 0
        maps.append(inside)
    return tiles, places, maps


def test_zero_borders_leave_dark_frames_only_without_coverage() -> None:
    tiles, places, maps = bordered()
    reach = np.zeros(SHAPE, bool)
    for (y0, y1, x0, x1), cover in zip(BOXES, maps, strict=True):
        reach[y0:y1, x0:x1] |= cover > 0
    dark, _ = second_pass(tiles, places, gain_clip=(1.0, 1.0))
    clean, coverage = second_pass(tiles, places, tiles_coverage=maps, gain_clip=(1.0, 1.0))
    assert (dark[reach] < 0.7 * sky()[reach]).mean() > 0.1
    assert np.abs(clean[reach] / sky()[reach] - 1).max() < 1e-5
    assert np.array_equal(coverage > 0, reach)
    assert not clean[~reach].any()
    # The first channel of a map of three axes counts.
    cubes = [np.stack([cover, 0 * cover], axis=-1) for cover in maps]
    same, _ = second_pass(tiles, places, tiles_coverage=cubes, gain_clip=(1.0, 1.0))
    assert np.array_equal(clean, same)


def test_a_map_that_does_not_fit_is_no_weight_for_that_tile(caplog: pytest.LogCaptureFixture) -> None:
    tiles, places, maps = bordered()
    caplog.set_level(logging.DEBUG, LOG)
    odd: list[F4 | None] = [maps[0], maps[1][:-1], None, maps[3]]
    found, _ = second_pass(tiles, places, tiles_coverage=odd)
    assert "[TwoPass] tiles_coverage shape mismatch for tile 1: cov=(179, 220) tile=(180, 220)" in caplog.text
    assert "[TwoPass] no tiles_coverage for tile 2" in caplog.text
    ones = [maps[0], np.ones((180, 220)), np.ones((180, 220)), maps[3]]
    same, _ = second_pass(tiles, places, tiles_coverage=ones)
    assert np.array_equal(found, same)


@pytest.mark.parametrize("useless", [[], [None] * 4, [np.ones((3, 3))] * 4])
def test_no_usable_map_is_no_map(useless: list[Any]) -> None:
    tiles, places, _ = bordered()
    without, cov_without = second_pass(tiles, places)
    found, cov_found = second_pass(tiles, places, tiles_coverage=useless)
    assert without.tobytes() == found.tobytes()
    assert cov_without.tobytes() == cov_found.tobytes()


def test_coverages_of_both_passes_are_compared(caplog: pytest.LogCaptureFixture) -> None:
    tiles, places, maps = bordered()
    caplog.set_level(logging.DEBUG, LOG)
    second_pass(*cut_tiles())
    for c in (1, 2, 3):
        assert f"[TwoPass] channel {c} coverage mismatch: cov1>0 & cov2==0 -> 0 pixels" in caplog.text
    caplog.clear()
    _, coverage = second_pass(tiles, places, tiles_coverage=maps)
    n_lost = np.count_nonzero(coverage == 0)
    assert n_lost > 0
    assert f"[TwoPass] channel 1 coverage mismatch: cov1>0 & cov2==0 -> {n_lost} pixels" in caplog.text
    caplog.clear()
    run_second_pass_coverage_renorm(tiles, places, tan_wcs(SHAPE), np.ones((9, 8)), SHAPE, sigma_px=9, gain_clip=CLIP)
    line = f"[TwoPass] channel 2 coverage shape mismatch for debug: cov1=(9, 8) cov2={SHAPE}"
    assert line in caplog.text


def test_bands_threads_and_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles, places = cut_tiles()
    before = [tile.copy() for tile in tiles]
    one, _ = second_pass(tiles, places)
    monkeypatch.setattr(coverage_renorm, "BAND_ROWS", 64)
    two, _ = second_pass(tiles, places, parallel_plan=ThreadExecutor(3))
    assert one.tobytes() == two.tobytes()
    assert all(np.array_equal(a, b) for a, b in zip(tiles, before, strict=True))


# --- what can go wrong --------------------------------------------------------------------------------------------


def test_a_pass_that_is_not_possible_keeps_the_first(caplog: pytest.LogCaptureFixture) -> None:
    tiles, places = cut_tiles()
    args = (tan_wcs(SHAPE), counts(), SHAPE)
    assert run_second_pass_coverage_renorm([], [], *args, sigma_px=9, gain_clip=CLIP) is None
    assert "first pass is kept" in caplog.text
    far = [tan_wcs((180, 220), ra_deg=200.0) for _ in tiles]
    caplog.clear()
    assert run_second_pass_coverage_renorm(tiles, far, *args, sigma_px=9, gain_clip=CLIP) is None
    assert "no tile of 4 reaches the mosaic" in caplog.text
    mixed = [tiles[0], tiles[1][..., :1]]
    assert run_second_pass_coverage_renorm(mixed, places[:2], *args, sigma_px=9, gain_clip=CLIP) is None
    with pytest.raises(ValueError, match="2 tiles and 1 WCS"):
        compute_per_tile_gains_from_coverage(tiles[:2], places[:1], *args, 9, CLIP)


@pytest.mark.parametrize("step", ["find_gains", "MeanStack", "_divided", "prepare_tiles"])
@pytest.mark.parametrize("error", [RuntimeError, np.linalg.LinAlgError, ZeroDivisionError])
def test_whatever_fails_inside_keeps_the_first_pass(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, step: str, error: type[Exception]
) -> None:
    def fail(*_: Any) -> None:
        raise error("planted")

    monkeypatch.setattr(coverage_renorm, step, fail)
    tiles, places = cut_tiles(8.0, (1.1, 1, 1, 1))
    args = (tan_wcs(SHAPE), counts(), SHAPE)
    assert run_second_pass_coverage_renorm(tiles, places, *args, sigma_px=9, gain_clip=CLIP) is None
    (line,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert line == f"[TwoPass] not possible, the first pass is kept: {error.__name__}: planted"


def test_a_wcs_that_does_not_converge_is_tried_without_distortion(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles, places = cut_tiles(0.0)
    bent = places[1].deepcopy()
    bent.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    zero = np.zeros((3, 3))
    bent.sip = Sip(zero, zero, zero, zero, bent.wcs.crpix)
    plan = coverage_tiles.plan_lattice

    def diverge(image: Any, *rest: Any) -> Any:
        if image.wcs.sip is not None:
            raise FrameRejected("error 9 px")
        return plan(image, *rest)

    monkeypatch.setattr(coverage_tiles, "plan_lattice", diverge)
    found, _ = second_pass(tiles, [places[0], bent, *places[2:]])
    assert "tile 1: its WCS does not converge (error 9 px); its distortion is left out" in caplog.text
    plain, _ = second_pass(tiles, places)
    assert np.array_equal(found, plain)

    def never(image: Any, *rest: Any) -> Any:
        if image.shape == (180, 220) and image.wcs.wcs.crpix[0] < 100:
            raise FrameRejected("error 9 px")
        return plan(image, *rest)

    monkeypatch.setattr(coverage_tiles, "plan_lattice", never)
    found, coverage = second_pass(tiles, places)
    assert "tile 1 is left out" in caplog.text
    assert "tile 3 is left out" in caplog.text
    assert not coverage[:, 220:].any()


# --- diagnostics --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_channels", [1, 3])
def test_two_lines_a_tile(caplog: pytest.LogCaptureFixture, n_channels: int) -> None:
    tiles, places = cut_tiles(8.0, (1.1, 1, 1, 1), n_channels)
    if n_channels == 1:
        tiles = [tile[..., 0] for tile in tiles]
    tiles[2][:18] = np.nan
    caplog.set_level(logging.INFO, LOG)
    quiet, cov_quiet = second_pass(tiles, places, sigma_px=20)
    assert "TwoPassTile" not in caplog.text
    caplog.set_level(logging.DEBUG, LOG)
    events: list[tuple[str, Any]] = []
    diag = TwoPassDiagnostics(want_delta_map=True)
    loud, cov_loud = second_pass(
        tiles, places, sigma_px=20, debug_diag=diag, telemetry_ctrl=lambda name, facts: events.append((name, facts))
    )
    assert quiet.tobytes() == loud.tobytes()
    assert cov_quiet.tobytes() == cov_loud.tobytes()
    lines = [r.message for r in caplog.records if "[TwoPassTile]" in r.message]
    assert len(lines) == 8
    planes = tiles[2][18:] if n_channels == 3 else tiles[2][18:, :, None]
    wanted = "[" + ", ".join(f"{v:.6g}" for v in np.median(planes.astype(float), axis=(0, 1))) + "]"
    (line,) = [text for text in lines if text.startswith("[TwoPassTile] pre_gain tile=2 gain=")]
    assert f"median={wanted} valid_frac=0.900000" in line
    assert diag.gains is not None
    (after,) = [text for text in lines if text.startswith("[TwoPassTile] post_gain tile=0 ")]
    assert f"gain={diag.gains.gain[0]:.6f}" in after
    assert after.split("mean=")[1] != lines[0].split("mean=")[1]
    assert events[0][0] == "two_pass"
    assert events[0][1]["gains"] == pytest.approx(diag.gains.gain.tolist())


def test_the_delta_map_by_hand() -> None:
    """Two flat tiles of 100 and 104 share the middle third: the mean there is 102, and both are 2 off."""
    wcs = tan_wcs((48, 72))
    tiles, places = [], []
    for x0, level in ((0, 100.0), (24, 104.0)):
        tiles.append(np.full((48, 48), level, np.float32))
        part = wcs.deepcopy()
        part.wcs.crpix = [wcs.wcs.crpix[0] - x0, wcs.wcs.crpix[1]]
        part.array_shape = (48, 48)
        places.append(part)
    diag = TwoPassDiagnostics(want_delta_map=True)
    made = run_second_pass_coverage_renorm(
        tiles, places, wcs, np.ones((48, 72)), (48, 72), sigma_px=8, gain_clip=CLIP, debug_diag=diag
    )
    assert made is not None
    assert diag.delta_map is not None
    assert diag.delta_map == pytest.approx(np.array([0, 0, 0, 2, 2, 2, 0, 0, 0]) * np.ones((6, 1)), abs=1e-3)
    first = np.full((48, 72), 101.0)
    run_second_pass_coverage_renorm(
        tiles, places, wcs, np.ones((48, 72)), (48, 72), sigma_px=8, gain_clip=CLIP, debug_diag=diag, mosaic_p1=first
    )
    assert diag.delta_map == pytest.approx(np.array([1, 1, 1, 2, 2, 2, 3, 3, 3]) * np.ones((6, 1)), abs=1e-3)


def test_a_gpu_that_is_asked_for_is_said_to_be_missing(caplog: pytest.LogCaptureFixture) -> None:
    tiles, places = cut_tiles()
    with_gpu, _ = second_pass(tiles, places, use_gpu_two_pass=True)
    assert "runs on the CPU" in caplog.text
    assert np.array_equal(with_gpu, second_pass(tiles, places)[0])
