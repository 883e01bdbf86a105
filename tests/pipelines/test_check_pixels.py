"""What headers say of pixels, held against the pixels: simulated raw frames with one wrong fact in their headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits

from zemosaic.engine.events import Event, Notice
from zemosaic.engine.store import Store
from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.io.read.frame_reader import FrameReader
from zemosaic.io.read.scan import scan
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame
from zemosaic.pipelines.frames.check_pixels import check_pixels
from zemosaic.pipelines.run.context import start_run
from zemosaic.settings import InputSettings
from zemosaic.simulate import RawRecipe, SimulatedSky, simulate_raws
from zemosaic.stages.measure.saturation import Top, look_at_top, shared_plateau

AnyArray = npt.NDArray[np.generic]
Lie = Callable[[fits.Header, AnyArray], AnyArray]
N = 6


@pytest.fixture(scope="module")
def raws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raws_to_doubt")
    known = tycho2().cone(83.8, 22.0, 1.0)
    sky = SimulatedSky(7, 83.8, 22.0, 0.6, (known.ra_deg, known.dec_deg, known.mag))
    simulate_raws(folder, sky, N, RawRecipe(shape=(400, 500), panels=(1, 1), cloud_fraction=0, soft_fraction=0))
    return folder


def checked(raws: Path, folder: Path, lie: Lie, setting: str = "auto") -> tuple[list[Frame], list[str]]:
    """The frames of a set whose headers or pixels are changed by `lie`, and the warnings about them."""
    folder.mkdir(exist_ok=True)
    for path in sorted(raws.glob("*.fit")):
        header, pixels = fits.getheader(path), fits.getdata(path)
        fits.writeto(folder / path.name, lie(header, pixels), header, overwrite=True)
    told: list[Event] = []
    run = start_run(sink=told.append)
    frames = scan([folder], InputSettings(bayer=setting)).frames
    done = check_pixels(frames, FrameReader(), InputSettings(bayer=setting), run)
    assert [frame.id for frame in done] == [frame.id for frame in frames]
    return done, [event.message for event in told if isinstance(event, Notice)]


def states(**cards: object) -> Lie:
    """A set whose headers state other values; None takes a card out."""

    def lie(header: fits.Header, pixels: AnyArray) -> AnyArray:
        for key, value in cards.items():
            if value is None:
                header.remove(key)
            else:
                header[key] = value
        return pixels

    return lie


def binned(header: fits.Header, pixels: AnyArray) -> AnyArray:
    """Four colours added to one pixel, the pattern left in the header."""
    header["XBINNING"] = header["YBINNING"] = 2
    h, w = pixels.shape
    return np.rint(pixels.reshape(h // 2, 2, w // 2, 2).mean(axis=(1, 3))).astype(np.uint16)


def test_frames_that_were_looked_at_are_not_read_again(raws: Path, tmp_path: Path) -> None:
    store, reads = Store(tmp_path), []

    class Watched(FrameReader):
        def read_window(self, frame: Frame, box: Box) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
            reads.append(frame.id)
            return super().read_window(frame, box)

    frames = scan([raws], InputSettings()).frames
    first = check_pixels(frames, Watched(), InputSettings(), start_run(store=store))
    assert len(reads) == N
    assert check_pixels(frames, Watched(), InputSettings(), start_run(store=store)) == first
    assert len(reads) == N
    check_pixels(frames, Watched(), InputSettings(bayer="RGGB"), start_run(store=store))
    assert len(reads) == 2 * N


def test_true_headers_are_believed_without_a_word(raws: Path, tmp_path: Path) -> None:
    frames, told = checked(raws, tmp_path, states())
    assert {(frame.storage.bayer, frame.storage.layout, frame.decided.saturation_adu) for frame in frames} == {
        ("GRBG", "bayer", 65520.0)
    }
    assert told == []


def test_a_pattern_left_over_on_binned_frames_is_dropped(raws: Path, tmp_path: Path) -> None:
    frames, told = checked(raws, tmp_path, binned)
    assert {(frame.storage.bayer, frame.storage.layout) for frame in frames} == {(None, "mono")}
    (message,) = told
    assert f"{N} frame(s) of Simulated smart telescope (Light_0000.fit) name the colour pattern GRBG, but" in message
    assert "read as mono" in message


def test_one_binned_frame_among_others(raws: Path, tmp_path: Path) -> None:
    def first(header: fits.Header, pixels: AnyArray) -> AnyArray:
        is_first = header["DATE-OBS"] == fits.getheader(raws / "Light_0000.fit")["DATE-OBS"]
        return binned(header, pixels) if is_first else pixels

    frames, (message,) = checked(raws, tmp_path, first)
    assert [frame.storage.bayer for frame in sorted(frames, key=lambda f: f.name)] == [None] + ["GRBG"] * (N - 1)
    assert message.startswith("1 frame(s) of Simulated smart telescope (Light_0000.fit) name the colour pattern GRBG")


def test_a_pattern_that_no_header_names_is_seen_and_red_against_blue_told_as_open(raws: Path, tmp_path: Path) -> None:
    frames, told = checked(raws, tmp_path, states(BAYERPAT=None))
    assert {(frame.storage.bayer, frame.storage.layout) for frame in frames} == {("GRBG", "bayer")}
    (message,) = told
    assert "name no colour pattern" in message
    assert message.endswith("if these are exchanged, set input.bayer = 'GBRG'")


def test_greens_in_the_wrong_place_are_put_right_as_if_turned_over(raws: Path, tmp_path: Path) -> None:
    def upside_down(header: fits.Header, pixels: AnyArray) -> AnyArray:
        return pixels[::-1]

    frames, told = checked(raws, tmp_path, upside_down)
    assert {frame.storage.bayer for frame in frames} == {"BGGR"}
    (message,) = told
    assert "name the colour pattern GRBG, but show greens at the second and third" in message


def test_what_is_set_by_hand_is_doubted_only(raws: Path, tmp_path: Path) -> None:
    frames, told = checked(raws, tmp_path, states(), setting="RGGB")
    assert {frame.storage.bayer for frame in frames} == {"RGGB"}
    (message,) = told
    assert message.startswith("input.bayer is RGGB, but ")
    frames, told = checked(raws, tmp_path, states(), setting="none")
    assert {frame.storage.bayer for frame in frames} == {None}
    assert told == []


@pytest.mark.parametrize("level", [1.0, 255.0, 900.0])
def test_a_saturation_level_below_the_sky_is_ignored_with_a_word(raws: Path, tmp_path: Path, level: float) -> None:
    frames, told = checked(raws, tmp_path, states(SATURATE=level))
    assert {frame.decided.saturation_adu for frame in frames} == {None}
    (message,) = told
    assert f"said to saturate at {level:g} (Light_0000.fit), which is below their sky" in message


def test_overexposed_frames_keep_their_level(raws: Path, tmp_path: Path) -> None:
    def overexpose(header: fits.Header, pixels: AnyArray) -> AnyArray:
        header["SATURATE"] = 1000.0
        return np.minimum(pixels, 1000)

    frames, told = checked(raws, tmp_path, overexpose)
    assert {frame.decided.saturation_adu for frame in frames} == {1000.0}
    assert told == []


@pytest.mark.parametrize("stated", ["RGGB", "BGGR", "GBRG", None])
def test_one_frame_that_names_another_pattern_than_the_others(raws: Path, tmp_path: Path, stated: str | None) -> None:
    def third(header: fits.Header, pixels: AnyArray) -> AnyArray:
        if header["DATE-OBS"] == fits.getheader(raws / "Light_0002.fit")["DATE-OBS"]:
            states(BAYERPAT=stated)(header, pixels)
        return pixels

    frames, told = checked(raws, tmp_path, third)
    assert {(frame.storage.bayer, frame.storage.layout) for frame in frames} == {("GRBG", "bayer")}
    (message,) = told
    assert f"1 of {N} frame(s) of Simulated smart telescope have the sky of the others only when read" in message
    assert f"(Light_0002.fit: {stated or 'none'}, read as GRBG)" in message


@pytest.mark.parametrize(("flip", "period"), [("top to bottom", 2), ("half a turn", 3)])
def test_frames_that_another_program_turned_over(raws: Path, tmp_path: Path, flip: str, period: int) -> None:
    """Some frames, their headers as they were: the rows, or rows and columns, which exchanges red and blue."""

    def some(header: fits.Header, pixels: AnyArray) -> AnyArray:
        number = int(header["DATE-OBS"][17:19]) // 11
        return pixels if number % period != 1 else pixels[::-1] if flip == "top to bottom" else pixels[::-1, ::-1]

    frames, (message,) = checked(raws, tmp_path, some)
    wrong = "BGGR" if flip == "top to bottom" else "GBRG"
    patterns = ["GRBG", wrong] if period == 2 else ["GRBG", wrong, "GRBG"]
    assert [frame.storage.bayer for frame in sorted(frames, key=lambda f: f.name)] == patterns * (N // period)
    assert f"{N // period} of {N} frame(s)" in message


def cut_at(level: int, *of: int) -> Lie:
    """Values of some of the frames, by their order, cut at a level, as a converter of fewer bits does."""
    count = iter(range(N))

    def lie(_: fits.Header, pixels: AnyArray) -> AnyArray:
        return np.minimum(pixels, level) if next(count) in of else pixels

    return lie


def test_a_level_that_pixels_show_and_no_header_states(raws: Path, tmp_path: Path) -> None:
    frames, told = checked(raws, tmp_path / "all", cut_at(4095, *range(N)))
    assert {frame.decided.saturation_adu for frame in frames} == {4095.0}
    assert len(told) == 1
    assert "6 frame(s) of " in told[0]
    assert "saturate at 4095" in told[0]
    frames, told = checked(raws, tmp_path / "some", cut_at(4095, 0, 1))
    assert {frame.decided.saturation_adu for frame in frames} == {65520.0}
    assert told == []


def test_the_highest_numbers_of_a_dark_sky_are_no_level() -> None:
    rng = np.random.default_rng(4)
    dark = np.minimum(np.rint(rng.normal(500, 4, 200_000)), 515).astype(np.float32)
    starry = dark.copy()
    starry[:9] = 4095
    in_sky, in_stars, none = (
        look_at_top(values[None], np.ones((1, len(values)), np.float32)) for values in (dark, starry, dark[:0])
    )
    assert in_sky == Top(515.0, is_pile=False)
    assert in_stars == Top(4095.0, is_pile=True)
    assert shared_plateau([in_stars, in_stars, in_sky]) == 4095
    assert shared_plateau([in_stars, in_sky, none]) == np.inf
    assert shared_plateau([in_stars, in_stars, Top(5000.0, is_pile=False)]) == np.inf
