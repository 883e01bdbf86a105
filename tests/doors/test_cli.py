"""Every command of the command line: what it prints, what it writes, how it ends."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import zemosaic
from mosaic_cases import digest_of, digests_of, noise, partial_files, run_cli, write_frame
from zemosaic.cli import commands
from zemosaic.cli.show import People
from zemosaic.engine.events import LeftOut, StageEnded
from zemosaic.errors import Cancelled
from zemosaic.settings import Settings, load_settings
from zemosaic.text import message

Capture = pytest.CaptureFixture[str]

COMMANDS = (
    "build", "coadd", "match", "solve", "scan", "explain", "simulate", "demo", "config", "export", "report",
    "store", "doctor",
)  # fmt: skip


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from zemosaic.cli import main\n"
        "ended = main(['--help'])\n"
        "heavy = ('numpy', 'numba', 'scipy', 'astropy', 'sep', 'pydantic')\n"
        "print('LOADED', ended, [m for m in heavy if m in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "LOADED 0 []"


def test_a_process_ends_by_its_code_and_is_not_taken_apart() -> None:
    code = (
        "import atexit, sys\n"
        "from zemosaic.cli import enter\n"
        "class Thing:\n"
        "    def __del__(self): print('taken apart')\n"
        "thing = Thing()\n"
        "sys.stdout.write('begun ')\n"
        "ended = enter(sys.argv[1:])\n"
        "atexit.register(print, 'asked first')\n"
        "sys.exit(ended)\n"
    )
    for arguments, ends in ((["--version"], 0), (["no-such-command"], 2)):
        found = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert found.returncode == ends
        assert found.stdout.startswith("begun ")
        assert found.stdout.endswith("asked first\n")


def test_help_names_every_command(capfd: Capture) -> None:
    ran = run_cli(capfd, "--help")
    assert ran.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in ran.out
    assert "..." not in ran.out.replace("[ARGS]...", "")  # each says the whole of what it does


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(capfd: Capture, command: str) -> None:
    ran = run_cli(capfd, command, "--help")
    assert ran.code == 0
    assert f"zemosaic {command}" in ran.out
    assert not re.search(r" --[a-z-]+ (<|TEXT|INTEGER|FLOAT)", ran.out)  # what to give, not a type
    if command in {"build", "coadd", "match", "simulate"}:
        assert "Example: zemosaic" in " ".join(ran.out.split())


def test_commands_differ_only_where_there_is_a_reason(capfd: Capture) -> None:
    """Each takes what the one before takes, and more."""
    told = {name: set(re.findall(r" (--[a-z-]+)", run_cli(capfd, name, "--help").out)) for name in COMMANDS}
    examples = {"--set", "--solution"}  # in the text
    assert all("--debug" in options for options in told.values())
    assert told["scan"] == {"--config", "--set", "--json", "--language", "--debug", "--log", "--verbose", "--help"}
    assert told["solve"] - told["scan"] == {
        "--frames", "--darks", "--flats", "--biases", "--ram", "--workers", "--write-wcs"
    }  # fmt: skip
    assert told["match"] - told["solve"] - examples == {
        "--out", "--header", "--register-only", "--executor", "--fresh", "--yes"
    }  # fmt: skip
    assert told["coadd"] - told["match"] - examples == {"--keep-warps"}
    assert told["build"] - told["coadd"] == {"--mode", "--add", "--tolerance", "--until", "--watched"}
    for less, more in (("scan", "match"), ("match", "coadd"), ("coadd", "build")):
        assert told[less] <= told[more], less


def test_options_that_coadd_and_match_share_with_build_act(
    capfd: Capture, small_set: Path, built: Path, tmp_path: Path
) -> None:
    table = Table.read(built / "frames.csv")
    table["use"] = [str(k > 1) for k in range(len(table))]
    table.write(tmp_path / "some.csv")
    ran = run_cli(capfd, "coadd", small_set, "-o", tmp_path / "c", "--frames", tmp_path / "some.csv")
    assert fits.getheader(tmp_path / "c/mosaic.fits")["NCOMBINE"] == 6, ran.err
    ran = run_cli(capfd, "coadd", small_set, "-o", tmp_path / "c", "--fresh", "--executor", "serial")
    assert ran.code == 0
    assert "taken from an earlier run" not in ran.err
    ran = run_cli(capfd, "match", small_set, "-o", tmp_path / "m", "--executor", "processes", "--workers", 2)
    assert ran.code == 0
    assert (tmp_path / "m/match.ecsv").read_text() == (built / "match.ecsv").read_text()
    ran = run_cli(capfd, "match", small_set, "-o", tmp_path / "r", "--register-only")
    assert ran.code == 0
    assert "\nregister  " in ran.err


def test_version_is_told(capfd: Capture) -> None:
    ran = run_cli(capfd, "--version")
    assert (ran.code, ran.out) == (0, f"zemosaic {zemosaic.__version__}\n")


def test_every_public_name_is_there() -> None:
    assert all(getattr(zemosaic, name) for name in dir(zemosaic))


def test_the_program_can_be_run_as_a_module() -> None:
    found = subprocess.run([sys.executable, "-m", "zemosaic", "--mode"], capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "No such option" in found.stderr


def test_build_writes_what_it_names(built: Path) -> None:
    names = {p.name for p in built.iterdir()}
    assert names == {
        "mosaic.fits", "preview.png", "preview.jpg", "frames.ecsv", "frames.csv", "match.ecsv", "report.json",
        "settings.toml", ".zemosaic", "used.txt", "left_out.txt", "provenance.json",
    }  # fmt: skip
    with fits.open(built / "mosaic.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["DATA", "WHT", "VAR", "COV", "REJ", "EXPT", "SAT", "ALPHA"]
        assert hdus[0].header["NCOMBINE"] == 8
        assert hdus["COV"].data.dtype.kind == "i"
        assert np.array_equal(np.isnan(hdus[0].data), hdus["WHT"].data == 0)


def test_build_as_json_is_one_object_a_line(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    ran = run_cli(capfd, "build", small_set, "-o", tmp_path / "out", "--json", "--set", "match.method=none")
    kinds = [event["event"] for event in ran.events]
    assert ran.code == 0
    assert ran.err == ""
    assert kinds[-1] == "Done"
    assert {"StageStarted", "Progress", "StageEnded", "Notice"} <= set(kinds)
    outputs = ran.events[-1]["outputs"]
    assert isinstance(outputs, dict)
    assert all(Path(path).is_file() for path in outputs.values())


def test_a_failure_as_json_is_an_object_too(capfd: Capture, tmp_path: Path) -> None:
    ran = run_cli(capfd, "build", tmp_path, "-o", tmp_path / "out", "--json")
    assert ran.code == 3
    assert ran.events[-1]["event"] == "Failed"
    assert ran.events[-1]["exit_code"] == 3
    assert "no usable image" in str(ran.events[-1]["message"])


def test_settings_written_by_a_run_give_the_same_bytes(
    capfd: Capture, small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "grid.hdr").write_text(fits.getheader(small_set / "frame_0000.fits").tostring(sep="\n"))
    monkeypatch.chdir(tmp_path)
    options = ("--set", "stack.method=median", "--set", "warp.kernel=bilinear", "--header", "grid.hdr")
    assert run_cli(capfd, "build", small_set, "-o", "a", *options).code == 0
    # From another folder: relative paths in settings must still mean the same file.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run_cli(capfd, "build", small_set, "-o", "b", "--config", tmp_path / "a/settings.toml").code == 0
    first, second = (digests_of(folder) for folder in (tmp_path / "a", tmp_path / "elsewhere/b"))
    for name in ("mosaic.fits", "preview.png", "match.ecsv", "frames.ecsv", "settings.toml"):
        assert first[name] == second[name], name


def test_match_then_coadd_is_build(capfd: Capture, small_set: Path, built: Path, tmp_path: Path) -> None:
    ran = run_cli(capfd, "match", small_set, "-o", tmp_path / "m")
    assert ran.code == 0
    assert (tmp_path / "m/match.ecsv").read_text() == (built / "match.ecsv").read_text()
    ran = run_cli(capfd, "coadd", small_set, "-o", tmp_path / "c", "--solution", tmp_path / "m/match.ecsv")
    assert ran.code == 0
    assert "8 of 8 frames are corrected as match.ecsv says" in ran.err
    one, two = (fits.getdata(folder / "mosaic.fits") for folder in (built, tmp_path / "c"))
    # Noise, hence weights, is measured on fewer pixels by coadd: 0.5 ADU are 0.04 sigma.
    difference = np.abs(one - two)[np.isfinite(one)]
    assert np.percentile(difference, 99) < 0.5


def test_coadd_reads_matches_nothing(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    ran = run_cli(capfd, "coadd", small_set, "-o", tmp_path / "out")
    assert ran.code == 0
    gains = Table.read(tmp_path / "out/match.ecsv")["gain"]
    assert np.all(gains == 1)


@pytest.mark.parametrize("options", [["coadd"], ["build", "--mode", "existing-tiles"]])
def test_where_only_headers_tell_places_solving_is_the_way_out(
    capfd: Capture, tmp_path: Path, options: list[str]
) -> None:
    (tmp_path / "in").mkdir()
    for k in range(2):
        write_frame(tmp_path / f"in/{k}.fits", noise((90, 100), k), None)
    ran = run_cli(capfd, *options, tmp_path / "in", "-o", tmp_path / "out")
    assert ran.code == 3
    assert "2 of 2: no WCS in the header; zemosaic build --mode direct solves frames" in ran.err


def test_scan_lists_frames_and_what_is_wrong(capfd: Capture, small_set: Path, built: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.fits").write_text("no picture")
    ran = run_cli(capfd, "scan", small_set, tmp_path)
    assert ran.code == 0
    assert ran.out.count("400 x 300") == 8
    assert "bad.fits: not a FITS file" in ran.err
    ran = run_cli(capfd, "scan", small_set, tmp_path, "--json")
    frames = [event for event in ran.events if event["event"] == "Frame"]
    assert len(frames) == 8
    assert all(frame["shape"] == [300, 400] and frame["has_wcs"] for frame in frames)
    assert [event["reason"] for event in ran.events if event["event"] == "LeftOut"]
    (forecast,) = [event for event in ran.events if event["event"] == "Forecast"]
    with fits.open(built / "mosaic.fits") as mosaic:
        assert forecast["shape"] == list(mosaic[0].shape)
    assert forecast["n_values"] == 8 * 300 * 400
    assert forecast["output_bytes"] == pytest.approx((built / "mosaic.fits").stat().st_size, rel=0.05)


def test_scan_tells_what_each_file_is_and_what_tells_its_place(capfd: Capture, tmp_path: Path) -> None:
    hint = {"RA": 83.6, "DEC": 22.0}
    optics = {"FOCALLEN": 250.0, "XPIXSZ": 2.9}
    for k, (cards, n_planes) in enumerate((
        ({**hint, **optics, "BAYERPAT": "GRBG"}, 1), (hint, 1), ({"STACKCNT": 7}, 3), ({"IMAGETYP": "Dark"}, 1),
    )):  # fmt: skip
        write_frame(tmp_path / f"{k}.fits", noise((n_planes, 40, 50) if n_planes > 1 else (40, 50), k), None, **cards)
    ran = run_cli(capfd, "scan", tmp_path)
    told = [line.split("  ", 2)[2] for line in ran.out.splitlines()]
    assert told == [
        "GRBG  -  -  RA, Dec",
        "mono  -  -  RA, Dec, no scale",
        "colour, stack of 7  -  -  no position",
        "dark  -  -  -",
    ]


def test_keep_warps_writes_registered_frames(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    ran = run_cli(
        capfd, "coadd", small_set, "-o", tmp_path / "out", "--keep-warps", tmp_path / "warps",
        "--set", "stack.method=mean",
    )  # fmt: skip
    assert ran.code == 0
    warps = sorted((tmp_path / "warps").glob("*.fits"))
    assert [p.name for p in warps] == [f"frame_{k:04d}.warp.fits" for k in range(8)]
    mosaic = fits.getheader(tmp_path / "out/mosaic.fits")
    total = np.zeros((2, mosaic["NAXIS2"], mosaic["NAXIS1"]))
    for path in warps:
        with fits.open(path) as hdus:
            weight, data = hdus["WHT"].data, hdus[0].data
            y0, x0 = (round(mosaic[k] - hdus[0].header[k]) for k in ("CRPIX2", "CRPIX1"))
            place = np.s_[:, y0 : y0 + data.shape[0], x0 : x0 + data.shape[1]]
            total[place] += np.stack([np.where(weight > 0, data * weight, 0), weight])
    with np.errstate(invalid="ignore"):
        mean = total[0] / total[1]
    assert np.allclose(mean, fits.getdata(tmp_path / "out/mosaic.fits"), rtol=1e-5, atol=1e-2, equal_nan=True)


def test_results_inside_the_input_folder_are_no_inputs(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    shutil.copytree(small_set, frames)
    inside = ("-o", frames / "out", "--keep-warps", frames / "warps")
    beside = ("-o", frames, "--set", "stack.method=mean")
    for options in (inside, inside, beside, beside):
        ran = run_cli(capfd, "coadd", frames, *options)
        assert ran.code == 0
        assert "scan       8 frames, 0 files left out" in ran.err


def test_simulate_writes_a_set(capfd: Capture, tmp_path: Path) -> None:
    ran = run_cli(capfd, "simulate", "-o", tmp_path / "sim", "-n", 2, "--size", 1.6, "--seed", 4)
    assert ran.code == 0
    assert (tmp_path / "sim/truth.json").is_file()
    assert len(list((tmp_path / "sim").glob("*.fits"))) == 2


def test_simulate_knows_its_kinds(capfd: Capture, tmp_path: Path) -> None:
    ran = run_cli(capfd, "simulate", "-o", tmp_path / "sim", "--kind", "films")
    assert ran.code == 2
    assert "'films' is not one of frames, raws" in ran.err
    assert not (tmp_path / "sim").exists()


def test_demo_makes_a_mosaic_and_scores_it(
    capfd: Capture, small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a smaller set than a user's: what is there already is not simulated again."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/frames").symlink_to(small_set)
    monkeypatch.setattr(commands, "simulate", None)
    ran = run_cli(capfd, "demo", "-o", tmp_path / "demo")
    assert ran.code == 0
    assert re.search(r"compared with the truth\nscatter of star fluxes, mmag +[0-9.]+\n", ran.out)
    assert re.search(r"steps at frame borders, sigma of a frame +0\.[0-9]+\n", ran.out)
    assert (tmp_path / "demo/mosaic/preview.png").is_file()


def test_demo_mends_a_half_made_set(capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that was stopped while it simulated starts its frames again."""
    (tmp_path / "demo/frames").mkdir(parents=True)
    asked = []

    def simulate(out: Path, **recipe: object) -> None:
        asked.append(out)
        raise Cancelled("far enough")

    monkeypatch.setattr(commands, "simulate", simulate)
    assert run_cli(capfd, "demo", "-o", tmp_path / "demo").code == 130
    assert asked == [tmp_path / "demo/frames"]


