"""What all modes have in common: what they need of frames, what they read beside them, what they write down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from astropy.io import fits

from mosaic_cases import run_cli
from zemosaic.errors import SettingError
from zemosaic.pipelines.corrections.adding import read_record, record_inputs
from zemosaic.pipelines.modes.session import read_guide
from zemosaic.pipelines.run.need import Need, need_of_frames, need_of_tiles
from zemosaic.settings import load_settings

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("method", "solved", "need"),
    [
        ("auto", True, Need("match", "auto")),
        ("header", True, Need("match", "header")),
        ("auto", False, Need("weigh", "header")),
        ("header", False, Need("weigh", "header")),
        ("register", False, Need("match", "register")),
    ],
)
def test_frames_that_are_not_matched_are_weighed_and_their_headers_trusted(
    method: str, solved: bool, need: Need
) -> None:
    assert need_of_frames(load_settings(assignments=[f"solve.method={method}"]), solved=solved) == need


def test_tiles_have_their_place() -> None:
    assert (need_of_tiles(solved=True).place, need_of_tiles(solved=False)) == ("header", Need("weigh", "header"))


def test_a_reference_is_read_only_where_something_is_solved(tmp_path: Path) -> None:
    settings = load_settings(assignments=[f"match.reference={tmp_path / 'absent.fits'}"])
    with pytest.raises(SettingError, match=r"match\.reference"):
        read_guide(settings, [])
    none = load_settings(assignments=[f"match.reference={tmp_path / 'absent.fits'}", "match.method=none"])
    assert not read_guide(none, []).solved


def test_frames_are_added_to_a_direct_mosaic_alone(capfd: Capture, tmp_path: Path) -> None:
    (tmp_path / ".zemosaic").mkdir()
    record_inputs(tmp_path, "direct", [tmp_path / "night1"], solved=True)
    assert read_record(tmp_path).inputs == (tmp_path / "night1",)
    record_inputs(tmp_path, "grid", [tmp_path / "night1"], solved=True)
    for name in ("mosaic.fits", "settings.toml"):
        (tmp_path / name).write_bytes(b"")
    ran = run_cli(capfd, "build", tmp_path / "night2", "-o", tmp_path, "--add")
    assert ran.code == 2
    assert "added to a mosaic of mode direct only" in ran.err
    assert "is of mode grid" in ran.err


def test_every_mode_tells_where_places_came_from(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    options = ["--set", "match.method=none", "--set", "output.preview=false"]
    for mode in ("direct", "grid"):
        out = tmp_path / mode
        assert run_cli(capfd, "build", small_set, "-o", out, "--mode", mode, *options).code == 0
        assert "places: as the headers say" in str(fits.getheader(out / "mosaic.fits")["HISTORY"])
        assert json.loads((out / ".zemosaic/inputs.json").read_text())["mode"] == mode
