"""Products of a finished folder: the same from a build and from `export`, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from zemosaic.cli import main
from zemosaic.pipelines.products import make
from zemosaic.pipelines.products.make import PRODUCTS
from zemosaic.settings import PRODUCT_NAMES, load_settings


def test_every_name_has_its_product() -> None:
    assert tuple(PRODUCTS) == PRODUCT_NAMES


def test_a_build_and_an_export_make_the_same_and_change_nothing_else(exported: Path) -> None:
    """The fixture compares; here it is run, whatever other tests are."""
    assert sorted(path.name for path in exported.glob("mosaic*")) == ["mosaic.fits", "mosaic.tif", "mosaic_edit.fits"]


def test_a_list_and_text_are_the_same_setting() -> None:
    for given in ("output.also=edit, edit", "output.also=['edit']"):
        assert load_settings(assignments=[given]).output.also == ("edit",)
    assert load_settings(assignments=["output.also="]).output.also == ()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--also", "jpeg"], 2, "output.also = 'jpeg': 'jpeg' is none of report, edit, tiff"),
        (["--also", "edit"], 3, "there is no finished mosaic in"),
    ],
)
def test_export_says_what_it_cannot_make(
    words: list[str], code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tmp_path), *words]) == code
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_product_that_fails_does_not_cost_the_mosaic(
    small_set: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: object, run: object) -> dict[str, Path]:
        raise RuntimeError("planted")

    monkeypatch.setattr(make, "PRODUCTS", {**PRODUCTS, "edit": fail})
    assert main(["build", str(small_set), "-o", str(tmp_path), "--set", "output.also=edit,tiff"]) == 0
    assert "product edit could not be made (RuntimeError: planted)" in " ".join(capfd.readouterr().err.split())
    assert (tmp_path / "mosaic.tif").exists()
    assert main(["export", str(tmp_path), "--also", "edit"]) == 5
    assert "planted" in capfd.readouterr().err
