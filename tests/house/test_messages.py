"""Codes and sentences: every code that the source names has a sentence, and its fields are facts that are given."""

from __future__ import annotations

import ast
import errno
import json
import os
import pickle
import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import zemosaic
from zemosaic import errors
from zemosaic.text import LANGUAGES, Message, load_catalogue, message, message_from_json, say
from zemosaic.text.describe import SUBJECTS, write_page

SOURCE = Path(zemosaic.__file__).parent
ERRORS = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
TELLERS = ERRORS | {"message"}
"""What takes a code and facts."""


def fields_of(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """The calls that make a message or an error of a code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TELLERS:
            yield node


def codes_of(argument: ast.expr) -> list[str] | None:
    """The codes that an argument may be; [] for that of another message; None for what cannot be told."""
    if isinstance(argument, ast.IfExp):
        parts = [codes_of(part) for part in (argument.body, argument.orelse)]
        return None if None in parts else [code for part in parts for code in part or ()]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [argument.value]
    return [] if isinstance(argument, ast.Attribute) and argument.attr == "code" else None


def wrong_calls(text: str, where: str) -> list[str]:
    """Calls whose code is not told or has no sentence, or whose sentence has a field that is not given."""
    sentences, wrong = load_catalogue("en"), []
    for call in calls(ast.parse(text)):
        given = {keyword.arg for keyword in call.keywords}
        codes = codes_of(call.args[0])
        if codes is None:
            wrong.append(f"{where}:{call.lineno}: {ast.unparse(call.args[0])} is no code")
        for code in codes or ():
            needed = {name for key in (code, f"{code}.one") for name in fields_of(sentences.get(key, ""))}
            if code not in sentences or (needed - given and None not in given):
                wrong.append(f"{where}:{call.lineno}: {code} {sorted(needed - given)}")
    return wrong


def test_every_code_has_a_sentence_and_its_facts() -> None:
    found = {path: path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py"))}
    del found[SOURCE / "errors.py"]  # which hands on what it is given
    assert [line for path, text in found.items() for line in wrong_calls(text, path.name)] == []


def test_a_code_without_a_sentence_is_noticed() -> None:
    assert wrong_calls('raise FrameRejected("frame.no-such")', "m.py") == ["m.py:1: frame.no-such []"]
    assert wrong_calls('message("file.shrunk", size=3)', "m.py") == ["m.py:1: file.shrunk ['n_bytes']"]
    assert wrong_calls('NothingToDo(f"nothing in {path}")', "m.py") == ["m.py:1: f'nothing in {path}' is no code"]
    assert wrong_calls('FrameRejected("file.gone" if gone else "no.such")', "m.py") == ["m.py:1: no.such []"]


def test_no_sentence_is_without_use() -> None:
    texts: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        texts |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert [code for code in load_catalogue("en") if code.removesuffix(".one") not in texts] == []


def unlike(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Codes that only one of two catalogues has, or whose sentences have other fields."""
    shared = one.keys() & other.keys()
    return sorted(
        (one.keys() ^ other.keys()) | {code for code in shared if fields_of(one[code]) != fields_of(other[code])}
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_catalogues_tell_the_same_facts(language: str) -> None:
    assert unlike(load_catalogue("en"), load_catalogue(language)) == []


def test_a_code_without_french_is_noticed() -> None:
    french = load_catalogue("fr")
    assert unlike({**load_catalogue("en"), "frame.new": "new"}, french) == ["frame.new"]
    assert unlike({**load_catalogue("en"), "file.shrunk": "{n_bits}"}, french) == ["file.shrunk"]


def test_french_is_said_down_to_the_reason_of_a_reason() -> None:
    why = message("map.unusable", kind="weight", file="a.fits", problem=message("file.shrunk", n_bytes=3))
    assert say(why, "fr") == (
        "sa carte weight a.fits est inutilisable : le fichier est tombé à 3 octets depuis sa lecture"
    )


def test_french_numbers_have_a_comma_unless_they_are_typed_as_they_stand() -> None:
    soft = message("quality.soft", fwhm_px=4.25, ratio=2.614, limit=1.5)
    assert not re.search(r"\d\.\d", say(soft, "fr"))
    assert "2,61" in say(soft, "fr")
    assert "2.61" in say(soft, "en")
    # Places of the sky, values of settings and names of files.
    assert say(message("explain.outside", ra_deg=83.5, dec_deg=-5.25), "fr").startswith("RA 83.50000 Dec -5.25000")
    assert "tolerance = 0.5" in say(message("build.negative", tolerance=0.5, workers=2), "fr")
    assert "a.fits" in say(message("map.unusable", kind="weight", file="a.fits", problem="x"), "fr")


def test_the_page_of_the_documents_is_that_of_the_catalogue() -> None:
    """Else: python scripts/write_reference.py."""
    page = SOURCE.parents[1] / "docs/reference/messages.md"
    assert page.read_text(encoding="utf-8") == write_page()
    assert {code.partition(".")[0] for code in load_catalogue("en")} == SUBJECTS.keys()


def test_facts_are_plain_and_chained() -> None:
    inner = errors.FrameRejected("file.shrunk", n_bytes=np.int64(3))
    axes, path = np.array([4, 5]), Path("/a/b.fits")
    told = message("map.unusable", kind="weight", file=path, problem=inner, axes=axes, level=np.float32("nan"))
    reason = {"code": "file.shrunk", "facts": {"n_bytes": 3}}
    facts = {"kind": "weight", "file": "/a/b.fits", "problem": reason, "axes": [4, 5], "level": None}
    assert json.loads(json.dumps(told.as_json())) == {"code": "map.unusable", "facts": facts}
    assert str(told) == f"its weight map /a/b.fits cannot be used: {inner}"
    assert hash(told)
    # What others raise counts by its words, and what is raised with a message by that.
    assert message("file.unreadable", problem=OSError("no disk")).facts == {"problem": "no disk"}
    assert message("file.unreadable", problem=ValueError(inner.told)).facts == {"problem": inner.told}


def test_an_error_is_the_same_in_another_process() -> None:
    problem = errors.FrameRejected("header.no-exposure", card="EXPTIME", exposure_s=0.0)
    again = pickle.loads(pickle.dumps(problem))  # noqa: S301
    assert (str(again), again.told) == ("EXPTIME = 0 s: nothing was exposed", problem.told)


def test_sentences_are_one_line_and_never_fail() -> None:
    assert str(errors.Cancelled("no.such-code")) == "no.such-code"
    assert say(message("header.bad-card", card="NAXIS1", value="3\n\t4")) == "header is broken: NAXIS1 = 3 4"
    assert say(message("header.no-exposure", card="EXPTIME", exposure_s="none")).startswith("EXPTIME = none s")
    assert say(message("file.shrunk")) == "the file has shrunk to bytes since it was scanned"
    assert say(message("input.copies", n=2, some=["a", "b"], more=None)).endswith("count once: a; b")
    assert say(Message("header.no-picture", (("n", 1), ("size", "9")))).endswith("1 axis longer than 1 (9)")
    units = message("output.no-space", folder="f", file="m.fits", bytes_needed=2_500_000_000, bytes_free=0)
    assert say(units).startswith("not enough space in f: m.fits needs 2.50 GB, 0.00 GB are free; make")
    told = message("output.cannot-write", folder="f", problem=os.strerror(errno.ENOSPC))
    assert say(told) == "cannot write to f: No space left on device; choose another output folder"
    assert "plus de place sur le disque" in say(message_from_json(json.loads(json.dumps(told.as_json()))), "fr")