def test_config_reads_back_as_the_defaults(capfd: Capture, tmp_path: Path) -> None:
    ran = run_cli(capfd, "config")
    assert ran.code == 0
    (tmp_path / "all.toml").write_text(ran.out, encoding="utf-8")
    assert load_settings(tmp_path / "all.toml") == Settings()
    keys = [line for line in ran.out.splitlines() if " = " in line and not line.startswith("#")]
    assert len(keys) == sum(len(f.annotation.model_fields) for f in Settings.model_fields.values())  # type: ignore[union-attr]


def test_doctor_tells_versions(capfd: Capture) -> None:
    ran = run_cli(capfd, "doctor")
    assert ran.code == 0
    for word in ("zemosaic", "processors", "memory", "numpy", "astropy", "numba", "Tycho-2", "blind solving"):
        assert word in ran.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "stack.kapa_low=3"], "did you mean 'kappa_low'"),
        (["--set", "stak.kappa_low=3"], "did you mean 'stack'"),
        (["--set", "stack.kappa_low=-1"], "stack.kappa_low"),
        (["--set", "kappa_low=3"], "stage.key=value"),
        (["--ram", "lots"], "'lots' is not a size"),
        (["--mode", "spiral"], "'spiral' is not one of auto, direct"),
        (["--config", "absent.toml"], "cannot read settings file absent.toml"),
        (["--header", "absent.hdr"], "absent.hdr"),
        (["--set", "grid.center=M31"], "grid.center = 'M31' is not RA,DEC in degrees"),
        (["--set", "grid.projection=GNOMONIC"], "grid.projection = 'GNOMONIC': input should be 'auto'"),
        (["--solution", "absent.ecsv"], "absent.ecsv"),
        (["--workers", "-1"], "--workers"),
        (["--sett", "a.b=1"], "No such option"),
    ],
)
def test_what_is_wrong_with_the_arguments_is_said(
    capfd: Capture, small_set: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    ran = run_cli(capfd, "build", small_set, "-o", tmp_path / "out", *options)
    assert ran.code == 2
    assert message in ran.err
    assert "Errno" not in ran.err
    assert "scan " not in ran.err or options[0] == "--solution"  # told before the work
    assert not list(tmp_path.glob("out/[!.]*"))


@pytest.mark.parametrize(
    ("problem", "code", "message"),
    [
        (RuntimeError("the cat sat on it"), 5, "internal error (RuntimeError: the cat sat on it)"),
        (MemoryError(), 4, "--ram"),
        (OSError(28, "No space left on device", "/out/mosaic.fits"), 4, "/out/mosaic.fits: No space left on device"),
        (Cancelled("stopped on request"), 130, "stopped on request"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_every_end_has_its_code_and_one_line(
    capfd: Capture, monkeypatch: pytest.MonkeyPatch, problem: BaseException, code: int, message: str
) -> None:
    def fail() -> None:
        raise problem

    monkeypatch.setattr("zemosaic.cli.doctor.doctor", lambda *given: fail())
    ran = run_cli(capfd, "doctor")
    assert ran.code == code
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1


def test_debug_shows_where_an_internal_error_came_from(
    capfd: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("the cat sat on it")

    monkeypatch.setattr(commands, "scan", fail)
    assert run_cli(capfd, "scan", tmp_path).code == 5
    with pytest.raises(RuntimeError, match="the cat sat on it"):
        run_cli(capfd, "scan", tmp_path, "--debug")


def test_what_is_told_is_in_the_language_asked_for(
    capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.fits").write_bytes(b"")
    ran = run_cli(capfd, "scan", tmp_path, "--language", "fr")
    assert "  écartée: " in ran.err
    assert "bad.fits: le fichier est vide" in ran.err
    assert ran.last_line.startswith("zemosaic: aucune image utilisable dans")
    monkeypatch.setenv("ZEMOSAIC_LANGUAGE", "fr")
    told = run_cli(capfd, "scan", tmp_path, "--json").events
    assert [(event["code"], event["reason"]) for event in told if event["event"] == "LeftOut"] == [
        ("file.empty", "le fichier est vide")
    ]
    assert (told[-1]["code"], told[-1]["facts"]["reason"]["code"]) == ("input.one-reason", "file.empty")
    assert run_cli(capfd, "scan", tmp_path, "--language", "de").code == 2


def shown_left_out(capfd: Capture, people: People) -> list[str]:
    """What is said of ten headers without an image and thirty clouds, each its own."""
    with people as show:
        for k in range(10):
            show(LeftOut(f"header_{k}.fits", message("file.no-image"), f"/header_{k}.fits"))
        for k in range(30):
            show(LeftOut(f"cloud_{k}.fits", message("file.unreadable", problem=f"cloud {k}"), f"/cloud_{k}.fits"))
    return capfd.readouterr().err.splitlines()


def test_what_is_left_out_for_one_reason_does_not_hide_the_others(capfd: Capture) -> None:
    lines = shown_left_out(capfd, People("frames.ecsv"))
    assert sum("no image" in line for line in lines) == 3
    assert sum("cloud" in line for line in lines) == 17
    assert lines[-1] == "  ... and 20 more left out; frames.ecsv lists all"
    assert shown_left_out(capfd, People())[-1] == "  ... and 20 more left out"


def test_a_scan_names_every_bad_file(capfd: Capture, tmp_path: Path, small_set: Path) -> None:
    assert len(shown_left_out(capfd, People(all_left_out=True))) == 40
    for k in range(25):
        (tmp_path / f"{k}.fits").write_text("no picture\n" * 300)
    shutil.copy(small_set / "frame_0000.fits", tmp_path)
    ran = run_cli(capfd, "scan", tmp_path)
    assert ran.err.count("left out: ") == 25


def test_a_summary_is_one_line_in_a_log(capfd: Capture) -> None:
    """Without a terminal a console takes 80 columns; a log is no place to break lines."""
    with People() as show:
        show(StageEnded("solve", 2.0, message("done.files", names=["a long summary of a stage"] * 6)))
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_summaries_and_lists_are_in_french_too(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    ran = run_cli(capfd, "scan", small_set, "--language", "fr")
    assert "scan       8 brutes, 0 fichiers écartés" in ran.err
    assert "  mono  " in ran.out
    ran = run_cli(capfd, "scan", small_set, "--json", "--language", "fr")
    (ended,) = [event for event in ran.events if event["event"] == "StageEnded"]
    assert (ended["code"], ended["facts"]["n_frames"]) == ("done.scan", 8)  # type: ignore[index]
    assert ended["summary"] == "8 brutes, 0 fichiers écartés"
    ran = run_cli(capfd, "doctor", "--language", "fr")
    assert "astrométrie : Tycho-2" in ran.out
    ran = run_cli(capfd, "solve", small_set, "--language", "fr", "--set", "solve.method=header")
    assert "étoiles" in ran.out or "en-tête" in ran.out


def test_a_run_leaves_nothing_half_done(built: Path) -> None:
    assert partial_files(built) == []


def test_inputs_named_like_options_are_harmless(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    odd = tmp_path / "--workers=a b ü.fits"
    odd.write_bytes((small_set / "frame_0000.fits").read_bytes())
    before = digest_of(odd)
    ran = run_cli(capfd, "coadd", "-o", tmp_path / "out", "--", odd, small_set / "frame_0001.fits")
    assert ran.code == 0
    assert digest_of(odd) == before
    assert set(Table.read(tmp_path / "out/frames.ecsv")["name"]) == {odd.name, "frame_0001.fits"}
