"""Raw Bayer and colour frames in one mosaic: each has its own noise, wherever the sky is cut; units do not mix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mosaic_cases import digest_of, noise, report_of, tan_wcs, write_frame
from zemosaic.pipelines.modes.choose import build_mosaic
from zemosaic.pipelines.run.context import RunOptions, start_run
from zemosaic.settings import load_settings

SHAPE = (200, 200)
SETTINGS = load_settings(assignments=["match.method=none", "output.preview=false"])


def write_set(folder: Path, *, raw: bool = True, colour: bool = True) -> Path:
    """Seven raw frames, and seven colour frames beside them on the sky that share a strip with them."""
    folder.mkdir()
    for k in range(7):
        if raw:
            wcs = tan_wcs(SHAPE, 150 + 0.0003 * k)
            write_frame(folder / f"raw{k}.fits", noise(SHAPE, k), wcs, BAYERPAT="RGGB", INSTRUME="A")
        if colour:
            wcs = tan_wcs(SHAPE, 150.11 + 0.0003 * k)
            write_frame(folder / f"col{k}.fits", noise((3, *SHAPE), 50 + k), wcs, INSTRUME="B")
    return folder


def build(frames: Path, out: Path, **options: int) -> dict[str, Path]:
    return build_mosaic([frames], out, SETTINGS, start_run(RunOptions(yes=True, **options)), "direct").paths


def n_rejected(paths: dict[str, Path]) -> int:
    return int(report_of(paths["report"].parent)["mosaic"]["n_rejected"])


def test_the_cut_changes_no_byte_of_a_mixed_mosaic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, digests = write_set(tmp_path / "frames"), set()
    for size, workers in ((1024, 1), (128, 2), (64, 1)):
        monkeypatch.setattr("zemosaic.pipelines.patches.stacking.PATCH_SIZES", (size,))
        digests.add(digest_of(build(frames, tmp_path / f"{size}", workers=workers)["mosaic"]))
    assert len(digests) == 1


def test_the_memory_cap_changes_no_byte_of_a_mixed_mosaic(tmp_path: Path) -> None:
    """Patches as large as the sky, and small ones; in processes of their own, which hold nothing of other tests."""
    frames, digests, sizes = write_set(tmp_path / "frames"), set(), []
    keys = "match.method=none", "output.preview=false", "output.also=[]"
    for ram in ("2G", "400M", "320M"):
        out = tmp_path / ram
        options = "--mode", "direct", "--yes", "--workers", "2", "--ram", ram
        command = [sys.executable, "-m", "zemosaic", "build", frames, "-o", out, *options]
        subprocess.run([*command, *(part for key in keys for part in ("--set", key))], check=True, capture_output=True)
        digests.add(digest_of(out / "mosaic.fits"))
        sizes.append(report_of(out)["mosaic"]["patch_px"])
    assert sizes[0] >= 2 * sizes[2] >= 128
    assert len(digests) == 1


def test_each_frame_is_clipped_by_its_own_noise(tmp_path: Path) -> None:
    together = n_rejected(build(write_set(tmp_path / "both"), tmp_path / "out"))
    alone = [
        n_rejected(build(write_set(tmp_path / name, raw=name == "raw", colour=name == "colour"), tmp_path / f"o{name}"))
        for name in ("raw", "colour")
    ]
    assert min(alone) > 100
    assert together == pytest.approx(sum(alone), rel=0.1)


def test_frames_of_two_units_get_a_mosaic_each(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for k in range(4):
        unit = "electron" if k % 2 else "ADU"
        write_frame(frames / f"{k}.fits", noise(SHAPE, k), tan_wcs(SHAPE, 150 + 0.0003 * k), BUNIT=unit)
    paths = build(frames, tmp_path / "out")
    assert {"mosaic_adu", "mosaic_electron"} <= paths.keys()
