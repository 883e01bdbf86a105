"""Products of a finished folder: the same from a build and from `export`, and nothing else is touched."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from zemosaic.cli import main
from zemosaic.pipelines.products import edit, folder
from zemosaic.pipelines.products.make import PRODUCTS
from zemosaic.pipelines.run.context import start_run
from zemosaic.settings import PRODUCT_NAMES, load_settings


def digests(root: Path) -> dict[str, str]:
    """Of every file outside the work folder."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and ".zemosaic" not in path.parts]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def exported(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a build left with every product, of which `export` then made all anew; not to be changed."""
    out = tmp_path_factory.mktemp("products") / "out"
    frames = digests(small_set)
    assert main(["build", str(small_set), "-o", str(out), "--set", f"output.also={','.join(PRODUCT_NAMES)}"]) == 0
    built = digests(out)
    made_later = [name for name in built if name.startswith(("mosaic_edit",))]
    assert made_later
    for name in made_later:
        (out / name).unlink()
    assert main(["export", str(out), "--also", ",".join(PRODUCT_NAMES)]) == 0
    # The same bytes from both doors; the mosaic and the frames are as they were.
    assert digests(out) == built
    assert digests(small_set) == frames
    return out


def test_every_name_has_its_product() -> None:
    assert tuple(PRODUCTS) == PRODUCT_NAMES


def test_a_list_and_text_are_the_same_setting() -> None:
    for given in ("output.also=edit, edit", "output.also=['edit']"):
        assert load_settings(assignments=[given]).output.also == ("edit",)
    assert load_settings(assignments=["output.also="]).output.also == ()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--also", "jpeg"], 2, "output.also = 'jpeg': 'jpeg' is none of edit"),
        (["--also", "edit"], 3, "there is no finished mosaic in"),
    ],
)
def test_export_says_what_it_cannot_make(
    words: list[str], code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tmp_path), *words]) == code
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_editors_file_is_one_finite_image_from_0_to_1(exported: Path) -> None:
    with fits.open(exported / "mosaic_edit.fits") as edit_file, fits.open(exported / "mosaic.fits") as science:
        assert len(edit_file) == 1
        header, values = edit_file[0].header, edit_file[0].data
        truth = science[0].data
        known = np.isfinite(truth)
        assert values.dtype == ">f4"
        assert (values.min(), values.max()) == (0, 1)
        assert not values[~known].any()
        assert (~known).any()
        assert header["ROWORDER"] == "BOTTOM-UP"
        back = header["ED_SCALE"] * values[known].astype(float) + header["ED_ZERO"]
        assert np.abs(back - truth[known]).max() < 1e-6 * header["ED_SCALE"]
        assert WCS(header).wcs.compare(WCS(science[0].header).wcs)


def test_bands_change_no_byte(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of any size passes through bands of a known size."""
    opened = folder.open_folder(exported)
    read: list[int] = []
    whole = folder.FolderMosaic.read

    def count(self: folder.FolderMosaic, plane: str, box: folder.Box) -> np.ndarray:
        read.append(4 * self.n_channels * box.n_pixels)
        return whole(self, plane, box)

    monkeypatch.setattr(folder, "BAND_BYTES", 10_000)
    monkeypatch.setattr(folder.FolderMosaic, "read", count)
    edit.write_edit_files(folder.FinishedFolder(tmp_path, opened.mosaics, opened.report), start_run())
    assert (tmp_path / "mosaic_edit.fits").read_bytes() == (exported / "mosaic_edit.fits").read_bytes()
    assert max(read) <= 10_000
    assert sum(read) == 2 * 4 * opened.mosaics[0].shape[0] * opened.mosaics[0].shape[1]
