"""Where frames point, through the command line: solved and exported, checked and replaced, registered to each other."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from mosaic_cases import digests_of, draw_stars, noise, run_cli, tan_wcs, write_frame
from zemosaic.engine.events import Event, LeftOut
from zemosaic.errors import NothingToDo
from zemosaic.io.astrometry.blind import installed_solvers
from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.io.read.scan import scan
from zemosaic.io.write.wcs_file import wcs_file_names
from zemosaic.model.frame import PointingHint
from zemosaic.model.sky.catalogue import CatalogueStars
from zemosaic.model.sky.celestial import CelestialWcs, unit_vectors
from zemosaic.model.sky.star_field import StarField
from zemosaic.pipelines.run.context import start_run
from zemosaic.pipelines.solving.known_sky import KnownSky
from zemosaic.pipelines.solving.solve_command import solve_inputs
from zemosaic.settings import InputSettings, Settings, load_settings
from zemosaic.simulate import read_truth
from zemosaic.simulate.truth import SetTruth

Capture = pytest.CaptureFixture[str]


def wcs_in(path: Path, shape: tuple[int, int]) -> CelestialWcs:
    header = fits.getheader(path)
    header.remove("NAXIS")  # astropy warns of a WCS without an image, as it does for those of astrometry.net
    return CelestialWcs(WCS(header), shape)


def worst_arcsec(one: CelestialWcs, other: CelestialWcs) -> float:
    """Largest distance of the two at the corners and in the middle."""
    height, width = one.shape
    x, y = np.array([0, width - 1, 0, width - 1, width / 2]), np.array([0, 0, height - 1, height - 1, height / 2])
    a, b = (unit_vectors(*wcs.pixel_to_sky(x, y)) for wcs in (one, other))
    return float(np.rad2deg(np.linalg.norm(a - b, axis=1).max()) * 3600)


def truth_by_name(folder: Path) -> dict[str, CelestialWcs]:
    truth: SetTruth = read_truth(folder)
    return {exposure.name: exposure.celestial for exposure in truth.exposures}


def test_solved_headers_are_exported_and_inputs_stay(capfd: Capture, raw_set: Path, tmp_path: Path) -> None:
    before = digests_of(raw_set)
    ran = run_cli(capfd, "solve", raw_set, "--write-wcs", tmp_path / "wcs")
    assert ran.code == 0
    assert ran.out.count("  solved  ") == 4
    assert digests_of(raw_set) == before
    for name, truth in truth_by_name(raw_set).items():
        path = tmp_path / "wcs" / f"{Path(name).stem}.wcs"
        header = fits.getheader(path)
        assert (header["NAXIS"], header["IMAGEW"], header["IMAGEH"]) == (0, 900, 600)
        assert header["CTYPE1"] == "RA---TAN-SIP"
        assert worst_arcsec(wcs_in(path, truth.shape), truth) < 1.0
    table = Table.read(tmp_path / "wcs/solve.ecsv")
    assert list(table["how"]) == ["solved"] * 4
    assert (table["n_stars"] > 10).all()
    assert (table["rms_px"] < 0.3).all()


def test_the_table_for_machines_tells_what_could_not_be_solved(capfd: Capture, raw_set: Path, tmp_path: Path) -> None:
    ran = run_cli(capfd, "solve", raw_set, write_frame(tmp_path / "blank.fits", noise((200, 300), 1), None), "--json")
    assert ran.code == 0
    rows = {row["name"]: row for row in ran.events if row["event"] == "Solved"}
    assert len(rows) == 5
    assert rows["blank.fits"]["how"] == "unsolved"
    assert "no position in the header" in str(rows["blank.fits"]["reason"])
    assert rows["blank.fits"]["code"] == "solve.unsolved"
    assert rows["blank.fits"]["ra_deg"] is None
    truth = truth_by_name(raw_set)
    for name, wcs in truth.items():
        assert rows[name]["scale_arcsec"] == pytest.approx(wcs.pixel_scale_arcsec(), rel=1e-3)
    ran = run_cli(capfd, "solve", tmp_path, "--write-wcs", tmp_path / "none")
    assert ran.code == 3
    assert "none of 1 frames could be solved" in ran.last_line


def test_headers_of_files_that_share_a_name_are_told_apart(tmp_path: Path) -> None:
    for k, name in enumerate(("a/light.fits", "b/Light.fits", "c/light 2.fit")):
        (tmp_path / name).parent.mkdir()
        write_frame(tmp_path / name, noise((20, 30), k), None)
    frames = sorted(scan([tmp_path], InputSettings()).frames, key=lambda frame: frame.storage.path)
    assert wcs_file_names(frames) == ["light.wcs", "Light_2.wcs", "light 2.wcs"]


def with_headers(raw_set: Path, folder: Path, shift_arcmin: float) -> Path:
    """Copies of raw frames with their true WCS in the header, that of the first frame shifted."""
    folder.mkdir()
    for k, (name, truth) in enumerate(sorted(truth_by_name(raw_set).items())):
        with fits.open(raw_set / name) as hdus:
            cards = truth.wcs.to_header()
            cards["CRVAL2"] += shift_arcmin / 60 if k == 0 else 0
            hdus[0].header.update(cards)
            hdus.writeto(folder / name)
    return folder


def test_a_wrong_header_is_replaced_and_right_ones_are_kept(capfd: Capture, raw_set: Path, tmp_path: Path) -> None:
    frames = with_headers(raw_set, tmp_path / "frames", 3.0)
    before = digests_of(frames)
    ran = run_cli(capfd, "build", frames, "-o", tmp_path / "out", "--set", "stack.method=mean")
    assert ran.code == 0
    names = sorted(truth_by_name(raw_set))
    assert f"warning: {names[0]}: the WCS in its header is shifted by 180 arcsec; it is solved again" in ran.err
    assert "3 header WCS kept, 1 frames solved of 4" in ran.err
    assert digests_of(frames) == before
    table = Table.read(tmp_path / "out/frames.ecsv")
    for row in table:
        wcs = truth_by_name(raw_set)[row["name"]]
        ra, dec = wcs.pixel_to_sky((wcs.shape[1] - 1) / 2, (wcs.shape[0] - 1) / 2)
        assert np.hypot((row["ra_deg"] - ra) * np.cos(np.deg2rad(dec)), row["dec_deg"] - dec) * 3600 < 1
        assert row["use"]


class FakeSolver:
    """Knows the place of the frames that are asked for first, in their order; for the rest it fails or lies."""

    name = "fake"

    def __init__(self, *answers: PointingHint | None) -> None:
        self.answers = list(answers)
        self.n_asked = 0

    def locate(self, field: StarField) -> PointingHint | None:
        self.n_asked += 1
        return self.answers.pop(0) if self.answers else None


def without_hints(raw_set: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in raw_set.glob("*.fit*"):
        with fits.open(path) as hdus:
            for key in ("RA", "DEC", "FOCALLEN"):
                hdus[0].header.remove(key, ignore_missing=True)
            hdus.writeto(folder / path.name)
    return folder


def test_a_blind_solver_is_asked_where_the_header_says_nothing(raw_set: Path, tmp_path: Path) -> None:
    """One frame that it locates ties the others; a place that the stars do not confirm is not taken."""
    middle = next(iter(truth_by_name(raw_set).values()))
    ra, dec = middle.pixel_to_sky(450, 300)
    right = PointingHint(float(ra) + 0.2, float(dec) + 0.1, 2000.0, 1.02 * middle.pixel_scale_arcsec())
    wrong = PointingHint(10.0, -40.0, 2000.0, middle.pixel_scale_arcsec())
    frames = without_hints(raw_set, tmp_path / "frames")
    for answers, n_asked, n_solved in (((right,), 1, 4), ((None, right), 2, 4), ((wrong, None, right), 2, 0)):
        solver, events = FakeSolver(*answers), list[Event]()
        sky, run = KnownSky(tycho2(), (solver,)), start_run(sink=events.append)
        with nullcontext() if n_solved else pytest.raises(NothingToDo):
            rows = solve_inputs([frames], sky, Settings(), run, None)
            assert sorted(row["how"] for row in rows) == ["solved, located by fake", *["tied"] * 3]
        assert solver.n_asked == n_asked
    reasons = [event.reason for event in events if isinstance(event, LeftOut)]
    assert sum("not located by fake either" in reason for reason in reasons) == 2


def test_frames_with_hints_ask_nobody(raw_set: Path) -> None:
    solver = FakeSolver()
    sky = KnownSky(tycho2(), (solver,))
    with pytest.raises(NothingToDo):
        solve_inputs([raw_set], sky, load_settings(assignments=["solve.min_matches=5000"]), start_run(), None)
    assert len(solve_inputs([raw_set], sky, Settings(), start_run(), None)) == 4
    assert solver.n_asked == 0


class NoStars:
    """A catalogue of nothing."""

    name = "none"

    def cone(self, ra_deg: float, dec_deg: float, radius_deg: float) -> CatalogueStars:
        return CatalogueStars(*np.zeros((3, 0)))


def test_the_catalogue_that_is_handed_in_is_the_one_that_is_asked(raw_set: Path) -> None:
    with pytest.raises(NothingToDo, match="none of 4 frames could be solved"):
        solve_inputs([raw_set], KnownSky(NoStars()), Settings(), start_run(), None)


@pytest.mark.skipif(not installed_solvers(), reason="solve-field of astrometry.net is not installed")
def test_solve_field_locates_a_frame(raw_set: Path, tmp_path: Path) -> None:
    known = tycho2().cone(83.8, 22.0, 1.2)
    wcs = CelestialWcs(tan_wcs((1920, 1080), 83.8, 22.0, 2.4, rotation_deg=33.0), (1920, 1080))
    x, y = wcs.sky_to_pixel(known.ra_deg, known.dec_deg)
    inside = (x > 0) & (x < 1079) & (y > 0) & (y < 1919)
    field = StarField(np.stack([x, y], axis=1)[inside], 10 ** (-0.4 * known.mag[inside]), (1920, 1080))
    (solver,) = installed_solvers()
    hint = solver.locate(field)
    if hint is None:
        pytest.skip("solve-field has no index files for a field of one degree")
    assert hint.ra_deg == pytest.approx(83.8, abs=0.01)
    assert hint.dec_deg == pytest.approx(22.0, abs=0.01)
    assert hint.scale_arcsec == pytest.approx(2.4, rel=1e-3)


OFFSETS = ((0.0, 0.0), (23.4, -11.7), (-18.2, 9.6), (7.3, 31.1))


@pytest.fixture(scope="module")
def unknown_field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of stars that no catalogue knows, shifted and turned against each other, without WCS."""
    folder = tmp_path_factory.mktemp("unknown_field")
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(-0.03, 0.03, 80) % 360, rng.uniform(-0.03, 0.03, 80)
    flux = 4000 * rng.exponential(size=80) + 2000
    for k in range(len(OFFSETS)):
        stars = draw_stars(moved(k), (220, 260), ra, dec, flux, 3.0)
        write_frame(folder / f"f{k}.fits", (noise((220, 260), k, 3.0, 500) + stars).astype(np.float32), None)
    return folder


