"""Poor frames stay out of the mosaic, with the reason; an edited table is obeyed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from frame_cases import make_frame, vary_frame
from mosaic_cases import run_cli, tan_wcs
from zemosaic.engine.events import Event, LeftOut, Notice
from zemosaic.errors import NothingToDo, SettingError
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameId
from zemosaic.model.measurements import Blocks, Measurements, Stars
from zemosaic.model.photo_scale import PhotoScale
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.pipelines.frames.grading import (
    grade_matched,
    grade_measured,
    leave_out_stacks,
    obey_table,
    quality_table,
)
from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame
from zemosaic.pipelines.run.context import start_run
from zemosaic.settings import Settings, load_settings

Capture = pytest.CaptureFixture[str]

SHAPE = (100, 200)
N = 20


def frame(k: int, *, bayer: str | None = "GRBG", day: int = 10) -> Frame:
    date = f"2026-01-{day}T20:{k:02d}:00"
    return make_frame(
        f"{day}{k:04d}", f"/sky/light_{k}.fit", SHAPE, layout="bayer" if bayer else "mono", bayer=bayer, camera="cam",
        exposure_s=10.0, date_obs=date,
    )  # fmt: skip


def stars(n: int, significance: float = 50.0) -> Stars:
    (x, y), f4, no = np.random.default_rng(n).uniform(0, 100, (2, n)), np.ones(n, np.float32), np.zeros(n, bool)
    flux = np.full((3, n), significance, np.float32)
    error = np.full((3, n), np.sqrt(3), np.float32)
    return Stars(x, y, flux, error, flux, f4, f4, f4, no, no)


def measured(k: int, **changed: object) -> MeasuredFrame:
    """Frame number `k` of a steady night, unless told otherwise."""
    known: dict[str, object] = {
        "fwhm_px": 3.0 + 0.02 * (k % 3), "ellipticity": 0.05 + 0.005 * (k % 4), "n": 60 + k % 5, "sky": 1000.0,
        "bayer": "GRBG", "day": 10,
    }  # fmt: skip
    assert changed.keys() <= known.keys()
    known |= changed
    m = Measurements(
        SHAPE, np.full(3, known["sky"]), *2 * [np.full(3, 16.0)], Box.of_shape(SHAPE), known["fwhm_px"],  # type: ignore[arg-type]
        known["ellipticity"], stars(known["n"]), Blocks.empty(3),  # type: ignore[arg-type]
    )  # fmt: skip
    return MeasuredFrame(frame(k, bayer=known["bayer"], day=known["day"]), m)  # type: ignore[arg-type]


def graded(frames: list[MeasuredFrame], *assign: str) -> tuple[list[int], list[str]]:
    """Numbers of the frames that are left out, and the reasons."""
    events: list[Event] = []
    kept = grade_measured(frames, load_settings(assignments=assign), start_run(sink=events.append))
    assert list(kept.left_out) == events
    names = {item.frame.id for item in kept.frames}
    reasons = [item.reason for item in kept.left_out]
    return [i for i, item in enumerate(frames) if item.frame.id not in names], reasons


def test_a_telescopes_own_stack_beside_its_raw_frames_is_left_out() -> None:
    """Seestar writes both; the stack holds what the frames hold."""
    raw = [vary_frame(frame(k), instrument="Seestar S50") for k in range(3)]
    stack = vary_frame(
        frame(9, bayer=None), path="/sky/Stacked_3.fit", layout="chw", instrument="Seestar S50", n_stacked=3
    )
    other = vary_frame(stack, id=FrameId("other"), instrument="ASI2600")
    events: list[Event] = []
    kept = leave_out_stacks([*raw, stack, other], start_run(sink=events.append))
    assert kept.frames == [*raw, other]
    (event,) = events
    assert kept.left_out == (event,)
    assert isinstance(event, LeftOut)
    assert (event.name, event.reason[:56]) == (
        "Stacked_3.fit",
        "a stack of 3 frames beside 3 raw ones of Seestar S50: ea",
    )
    assert leave_out_stacks([stack, other], start_run()).frames == [stack, other]


def spoiled(**changed: object) -> list[MeasuredFrame]:
    """A cloud at 4 and a soft frame at 9."""
    frames = [measured(k, **changed) for k in range(N)]
    frames[4] = measured(4, n=12, sky=3000.0, **changed)
    frames[9] = measured(9, fwhm_px=6.0, **changed)
    return frames


def test_clouded_and_soft_raw_frames_are_left_out_with_the_numbers() -> None:
    out, reasons = graded(spoiled())
    assert out == [4, 9]
    assert reasons[0].startswith("cloud: 12 stars")
    assert reasons[1].startswith("soft: FWHM 6.00 px")


def test_a_steady_night_is_kept() -> None:
    assert graded([measured(k) for k in range(N)]) == ([], [])


def test_auto_leaves_calibrated_frames_alone() -> None:
    assert graded(spoiled(bayer=None))[0] == []
    assert graded(spoiled(bayer=None), "quality.triage=on")[0] == [4, 9]


@pytest.mark.parametrize("assign", ["quality.triage=off", "input.frames=table.ecsv"])
def test_triage_can_be_turned_off(assign: str) -> None:
    assert graded(spoiled(), assign)[0] == []


def test_few_frames_are_too_precious() -> None:
    assert graded(spoiled()[3:10])[0] == []


def test_seeing_rules_out_nothing_in_a_short_session() -> None:
    assert graded(spoiled()[:11])[0] == [4]


def test_a_night_is_compared_with_itself() -> None:
    """Another night with worse seeing is not soft as a whole."""
    frames = [measured(k) for k in range(N)] + [measured(k, fwhm_px=5.0 + 0.02 * (k % 3), day=11) for k in range(N)]
    assert graded(frames)[0] == []


def test_faint_detections_do_not_count() -> None:
    faint = Measurements(
        SHAPE, *3 * [np.ones(3)], Box.of_shape(SHAPE), 3.0, 0.1, stars(9, significance=8.0), Blocks.empty(3)
    )
    table = quality_table([frame(0), frame(1)], [faint, measured(1).measured])
    assert table.n_stars.tolist() == [0, 61]


def test_the_user_cuts_any_frames() -> None:
    assert graded(spoiled(bayer=None), "quality.fwhm_max_px=5")[0] == [9]
    frames = [measured(k, ellipticity=0.3 if k == 2 else 0.05) for k in range(4)]
    assert graded(frames, "quality.ellipticity_max=0.2")[0] == [2]


def test_the_best_are_kept() -> None:
    frames = [measured(k, fwhm_px=3.0 + k) for k in range(4)]
    out, reasons = graded(frames, "quality.best_fraction=0.5")
    assert out == [2, 3]
    assert "not among the best 2" in reasons[0]


def test_cuts_that_leave_nothing_say_so() -> None:
    with pytest.raises(NothingToDo, match="quality limits"):
        graded([measured(0)], "quality.fwhm_max_px=1")


@pytest.mark.parametrize(("index", "words"), [(5, "cloud: 20 % of the light"), (7, "wrong field")])
def test_gains_and_places_tell_more(index: int, words: str) -> None:
    frames = [measured(k) for k in range(N)]
    scales = {item.frame.id: PhotoScale.neutral(3, "") for item in frames}
    wcs = [CelestialWcs(tan_wcs(SHAPE), SHAPE)] * N
    if index == 5:
        dark = PhotoScale.neutral(3, "")
        scales[frames[5].frame.id] = PhotoScale(
            dark.gain * 0.2, dark.surface, dark.response, dark.gain_error, dark.level_error, dark.note
        )
    else:
        wcs[7] = CelestialWcs(tan_wcs(SHAPE, ra_deg=152.0), SHAPE)
    events: list[Event] = []
    bad = grade_matched(
        [m.frame for m in frames], [m.measured for m in frames], wcs, scales, Settings(), start_run(sink=events.append)
    )
    assert [item.frame_id for item in bad] == [frames[index].frame.id]
    assert [event.reason[: len(words)] for event in events if isinstance(event, LeftOut)] == [words]


def write_table(path: Path, use: list[object], kind: str) -> Path:
    frames = [frame(k) for k in range(3)]
    rows = {"name": [f.name for f in frames], "use": use, "path": [f.storage.path for f in frames]}
    Table(rows).write(path, format=kind)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "use"),
    [("a.ecsv", "ascii.ecsv", [True, False, True]), ("a.csv", "ascii.csv", [1, 0, 1]),
     ("b.csv", "ascii.csv", ["TRUE", "FALSE", "yes"])],
)  # fmt: skip
def test_a_table_decides(tmp_path: Path, name: str, kind: str, use: list[object]) -> None:
    table = write_table(tmp_path / name, use, kind)
    kept = obey_table([frame(k) for k in range(4)], table, start_run())
    assert [f.name for f in kept.frames] == ["light_0.fit", "light_2.fit", "light_3.fit"]
    assert [(item.name, item.reason) for item in kept.left_out] == [("light_1.fit", f"use is false in {name}")]


def test_a_table_that_rules_all_out_and_one_that_is_none(tmp_path: Path) -> None:
    frames = [frame(k) for k in range(3)]
    with pytest.raises(NothingToDo, match="leaves no frame"):
        obey_table(frames, write_table(tmp_path / "none.csv", [0, 0, 0], "ascii.csv"), start_run())
    Table({"a": [1]}).write(tmp_path / "other.csv", format="ascii.csv")
    for other in ("other.csv", "absent.ecsv"):
        with pytest.raises(SettingError, match="not a table of frames"):
            obey_table(frames, tmp_path / other, start_run())


@pytest.mark.parametrize("name", ["a.csv", "left_out.txt"])
def test_a_table_of_other_frames_is_told(tmp_path: Path, name: str) -> None:
    """It would leave nothing out, in silence."""
    write_table(tmp_path / "a.csv", [1, 0, 1], "ascii.csv")
    (tmp_path / "left_out.txt").write_text(f"# left out\n{frame(1).storage.path}\n", encoding="utf-8")
    others = [vary_frame(frame(k), id=FrameId(f"other {k}"), path=f"/sky/other_{k}.fit") for k in range(3)]
    for frames, n_told in ((others, 1), ([*others, frame(1)], 0)):
        events: list[Event] = []
        kept = obey_table(frames, tmp_path / name, start_run(sink=events.append))
        assert kept.frames == others
        told = [event for event in events if isinstance(event, Notice)]
        assert [event.told.code for event in told] == n_told * ["frame.table-of-others"]


def test_an_edited_table_of_a_run_is_obeyed_by_the_next(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    options = ["--set", "match.method=none", "--set", "output.preview=false"]
    assert run_cli(capfd, "build", small_set, "-o", tmp_path / "out", *options).code == 0
    table = Table.read(tmp_path / "out/frames.csv", format="ascii.csv")
    assert len(table) == 8
    table["use"] = [str(i != 2) for i in range(8)]
    shutil.rmtree(tmp_path / "out")
    table.write(tmp_path / "mine.csv", format="ascii.csv")
    ran = run_cli(capfd, "build", small_set, "-o", tmp_path / "out", "--frames", tmp_path / "mine.csv", *options)
    assert ran.code == 0
    again = Table.read(tmp_path / "out/frames.ecsv", format="ascii.ecsv")
    out = again[~again["use"]]
    assert out["name"].tolist() == [table["name"][2]]
    assert out["reason"].tolist() == ["use is false in mine.csv"]
    assert out["code"].tolist() == ["frame.not-used"]


def test_a_row_finds_its_frame_by_id_then_by_a_name_that_only_one_has(tmp_path: Path) -> None:
    """The folder was moved; two frames of two nights have one name."""
    frames = [frame(k) for k in range(3)]
    moved = [vary_frame(f, path=f.storage.path.replace("/light", "/elsewhere/light")) for f in frames]
    table = Table.read(write_table(tmp_path / "a.csv", [1, 0, 1], "ascii.csv"), format="ascii.csv")
    kept = obey_table(moved, tmp_path / "a.csv", start_run())
    assert [f.name for f in kept.frames] == ["light_0.fit", "light_2.fit"]
    twin = vary_frame(moved[1], id=FrameId("twin"), path=moved[1].storage.path.replace("elsewhere", "other"))
    assert len(obey_table([*moved, twin], tmp_path / "a.csv", start_run()).frames) == 4
    table["id"] = [f.id for f in frames]
    table.write(tmp_path / "b.csv", format="ascii.csv")
    assert obey_table([*moved, twin], tmp_path / "b.csv", start_run()).frames == [moved[0], moved[2], twin]


def test_a_table_is_read_as_table_programs_of_other_languages_save_it(tmp_path: Path) -> None:
    """Semicolons, a byte order mark, true and false in French."""
    frames = [frame(k) for k in range(3)]
    rows = [f"{f.storage.path};{f.name};{use};2,6" for f, use in zip(frames, ("VRAI", "FAUX", "VRAI"), strict=True)]
    (tmp_path / "fr.csv").write_text("\n".join(["path;name;use;fwhm_px", *rows, ""]), encoding="utf-8-sig")
    kept = obey_table(frames, tmp_path / "fr.csv", start_run())
    assert kept.frames == [frames[0], frames[2]]


def test_the_table_tells_what_was_measured_on_frames_that_were_left_out(
    capfd: Capture, small_set: Path, tmp_path: Path
) -> None:
    options = ["--set", "quality.best_fraction=0.5", "--set", "output.preview=false"]
    assert run_cli(capfd, "build", small_set, "-o", tmp_path / "out", *options).code == 0
    table = Table.read(tmp_path / "out/frames.ecsv")
    out = table[~table["use"]]
    assert len(out) == 4
    for name in ("id", "fwhm_px", "ellipticity", "n_stars", "sky", "noise", "exposure_s"):
        assert not np.ma.getmaskarray(out[name]).any(), name
    assert np.ma.getmaskarray(out["gain"]).all()
    assert set(table["place"][table["use"]]) <= {"header", "header, unchecked", "solved"}
