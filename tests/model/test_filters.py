"""Which names of filters are one filter."""

from __future__ import annotations

import pytest

from zemosaic.model.filters import agree_on_names, filter_key, tell_doubtful_names


@pytest.mark.parametrize(
    "spellings",
    [
        ("Ha", "H-alpha", "h_alpha", "HA", "Hα", "H alpha"),
        ("OIII", "[O III]", "O3", "oiii"),
        ("Luminance", "LUMINANCE"),
    ],
)
def test_spellings_share_a_key(spellings: tuple[str, ...]) -> None:
    assert len({filter_key(name) for name in spellings}) == 1


@pytest.mark.parametrize(("one", "other"), [("r", "R"), ("g'", "G"), ("Ha", "Hb"), ("F435W", "F814W"), ("", "L")])
def test_different_filters_have_different_keys(one: str, other: str) -> None:
    assert filter_key(one) != filter_key(other)


def test_the_commonest_spelling_names_a_filter_unless_a_name_is_given() -> None:
    names = ["H-alpha", "Ha", "Ha", "R", "Red", "h_alpha"]
    assert agree_on_names(names, {}) == {"H-alpha": "Ha", "Ha": "Ha", "h_alpha": "Ha", "R": "R", "Red": "Red"}
    assert agree_on_names(names, {"Red": "R", "ha": "H"}) == {
        "H-alpha": "H", "Ha": "H", "h_alpha": "H", "R": "R", "Red": "R",
    }  # fmt: skip


def test_names_that_may_be_one_are_told() -> None:
    assert tell_doubtful_names(["R", "Red", "Ha", "V", "R"]) == [("R", "Red")]
    assert tell_doubtful_names(["R", "G", "B", "L"]) == []
