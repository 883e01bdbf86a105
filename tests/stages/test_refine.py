"""The joint astrometric adjustment on frames with known truth, and on real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from test_solve import apart_arcsec, load_benchmark, read_given_wcs, seestar_fields

from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.model.sky.catalogue import CatalogueStars
from zemosaic.model.sky.star_field import StarField
from zemosaic.model.sky.tan_sip import TanSip
from zemosaic.settings import RefineSettings, SolveSettings
from zemosaic.stages.refine.common_offset import find_common_offsets
from zemosaic.stages.refine.equations import Equations, solve_equations
from zemosaic.stages.refine.refine import refine
from zemosaic.stages.solve.field import solve_field


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load_benchmark("refine_truth")


@pytest.mark.parametrize("n_cameras", [1, 2])
def test_stars_coincide_over_the_whole_field(bench: ModuleType, n_cameras: int) -> None:
    survey = bench.make_survey(n_cameras=n_cameras)
    before = survey.errors_px(survey.start)
    result = refine(survey.fields, survey.start, survey.catalogue, RefineSettings())
    after = survey.errors_px(result.plates)
    assert np.sqrt((before**2).mean()) > 0.8
    # Against the truth on the sky, common error of the catalogue included; then frame against frame.
    assert np.sqrt((after**2).mean()) < 0.06
    assert np.sqrt((after**2).mean(axis=(1, 2))).max() < 0.1
    assert np.abs(after).max() < 0.3
    assert np.median(result.rms_px) == pytest.approx(0.1, abs=0.03)
    assert result.n_catalogue > 50
    assert 0.1 < result.catalogue_rms_arcsec < 0.5


def test_without_a_catalogue_frames_still_coincide(bench: ModuleType) -> None:
    survey, nothing = bench.make_survey(), bench.ListedCatalogue(np.zeros(0), np.zeros(0))
    result = refine(survey.fields, survey.start, nothing, RefineSettings())
    shift = survey.errors_px(result.plates)
    # The sky may turn and shift as a whole by what the start was off; frames agree with each other.
    turn = np.where(np.arange(len(shift)) % 2, -1, 1)[:, None, None]
    assert np.sqrt((shift**2).mean()) < 1.0
    assert np.sqrt(((turn * shift).mean(axis=1) - (turn * shift).mean(axis=(0, 1))).std()) < 0.5
    assert np.median(result.rms_px) == pytest.approx(0.1, abs=0.03)
    assert result.n_catalogue == 0
    assert np.isnan(result.catalogue_rms_arcsec)


def test_the_order_of_frames_does_not_matter(bench: ModuleType) -> None:
    survey = bench.make_survey(8)
    order = np.random.default_rng(1).permutation(8)
    result = refine(survey.fields, survey.start, survey.catalogue, RefineSettings())
    mixed = refine(
        [survey.fields[k] for k in order], [survey.start[k] for k in order], survey.catalogue, RefineSettings()
    )
    back = [mixed.plates[int(np.flatnonzero(order == k)[0])] for k in range(8)]
    assert np.abs(survey.errors_px(back) - survey.errors_px(result.plates)).max() < 1e-3


def test_a_frame_without_ties_stays_where_it_is(bench: ModuleType) -> None:
    survey = bench.make_survey(6)
    far = TanSip(bench.CENTRE[0], bench.CENTRE[1] - 8, survey.start[0].crpix, survey.start[0].cd)
    lonely = StarField(survey.fields[0].xy[:20], survey.fields[0].flux[:20], bench.SHAPE, camera="other")
    few = replace(survey.fields[5], xy=survey.fields[5].xy[:3], flux=survey.fields[5].flux[:3])
    fields = [*survey.fields[:5], few, lonely]
    result = refine(fields, [*survey.start, far], survey.catalogue, RefineSettings())
    assert result.n_ties[6] == 0
    assert np.isnan(result.rms_px[6])
    np.testing.assert_allclose(result.plates[6].pixel_to_sky(lonely.xy), far.pixel_to_sky(lonely.xy), atol=1e-9)
    # Three stars place a frame, but cannot bend it.
    assert np.abs(survey.errors_px(result.plates[:6])[5]).max() < 3
    assert np.sqrt((survey.errors_px(result.plates[:6])[:5] ** 2).mean()) < 0.1


def test_start_plates_may_bring_their_own_distortion(bench: ModuleType) -> None:
    survey = bench.make_survey(8, distortion_px=25.0)
    known = [replace(s, sip_order=3, sip=t.sip) for s, t in zip(survey.start, survey.truth, strict=True)]
    result = refine(survey.fields, known, survey.catalogue, RefineSettings())
    assert np.sqrt((survey.errors_px(result.plates) ** 2).mean()) < 0.08


def test_no_distortion_on_request(bench: ModuleType) -> None:
    survey = bench.make_survey(6, distortion_px=0.0)
    result = refine(survey.fields, survey.start, survey.catalogue, RefineSettings(distortion_order=0))
    assert all(plate.sip_order == 0 for plate in result.plates)
    assert np.sqrt((survey.errors_px(result.plates) ** 2).mean()) < 0.06


def test_lists_must_match(bench: ModuleType) -> None:
    survey = bench.make_survey(2)
    with pytest.raises(ValueError, match="2 star lists for 1 plates"):
        refine(survey.fields, survey.start[:1], survey.catalogue, RefineSettings())
    with pytest.raises(ValueError, match="0 star lists"):
        refine([], [], survey.catalogue, RefineSettings())


def test_the_sparse_step_is_least_squares() -> None:
    rng = np.random.default_rng(4)
    n, n_frames, n_cameras, k, n_stars = 80, 5, 2, 4, 14
    eq = Equations(
        frame_of=np.arange(n) % n_frames,
        camera_of=np.arange(n) % n_frames % n_cameras,
        star_of=rng.integers(0, n_stars, n),
        residual=rng.normal(size=(n, 2)),
        sigma=rng.uniform(0.5, 2, n),
        linear=rng.normal(size=(n, 3)),
        camera=rng.normal(size=(n, 2, k)),
        star=np.eye(2) + 0.1 * rng.normal(size=(n, 2, 2)),
        known_star=np.arange(0, n_stars, 2),
        known_offset=rng.normal(size=(7, 2)),
        known_sigma=rng.uniform(0.5, 2, 7),
        shear=rng.normal(size=(n_frames, 2, 4)),
        shear_residual=rng.normal(size=(n_frames, 2)),
        shear_sigma=0.7,
        camera_of_frame=np.arange(n_frames) % n_cameras,
        camera_sigma=np.full((n_cameras, k), 1.5),
        camera_residual=rng.normal(size=(n_cameras, k)),
        frame_residual=rng.normal(size=(n_frames, 2, 3)),
        frame_sigma=np.array([3.0, 2.0, 2.0]),
        n_stars=n_stars,
    )
    rows, target = [], []

    def add(entries: dict[int, float], goal: float, sigma: float) -> None:
        row = np.zeros(6 * n_frames + n_cameras * k + 2 * n_stars)
        for column, value in entries.items():
            row[column] += value
        rows.append(row / sigma)
        target.append(goal / sigma)

    camera0, star0 = 6 * n_frames, 6 * n_frames + n_cameras * k
    for o in range(n):
        for a in range(2):
            entries = {int(6 * eq.frame_of[o] + 3 * a + j): eq.linear[o, j] for j in range(3)}
            entries |= {int(camera0 + k * eq.camera_of[o] + j): eq.camera[o, a, j] for j in range(k)}
            entries |= {int(star0 + 2 * eq.star_of[o] + j): -eq.star[o, a, j] for j in range(2)}
            add(entries, eq.residual[o, a], eq.sigma[o])
    for m, s in enumerate(eq.known_star):
        for a in range(2):
            add({int(star0 + 2 * s + a): 1.0}, eq.known_offset[m, a], eq.known_sigma[m])
    for f in range(n_frames):
        for a in range(2):
            entries = {6 * f + j: eq.shear[f, a, i] for i, j in enumerate((1, 2, 4, 5))}
            entries[int(camera0 + k * eq.camera_of_frame[f] + k - 2 + a)] = -1.0
            add(entries, eq.shear_residual[f, a], eq.shear_sigma)
    for c in range(n_cameras):
        for j in range(k):
            add({camera0 + k * c + j: 1.0}, eq.camera_residual[c, j], eq.camera_sigma[c, j])
    for j in range(6 * n_frames):
        add({j: 1.0}, eq.frame_residual.ravel()[j], eq.frame_sigma[j % 3])
    # Stars that only one frame sees and no catalogue knows are still determined: they follow that frame.
    solution = np.linalg.lstsq(np.array(rows), np.array(target), rcond=None)[0]
    change = solve_equations(eq)
    np.testing.assert_allclose(change.frame.ravel(), solution[:camera0], atol=1e-5)
    np.testing.assert_allclose(change.camera.ravel(), solution[camera0:star0], atol=1e-5)
    np.testing.assert_allclose(change.star.ravel(), solution[star0:], atol=1e-5)


def test_real_seestar_frames_of_three_sessions(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "seestar_m94"
    named = seestar_fields(folder)
    fields = list(named.values())
    solutions = [
        solve_field(f.xy, f.flux, f.shape, f.hint, tycho2(), SolveSettings(), epoch_year=f.epoch_year) for f in fields
    ]
    result = refine(fields, [s.plate for s in solutions], tycho2(), RefineSettings())
    assert np.sqrt(np.average(result.rms_px**2, weights=result.n_ties)) < 0.2
    assert result.n_ties.min() >= 15
    points = np.array([[539.5, 959.5], [0, 0], [1079, 0], [0, 1919], [1079, 1919]])
    doubtful = []
    for name, plate in zip(named, result.plates, strict=True):
        given_wcs = read_given_wcs(folder, name)
        apart = apart_arcsec(plate.pixel_to_sky(points), given_wcs.pixel_to_sky(*points.T))
        assert apart[0] < 1
        doubtful += [(name, k) for k in range(1, 5) if apart[k] >= 3]
    assert doubtful == [("Light_M 94_10.0s_IRCUT_20250409-225539.fit.gz", 2)]


def test_headers_where_the_catalogue_has_no_star_are_off_by_nothing_that_is_known() -> None:
    class Empty:
        name = "empty"

        def cone(self, ra_deg: float, dec_deg: float, radius_deg: float) -> CatalogueStars:
            return CatalogueStars(*np.zeros((3, 0)))

    place = TanSip(10.0, 20.0, (49.5, 39.5), np.diag([-1e-3, 1e-3])).celestial((80, 100))
    field = StarField(np.array([[10.0, 20.0], [30.0, 40.0]]), np.ones(2), (80, 100))
    assert find_common_offsets([field], [place], Empty()) == []
