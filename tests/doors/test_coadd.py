"""``zemosaic.coadd``: what it takes, what it gives, what it says of inputs that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty, UnknownUncertainty
from astropy.wcs import WCS

import zemosaic
from mosaic_cases import digest_of, noise, run_cli, tan_wcs, write_frame
from zemosaic.errors import EnvironmentProblem, NothingToDo, SettingError
from zemosaic.settings import load_settings

Capture = pytest.CaptureFixture[str]


def test_headers_serve_where_a_wcs_does(tmp_path: Path) -> None:
    """As reproject takes them: for the inputs and for the grid; and one path is one input."""
    wcs, image = tan_wcs((60, 80)), noise((60, 80), 1)
    header = fits.PrimaryHDU(image, wcs.to_header()).header
    plain = zemosaic.coadd([(image, wcs)], wcs)
    for made in (
        zemosaic.coadd([(image, header)], header),
        zemosaic.coadd([(image, header)], wcs.to_header(), (60, 80)),
    ):
        assert np.array_equal(made.data, plain.data, equal_nan=True)
    path = write_frame(tmp_path / "a.fits", image, wcs)
    assert np.array_equal(zemosaic.coadd(path, header).data, zemosaic.coadd([path], wcs).data, equal_nan=True)
    with pytest.raises(SettingError, match="not of type str"):
        zemosaic.coadd([(image, wcs)], "grid.hdr")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="shape_out"):
        zemosaic.coadd([(image, wcs)], wcs.to_header())


def test_all_kinds_of_inputs_give_the_same(tmp_path: Path) -> None:
    shape, frames = (80, 100), []
    for k in range(3):
        image = noise(shape, k)
        image[10:12, 10:30] = np.nan
        frames.append((image, tan_wcs(shape, ra_deg=150 + 0.006 * k)))
    paths = [write_frame(tmp_path / f"{k}.fits", image, wcs) for k, (image, wcs) in enumerate(frames)]
    grid = tan_wcs((120, 160))
    results = {
        "paths": zemosaic.coadd(paths, grid),
        "texts": zemosaic.coadd(map(str, paths), grid),
        "a folder": zemosaic.coadd([tmp_path], grid),
        "pairs": zemosaic.coadd(frames, grid),
        "doubles": zemosaic.coadd([(image.astype(float), wcs) for image, wcs in frames], grid),
        "HDUs": zemosaic.coadd([fits.ImageHDU(image, wcs.to_header()) for image, wcs in frames], grid),
        "HDU lists": zemosaic.coadd(
            [fits.HDUList([fits.PrimaryHDU(image, wcs.to_header())]) for image, wcs in frames], grid
        ),
        "NDData": zemosaic.coadd([NDData(image, wcs=wcs) for image, wcs in frames], grid),
        "CCDData": zemosaic.coadd(
            [CCDData(np.nan_to_num(i), wcs=w, mask=np.isnan(i), unit="adu") for i, w in frames], grid
        ),
        "shape": zemosaic.coadd(frames, WCS(grid.to_header()), shape_out=(120, 160)),
    }
    first = results.pop("paths")
    assert np.isfinite(first.data).sum() > 9_000
    for name, other in results.items():
        # Ids order the sum: another order may change the last bit.
        assert np.allclose(other.data, first.data, rtol=3e-7, atol=0, equal_nan=True), name
        assert np.array_equal(other.coverage, first.coverage), name


def test_uncertainties_weigh_within_a_frame() -> None:
    shape, wcs = (80, 100), tan_wcs((80, 100))
    error = np.where(np.arange(100) < 50, 10.0, 30.0) * np.ones(shape)
    image = 1000 + noise(shape, 1, sigma=1.0, level=0.0) * error
    settings = load_settings(assignments=["stack.method=mean", "warp.taper_px=0"])
    made = zemosaic.coadd([NDData(image, wcs=wcs, uncertainty=StdDevUncertainty(error))], wcs, settings=settings)
    assert np.median(made.weight[:, :45]) == pytest.approx(9 * np.median(made.weight[:, 55:]), rel=1e-4)


def test_a_plan_of_the_grid_comes_with_the_result(small_set: Path) -> None:
    made = zemosaic.coadd([small_set])
    assert made.wcs.array_shape == made.data.shape
    assert made.data.dtype == made.weight.dtype == made.variance.dtype == np.float32
    assert made.coverage.dtype.kind == made.rejected.dtype.kind == "i"
    assert made.left_out == ()


def test_what_cannot_be_an_input_is_said() -> None:
    with pytest.raises(SettingError, match="type int is not a path"):
        zemosaic.coadd([3])
    with pytest.raises(NothingToDo, match="no inputs"):
        zemosaic.coadd([])
    with pytest.raises(SettingError, match="shape_out"):
        zemosaic.coadd([(noise((50, 50), 1), tan_wcs((50, 50)))], WCS(tan_wcs((50, 50)).to_header()))


def test_bad_arrays_are_left_out_with_their_reason() -> None:
    good = [(noise((60, 60), k), tan_wcs((60, 60))) for k in range(2)]
    made = zemosaic.coadd([*good, (np.full((60, 60), np.nan), tan_wcs((60, 60)))])
    assert [(item.name, item.reason) for item in made.left_out] == [("memory:2", "no pixel has weight")]
    assert made.coverage.max() == 2


@pytest.mark.parametrize("size", [1e-21, 1e-22])
def test_values_of_absurd_size_are_said(size: float) -> None:
    """Weights are inverse variances in single precision."""
    frames = [((noise((60, 60), k) * size).astype(np.float32), tan_wcs((60, 60))) for k in range(2)]
    told: list[object] = []
    with pytest.raises(NothingToDo, match="no image reaches"):
        zemosaic.coadd(frames, on_event=told.append)
    assert any("multiply the values" in event.reason for event in told if isinstance(event, zemosaic.events.LeftOut))
    made = zemosaic.coadd([(image / np.float32(size), wcs) for image, wcs in frames])
    assert np.isfinite(made.data).any()


# --- inputs that cannot be used -----------------------------------------------------------------------------------

SHAPE = (60, 80)
GRID = tan_wcs(SHAPE)


def of_kind(kind: str) -> fits.Header:
    return fits.Header([("IMAGETYP", kind), *GRID.to_header().cards])


def singular() -> WCS:
    wcs = GRID.deepcopy()
    wcs.wcs.cd = [[0.0, 0.0], [0.0, 0.0]]
    return wcs


BAD: dict[str, tuple[Any, str]] = {
    "complex": ((noise(SHAPE, 1).astype(complex), GRID), "an image must hold numbers, not complex128"),
    "truth values": ((noise(SHAPE, 1) > 0, GRID), "an image must hold numbers, not bool"),
    "four planes": ((np.zeros((4, *SHAPE)), GRID), "not a picture: a cube with no axis of length 3 (80 x 60 x 4)"),
    "a row": ((np.zeros(5), GRID), "not a picture: 1 axis longer than 1 (5)"),
    "no pixel": ((np.zeros((0, 5)), GRID), "the image has no pixels (5 x 0)"),
    "ragged": (([[1, 2], [3]], GRID), "no array can be made of it"),
    "a dark": ((noise(SHAPE, 1), of_kind("Dark Frame")), "a dark, not a picture of the sky"),
    "given twice": ((noise(SHAPE, 0), GRID), "the same image was given before"),
    "a spectrum's WCS": ((noise(SHAPE, 1), WCS(naxis=1)), "the WCS has no celestial axes"),
    "no WCS": (NDData(noise(SHAPE, 1)), "it has no WCS"),
    "a singular WCS": ((noise(SHAPE, 1), singular()), "its WCS cannot be used: "),
    "an uncertainty of no kind": (
        NDData(noise(SHAPE, 1), wcs=GRID, uncertainty=UnknownUncertainty(np.ones(SHAPE))),
        "its uncertainty is of no known kind",
    ),
    "a mask of another shape": (
        NDData(noise(SHAPE, 1), wcs=GRID, mask=np.zeros((3, 4), bool)),
        "the mask has shape (3, 4), the image (60, 80)",
    ),
    "an HDU without data": (fits.ImageHDU(), "there is no image in it"),
    "HDUs without data": (fits.HDUList([fits.PrimaryHDU()]), "there is no image in it"),
}


@pytest.mark.parametrize("what", BAD)
def test_an_input_that_cannot_be_used_is_left_out_with_its_reason(what: str) -> None:
    bad, reason = BAD[what]
    seen: list[object] = []
    made = zemosaic.coadd([(noise(SHAPE, 0), GRID), bad, (noise(SHAPE, 2), GRID)], GRID, on_event=seen.append)
    (left_out,) = made.left_out
    assert left_out.reason.startswith(reason)
    assert (left_out.name, left_out.path) == ("memory:1", "memory:1")
    assert left_out in seen
    assert made.coverage.max() == 2


@pytest.mark.parametrize("what", [name for name in BAD if name != "given twice"])
def test_where_nothing_is_left_the_error_is_a_documented_one(what: str) -> None:
    bad, reason = BAD[what]
    with pytest.raises(zemosaic.NothingToDo) as told:
        zemosaic.coadd([bad])
    assert f"no input is a picture of the sky: {reason}" in str(told.value)


def test_tables_beside_images_are_no_inputs() -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])
    made = zemosaic.coadd([fits.HDUList([fits.PrimaryHDU(noise(SHAPE, 0), GRID.to_header()), table])], GRID)
    assert made.left_out == ()
    assert made.coverage.max() == 1


def test_a_bad_image_of_several_is_named(tmp_path: Path) -> None:
    images = [noise(SHAPE, 0), np.zeros((4, *SHAPE), np.float32), noise(SHAPE, 1)]
    hdus = fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(image, GRID.to_header()) for image in images)])
    made = zemosaic.coadd([hdus], GRID)
    assert [item.name for item in made.left_out] == ["memory:0[2]"]
    assert made.coverage.max() == 2


def test_one_input_need_not_be_in_a_list() -> None:
    image = noise(SHAPE, 0)
    first = zemosaic.coadd([(image, GRID)], GRID)
    for single in (NDData(image, wcs=GRID), fits.ImageHDU(image, GRID.to_header())):
        assert np.allclose(zemosaic.coadd(single, GRID).data, first.data, rtol=3e-7, equal_nan=True)
    with pytest.raises(SettingError, match="type int is not a path"):
        zemosaic.coadd(5)


def test_bad_files_beside_arrays_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "bad.fits").write_text("no picture")
    made = zemosaic.coadd([tmp_path / "bad.fits", (noise(SHAPE, 0), GRID)], GRID)
    assert [item.name for item in made.left_out] == [str(tmp_path / "bad.fits")]
    assert made.coverage.max() == 1
    with pytest.raises(NothingToDo, match="not a FITS file"):
        zemosaic.coadd([tmp_path / "bad.fits"])


def test_images_that_do_not_overlap() -> None:
    """Each other: both are in the mosaic. The grid: there is nothing to do."""
    far = tan_wcs(SHAPE, ra_deg=150.1)
    for match in (False, True):
        made = zemosaic.coadd([(noise(SHAPE, 0), GRID), (noise(SHAPE, 1), far)], match=match)
        assert made.coverage.max() == 1
        assert np.isfinite(made.data).sum() > 2 * 50 * 70
        with pytest.raises(NothingToDo, match="no image reaches the output grid"):
            zemosaic.coadd([(noise(SHAPE, 0), GRID), (noise(SHAPE, 1), GRID)], far, match=match)


def test_masked_pixels_are_no_data() -> None:
    """The same as NaN; a mask that numpy.asarray drops would let them through."""
    image, mask = noise(SHAPE, 0), np.zeros(SHAPE, bool)
    mask[20:30, 20:40] = True
    made = zemosaic.coadd([(np.ma.masked_array(np.where(mask, 9e4, image), mask), GRID)], GRID)
    plain = zemosaic.coadd([(np.where(mask, np.nan, image), GRID)], GRID)
    assert np.array_equal(made.data, plain.data, equal_nan=True)
    assert np.nanmax(made.data) < 2000


@pytest.mark.parametrize(
    ("shape", "error", "words"),
    [
        ((0, 80), SettingError, "empty grid"),
        ((60, 80, 3), SettingError, "not (height, width)"),
        (("60", "80"), SettingError, "not (height, width)"),
        ((10**6, 10**6), EnvironmentProblem, "more than the memory cap"),
    ],
)
def test_a_shape_that_cannot_be_is_said(shape: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as told:
        zemosaic.coadd([(noise(SHAPE, 0), GRID)], GRID, shape)
    assert words in str(told.value)


# --- settings and results -----------------------------------------------------------------------------------------


def test_settings_may_be_a_dict() -> None:
    frames = [(noise(SHAPE, k), GRID) for k in range(4)]
    named = {"stack": {"method": "median"}, "warp": {"taper_px": 0}}
    made = zemosaic.coadd(frames, GRID, settings=named)
    assert np.array_equal(made.data, zemosaic.coadd(frames, GRID, settings=load_settings(overrides=named)).data)
    assert not np.array_equal(made.data, zemosaic.coadd(frames, GRID).data)
    for slip, words in (
        ({"stack": {"methud": "median"}}, "did you mean 'method'"),
        ({"stak": {}}, "did you mean 'stack'"),
        ({"grid": {"crop": "half"}}, "grid.crop = 'half' is not none, coverage:FRACTION"),
        ("stack.method=median", "not of type str"),
    ):
        with pytest.raises(SettingError, match=words):
            zemosaic.coadd(frames, GRID, settings=slip)  # type: ignore[arg-type]


@pytest.mark.parametrize("planes", [(), (3,)])
def test_planes_have_the_shapes_and_types_that_are_stated(planes: tuple[int, ...]) -> None:
    made = zemosaic.coadd([(noise((*planes, *SHAPE), k), GRID) for k in range(2)], GRID)
    for name in ("data", "weight", "variance", "rejected"):
        assert getattr(made, name).shape == (*planes, *SHAPE), name
    for name in ("coverage", "exposure", "saturated"):
        assert getattr(made, name).shape == SHAPE, name
    ccd = made.to_ccddata()
    assert np.array_equal(ccd.data, made.data, equal_nan=True)
    assert np.array_equal(ccd.uncertainty.array, made.variance, equal_nan=True)
    assert np.array_equal(ccd.mask, made.weight == 0)
    assert ccd.unit == "adu"
    assert ccd.wcs.pixel_to_world(3, 2).separation(made.wcs.pixel_to_world(3, 2)).arcsec < 1e-6
    kinds = {name: getattr(made, name).dtype for name in ("data", "weight", "variance", "exposure", "saturated")}
    assert set(kinds.values()) == {np.dtype(np.float32)}
    assert made.coverage.dtype == made.rejected.dtype == np.int16
    assert np.array_equal(np.isnan(made.data), made.weight == 0)


def test_a_result_is_written_as_the_command_writes_it(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    made = zemosaic.coadd(small_set)
    path = made.write(tmp_path / "own.fits")
    assert run_cli(capfd, "coadd", small_set, "-o", tmp_path / "out").code == 0
    assert digest_of(path) == digest_of(tmp_path / "out/mosaic.fits")
    with pytest.raises(SettingError, match="is there already"):
        made.write(path)
    made.write(path, overwrite=True)


def test_events_are_public_values(small_set: Path) -> None:
    events, seen = zemosaic.events, []
    zemosaic.coadd(small_set, on_event=seen.append)
    known = (
        events.StageStarted, events.Progress, events.StageEnded, events.Notice, events.LeftOut, events.RunPlanned,
        events.FramesFound, events.GridPlanned,
    )  # fmt: skip
    assert seen
    assert all(isinstance(event, known) for event in seen)


@pytest.mark.parametrize(("apart_sigma", "n_told"), [(0.0, 0), (30.0, 1)])
def test_frames_that_disagree_are_told(apart_sigma: float, n_told: int) -> None:
    """Unmatched, one of nine lies far off and is clipped whole."""
    wcs = tan_wcs((60, 80))
    frames = [(noise((60, 80), k, sigma=1.0, level=100 + apart_sigma * (k == 8)), wcs) for k in range(9)]
    seen: list[zemosaic.events.Event] = []
    zemosaic.coadd(frames, wcs, on_event=seen.append)
    told = [event for event in seen if isinstance(event, zemosaic.events.Notice)]
    assert [event.told.code for event in told].count("stack.much-clipped") == n_told
