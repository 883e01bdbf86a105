"""Settings: typed, bounded, and helpful when wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w

from zemosaic.errors import SettingError
from zemosaic.settings import Settings, load_settings


def test_there_are_few_enough_keys_and_each_has_prose() -> None:
    fields = [f for stage in Settings.model_fields.values() for f in stage.annotation.model_fields.values()]  # type: ignore[union-attr]
    faced_by_users = [
        f for f in fields if not (isinstance(f.json_schema_extra, dict) and f.json_schema_extra.get("expert"))
    ]
    assert len(faced_by_users) <= 60
    assert all(field.description and field.description.endswith((".", "?")) for field in fields)


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


def test_unreadable_files_are_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[stack\n", encoding="utf-8")
    with pytest.raises(SettingError, match="not valid TOML"):
        load_settings(bad)
    with pytest.raises(SettingError, match="cannot read"):
        load_settings(tmp_path / "none.toml")
