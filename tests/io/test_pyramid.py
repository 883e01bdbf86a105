"""Tiles of a picture: every level holds the whole of it, whatever the strips were that brought it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from zemosaic.io.write.pyramid import TILE_PX, TilePyramid

U1 = npt.NDArray[np.uint8]


def read_level(folder: Path, level: int) -> U1:
    """A level put together again."""
    found = {tuple(map(int, path.stem.split("_"))): path for path in (folder / str(level)).iterdir()}
    columns, rows = (1 + max(at[k] for at in found) for k in (0, 1))
    assert len(found) == columns * rows
    strips = [[np.asarray(Image.open(found[column, row])) for column in range(columns)] for row in range(rows)]
    return np.concatenate([np.concatenate(strip, axis=1) for strip in strips])


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("strip", [512, 333])
def test_levels_hold_the_picture(tmp_path: Path, n_channels: int, strip: int) -> None:
    height, width = 1301, 767
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([y * 255 / height, x * 255 / width, (x + y) * 255 / (height + width)], axis=-1)
    picture = np.rint(smooth).astype(np.uint8)[..., :n_channels].squeeze()
    pyramid = TilePyramid(tmp_path, (height, width))
    for y0 in range(0, height, strip):
        pyramid.add(picture[y0 : y0 + strip])
    pyramid.finish()
    assert (pyramid.top, pyramid.bottom) == (11, 9)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [9, 10, 11]
    for level in (9, 10, 11):
        step = 2 ** (11 - level)
        shown = read_level(tmp_path, level).astype(float)
        assert shown.shape[:2] == (-(-height // step), -(-width // step))
        wanted = picture[step // 2 :: step, step // 2 :: step].astype(float)
        inner = shown[: len(wanted), : wanted.shape[1]]
        assert np.abs(inner - wanted).max() < 6
        assert np.abs((inner - wanted).mean()) < 0.6


def test_a_picture_of_one_tile_has_one_level(tmp_path: Path) -> None:
    pyramid = TilePyramid(tmp_path, (3, TILE_PX))
    pyramid.add(np.zeros((3, TILE_PX), np.uint8))
    pyramid.finish()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg")] == ["9/0_0.jpg"]
