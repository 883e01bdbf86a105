"""Files that editors of pictures open: finite, 0 to 1, on one scale, and opened by the editors themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
from astropy.io import fits
from astropy.wcs import WCS

from product_cases import finished_folder
from zemosaic.pipelines.products import folder
from zemosaic.pipelines.products.edit import write_edit_files
from zemosaic.pipelines.products.folder import FinishedFolder, FolderMosaic
from zemosaic.pipelines.products.tiff import write_tiff_files
from zemosaic.pipelines.run.context import start_run


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> FinishedFolder:
    """A colour mosaic with a star, a corner without data, and both products; not to be changed."""
    rng = np.random.default_rng(5)
    data = rng.normal(900, 20, (3, 70, 90)).astype(np.float32)
    data[:, 50, 20] = 60000, 50000, 40000
    data[:, :20, 60:] = np.nan
    opened = finished_folder(tmp_path_factory.mktemp("colour"), data, np.isfinite(data[0]).astype(np.int16))
    write_edit_files(opened, start_run())
    write_tiff_files(opened, start_run())
    return opened


def test_scale_and_offset_can_be_undone(colour: FinishedFolder) -> None:
    with fits.open(colour.out / "mosaic_edit.fits") as edit, fits.open(colour.out / "mosaic.fits") as science:
        assert len(edit) == 1
        header, values, truth = edit[0].header, edit[0].data, science[0].data
        known = np.isfinite(truth)
        assert (values.dtype, values.min(), values.max()) == (">f4", 0, 1)
        assert not values[~known].any()
        assert header["ROWORDER"] == "BOTTOM-UP"
        back = header["ED_SCALE"] * values[known].astype(float) + header["ED_ZERO"]
        assert np.abs(back - truth[known]).max() < 1e-6 * np.ptp(truth[known])
        assert WCS(header, naxis=2).wcs.compare(WCS(science[0].header, naxis=2).wcs)


def test_a_tiff_has_16_bits_on_the_same_scale_and_north_up(colour: FinishedFolder) -> None:
    with tifffile.TiffFile(colour.out / "mosaic.tif") as file:
        page = file.pages[0]
        pixels, told = page.asarray(), page.description
    assert (pixels.dtype, pixels.shape) == (np.uint16, (70, 90, 3))
    span, zero = map(float, re.search(r"= (\S+) \* pixel / 65535 \+ (\S+);", told).groups())  # type: ignore[union-attr]
    truth = fits.getdata(colour.out / "mosaic.fits")
    back = span * np.moveaxis(pixels[::-1], -1, 0) / 65535.0 + zero
    known = np.isfinite(truth)
    assert np.abs(back[known] - truth[known]).max() <= 0.501 * span / 65535
    assert not np.moveaxis(pixels[::-1], -1, 0)[~known].any()


def test_bands_change_no_byte(colour: FinishedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of any size passes through bands of a known size."""
    read: list[int] = []
    whole = FolderMosaic.read

    def count(self: FolderMosaic, plane: str, box: folder.Box) -> np.ndarray:
        read.append(4 * self.n_channels * box.n_pixels)
        return whole(self, plane, box)

    monkeypatch.setattr(folder, "BAND_BYTES", 10_000)
    monkeypatch.setattr(FolderMosaic, "read", count)
    write_edit_files(FinishedFolder(tmp_path, colour.mosaics, colour.report), start_run())
    assert (tmp_path / "mosaic_edit.fits").read_bytes() == (colour.out / "mosaic_edit.fits").read_bytes()
    assert max(read) <= 10_000
    assert sum(read) == 2 * 4 * 3 * 70 * 90  # once for the range, once to write


SCRIPT = "requires 1.0.0\ncd {folder}\nload {name}\nstat\nsavejpg shown\nsave kept\n"


def run_siril(source: Path, where: Path) -> tuple[int, str]:
    """Load a file, tell its statistics, save it; exit code and what Siril says."""
    shutil.copy(source, where)
    script = where / "open.ssf"
    script.write_text(SCRIPT.format(folder=where, name=source.stem), encoding="utf-8")
    ran = subprocess.run(
        ["siril-cli", "-s", script], capture_output=True, text=True, check=False, env={"HOME": str(where)}
    )
    return ran.returncode, ran.stdout


@pytest.mark.skipif(shutil.which("siril-cli") is None, reason="siril-cli is not installed")
def test_siril_opens_the_editors_file_and_not_the_mosaic(exported: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    code, told = run_siril(exported / "mosaic_edit.fits", good)
    assert code == 0, told
    assert "1 layer(s)" in told
    assert "nan" not in told.lower()
    assert re.search(r"Mean: \d+\.\d, Median: \d+\.\d", told)
    assert (good / "shown.jpg").is_file()
    here, kept = (WCS(fits.getheader(path)) for path in (exported / "mosaic_edit.fits", good / "kept.fit"))
    corners = [[0, 0], [100, 0], [0, 100]]
    assert np.abs(kept.all_world2pix(here.all_pix2world(corners, 0), 0) - corners).max() < 1e-3
    # The reason why there is such a file: several images of one shape are a sequence to Siril.
    code, told = run_siril(exported / "mosaic.fits", bad)
    assert code != 0
    assert "this command cannot be applied on a sequence" in told


@pytest.mark.skipif(shutil.which("fitsverify") is None, reason="fitsverify is not installed")
def test_fitsverify_finds_nothing(exported: Path) -> None:
    files = sorted(path for path in exported.rglob("*.fits") if ".zemosaic" not in path.parts)
    assert {path.parent.name for path in files} > {exported.name, "hips", "Dir0", "Norder3"}
    ran = subprocess.run(["fitsverify", "-q", *files], capture_output=True, text=True, check=False)
    assert [line.split(":")[0] for line in ran.stdout.splitlines()] == ["verification OK"] * len(files), ran.stdout
