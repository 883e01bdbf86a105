"""Outlines and coverage on the sky, read back by programs that others wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.table import Table
from mocpy import MOC
from regions import PolygonSkyRegion, Regions

from product_cases import finished_folder
from scan_cases import scan_all
from zemosaic.errors import SettingError
from zemosaic.io.tables.frame_list import FrameList, read_frame_list, write_frame_list
from zemosaic.io.write.moc_file import merge_cells
from zemosaic.pipelines.frames.grading import obey_table
from zemosaic.pipelines.products.folder import open_folder
from zemosaic.pipelines.products.regions import write_region_files
from zemosaic.pipelines.run.context import start_run


def area_deg2(path: Path) -> float:
    """Of the sky that a MOC holds."""
    return float(MOC.load(str(path)).sky_fraction * 4 * np.pi * (180 / np.pi) ** 2)


@pytest.mark.parametrize("center", [(0.0, 10.0), (123.0, 89.0), (83.8, -40.0)])
def test_a_moc_has_the_area_of_what_is_covered(center: tuple[float, float], tmp_path: Path) -> None:
    y, x = np.mgrid[:160, :200]
    coverage = (np.hypot(y - 80, x - 100) < 70).astype(np.int16)
    coverage[:, 90:95] = 0
    out = finished_folder(tmp_path, coverage[None].astype(np.float32), coverage, center)
    Table({"name": ["a"], "use": [True]}).write(tmp_path / "frames.ecsv", format="ascii.ecsv")
    write_region_files(out, start_run())
    wcs = out.mosaics[0].wcs
    truth = float(wcs.pixel_area_deg2(x[coverage > 0], y[coverage > 0]).sum())
    assert area_deg2(tmp_path / "coverage_moc.fits") == pytest.approx(truth, rel=2e-3)
    # and it is there, not only as large
    moc = MOC.load(str(tmp_path / "coverage_moc.fits"))
    ra, dec = wcs.pixel_to_sky([60.0, 92.0, 100.0, 5.0], [80.0, 80.0, 20.0, 5.0])
    inside = moc.contains_lonlat(ra * units.deg, dec * units.deg)
    assert inside.tolist() == [True, False, True, False]


def test_four_full_cells_are_their_parent() -> None:
    assert merge_cells(np.array([4, 5, 6, 7, 9]), 1).tolist() == [4 + 1, 16 + 9]
    assert merge_cells(np.arange(48), 1).tolist() == list(range(4, 16))


def test_outlines_are_those_of_frames_and_mosaic(exported: Path) -> None:
    table = Table.read(exported / "frames.ecsv")
    regions = Regions.read(exported / "footprints.reg", format="ds9")
    assert len(regions) == len(table) + 1
    scale_deg = open_folder(exported).mosaics[0].wcs.pixel_scale_arcsec() / 3600
    for row, region in zip(table, regions, strict=False):
        assert isinstance(region, PolygonSkyRegion)
        assert region.meta["text"] == row["name"]
        for k, corner in enumerate(region.vertices, 1):
            assert abs(corner.dec.deg - row[f"dec{k}_deg"]) < 1e-3 * scale_deg
            assert abs(corner.ra.deg - row[f"ra{k}_deg"]) < 1e-3 * scale_deg


def test_lists_name_each_file_once(exported: Path) -> None:
    table = Table.read(exported / "frames.ecsv")
    used, left_out = (read_frame_list(exported / name) for name in ("used.txt", "left_out.txt"))
    assert (used.used, left_out.used) == (True, False)
    assert set(used.paths) == {row["path"] for row in table if row["use"]}
    assert set(left_out.paths) == {row["path"] for row in table if not row["use"]}


def test_a_list_is_obeyed(small_set: Path, tmp_path: Path) -> None:
    frames = scan_all(small_set).frames
    two = (frames[0].storage.path, Path(frames[3].storage.path).name)
    path = tmp_path / "mine.txt"
    for used in (True, False):
        write_frame_list(path, FrameList(used, two))
        kept = obey_table(frames, path, start_run()).frames
        assert [frame in kept for frame in frames] == [(k in {0, 3}) == used for k in range(len(frames))]
    path.write_text("/a/b.fits\n", encoding="utf-8")
    with pytest.raises(SettingError, match="write '# used' there"):
        obey_table(frames, path, start_run())