def moved(k: int) -> WCS:
    """A plane of one arcsecond a pixel about RA 0, Dec 0: where frame `k` really is."""
    wcs = tan_wcs((220, 260), 0.0, 0.0, 1.0, rotation_deg=0.4 * k)
    wcs.wcs.crpix += OFFSETS[k]
    return wcs


def test_without_a_place_on_the_sky_the_way_out_is_named(capfd: Capture, unknown_field: Path, tmp_path: Path) -> None:
    ran = run_cli(capfd, "build", unknown_field, "-o", tmp_path / "out")
    assert ran.code == 3
    assert "no frame has a place on the sky; 4 of 4: unsolved: no WCS in the header" in ran.last_line
    assert "--register-only" in ran.last_line
    assert not (tmp_path / "out/mosaic.fits").exists()


@pytest.mark.parametrize("command", ["build", "coadd"])
def test_frames_are_registered_to_each_other(capfd: Capture, unknown_field: Path, tmp_path: Path, command: str) -> None:
    ran = run_cli(
        capfd, command, unknown_field, "-o", tmp_path / "out", "--register-only", "--keep-warps", tmp_path / "warps"
    )
    assert ran.code == 0
    assert "register   4 frames of 4 to each other" in ran.err
    header = fits.getheader(tmp_path / "out/mosaic.fits")
    assert header["NCOMBINE"] == 4
    assert "registered to each other; the WCS is a plane of the frames' own" in str(header["HISTORY"])
    # Each frame's centre, seen from the first one's.
    rows = Table.read(tmp_path / "out/frames.ecsv")
    rows.sort("name")
    found = np.stack([(np.array(rows["ra_deg"]) + 180) % 360 - 180, rows["dec_deg"]], axis=1)
    true = np.array([moved(k).pixel_to_world_values(129.5, 109.5) for k in range(4)])
    true[:, 0] = (true[:, 0] + 180) % 360 - 180
    turn = np.linalg.lstsq(true - true[0], found - found[0], rcond=None)[0]
    error = (found - found[0]) - (true - true[0]) @ turn
    assert np.abs(error).max() * 3600 < 0.05
    assert np.abs(turn - np.eye(2)).max() < 0.02


