"""``stack_plan.csv`` is believed: which frames, how long, through which filter."""

from __future__ import annotations

from pathlib import Path

import pytest
from astropy.io import fits

from frame_cases import make_frame, vary_frame
from mosaic_cases import noise, run_cli, tan_wcs, write_frame
from zemosaic.errors import SettingError
from zemosaic.io.tables.stack_plan import PlanRow, read_stack_plan
from zemosaic.pipelines.frames.obey_plan import _as_planned

Capture = pytest.CaptureFixture[str]


def write_plan(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / "stack_plan.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize(
    "lines",
    [
        ("file_path,exposure,bortle,filter,batch,order,mount", "a/x.fit,30,4,IRCUT,2,7,EQ"),
        ("FilePath;ExpTime;Bortle Class;Filter Name;Batch ID;Index;Mount Mode", "a/x.fit;30,0;4;IRCUT;2;7;equatorial"),
        ("\ufeffpath\texposure_s\tsky_bortle\tband\tgroup\tsequence\teqmode", "a/x.fit\t30\t4\tIRCUT\t2\t7\t1"),
    ],
    ids=["comma", "semicolon", "tab"],
)
def test_columns_are_known_by_their_usual_names(tmp_path, lines):
    plan = read_stack_plan(write_plan(tmp_path, *lines))
    (row,) = plan.rows
    assert (row.path, row.exposure_s, row.bortle, row.filter) == ("a/x.fit", 30, "4", "IRCUT")
    assert (row.batch, row.order, row.mount) == ("2", "7", "equatorial")
    assert plan.ignored == ()
    assert plan.unreadable == ()


def test_unknown_columns_and_values_are_told(tmp_path):
    plan = read_stack_plan(write_plan(tmp_path, "path,moon,exposure,mount", "x.fit,full,soon,dobson", ",,,", "y.fit"))
    assert plan.ignored == ("moon",)
    assert plan.unreadable == ("exposure 'soon' in line 2", "mount 'dobson' in line 2")
    assert [row.path for row in plan.rows] == ["x.fit", "y.fit"]
    assert plan.rows[0].exposure_s is None


@pytest.mark.parametrize(
    "written", ["night1/x.fit", r"night1\x.fit", r"D:\sky\M 31\Night1\X.FIT", "/home/me/night1/x.fit", "./night1/x.fit"]
)
def test_a_path_fits_the_file_that_shares_most_of_its_end(tmp_path, written):
    plan = read_stack_plan(write_plan(tmp_path, "path", written))
    here = ["/data/night1/x.fit", "/data/night2/x.fit", "/data/night1/y.fit"]
    assert list(plan.find(here)) == [here[0]]


def test_a_bare_name_that_fits_two_files_is_taken_for_none(tmp_path):
    plan = read_stack_plan(write_plan(tmp_path, "path", "x.fit"))
    assert plan.find(["/data/night1/x.fit", "/data/night2/x.fit"]) == {}
    assert list(plan.find(["/data/night2/x.fit"])) == ["/data/night2/x.fit"]


def test_a_plan_without_paths_is_an_error(tmp_path):
    with pytest.raises(SettingError, match=r"no column of paths .* its columns: exposure, filter"):
        read_stack_plan(write_plan(tmp_path, "exposure,filter", "30,R"))
    (tmp_path / "stack_plan.csv").write_bytes(b"\xff\xfe\x00p")
    with pytest.raises(SettingError, match="cannot read"):
        read_stack_plan(tmp_path / "stack_plan.csv")


def test_a_planned_exposure_is_the_gain_to_expect():
    """Unless the header states a gain of its own."""
    frame = make_frame("1", "/data/x.fit", (4, 4), exposure_s=10.0, gain_prior=10.0, gain_prior_key="EXPTIME")
    assert _as_planned(frame, PlanRow("x.fit", 30.0)).decided.gain_prior == 30
    calibrated = vary_frame(frame, gain_prior=2.0, gain_prior_key="FLXSCALE")
    assert _as_planned(calibrated, PlanRow("x.fit", 30.0)).decided.gain_prior == 2
    assert _as_planned(frame, PlanRow("x.fit", mount="altaz")) == vary_frame(frame, mount="altaz")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for k, name in enumerate("abc"):
        write_frame(folder / f"{name}.fits", noise((100, 120), k), tan_wcs((100, 120), 150 + 0.01 * k))
    return folder


def test_only_planned_frames_are_used_with_the_planned_exposure(frames, tmp_path, capfd: Capture):
    write_plan(frames, "file_path,exposure,weather", r"C:\old place\a.fits,30,fine", "b.fits,60,fine", "gone.fits,30,")
    ran = run_cli(capfd, "coadd", frames, "-o", tmp_path / "out", "--json")
    assert ran.code == 0
    header = fits.getheader(tmp_path / "out/mosaic.fits")
    assert (header["NCOMBINE"], header["EXPTIME"]) == (2, 90)
    left_out = [event for event in ran.events if event["event"] == "LeftOut"]
    assert [(event["name"], event["reason"]) for event in left_out] == [("c.fits", "not listed in stack_plan.csv")]
    told = "\n".join(str(event.get("message")) for event in ran.events)
    assert "column 'weather' is not known and ignored" in told
    assert "lists 3 frames; 2 of them are here, 1 files here are not listed" in told


def test_planned_filters_split_the_mosaic(frames, tmp_path, capfd: Capture):
    write_plan(frames, "path,filter", "a.fits,R", "b.fits,R", "c.fits,G")
    assert run_cli(capfd, "coadd", frames, "-o", tmp_path / "out").code == 0
    assert fits.getheader(tmp_path / "out/mosaic_R.fits")["NCOMBINE"] == 2
    assert fits.getheader(tmp_path / "out/mosaic_G.fits")["FILTER"] == "G"


def test_a_plan_that_lists_nothing_here_is_nothing_to_do(frames, tmp_path, capfd: Capture):
    write_plan(frames, "path", "elsewhere.fits")
    ran = run_cli(capfd, "coadd", frames, "-o", tmp_path / "out")
    assert ran.code == 3
    assert "no frame is listed in stack_plan.csv" in ran.last_line
