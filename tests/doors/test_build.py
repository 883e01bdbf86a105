"""``zemosaic.build``: all that the command does, and the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import zemosaic
from mosaic_cases import digests_of, noise, report_of, run_cli, tan_wcs, write_frame
from zemosaic.cli.args import BuildArgs
from zemosaic.errors import NothingToDo, SettingError
from zemosaic.settings import load_settings

Capture = pytest.CaptureFixture[str]

ALIKE = ("mosaic.fits", "preview.png", "match.ecsv", "frames.csv", "settings.toml")
"""Files of a run that hold no clock time."""


def assert_alike(capfd: Capture, inputs: Path, folder: Path, words: Sequence[object], **door: Any) -> None:
    """The command with `words` and `zemosaic.build` with `door` write the same bytes."""
    ran = run_cli(capfd, "build", inputs, "-o", folder / "command", *words)
    assert ran.code == 0, ran.err
    made = zemosaic.build(inputs, folder / "python", **door)
    one, two = digests_of(folder / "command"), digests_of(folder / "python")
    assert {name: one[name] for name in ALIKE} == {name: two[name] for name in ALIKE}
    assert made.mosaic == folder / "python/mosaic.fits"


@pytest.mark.parametrize(
    ("words", "options", "settings"),
    [
        (("--set", "stack.method=median"), {}, {"stack": {"method": "median"}}),
        (
            ("--workers", 1, "--ram", "2G", "--executor", "serial"),
            {"workers": 1, "ram": "2G", "executor": "serial"},
            None,
        ),
        (("--mode", "master-tiles"), {"mode": "master-tiles"}, None),
        (("--header", "grid.hdr"), {}, {"grid": {"header": "grid.hdr"}}),
        (("--frames", "some.csv"), {}, {"input": {"frames": "some.csv"}}),
        (("--solution", "match.ecsv"), {"solution": "match.ecsv"}, None),
        (("--darks", "none", "--flats", "none"), {}, {"calibrate": {"darks": "none", "flats": "none"}}),
        (("--yes", "--set", "grid.max_mpix=0.01"), {"yes": True}, {"grid": {"max_mpix": 0.01}}),
        (("--fresh",), {"fresh": True}, None),
    ],
)
def test_python_gives_the_bytes_of_the_command(
    capfd: Capture, small_set: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    words: Sequence[object], options: dict[str, Any], settings: Any,
) -> None:  # fmt: skip
    (tmp_path / "grid.hdr").write_text(fits.getheader(small_set / "frame_0000.fits").tostring(sep="\n"))
    table = Table.read(built / "frames.csv")
    table["use"] = [str(k > 1) for k in range(len(table))]
    table.write(tmp_path / "some.csv")
    (tmp_path / "match.ecsv").write_bytes((built / "match.ecsv").read_bytes())
    monkeypatch.chdir(tmp_path)
    options_of_door = zemosaic.BuildOptions(**options)
    assert_alike(capfd, small_set, tmp_path, words, options=options_of_door, settings=settings)


def test_frames_are_added_from_python_as_by_the_command(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    paths = sorted(small_set.glob("*.fits"))
    for name in ("command", "python"):
        first = ("build", *paths[:5], "-o", tmp_path / name, "--set", "stack.method=mean")
        assert run_cli(capfd, *first).code == 0
    for tolerance in (0.0, 2.0):
        more = [paths[5 + int(tolerance) // 2]]
        options = zemosaic.BuildOptions(add=True, tolerance=tolerance)
        zemosaic.build(more, tmp_path / "python", options)
        words = ("--add", "--tolerance", tolerance) if tolerance else ("--add",)
        assert run_cli(capfd, "build", *more, "-o", tmp_path / "command", *words).code == 0
        one, two = digests_of(tmp_path / "command"), digests_of(tmp_path / "python")
        assert {name: one[name] for name in ALIKE} == {name: two[name] for name in ALIKE}
    assert report_of(tmp_path / "python")["mosaic"]["n_frames"] == 7
    assert load_settings(tmp_path / "python/settings.toml").stack.method == "mean"


def test_warps_are_kept_from_python(small_set: Path, tmp_path: Path) -> None:
    zemosaic.build(small_set, tmp_path / "out", zemosaic.BuildOptions(keep_warps=tmp_path / "warps"))
    assert len(list((tmp_path / "warps").glob("*.warp.fits"))) == 8


def test_every_option_of_the_command_is_reachable_from_python() -> None:
    asked = {field.name for field in fields(BuildArgs)}
    here = {field.name for field in fields(zemosaic.BuildOptions)}
    by_settings = {"header", "frames", "darks", "flats", "biases", "register_only", "assign", "config"}
    here -= {"compile_ahead"}  # the command does so always
    assert asked == here | by_settings | {"inputs", "out", "as_json", "language", "until"}


def test_a_result_names_the_files_and_what_was_left_out(small_set: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.fits").write_text("no picture")
    seen: list[object] = []
    made = zemosaic.build([small_set, tmp_path / "bad.fits"], tmp_path / "out", on_event=seen.append)
    assert (list(made.mosaics), list(made.previews), made.tiles) == ([""], [""], None)
    assert list(made.list_files()) == ["mosaic", "preview", "match", "frames", "report"]
    assert all(path.is_file() for path in made.list_files().values())
    assert [item.path for item in made.left_out] == [str(tmp_path / "bad.fits")]
    assert made.left_out[0] in seen


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"mode": "spiral"}, SettingError, "not one of auto, direct"),
        ({"ram": "lots"}, SettingError, "not a size"),
        ({"executor": "gpu"}, SettingError, "not one of threads"),
        ({"workers": -1}, SettingError, "0 or more"),
        ({"tolerance": 1.0}, SettingError, "needs --add"),
        ({"add": True}, NothingToDo, "no mosaic"),
        ({"solution": "absent.ecsv"}, SettingError, "absent.ecsv"),
    ],
)
def test_options_that_cannot_be_are_said(
    small_set: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        zemosaic.build(small_set, tmp_path / "out", zemosaic.BuildOptions(**options))


@pytest.mark.parametrize("inputs", [3, [3], [np.zeros((5, 5))]])
def test_inputs_that_are_no_paths_are_said(inputs: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="build takes paths"):
        zemosaic.build(inputs, tmp_path / "out")


def test_frames_are_added_to_direct_mosaics_only(built: Path, small_set: Path) -> None:
    with pytest.raises(SettingError, match="not of mode grid"):
        zemosaic.build(small_set, built, zemosaic.BuildOptions(add=True, mode="grid"))


def test_nothing_usable_is_a_documented_error(tmp_path: Path) -> None:
    write_frame(tmp_path / "dark.fits", noise((60, 80), 1), tan_wcs((60, 80)), IMAGETYP="Dark Frame")
    write_frame(tmp_path / "cube.fits", np.zeros((4, 60, 80), np.float32), tan_wcs((60, 80)))
    with pytest.raises(NothingToDo, match="no usable image"):
        zemosaic.build(tmp_path, tmp_path / "out")