def test_what_shows_no_stars_is_not_registered(capfd: Capture, unknown_field: Path, tmp_path: Path) -> None:
    blank = write_frame(tmp_path / "blank.fits", noise((220, 260), 9), None)
    ran = run_cli(capfd, "coadd", unknown_field, blank, "-o", tmp_path / "out", "--register-only")
    assert ran.code == 0
    assert "blank.fits: not registered" in ran.err
    ran = run_cli(capfd, "coadd", blank, "-o", tmp_path / "none", "--register-only")
    assert ran.code == 3
    assert "--register-only" not in ran.last_line


def test_real_crowded_frames_are_registered(capfd: Capture, shared_dir: Path, tmp_path: Path) -> None:
    """Every fourth of 59 frames of 2.6 arcmin; their given places are good to some 0.1 px (docs/method/solving.md)."""
    folder = shared_dir / "data/saao_kb13475"
    given = {row["file"]: row["to_ref_AKB13475I0104"] for row in json.loads((folder / "manifest.json").read_text())}
    names = sorted(given)[::4]
    ran = run_cli(capfd, "build", *(folder / name for name in names), "-o", tmp_path / "out", "--register-only")
    assert ran.code == 0
    assert fits.getheader(tmp_path / "out/mosaic.fits")["NCOMBINE"] == len(names)
    table = Table.read(tmp_path / "out/frames.ecsv")
    places = {row["name"].partition("[")[0]: row for row in table}
    found, true = [], []
    for name in names:
        place, t = places[name], given[name]
        turn = np.deg2rad(t["rot_deg"])
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        true.append(t["scale"] * rotation @ [255.5, 255.5] + [t["dx"], t["dy"]])
        found.append(3600 * np.array([-((place["ra_deg"] + 180) % 360 - 180), place["dec_deg"]]))
    error = np.array(found) - true
    error -= np.median(error, axis=0)
    assert np.median(np.hypot(*error.T)) < 0.1
    assert np.sort(np.hypot(*error.T))[-2] < 0.3
