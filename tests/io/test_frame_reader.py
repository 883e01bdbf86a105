"""Windows of frames: every way FITS stores pixels gives the same numbers."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from frame_cases import vary_frame
from zemosaic.errors import FrameRejected
from zemosaic.io.headers.facts import frame_wcs
from zemosaic.io.headers.scaling import Scaling
from zemosaic.io.read.arrays import ArraySource
from zemosaic.io.read.frame_reader import FrameReader, put_physical_values
from zemosaic.io.read.scan import scan
from zemosaic.kernels.pixels.stored import unpack_floats, unpack_shorts
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.settings import InputSettings

H, W = 37, 53
WHOLE = Box(0, H, 0, W)
WINDOWS = [WHOLE, Box(5, 6, 7, 8), Box(0, 20, 10, 53), Box(30, 37, 0, 5)]


def frames_of(*paths: Path, **options: str) -> list[Frame]:
    result = scan(list(paths), InputSettings.model_validate(options))
    assert not result.rejected, result.rejected
    return sorted(result.frames, key=lambda frame: (frame.storage.path, frame.storage.hdu))


def pixels(dtype: str, shape: tuple[int, ...] = (H, W), seed: int = 3) -> npt.NDArray[np.generic]:
    return np.random.default_rng(seed).normal(100, 30, shape).clip(0, 250).astype(dtype)


def check_windows(frame: Frame, truth: npt.NDArray[np.generic], reader: FrameReader | None = None) -> None:
    """Every window holds the truth (channels first, NaN where there is no data), kept in memory or not."""
    reader = reader or FrameReader()
    check_boxes(frame, truth, reader)
    for part in (WHOLE, WINDOWS[2]):
        with reader.expecting([(frame, part)] * 2, 1 << 20):
            check_boxes(frame, truth, reader)


def check_boxes(frame: Frame, truth: npt.NDArray[np.generic], reader: FrameReader) -> None:
    truth = np.asarray(truth, float)
    for box in WINDOWS:
        data, weight = reader.read_window(frame, box)
        expected = truth[:, *box.slices]
        seen = np.isfinite(expected)
        assert data.dtype == weight.dtype == np.float32
        assert data.flags.c_contiguous
        assert data.dtype.isnative
        np.testing.assert_array_equal(data, np.where(seen, expected, 0).astype(np.float32))
        np.testing.assert_array_equal(weight, seen.astype(np.float32))


# --- storage types -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize("packing", ["plain", "gzip"])
def test_every_type_reads_the_same(tmp_path: Path, dtype: str, packing: str) -> None:
    data = pixels(dtype)
    path = tmp_path / "a b.fits"
    fits.PrimaryHDU(data).writeto(path)
    if packing == "gzip":
        path.write_bytes(gzip.compress(path.read_bytes()))
    check_windows(frames_of(path)[0], data[None])


@pytest.mark.parametrize(
    ("dtype", "method"), [("i2", "RICE_1"), ("u2", "RICE_1"), ("i4", "GZIP_1"), ("i2", "GZIP_2"), ("f4", "GZIP_2")]
)
@pytest.mark.parametrize("tile", [(1, W), (16, 16)])
def test_tile_compression(tmp_path: Path, dtype: str, method: str, tile: tuple[int, int]) -> None:
    data = pixels(dtype)
    hdu = fits.CompImageHDU(data, compression_type=method, tile_shape=tile, quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits.fz")
    (frame,) = frames_of(tmp_path)
    assert frame.storage.hdu == 1
    check_windows(frame, data[None])
    check_windows(frame, data[None], FrameReader(cache_bytes=100))  # too small: only the tiles of each window


@pytest.mark.parametrize(
    ("dtype", "method", "tile"),
    [
        ("u1", "PLIO_1", (16, 16)), ("i2", "PLIO_1", (1, W)), ("u1", "RICE_1", (H, W)), ("i2", "HCOMPRESS_1", (16, 16)),
        ("i4", "HCOMPRESS_1", (H, W)), ("f8", "GZIP_1", (H, W)), ("f4", "NOCOMPRESS", (16, 16)),
    ],
)  # fmt: skip
def test_rarer_tile_compressions(tmp_path: Path, dtype: str, method: str, tile: tuple[int, int]) -> None:
    data = pixels(dtype)
    hdu = fits.CompImageHDU(data, compression_type=method, tile_shape=tile, quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits.fz")
    check_windows(frames_of(tmp_path)[0], data[None])


@pytest.mark.parametrize("method", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"])
@pytest.mark.parametrize("dither", [-1, 1, 2], ids=["no dither", "dither 1", "dither 2"])
def test_quantised_floats_are_what_astropy_reads(tmp_path: Path, method: str, dither: int) -> None:
    data = pixels("f4")
    data[3, 4], data[5] = np.nan, 0
    how = {"compression_type": method, "quantize_level": 16, "quantize_method": dither, "dither_seed": 5}
    hdu = fits.CompImageHDU(data, tile_shape=(16, 16), **how)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits.fz")
    expected = fits.getdata(tmp_path / "a.fits.fz")
    read, weight = FrameReader().read_window(frames_of(tmp_path)[0], WHOLE)
    seen = np.isfinite(expected)
    np.testing.assert_array_equal(weight[0] > 0, seen)
    np.testing.assert_allclose(read[0][seen], expected[seen], rtol=1e-6)


def test_quantised_floats_keep_their_holes(tmp_path: Path) -> None:
    data = pixels("f4")
    data[4, 5] = np.nan
    hdu = fits.CompImageHDU(data, compression_type="RICE_1", quantize_level=64)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits.fz")
    read, weight = FrameReader().read_window(frames_of(tmp_path)[0], WHOLE)
    np.testing.assert_allclose(read[0][weight[0] > 0], data[np.isfinite(data)], atol=1.0)
    assert np.argwhere(weight[0] == 0).tolist() == [[4, 5]]


def test_colour_compressed_and_packed_twice(tmp_path: Path) -> None:
    data = pixels("i2", (3, H, W))
    path = tmp_path / "a.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data)]).writeto(path)
    (frame,) = frames_of(path)
    check_windows(frame, data)
    check_windows(frame, data, FrameReader(cache_bytes=100))
    packed = tmp_path / "b.fits.fz.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    check_windows(frames_of(packed)[0], data)


@pytest.mark.parametrize(
    ("stored", "layout"),
    [
        (pixels("f4", (3, H, W)), "chw"),
        (pixels("u2", (H, W, 3)), "hwc"),
        (pixels("f4", (1, H, W)), "mono"),
        (pixels("i2", (H, W, 1)), "mono"),
        (pixels("f4", (1, 3, 1, H, W)), "chw"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_channel_layouts(
    tmp_path: Path, stored: npt.NDArray[np.generic], layout: str, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(stored).writeto(path)
    path.write_bytes(pack(path.read_bytes()))
    (frame,) = frames_of(path)
    assert frame.storage.layout == layout
    channels_first = np.moveaxis(stored, -1, 0) if layout == "hwc" else stored.reshape(-1, H, W)
    check_windows(frame, channels_first)


def test_wide_frames_read_only_their_window(tmp_path: Path) -> None:
    data = pixels("f4", (12, 9000))
    data[3, 8000] = np.nan
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    (frame,) = frames_of(tmp_path)
    reader = FrameReader()
    box = Box(2, 9, 7900, 8100)
    read, weight = reader.read_window(frame, box)
    expected = data[box.slices]
    np.testing.assert_array_equal(read[0], np.nan_to_num(expected))
    np.testing.assert_array_equal(weight[0], np.isfinite(expected))
    assert reader.n_bytes_read == box.n_pixels * 4
    with reader.expecting([(frame, box)] * 2, 1 << 20) as counts:
        for part in (box, Box(3, 5, 7910, 8000)):
            kept, known = reader.read_window(frame, part)
            np.testing.assert_array_equal(kept, read[:, *part.relative_to(box).slices])
            np.testing.assert_array_equal(known, weight[:, *part.relative_to(box).slices])
    assert counts.n_read.total() == box.n_pixels * 4


def test_a_bayer_frame_gives_its_raw_plane(tmp_path: Path) -> None:
    data = pixels("u2")
    hdu = fits.PrimaryHDU(data)
    hdu.header["BAYERPAT"] = "GRBG"
    hdu.writeto(tmp_path / "a.fits")
    (frame,) = frames_of(tmp_path)
    assert frame.storage.layout == "bayer"
    check_windows(frame, data[None])


# --- scaling and missing data --------------------------------------------------------------------


def write_raw(path: Path, data: npt.NDArray[np.generic], **cards: object) -> Frame:
    """Store integers as they are and put cards beside them."""
    hdu = fits.PrimaryHDU(data)
    hdu.writeto(path)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header.update(cards)
    return frames_of(path)[0]


@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4"])
def test_scaling_and_blank(tmp_path: Path, dtype: str) -> None:
    stored = pixels(dtype)
    stored[2, 3] = 77
    frame = write_raw(tmp_path / "a.fits", stored, BSCALE=0.5, BZERO=10.0, BLANK=77)
    truth = np.where(stored == 77, np.nan, stored.astype(float) * 0.5 + 10)
    check_windows(frame, truth[None])


def test_large_integers_are_scaled_before_they_are_rounded() -> None:
    raw = np.array([[[2**31 - 1, -(2**31), 5]]], ">i4")
    out = np.empty(raw.shape, np.float32)
    assert put_physical_values(raw, out, Scaling(2.0**31)) is None
    assert out.tolist() == [[[float(np.float32(2**32 - 1)), 0.0, float(2**31 + 5)]]] or out[0, 0, 1] == 0.0
    put_physical_values(raw, out, Scaling(-5.0))
    assert out[0, 0, 2] == 0.0


@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")
@pytest.mark.parametrize(("dtype", "scale"), [("i2", 5e-4), ("i4", 1e-8), (">f4", 1.0)])
def test_an_asinh_scale_is_undone(tmp_path: Path, dtype: str, scale: float) -> None:
    """A truth of known light, stored as Pan-STARRS stores it: 1.08574 asinh((light - BOFFSET) / 2 BSOFTEN)."""
    softening, offset = 7.5, 40.0
    light = np.random.default_rng(5).normal(100, 30, (H, W))
    light[3, 4], light[6, 7] = 2e5, -60.0
    stored = 1.0857362047581296 * np.arcsinh((light - offset) / (2 * softening)) / scale
    stored = np.rint(stored) if dtype.startswith("i") else stored
    frame = write_raw(tmp_path / "a.fits", stored.astype(dtype), BSCALE=scale, BSOFTEN=softening, BOFFSET=offset)
    data, weight = FrameReader().read_window(frame, WHOLE)
    assert np.all(weight == 1)
    np.testing.assert_allclose(data[0], light, rtol=5e-4, atol=0.02)
    assert not frame.storage.is_integer
    assert frame.decided.saturation_adu is None
    arrays = ArraySource()
    with fits.open(tmp_path / "a.fits") as hdus:
        given_ = arrays.add(hdus[0].data, header=hdus[0].header)
    np.testing.assert_allclose(arrays.read_window(given_, WHOLE)[0], data, rtol=1e-5)


@pytest.mark.parametrize("cards", [{"BSOFTEN": 7.5}, {"BOFFSET": 1.0}, {"BSOFTEN": 0.0, "BOFFSET": 1.0}])
def test_half_an_asinh_scale_is_refused_with_its_cards(tmp_path: Path, cards: dict[str, float]) -> None:
    hdu = fits.PrimaryHDU(pixels(">f4"))
    hdu.header.update(cards)
    hdu.writeto(tmp_path / "a.fits")
    (rejected,) = scan([tmp_path], InputSettings()).rejected
    assert "asinh scale that its header does not tell in full" in rejected.reason
    assert all(key in rejected.reason for key in ("BSOFTEN", "BOFFSET"))


def test_light_beyond_an_asinh_scale_is_no_data(tmp_path: Path) -> None:
    stored = np.full((H, W), 2.0, ">f4")
    stored[1, 1] = 900.0
    hdu = fits.PrimaryHDU(stored)
    hdu.header.update({"BSOFTEN": 1.0, "BOFFSET": 0.0})
    hdu.writeto(tmp_path / "a.fits")
    _, weight = FrameReader().read_window(*frames_of(tmp_path / "a.fits"), WHOLE)
    assert np.argwhere(weight[0] == 0).tolist() == [[1, 1]]


@given(
    hnp.arrays(
        st.sampled_from(["<f4", ">f4", "<f8", ">f8"]),
        (1, 4, 5),
        elements=st.floats(width=32, allow_subnormal=False) | st.just(float("inf")),
    )
)
def test_values_are_finite_everywhere(raw: npt.NDArray[np.floating]) -> None:
    before = raw.tobytes()
    out = np.empty(raw.shape, np.float32)
    bad = put_physical_values(raw, out)
    seen = np.isfinite(raw)
    assert np.isfinite(out).all()
    assert (bad is None) == bool(seen.all())
    if bad is not None:
        np.testing.assert_array_equal(bad, ~seen)
    np.testing.assert_array_equal(out[seen], raw[seen].astype(np.float32))
    assert raw.tobytes() == before


def test_doubles_beyond_float32_are_no_data() -> None:
    out = np.empty((1, 1, 2), np.float32)
    bad = put_physical_values(np.array([[[1e300, 1.0]]], ">f8"), out)
    assert bad is not None
    assert bad.tolist() == [[[True, False]]]
    assert out.tolist() == [[[0.0, 1.0]]]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_window_of_a_frame_with_holes(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "holes.fits"
    truth = pixels("f4")
    truth[np.random.default_rng(1).random(truth.shape) < 0.2] = np.nan
    truth[10:12] = np.inf
    if not path.exists():
        fits.PrimaryHDU(truth).writeto(path)
    y0, x0 = data.draw(st.integers(0, H - 1)), data.draw(st.integers(0, W - 1))
    box = Box(y0, data.draw(st.integers(y0 + 1, H)), x0, data.draw(st.integers(x0 + 1, W)))
    read, weight = FrameReader().read_window(frames_of(path)[0], box)
    expected = truth[box.slices]
    np.testing.assert_array_equal(weight[0], np.isfinite(expected))
    np.testing.assert_array_equal(read[0], np.where(np.isfinite(expected), expected, 0))


# --- weight maps ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "make"),
    [
        (".weight.fits", lambda w: w * 40.0),
        (".var.fits", lambda w: np.where(w > 0, 7.0 / np.where(w > 0, w, 1), np.inf)),
        (".var.fits", lambda w: np.where(w > 0, 7.0 / np.where(w > 0, w, 1), 0)),
        (".weight.fits", lambda w: np.where(w > 0, w * 1e-6, -3.0)),
        (".weight.fits", lambda w: np.where(w > 0, w * 1e-6, np.nan)),
    ],
)
def test_weight_maps_are_relative_inverse_variances(
    tmp_path: Path, ending: str, make: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
) -> None:
    truth = np.ones((H, W))
    truth[:, 40:] = 0.25  # less than half: the median stays 1
    truth[7:9, 3:20] = 0
    data = pixels("f4")
    data[1, 1] = np.nan
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    fits.PrimaryHDU(make(truth).astype("f4")).writeto(tmp_path / f"a{ending}")
    (frame,) = frames_of(tmp_path)
    truth[1, 1] = 0
    reader = FrameReader()
    for box in WINDOWS:
        read, weight = reader.read_window(frame, box)
        np.testing.assert_allclose(weight[0], truth[box.slices], rtol=1e-6)
        np.testing.assert_array_equal(read[0] == 0, truth[box.slices] == 0)


def test_masks_and_error_extensions(tmp_path: Path) -> None:
    data, mask = pixels("f4"), np.zeros((H, W), "u1")
    mask[3:5, 6:9] = 4
    fits.HDUList([fits.PrimaryHDU(data), fits.ImageHDU(mask, name="DQ")]).writeto(tmp_path / "a.fits")
    error = np.full((H, W), 2.0, "f4")
    error[:, :10] = 4.0
    fits.HDUList([fits.PrimaryHDU(data), fits.ImageHDU(error, name="ERR")]).writeto(tmp_path / "b.fits")
    masked, noisy = frames_of(tmp_path)
    np.testing.assert_array_equal(FrameReader().read_window(masked, WHOLE)[1][0], mask == 0)
    np.testing.assert_allclose(FrameReader().read_window(noisy, WHOLE)[1][0], np.where(error > 2, 0.25, 1), rtol=1e-6)


def test_one_map_for_three_channels_and_a_map_of_zeros(tmp_path: Path) -> None:
    data, weight = pixels("f4", (3, H, W)), np.full((H, W), 5.0, "f4")
    weight[0] = 0
    fits.HDUList([fits.PrimaryHDU(data), fits.ImageHDU(weight, name="WHT")]).writeto(tmp_path / "a.fits")
    fits.HDUList([fits.PrimaryHDU(data), fits.ImageHDU(weight * 0, name="WHT")]).writeto(tmp_path / "b.fits")
    good, empty = frames_of(tmp_path)
    read, relative = FrameReader().read_window(good, WHOLE)
    assert read.shape == relative.shape == (3, H, W)
    np.testing.assert_array_equal(relative, np.broadcast_to(weight > 0, (3, H, W)))
    with pytest.raises(FrameRejected, match="weight map has no positive weight"):
        FrameReader().read_window(empty, WHOLE)


# --- what can go wrong later ---------------------------------------------------------------------


def test_pixels_that_are_black_in_all_channels_hold_nothing_where_zero_is_empty(tmp_path: Path) -> None:
    data = pixels("u2", (3, H, W))
    data[:, 2:4, 5:9] = 0
    data[1:, 7, 7] = 0
    fits.writeto(tmp_path / "a.fits", data)
    (frame,) = frames_of(tmp_path)
    _, weight = FrameReader().read_window(vary_frame(frame, zero_is_empty=True), WHOLE)
    assert np.array_equal(weight, np.broadcast_to(data.any(axis=0), weight.shape))
    assert FrameReader().read_window(frame, WHOLE)[1].all()


@pytest.mark.parametrize("packing", ["plain", "gzip", "tiles"])
def test_files_that_change_after_the_scan(tmp_path: Path, packing: str) -> None:
    path = tmp_path / "a.fits"
    if packing == "tiles":
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels("i2", (400, 500)))]).writeto(path)
    else:
        fits.PrimaryHDU(pixels("i2", (400, 500))).writeto(path)
    content = path.read_bytes() if packing != "gzip" else gzip.compress(path.read_bytes())
    path.write_bytes(content)
    (frame,) = frames_of(path)
    box = Box(0, 400, 0, 500)
    known = FrameReader(cache_bytes=0)
    known.read_window(frame, box)
    path.write_bytes(content[:-5000])
    for reader in (known, FrameReader()):
        with pytest.raises(FrameRejected):
            reader.read_window(frame, box)
    fits.PrimaryHDU(pixels("i2", (40, 50))).writeto(path, overwrite=True)
    with pytest.raises(FrameRejected, match="changed since it was scanned"):
        FrameReader().read_window(frame, box)
    path.unlink()
    for reader in (known, FrameReader()):
        with pytest.raises(FrameRejected, match="the file is gone"):
            reader.read_window(frame, box)


def test_a_damaged_gzip_stream_is_noticed_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.fits.gz"
    fits.PrimaryHDU(pixels("i2", (200, 300))).writeto(tmp_path / "a.fits")
    content = bytearray(gzip.compress((tmp_path / "a.fits").read_bytes(), 0))
    content[-2000] ^= 255
    path.write_bytes(content)
    (frame,) = frames_of(path)
    with pytest.raises(FrameRejected, match="cannot be read"):
        FrameReader().read_window(frame, Box(0, 10, 0, 10))


@pytest.mark.parametrize("box", [Box(0, 0, 0, 5), Box(-1, 5, 0, 5), Box(0, H + 1, 0, 5), Box(0, 5, 50, W + 1)])
def test_windows_must_lie_inside(tmp_path: Path, box: Box) -> None:
    fits.PrimaryHDU(pixels("f4")).writeto(tmp_path / "a.fits")
    (frame,) = frames_of(tmp_path)
    source = ArraySource()
    for reader, image in ((FrameReader(), frame), (source, source.add(pixels("f4")))):
        with pytest.raises(ValueError, match="is not inside a frame"):
            reader.read_window(image, box)


# --- cache and threads ---------------------------------------------------------------------------


def test_many_threads_get_the_same_pixels_and_decode_once(tmp_path: Path) -> None:
    truth = {}
    for i in range(6):
        path = tmp_path / f"{i}.fits"
        truth[str(path)] = pixels("u2", seed=i)
        fits.PrimaryHDU(truth[str(path)]).writeto(path)
        if i % 2:
            path.write_bytes(gzip.compress(path.read_bytes()))
    frames = frames_of(tmp_path)
    reader = FrameReader()
    barrier = threading.Barrier(4)
    wrong: list[str] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        barrier.wait()
        for _ in range(60):
            frame = frames[rng.integers(len(frames))]
            data, _ = reader.read_window(frame, box := WINDOWS[rng.integers(len(WINDOWS))])
            if not np.array_equal(data[0], truth[frame.storage.path][box.slices]):
                wrong.append(frame.storage.path)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert reader.n_decodes == 3


def test_the_cache_keeps_to_its_size(tmp_path: Path) -> None:
    for i in range(4):
        path = tmp_path / f"{i}.fits.gz"
        fits.PrimaryHDU(pixels("i2", seed=i)).writeto(path)
    frames = frames_of(tmp_path)
    roomy, tight = FrameReader(cache_bytes=4 * H * W * 2), FrameReader(cache_bytes=2 * H * W * 2)
    for reader, expected in ((roomy, 4), (tight, 8)):
        for _ in range(2):
            for frame in frames:
                reader.read_window(frame, WINDOWS[1])
        assert reader.n_decodes == expected
    for _ in range(3):
        tight.read_window(frames[-1], WINDOWS[2])  # the last one used is still there
    assert tight.n_decodes == 8


def test_the_cache_tells_its_room_and_that_plain_files_need_none(tmp_path: Path) -> None:
    fits.PrimaryHDU(pixels("i2")).writeto(tmp_path / "plain.fits")
    fits.PrimaryHDU(pixels("i2", seed=1)).writeto(tmp_path / "z.fits.gz")
    plain, packed = sorted(frames_of(tmp_path), key=lambda frame: frame.storage.path)
    reader = FrameReader(cache_bytes=3 * H * W * 2)
    assert reader.room_bytes() == 3 * H * W * 2  # nothing is known yet
    reader.read_window(plain, WINDOWS[1])
    assert reader.room_bytes() == 0
    reader.read_window(packed, WINDOWS[1])
    assert reader.room_bytes() == 2 * H * W * 2


# --- arrays --------------------------------------------------------------------------------------


def test_arrays_behave_like_files(tmp_path: Path) -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---SIN", "DEC--SIN"], [10, 20], [-1e-3, 1e-3]
    data = pixels("f4", (H, W, 3))
    data[3, 4, 1] = np.nan
    weight = np.ones((H, W))
    weight[5, 6] = -1
    before = data.tobytes()
    source = ArraySource()
    header = fits.Header({"FILTER": "R", "EXPTIME": 5.0, "CTYPE1": "RA---TAN", "CRVAL1": 3.0})
    frame = source.add(data, wcs, weight, header)
    assert (frame.storage.path, frame.storage.layout) == ("memory:0", "hwc")
    assert (frame.shape, frame.decided.filter) == ((H, W), "R")
    np.testing.assert_allclose(frame_wcs(frame).pixel_to_sky(3.0, 4.0), wcs.all_pix2world(3.0, 4.0, 0), atol=1e-12)
    truth = np.moveaxis(data, -1, 0).astype(float)
    truth[:, 5, 6] = np.nan
    for box in WINDOWS:
        read, w = source.read_window(frame, box)
        seen = np.isfinite(truth[:, *box.slices])
        np.testing.assert_array_equal(w, seen)
        np.testing.assert_array_equal(read, np.where(seen, truth[:, *box.slices], 0).astype("f4"))
    assert data.tobytes() == before
    assert source.add(data[::-1]).id != frame.id
    with pytest.raises(FrameRejected, match="given before"):
        source.add(data, wcs, weight, header)
    with pytest.raises(FrameRejected, match=r"the weight has shape \(3, 3\)"):
        source.add(data, weight=np.ones((3, 3)))
    with pytest.raises(FrameRejected, match="must hold numbers"):
        source.add(data > 0)


def test_real_frames_match_astropy(shared_dir: Path) -> None:
    data = shared_dir / "data"
    reader = FrameReader()
    for folder, pattern in (
        ("seestar_m94", "*20250327-014513*"),
        ("twomass_m42_j", "*001126n-j1020009*"),
        ("saao_kb13475", "*i0043*"),
        ("decam_tpv_stamps", "*18b*"),
    ):
        (frame,) = frames_of(data / folder, include=pattern, exclude="*.wcs.fits")
        truth = fits.getdata(frame.storage.path, frame.storage.hdu).astype(float)
        read, weight = reader.read_window(frame, Box.of_shape(frame.shape))
        seen = np.isfinite(truth)
        np.testing.assert_array_equal(weight[0], seen)
        np.testing.assert_array_equal(read[0][seen], truth[seen].astype("f4"))


def test_bits_of_floats_come_out_as_they_went_in():
    values = np.array([[0.0, -0.0, 1e-45, -3.4e38, np.pi], [np.nan, np.inf, -np.inf, -np.nan, 1.0]], np.float32)
    data, weight = np.empty_like(values), np.empty_like(values)
    unpack_floats(values.astype(">f4").view(np.uint32), data.view(np.uint32), weight)
    np.testing.assert_array_equal(weight, np.isfinite(values))
    np.testing.assert_array_equal(data.view(np.uint32), np.where(np.isfinite(values), values, 0).view(np.uint32))


@pytest.mark.parametrize("zero", [0, 32768])
def test_short_numbers_come_out_as_they_went_in(zero):
    """All 65,536 of them."""
    values = np.arange(-32768, 32768).astype(np.int16).reshape(256, 256)
    data, weight = np.empty(values.shape, np.float32), np.empty(values.shape, np.float32)
    unpack_shorts(values.astype(">i2").view(np.uint16), np.float32(zero), data, weight)
    assert np.array_equal(data, values.astype(np.float32) + zero)
    assert np.all(weight == 1)
