"""The archive for whoever looks for a fault: what is in it, and what is not."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from mosaic_cases import run_cli
from zemosaic.cli.bug_report import pack_bug_report
from zemosaic.errors import NothingToDo

PRIVATE = {
    "SITELAT": 48.1, "SITELONG": 11.6, "LAT-OBS": 48.1, "LONG-OBS": 11.6, "ALT-OBS": 520.0, "OBSGEO-X": 4177e3,
    "OBSGEO-B": 48.1, "GPS-LAT": 48.1, "LATITUDE": 48.1, "LONGITUD": 11.6, "SITEELEV": 520.0, "OBSERVER": "A. Name",
    "OBJCTALT": 40.0, "CENTAZ": 120.0, "AIRMASS": 1.5, "OBJCTHA": "1 0 0", "LST": "2 0 0", "ELEVATIO": 520.0,
}  # fmt: skip
KEPT = {"RA": 10.7, "DEC": 41.3, "EXPTIME": 10.0, "FILTER": "IRCUT", "DATE-OBS": "2025-09-01T22:00:00", "GAIN": 80}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder as a run leaves it that left one of three frames out."""
    folder = tmp_path / "out"
    (folder / ".zemosaic").mkdir(parents=True)
    rows = ["name,path,use,reason,code"]
    for name, code in (("a.fits", ""), ("b.fits", ""), ("c.fits", "quality.cloudy")):
        fits.PrimaryHDU(np.ones((4, 4)), fits.Header({**PRIVATE, **KEPT})).writeto(tmp_path / name)
        rows.append(f"{name},{tmp_path / name},{not code},,{code}")
    (folder / "frames.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "report.json").write_text(f'{{"home": "{Path.home()}/x"}}', encoding="utf-8")
    return folder


def read_all(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_it_holds_tables_and_one_header_a_reason(out: Path) -> None:
    texts = read_all(pack_bug_report(out, "a machine"))
    assert set(texts) == {"machine.txt", "report.json", "frames.csv", "headers/1.txt", "headers/2.txt"}
    assert "a.fits" in texts["headers/1.txt"]
    assert "c.fits" in texts["headers/2.txt"]
    assert texts["report.json"] == '{"home": "~/x"}'


def test_it_tells_no_place_on_earth(out: Path) -> None:
    header = read_all(pack_bug_report(out, ""))["headers/1.txt"]
    told = {line.partition(" = ")[0] for line in header.splitlines() if " = " in line}
    assert told & set(PRIVATE) == set()
    assert told >= set(KEPT)


def test_a_run_that_failed_early_has_one_too(tmp_path: Path) -> None:
    (tmp_path / ".zemosaic/app").mkdir(parents=True)
    (tmp_path / ".zemosaic/app/events.jsonl").write_text("x" * (2 << 20) + "the end\n")
    texts = read_all(pack_bug_report(tmp_path, "a machine"))
    assert set(texts) == {"machine.txt", "events.jsonl"}
    assert texts["events.jsonl"].endswith("the end\n")
    assert len(texts["events.jsonl"]) == 1 << 20


def test_a_frame_that_is_gone_spoils_nothing(out: Path) -> None:
    (out.parent / "a.fits").unlink()
    assert "No such file" in read_all(pack_bug_report(out, ""))["headers/1.txt"]


def test_without_a_run_it_says_so(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(NothingToDo, match="no run has worked"):
        pack_bug_report(tmp_path, "")
    ran = run_cli(capfd, "doctor", "--report", tmp_path)
    assert ran.code != 0
    assert "name the output folder" in ran.err


def test_the_command_tells_where_it_is(capfd: pytest.CaptureFixture[str], out: Path) -> None:
    ran = run_cli(capfd, "doctor", "--report", out)
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == str(out / "bug_report.zip")
    assert read_all(out / "bug_report.zip")["machine.txt"] in ran.out
