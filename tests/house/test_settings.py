"""Settings: typed, bounded, and helpful when wrong."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tomli_w

from zemosaic.errors import SettingError
from zemosaic.settings import (
    BoxCrop,
    CoverageCrop,
    GridSettings,
    GroupKey,
    Settings,
    Size,
    SkyPosition,
    StackSettings,
    TileSettings,
    list_keys,
    load_settings,
    make_settings,
    write_page,
)
from zemosaic.stages.grid.plan import make_wcs, plan_grid

PAGE = Path(__file__).parents[2] / "docs/reference/settings.md"
PROSE = Path(inspect.getfile(list_keys)).with_name("prose-fr.json")


def test_there_are_few_enough_keys_and_each_has_prose() -> None:
    keys = [key for _, keys in list_keys().values() for key in keys]
    assert sum(not key.expert for key in keys) <= 60
    assert all(key.prose.endswith((".", "?")) for key in keys)


def test_french_says_all_that_english_says() -> None:
    english, french = list_keys(), list_keys("fr")
    told = json.loads(PROSE.read_text(encoding="utf-8"))
    wanted = set(english) | {f"{key.stage}.{key.name}" for _, keys in english.values() for key in keys}
    assert {name for name in told if not name.startswith("allowed.")} == wanted
    for stage, (about, keys) in french.items():
        assert about == told[stage]
        for key, other in zip(keys, english[stage][1], strict=True):
            assert key.prose.endswith((".", "?"))
            assert (key.default, key.expert) == (other.default, other.expert)
            explained = {value for value in re.findall(r"[\w-]+", other.allowed) if f"{value}: " in other.prose}
            assert {value for value in explained if f"{value} : " not in key.prose} == set()
    allowed = {key.name: key.allowed for key in french["warp"][1]}
    assert allowed["pixfrac"] == "nombre plus de 0 jusqu’à 1"
    assert allowed["kernel"] == {key.name: key.allowed for key in english["warp"][1]}["kernel"]


def test_the_page_of_the_documents_is_that_of_the_models() -> None:
    """Else: python scripts/write_reference.py."""
    assert PAGE.read_text(encoding="utf-8") == write_page()


def test_the_page_tells_values_bounds_and_defaults() -> None:
    page = write_page()
    assert (
        "| `warp.pixfrac` | number above 0 to 1 | `0.8` | Drizzle: side of a drop over the side of a pixel. |" in page
    )
    assert '| `output.planes` | all, weight, data | `"all"` |' in page
    assert "| `tiles.trim_px` | whole number from 0 | `0` | *Expert.* Cut this many" in page
    assert '| `grid.rotation` | text | `"north"` |' in page


@pytest.mark.parametrize(
    ("stage", "key", "text", "value"),
    [
        ("grid", "center", "83.6,22", SkyPosition(83.6, 22.0)),
        ("grid", "center", "", None),
        ("grid", "size_px", "4000,3000", Size(4000, 3000)),
        ("grid", "rotation", "north", 0.0),
        ("grid", "rotation", "min-area", "min-area"),
        ("grid", "rotation", "-12.5", -12.5),
        ("grid", "crop", "none", None),
        ("grid", "crop", "coverage:0.5", CoverageCrop(0.5)),
        ("grid", "crop", "1,2,30,40", BoxCrop(1, 2, 30, 40)),
        ("tiles", "group", " 0.4, night ,angle", GroupKey(0.4, frozenset({"night", "angle"}))),
        ("tiles", "group", "2", GroupKey(2.0)),
    ],
)
def test_text_with_a_grammar_becomes_a_value(stage: str, key: str, text: str, value: object, tmp_path: Path) -> None:
    settings = load_settings(assignments=[f"{stage}.{key}={text}"])
    assert getattr(getattr(settings, stage), key) == value
    assert make_settings({stage: {key: value}}) == settings
    path = tmp_path / "settings.toml"
    path.write_text(tomli_w.dumps(settings.model_dump()), encoding="utf-8")
    assert load_settings(path) == settings


def test_values_are_written_to_the_last_digit() -> None:
    for radius in (1 / 3, 0.1 + 0.2):
        settings = Settings(tiles=TileSettings(group=GroupKey(radius)))
        assert make_settings(settings.model_dump()).tiles.group.radius == radius


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grid.center=ten", "grid.center = 'ten' is not RA,DEC in degrees"),
        ("grid.center=22,95", "grid.center = '22,95': there is no such place; RA,DEC in degrees, Dec from -90 to 90"),
        ("grid.size_px=4000", "grid.size_px = 4000 is not WIDTH,HEIGHT"),
        ("grid.size_px=0,10", "is an empty grid of 0 x 10"),
        ("grid.rotation=up", "is neither north"),
        ("grid.rotation=nan", "is neither north"),
        ("grid.crop=5,5,5,5", "leaves no pixel"),
        ("grid.crop=5,5,5", "is not none, coverage:FRACTION or X0,Y0,X1,Y1"),
        ("grid.crop=half", "is not none, coverage:FRACTION or X0,Y0,X1,Y1"),
        ("grid.crop=coverage:30", "between 0 and 1"),
        ("grid.projection=XYZ", "'TAN'"),
        *(
            (f"tiles.group={text}", "night, filter, mount, angle")
            for text in ("", "big", "0", "0.5,nights", "-1", "1,")
        ),
    ],
)
def test_text_that_cannot_be_read_is_told_when_settings_are_made(text: str, words: str) -> None:
    with pytest.raises(SettingError) as told:
        load_settings(assignments=[text])
    assert words in str(told.value)


@pytest.mark.parametrize("code", get_args(GridSettings.model_fields["projection"].annotation))
def test_each_projection_makes_a_grid(code: str) -> None:
    grid = plan_grid([make_wcs((200.0, 15.0), 10.0, (40, 50))], GridSettings(projection=code))
    assert np.isfinite(grid.wcs.sky_to_pixel(200.0, 15.0)).all()


def test_written_settings_read_the_same(tmp_path: Path) -> None:
    settings = load_settings(assignments=["stack.method=median", "grid.scale_arcsec=2.5", "output.preview=false"])
    path = tmp_path / "settings.toml"
    path.write_text(tomli_w.dumps(settings.model_dump()), encoding="utf-8")
    assert load_settings(path) == settings
    assert settings.stack.method == "median"
    assert settings.grid.scale_arcsec == 2.5
    assert settings.output.preview is False


def test_later_words_win(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("[stack]\nmethod = 'mean'\nkappa_low = 4.0\n", encoding="utf-8")
    settings = load_settings(path, ["stack.method=median"], {"grid": {"projection": "SIN"}})
    assert (settings.stack.method, settings.stack.kappa_low, settings.grid.projection) == ("median", 4.0, "SIN")


def test_paths_mean_the_same_wherever_settings_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(
        grid={"header": "grid.hdr"},  # type: ignore[arg-type]
        calibrate={"darks": "none", "flats": "sub/flats"},  # type: ignore[arg-type]
    )
    assert settings.grid.header == str(tmp_path / "grid.hdr")
    assert (settings.calibrate.darks, settings.calibrate.flats) == ("none", str(tmp_path / "sub/flats"))
    assert settings.calibrate.biases == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stack.methd=mean", "did you mean 'method'"),
        ("stak.method=mean", "did you mean 'stack'"),
        ("stack.method=average", "stack.method"),
        ("stack.kappa_low=-1", "greater than 0"),
        ("stack.kappa_low", "stage.key=value"),
        ("method=mean", "stage.key=value"),
    ],
)
def test_mistakes_are_answered_with_a_way_out(text: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        load_settings(assignments=[text])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Settings(stack={"methud": "median"}), "unknown key in stage 'stack' 'methud'; did you mean 'method'"),
        (lambda: Settings(stak={}), "unknown settings stage 'stak'; did you mean 'stack'"),
        (lambda: Settings(stack=3), "'stack' must be a table of keys, got 3"),
        (lambda: StackSettings(kappa_lo=3), "did you mean 'kappa_low'"),
        (lambda: StackSettings(kappa_low=-1), "stack.kappa_low = -1: input should be greater than 0"),
        (lambda: GridSettings(center="M31"), "grid.center = 'M31' is not RA,DEC"),
        (lambda: TileSettings(two_pass=True, blend="pyramid"), "tiles.two_pass = True: it makes the mosaic anew"),
        (lambda: TileSettings(altaz_nanize_threshold=0), "threshold = 0 is below altaz_alpha_soft_threshold = 0.001"),
        (lambda: make_settings({"stack": 3}), "'stack' must be a table of keys, got 3"),
        (lambda: make_settings({"stack": {"methud": 1}}), "did you mean 'method'"),
        (lambda: make_settings("stack.method=median"), "not of type str"),
    ],
)
def test_a_slip_in_python_is_the_same_error(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(SettingError) as told:
        make()
    assert words in str(told.value)


def test_unreadable_files_are_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[stack\n", encoding="utf-8")
    with pytest.raises(SettingError, match="not valid TOML"):
        load_settings(bad)
    with pytest.raises(SettingError, match="cannot read"):
        load_settings(tmp_path / "none.toml")
