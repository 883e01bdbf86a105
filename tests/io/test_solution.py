"""The table of gains and surfaces that match writes and coadd reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from frame_cases import make_frame
from zemosaic.errors import SettingError
from zemosaic.io.tables.solution import read_solution, write_solution
from zemosaic.model.frame import Frame
from zemosaic.model.photo_scale import N_TERMS, PhotoScale


def numbered_frame(k: int, n_channels: int = 1) -> Frame:
    layout = "mono" if n_channels == 1 else "chw"
    return make_frame(f"{k:032x}", f"/night/{k}.fits", (50, 60), layout=layout)


def make_scale(rng: np.random.Generator, n_channels: int, n_response: int, note: str = "") -> PhotoScale:
    return PhotoScale(
        gain=np.exp(rng.normal(size=n_channels)),
        surface=rng.normal(0, 100, (n_channels, N_TERMS)),
        response=rng.normal(0, 0.1, (n_channels, n_response)) if n_response else None,
        gain_error=np.where(rng.random(n_channels) < 0.3, np.inf, 0.01),
        level_error=rng.random(n_channels),
        component=int(rng.integers(5)),
        note=note,
    )


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 999),
    n_channels=st.sampled_from([1, 3]),
    n_response=st.sampled_from([0, 2, 5]),
    note=st.text("abc ;,'\"#", max_size=12).map(str.strip),
)
def test_what_is_written_is_read_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_channels: int, n_response: int, note: str
) -> None:
    rng = np.random.default_rng(seed)
    frames = [numbered_frame(k, n_channels) for k in range(3)]
    scales = [make_scale(rng, n_channels, n_response, note) for _ in frames]
    path = tmp_path_factory.mktemp("table") / "match.ecsv"
    write_solution(path, frames, scales)
    found = read_solution(path, frames[::-1])
    assert list(path.parent.iterdir()) == [path]
    for frame, scale in zip(frames, scales, strict=True):
        read = found[frame.id]
        for name in ("gain", "surface", "gain_error", "level_error"):
            assert np.array_equal(getattr(read, name), getattr(scale, name)), name
        if scale.response is None:
            assert read.response is None
        else:
            assert np.array_equal(read.response, scale.response)
        assert (read.component, read.note) == (scale.component, note)


def test_a_table_made_by_hand_finds_frames_by_name(tmp_path: Path) -> None:
    table = Table({"name": ["1.fits", "9.fits"], "channel": [0, 0], "gain": [2.0, 3.0], "b0": [7.0, 8.0]})
    table.write(tmp_path / "hand.ecsv", format="ascii.ecsv")
    found = read_solution(tmp_path / "hand.ecsv", [numbered_frame(0), numbered_frame(1)])
    assert list(found) == [numbered_frame(1).id]
    scale = found[numbered_frame(1).id]
    assert (scale.gain[0], scale.surface[0, 0], scale.response) == (2, 7, None)
    assert np.isinf(scale.gain_error[0])


def test_mono_and_colour_share_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [numbered_frame(0, 1), numbered_frame(1, 3)]
    scales = [make_scale(rng, 1, 0), make_scale(rng, 3, 2)]
    write_solution(tmp_path / "match.ecsv", frames, scales)
    found = read_solution(tmp_path / "match.ecsv", frames)
    assert [len(found[frame.id].gain) for frame in frames] == [1, 3]
    # A response of zero coefficients is a flat one.
    assert np.array_equal(found[frames[0].id].response, np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("gain", [0.0, 1.0], "1.fits makes no sense: gains must be finite and positive"),
        ("gain", [np.nan, 1.0], "gains must be finite and positive"),
        ("gain", ["much", "1"], "makes no sense"),
        ("b0", [np.inf, 0.0], "surface coefficients must be finite"),
        ("channel", [0, 1], "lacks"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path: Path, column: str, values: list[object], message: str) -> None:
    table = Table({"name": ["1.fits", "2.fits"], "channel": [0, 0], "gain": [1.0, 1.0], "b0": [0.0, 0.0]})
    table[column] = values
    if message == "lacks":
        table.remove_column("b0")
    table.write(tmp_path / "bad.ecsv", format="ascii.ecsv")
    with pytest.raises(SettingError, match=message):
        read_solution(tmp_path / "bad.ecsv", [numbered_frame(1), numbered_frame(2)])


def test_channels_must_fit(tmp_path: Path) -> None:
    write_solution(tmp_path / "m.ecsv", [numbered_frame(1)], [make_scale(np.random.default_rng(0), 1, 0)])
    with pytest.raises(SettingError, match=r"1 channel\(s\) for 1.fits, which has 3"):
        read_solution(tmp_path / "m.ecsv", [numbered_frame(1, 3)])


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="No such file"):
        read_solution(tmp_path / "absent.ecsv", [])
    (tmp_path / "text.ecsv").write_text("no table\n")
    with pytest.raises(SettingError, match="not an ECSV table"):
        read_solution(tmp_path / "text.ecsv", [])
