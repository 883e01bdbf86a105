"""The simulator keeps the truth it states, and the score tells a good mosaic from a bad one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from astropy.coordinates import FK5, ICRS, SkyCoord
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from zemosaic.errors import EnvironmentProblem, NothingToDo, SettingError
from zemosaic.kernels.pixels.render import MOFFAT_CORE_PER_FWHM, MONO, add_field, add_stars
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.simulate import (
    ExposureTruth,
    FrameRecipe,
    RawRecipe,
    SetTruth,
    SimulatedSky,
    read_truth,
    score_mosaic,
    score_plane,
    simulate_frames,
    simulate_raws,
)
from zemosaic.simulate.frames import draw_exposures, grid_pointings, render_frame
from zemosaic.simulate.raws import BAYER_PATTERN, camera_defects
from zemosaic.simulate.score import true_image
from zemosaic.simulate.sky import Purpose, random_stream, tangent_wcs, wcs_cards
from zemosaic.simulate.truth import write_truth

Scene = tuple[SetTruth, CelestialWcs, npt.NDArray[np.float64]]

SMALL = FrameRecipe(shape=(120, 200), max_border_px=3)


@pytest.fixture(scope="module")
def sky() -> SimulatedSky:
    return SimulatedSky(5, 83.8, 22.0, 0.4)


@pytest.fixture(scope="module")
def frame_set(sky: SimulatedSky, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SetTruth]:
    folder = tmp_path_factory.mktemp("frames")
    return folder, simulate_frames(folder, sky, 9, SMALL)


RAW = RawRecipe(
    shape=(240, 160),
    panels=(2, 1),
    cloud_fraction=0.1,
    soft_fraction=0.2,
    trail_fraction=0.3,
    hot_fraction=2e-3,
)


@pytest.fixture(scope="module")
def raw_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SetTruth]:
    folder = tmp_path_factory.mktemp("raws")
    return folder, simulate_raws(folder, SimulatedSky(3, 184.0, 47.0, 0.6), 10, RAW)


@pytest.fixture(scope="module")
def scene() -> Scene:
    stars = np.random.default_rng(0).uniform(-0.25, 0.25, (2, 60))
    sky = SimulatedSky(8, 40.0, 10.0, 0.6, (40 + stars[0], 10 + stars[1], np.full(60, 10.5)), stars_per_deg2=500)
    truth = SetTruth(sky, tuple(truths(sky, FrameRecipe(shape=(260, 380), max_border_px=3), 6)))
    wcs = tangent_wcs(40.0, 10.0, 0.0, (620, 620), 2.39)
    covered = np.zeros((620, 620), bool)
    y, x = np.mgrid[:620, :620]
    place = wcs.pixel_to_sky(x, y)
    for e in truth.exposures:
        fx, fy = e.celestial.sky_to_pixel(*place)
        covered |= (fx > 0) & (fy > 3) & (fx < e.shape[1] - 4) & (fy < e.shape[0] - 1)
    perfect = np.where(covered, true_image(truth, wcs), np.nan)
    return truth, wcs, perfect + np.random.default_rng(1).normal(0, 1.0, perfect.shape)


def truths(sky: SimulatedSky, recipe: FrameRecipe, n: int) -> list[ExposureTruth]:
    """What is true of the frames of a set, without their pixels."""
    names = [f"frame_{k:04d}.fits" for k in range(n)]
    return list(draw_exposures(sky, recipe, names, grid_pointings(sky, n, recipe)))


class TestRendering:
    @settings(deadline=None, max_examples=40)
    @given(
        x=st.floats(28, 34),
        y=st.floats(28, 34),
        fwhm=st.floats(1.8, 4.0),
        flux=st.floats(100, 1e5),
    )
    def test_star_keeps_flux_and_place(self, x: float, y: float, fwhm: float, flux: float) -> None:
        image = np.zeros((301, 303), np.float32)
        core = np.array([MOFFAT_CORE_PER_FWHM * fwhm])
        add_stars(image, np.array([x + 120]), np.array([y + 120]), np.array([[flux]]), core, 1e-5 * flux / 100, MONO)
        total = image.sum(dtype=float)
        # The cut at the floor leaves out at most the profile's integral beyond it.
        lost = 1 / np.cbrt(flux * 2 / (np.pi * core[0] ** 2) / (1e-5 * flux / 100)) ** 2
        assert total == pytest.approx(flux * (1 - lost), rel=2e-4)
        rows, columns = np.mgrid[:301, :303]
        assert (image * columns).sum(dtype=float) / total == pytest.approx(x + 120, abs=2e-3)
        assert (image * rows).sum(dtype=float) / total == pytest.approx(y + 120, abs=2e-3)

    def test_star_has_its_width(self) -> None:
        image = np.zeros((101, 101), np.float32)
        fwhm = 12.0  # wide, so that averaging over pixels hardly matters
        core = np.array([MOFFAT_CORE_PER_FWHM * fwhm])
        add_stars(image, np.array([50.0]), np.array([50.0]), np.array([[1e6]]), core, 1e-3, MONO)
        assert image[50, 56] == pytest.approx(image[50, 50] / 2, rel=0.01)

    def test_stars_out_of_reach_or_unknown_leave_no_trace(self) -> None:
        image = np.zeros((20, 20), np.float32)
        x, y = np.array([np.nan, -1e7, 300.0, np.inf, 10.0]), np.array([5.0, 5.0, 5.0, np.nan, 10.0])
        flux = np.array([[100.0], [100.0], [100.0], [100.0], [0.0]])
        add_stars(image, x, y, flux, np.full(5, 2.0), 1e-3, MONO)
        assert not image.any()

    def test_pattern_chooses_the_channel(self) -> None:
        image = np.zeros((40, 40), np.float32)
        plain = np.zeros((40, 40), np.float32)
        x, y, core = np.array([20.3]), np.array([19.6]), np.array([3.0])
        add_stars(plain, x, y, np.array([[1.0]]), core, 1e-9, MONO)
        add_stars(image, x, y, np.array([[2.0, 3.0, 5.0]]), core, 1e-9, BAYER_PATTERN)
        factor = np.array([2.0, 3.0, 5.0])[np.tile(BAYER_PATTERN, (20, 20))]
        inner = np.s_[10:30, 10:30]
        np.testing.assert_allclose(image[inner], (plain * factor)[inner], rtol=1e-5)

    def test_field_is_bilinear_in_both_lattices(self) -> None:
        rows, columns = np.mgrid[:50, :60]
        field = (3.0 + 2.0 * columns - 0.5 * rows).astype(np.float32)
        gy, gx = np.mgrid[:4, :5] * 8
        image = np.ones((21, 30), np.float32)
        add_field(image, field, 4.25 + 0.5 * gx, 7.5 + 0.25 * gy, 8, np.array([2.0]), MONO)
        y, x = np.mgrid[:21, :30]
        truth = 1 + 2 * (3 + 2 * (4.25 + 0.5 * x) - 0.5 * (7.5 + 0.25 * y))
        np.testing.assert_allclose(image, truth, rtol=1e-5)


class TestSky:
    def test_north_is_up_and_east_left_unless_mirrored(self) -> None:
        for mirrored in (False, True):
            wcs = tangent_wcs(10.0, 20.0, 0.0, (101, 101), 3.0, mirrored)
            ra, dec = wcs.pixel_to_sky([50, 50, 60], [50, 60, 50])
            assert dec[1] > dec[0]
            assert (ra[2] > ra[0]) == mirrored
            assert wcs.pixel_scale_arcsec() == pytest.approx(3.0, rel=1e-6)
        turned = tangent_wcs(10.0, 20.0, 30.0, (101, 101), 3.0)
        start, end = (SkyCoord(*turned.pixel_to_sky(50.0, y), unit="deg") for y in (50.0, 60.0))
        assert start.position_angle(end).deg == pytest.approx(30.0, abs=1e-3)

    @pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.99, -30.0), (123.0, 89.9), (5.0, -90.0)])
    def test_any_place_has_its_stars(self, ra: float, dec: float) -> None:
        sky = SimulatedSky(1, ra, dec, 0.5, stars_per_deg2=4000)
        assert len(sky.star_flux) == 1000
        place = SkyCoord(sky.star_ra, sky.star_dec, unit="deg")
        off = place.separation(SkyCoord(ra, dec, unit="deg")).deg
        assert off.max() < 0.5 / np.sqrt(2) * 1.01
        # Uniform over a square: the mean distance from its centre is 0.3826 sides.
        assert off.mean() == pytest.approx(0.3826 * 0.5, rel=0.05)
        assert sky.contains(tangent_wcs(ra, dec, 10.0, (200, 200), 5.0))
        assert not sky.contains(tangent_wcs(ra, dec, 10.0, (200, 200), 10.0))

    def test_catalogue_stars_come_first_with_their_flux(self) -> None:
        ra, dec, mag = (
            np.array([0.1, 359.9, 180.1, 0.3]),
            np.array([0.1, 0.0, 0.0, 40.0]),
            np.array([10, 7.5, 5, 5]),
        )
        sky = SimulatedSky(1, 0.0, 0.0, 1.0, (ra, dec, mag), stars_per_deg2=10)
        assert sky.n_catalogue == 2
        np.testing.assert_array_equal(sky.star_ra[:2], ra[:2])
        np.testing.assert_allclose(sky.star_flux[:2], [60000, 600000])
        without = SimulatedSky(1, 0.0, 0.0, 1.0, stars_per_deg2=10)
        np.testing.assert_array_equal(sky.star_flux[2:], without.star_flux)

    def test_absurd_size_is_refused(self) -> None:
        with pytest.raises(ValueError, match="size_deg"):
            SimulatedSky(1, 0.0, 0.0, 0.0)

    def test_streams_differ_by_purpose_and_number(self) -> None:
        draws = {random_stream(3, p, k).random() for p in Purpose for k in range(5)}
        assert len(draws) == len(Purpose) * 5


class TestFrames:
    def test_frames_obey_the_stated_model(self, sky: SimulatedSky) -> None:
        """A frame corrected by its own truth is the sky, whatever its gain, scale, response or surface."""
        recipe = FrameRecipe(
            shape=(160, 240),
            sigma_adu=1e-3,
            adu_per_electron=0,
            vignetting=0.2,
            coarse_scale=1.6,
            max_border_px=4,
        )
        exposures = truths(sky, recipe, 2)
        for k, truth in enumerate(exposures):
            image = render_frame(sky, recipe, k, truth)
            wcs, scale = truth.celestial, truth.photo_scale()
            y, x = np.mgrid[: truth.shape[0], : truth.shape[1]]
            corrected = image / (scale.gain[0] * scale.response_at(x, y, truth.shape)[0])
            corrected -= truth.area * scale.surface_at(x, y, truth.shape)[0]
            expected = true_image(SetTruth(sky, (truth,)), wcs)
            seen = np.isfinite(image)
            assert seen.mean() > 0.9
            np.testing.assert_allclose(corrected[seen], expected[seen], rtol=2e-4, atol=0.05)
        assert exposures[0].area == pytest.approx(2.56)
        assert exposures[0].gain != exposures[1].gain

    def test_noise_is_as_stated(self, sky: SimulatedSky) -> None:
        quiet = FrameRecipe(shape=(200, 300), sigma_adu=20.0, adu_per_electron=0.0, trail_fraction=0.0)
        truth = truths(sky, quiet, 1)[0]
        difference = render_frame(sky, quiet, 0, truth) - render_frame(sky, quiet, 1, truth)
        assert np.nanstd(difference) / np.sqrt(2) == pytest.approx(truth.sigma, rel=0.02)
        assert 18 <= truth.sigma <= 26

    def test_same_seed_same_bytes(self, sky: SimulatedSky, frame_set: tuple[Path, SetTruth], tmp_path: Path) -> None:
        folder, _ = frame_set
        again = SimulatedSky(sky.seed, sky.ra_deg, sky.dec_deg, sky.size_deg)
        simulate_frames(tmp_path, again, 9, SMALL)
        names = sorted(p.name for p in folder.iterdir())
        assert len(names) == 11
        for name in names:
            assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name

    def test_one_property_changes_nothing_else(self, sky: SimulatedSky) -> None:
        plain = truths(sky, SMALL, 4)
        other = truths(sky, FrameRecipe(shape=SMALL.shape, max_border_px=3, trail_fraction=1.0, gain_scatter=0.4), 4)
        for a, b in zip(plain, other, strict=True):
            assert b.trail is not None
            assert a.gain != b.gain
            assert (a.wcs, a.surface, a.sigma, a.fwhm_px) == (b.wcs, b.surface, b.sigma, b.fwhm_px)

    def test_truth_comes_back(self, frame_set: tuple[Path, SetTruth]) -> None:
        folder, truth = frame_set
        read = read_truth(folder)
        assert read.exposures == truth.exposures
        np.testing.assert_array_equal(read.sky.nebula, truth.sky.nebula)
        np.testing.assert_array_equal(read.sky.star_flux, truth.sky.star_flux)

    def test_truth_of_catalogue_stars_comes_back(self, tmp_path: Path) -> None:
        sky = SimulatedSky(2, 10.0, 5.0, 0.3, ([10.05, 10.1], [5.0, 5.1], [8.123, 9.5]), stars_per_deg2=100)
        simulate_frames(tmp_path, sky, 1, SMALL)
        read = read_truth(tmp_path).sky
        assert read.n_catalogue == 2
        np.testing.assert_array_equal(read.star_ra, sky.star_ra)
        np.testing.assert_allclose(read.star_flux, sky.star_flux, rtol=1e-12)

    def test_unkind_camera(self, sky: SimulatedSky, tmp_path: Path) -> None:
        recipe = FrameRecipe.realistic(shape=(160, 240))
        truth = simulate_frames(tmp_path, sky, 3, recipe)
        data, header = fits.getdata(tmp_path / "frame_0000.fits", header=True)
        assert data.shape == truth.exposures[0].shape == (100, 150)
        assert header["SATURATE"] == 60000.0
        assert np.nanmax(data) <= 60000.0
        stated = CelestialWcs.from_header(header, data.shape)
        x, y = stated.sky_to_pixel(*truth.exposures[0].celestial.pixel_to_sky(70.0, 50.0))
        assert 0.01 < np.hypot(x - 70, y - 50) < 1.0

    def test_short_exposures_and_given_pointings(self, sky: SimulatedSky, tmp_path: Path) -> None:
        calls: list[tuple[int, int]] = []
        recipe = FrameRecipe(shape=(64, 64), short_fraction=0.5, gain_scatter=0.0)
        places = [(83.8, 22.0, 0.0), (83.81, 22.0, 90.0)]
        truth = simulate_frames(
            tmp_path, sky, 2, recipe, pointings=places, on_progress=lambda k, n: calls.append((k, n))
        )
        assert calls == [(1, 2), (2, 2)]
        assert sorted(e.gain[0] for e in truth.exposures) == [0.2, 1.0]
        assert sorted(e.exposure_s for e in truth.exposures) == [2.0, 10.0]
        ra, dec = truth.exposures[1].celestial.pixel_to_sky(31.5, 31.5)
        assert (float(ra), float(dec)) == pytest.approx((83.81, 22.0))

    def test_what_cannot_be_made_is_refused(self, sky: SimulatedSky, tmp_path: Path) -> None:
        with pytest.raises(SettingError, match="at least one frame"):
            simulate_frames(tmp_path, sky, 0)
        with pytest.raises(SettingError, match="do not fit a sky of"):
            simulate_frames(tmp_path, sky, 1, FrameRecipe())
        with pytest.raises(SettingError, match="leaves the sky"):
            simulate_frames(tmp_path, sky, 1, SMALL, pointings=[(84.1, 22.0, 0.0)])
        with pytest.raises(SettingError, match="1 pointings for 2 frames"):
            simulate_frames(tmp_path, sky, 2, SMALL, pointings=[(83.8, 22.0, 0.0)])
        fits.writeto(tmp_path / "frame_0007.fits", np.zeros((4, 4)))
        with pytest.raises(SettingError, match=r"1 other FITS files \(frame_0007.fits"):
            simulate_frames(tmp_path, sky, 2, SMALL)
        (tmp_path / "file").touch()
        with pytest.raises(EnvironmentProblem, match="cannot make folder"):
            simulate_frames(tmp_path / "file" / "set", sky, 1, SMALL)
        with pytest.raises(SettingError, match="not a simulated set"):
            read_truth(tmp_path)


class TestRaws:
    def test_files_tell_only_what_a_telescope_knows(self, raw_set: tuple[Path, SetTruth]) -> None:
        folder, truth = raw_set
        for exposure in truth.exposures:
            with fits.open(folder / exposure.name) as hdus:
                header, data = hdus[0].header, hdus[0].data
                assert data.dtype == np.uint16
                assert data.shape == (240, 160)
            assert header["BAYERPAT"] == "GRBG"
            assert not {"CTYPE1", "CRVAL1", "CD1_1", "EQUINOX"} & set(header)
            hint = SkyCoord(header["RA"], header["DEC"], unit="deg", frame=FK5(equinox="J2026.03"))
            center = SkyCoord(*exposure.celestial.pixel_to_sky(79.5, 119.5), unit="deg")
            assert hint.transform_to(ICRS()).separation(center).deg < 0.15
            # Read as J2000 the same numbers are visibly wrong.
            assert SkyCoord(header["RA"], header["DEC"], unit="deg").separation(center).deg > 0.15
            scale = np.rad2deg(header["XPIXSZ"] * 1e-3 / header["FOCALLEN"]) * 3600
            assert exposure.celestial.pixel_scale_arcsec() == pytest.approx(scale, rel=2e-3)

    def test_spoiled_exposures_are_as_many_as_asked(self, raw_set: tuple[Path, SetTruth]) -> None:
        _, truth = raw_set
        conditions = [e.condition for e in truth.exposures]
        assert (conditions.count("cloud"), conditions.count("soft")) == (1, 2)
        good = [e for e in truth.exposures if e.condition == "good"]
        for e in truth.exposures:
            if e.condition == "cloud":
                assert e.gain[0] < 0.3 * min(g.gain[0] for g in good)
            if e.condition == "soft":
                assert e.fwhm_px > 1.5 * max(g.fwhm_px for g in good)
        assert sum(e.trail is not None for e in truth.exposures) == 3

    def test_pixels_follow_the_truth(self, raw_set: tuple[Path, SetTruth]) -> None:
        """Each colour's pixels, averaged, are sky level + nebula; hot pixels sit at the same places."""
        folder, truth = raw_set
        excess = camera_defects(3, RAW)
        assert (excess > 0).mean() == pytest.approx(2e-3, rel=0.4)
        for exposure in truth.exposures:
            stored, header = fits.getdata(folder / exposure.name, header=True)
            data = stored.astype(float)
            pattern = np.array(["RGB".index(colour) for colour in header["BAYERPAT"]]).reshape(2, 2)
            assert np.all(data[excess > 0] >= np.minimum(excess[excess > 0], 65535))
            nebula = np.zeros(truth.exposures[0].shape, np.float32)
            truth.sky.add_nebula(nebula, exposure.celestial, np.ones(1))
            for channel in range(3):
                pixels = np.tile(pattern, (120, 80)) == channel
                level = exposure.surface[channel][0]
                light = exposure.gain[channel] * exposure.area * truth.sky.nebula_colour[channel]
                expected = level + light * np.median(nebula)
                assert np.median(data[pixels]) == pytest.approx(expected, abs=90)

    def test_field_turns_and_panels_are_visited(self, raw_set: tuple[Path, SetTruth]) -> None:
        _, truth = raw_set
        wcs = [e.celestial for e in truth.exposures]
        angle = [np.rad2deg(np.arctan2(w.wcs.wcs.cd[0, 1], w.wcs.wcs.cd[1, 1])) for w in wcs]
        assert angle[-1] - angle[0] == pytest.approx(0.9 * RAW.rotation_deg, abs=1.5)
        ra = np.array([w.wcs.wcs.crval[0] for w in wcs])
        step = (ra[:5].mean() - ra[5:].mean()) * np.cos(np.deg2rad(47))
        assert abs(step) == pytest.approx(0.75 * 160 * RAW.scale_arcsec / 3600, abs=0.03)
        assert np.linalg.det(wcs[0].wcs.wcs.cd) > 0

    @pytest.mark.parametrize("size_deg", [0.25, 0.5, 0.9])
    def test_panels_fill_the_sky_they_are_given(self, size_deg: float, tmp_path: Path) -> None:
        sky = SimulatedSky(4, 10.0, 40.0, size_deg)
        truth = simulate_raws(tmp_path, sky, 40, RawRecipe(shape=(240, 160)))
        corners = [e.celestial.outline(1) for e in truth.exposures]
        x, y = sky.nebula_wcs.sky_to_pixel(*np.concatenate(corners, axis=1))
        reach_deg = np.array([np.ptp(x), np.ptp(y)]) * 8 / 3600
        assert np.all(reach_deg > size_deg - 0.2)
        assert np.all(reach_deg <= size_deg)

    def test_same_seed_same_bytes_one_by_one_or_two_at_once(
        self, raw_set: tuple[Path, SetTruth], tmp_path: Path
    ) -> None:
        folder, _ = raw_set
        done: list[int] = []
        with ThreadPoolExecutor(2) as pool:
            simulate_raws(
                tmp_path, SimulatedSky(3, 184.0, 47.0, 0.6), 10, RAW,
                each=pool.map, on_progress=lambda k, n: done.append(k),
            )  # fmt: skip
        assert sorted(done) == list(range(1, 11))
        for path in folder.iterdir():
            assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name

    def test_what_cannot_be_made_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SettingError, match="at least one exposure"):
            simulate_raws(tmp_path, SimulatedSky(3, 0.0, 0.0, 0.6), 0)
        with pytest.raises(SettingError, match="panels"):
            simulate_raws(tmp_path, SimulatedSky(3, 0.0, 0.0, 0.2), 4, RAW)
        with pytest.raises(ValueError, match="even"):
            RawRecipe(shape=(101, 100))


class TestScore:
    """On images whose faults are planted."""

    def test_a_perfect_mosaic_scores_well(self, scene: Scene) -> None:
        truth, wcs, perfect = scene
        score = score_plane(perfect, wcs, truth)
        assert score.n_stars > 15
        assert score.star_mmag < 2.0
        assert score.background_sigma < 0.02
        assert score.seam_sigma < 0.03
        assert score.n_steps > 20
        assert score.filled == 1.0
        assert score.scale == pytest.approx(1.0, abs=0.01)

    def test_what_no_mosaic_can_know_costs_nothing(self, scene: Scene) -> None:
        truth, wcs, perfect = scene
        v, u = np.mgrid[:620, :620] / 620 - 0.5
        best = score_plane(perfect, wcs, truth)
        bent = score_plane(1.3 * (perfect + 400 * u - 300 * u * v * v + 50), wcs, truth)
        assert bent.scale / best.scale == pytest.approx(1.3, rel=2e-3)
        assert bent.background_sigma < 0.05
        assert bent.seam_sigma < 0.05

    def test_faint_stars_tell_the_scale_where_there_are_no_others(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        truth, wcs, perfect = scene
        monkeypatch.setattr("zemosaic.simulate.score._BRIGHTEST_MEASURED_ADU", 12000.0)
        score = score_plane(1.3 * perfect, wcs, truth)
        assert score.n_stars == 0
        assert np.isnan(score.star_mmag)
        assert score.scale == pytest.approx(1.3, rel=0.01)

    def test_faults_are_seen(self, scene: Scene) -> None:
        truth, wcs, perfect = scene
        best = score_plane(perfect, wcs, truth)
        y, x = np.mgrid[:620, :620]
        e = truth.exposures[0]
        fx, fy = e.celestial.sky_to_pixel(*wcs.pixel_to_sky(x, y))
        inside = (
            (fx > -0.5) & (fy > e.border_px - 0.5) & (fx < e.shape[1] - 0.5 - e.border_px) & (fy < e.shape[0] - 0.5)
        )
        stepped = score_plane(perfect + np.where(inside, truth.sigma, 0), wcs, truth)
        assert stepped.seam_sigma > 5 * best.seam_sigma
        assert stepped.background_sigma > 5 * best.background_sigma
        wavy = perfect * (1 + 0.1 * np.sign(np.sin(x / 40)))
        assert 80 < score_plane(wavy, wcs, truth).star_mmag < 150
        holed = np.where((x > 250) & (x < 350) & (y > 250) & (y < 350), np.nan, perfect)
        assert score_plane(holed, wcs, truth).filled < 0.99

    def test_files_are_scored_like_arrays(self, scene: Scene, tmp_path: Path) -> None:
        truth, wcs, perfect = scene
        write_truth(tmp_path, truth)
        fits.writeto(tmp_path / "mosaic.fits", perfect, wcs_cards(wcs))
        expected = asdict(score_plane(perfect, wcs, truth))
        assert score_mosaic(tmp_path, tmp_path / "mosaic.fits") == pytest.approx(expected)
        fits.writeto(tmp_path / "colour.fits", np.stack([perfect] * 3), wcs_cards(wcs))
        with pytest.raises(NothingToDo, match="3 planes, the set 1"):
            score_mosaic(tmp_path, tmp_path / "colour.fits")

    def test_nothing_to_score(self, scene: Scene) -> None:
        truth, wcs, perfect = scene
        with pytest.raises(NothingToDo, match="holds no data"):
            score_plane(np.full_like(perfect, np.nan), wcs, truth)
        with pytest.raises(NothingToDo, match="too few"):
            score_plane(np.where(np.arange(620) < 40, perfect, np.nan), wcs, truth)
