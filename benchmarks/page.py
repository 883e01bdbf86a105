"""Pages of figures: how a script writes its section of a page in ``docs/measured/``.

A page is a head, written by hand and without figures, and sections, each written by the script that measured it. A
section lies between two marks; the first names the script and the digest of what stands between, so that a figure that
was changed by hand is noticed (``tests/house/test_docs.py``).

``--page FILE`` means the same in every script: what it prints is also written there, under its title, with date,
commit, machine and command. The section is replaced when it is there and appended when it is not; those of other
scripts stay.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO, TextIOBase
from pathlib import Path

from machine import machine_facts

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs/measured"

_SECTION = re.compile(r"<!-- written by (benchmarks/\w+\.py), (\w+) -->\n(.*?)\n<!-- end -->\n", re.DOTALL)

_WAITING = re.compile(r"\n+Not measured yet: `python benchmarks/[^\n]+")
"""What a page says until a script has written to it."""


def digest_of(body: str) -> str:
    """What a change by hand changes."""
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def sections_of(text: str) -> list[tuple[str, str, str]]:
    """``(script, digest, body)`` of a page's sections."""
    return _SECTION.findall(text)


def head_of(text: str) -> str:
    """What of a page no script wrote."""
    return _SECTION.sub("", text)


def add_page_option(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """The option ``--page``; `default` is the name of a page in ``docs/measured/``."""
    page = MEASURED / default if default else None
    parser.add_argument("--page", type=Path, metavar="FILE", default=page, help="page to write the figures into")


def say_command() -> str:
    """The command that runs; of places elsewhere the last part alone, also after ``NAME=``."""
    words = []
    for word in sys.argv[1:]:
        before, sign, end = word.rpartition("=")
        path = Path(end)
        if path.is_absolute():
            end = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
        words.append(before + sign + end)
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def list_facts(facts: dict[str, object]) -> str:
    """Facts of the machine as the lines that head a section; versions on one line."""
    own = ("date", "commit", "processor", "cores usable", "memory", "load before", "system")
    versions = ", ".join(f"{name} {value}" for name, value in facts.items() if name not in own)
    lines = [f"- {name}: {facts[name]}" for name in own if name in facts]
    return "\n".join([*lines, *([f"- versions: {versions}"] if versions else [])])


def write_section(page: Path, script: str, title: str, parts: Sequence[str]) -> None:
    """Put a section under its title, made of paragraphs; others stay.

    Parameters
    ----------
    page : Path
        Made when it is not there.
    script : str
        The ``__file__`` of the script.
    title : str
    parts : sequence of str
        Markdown; blank ones are left out.
    """
    body = "\n\n".join([f"## {title}", *(part.strip() for part in parts if part.strip())])
    own = f"<!-- written by benchmarks/{Path(script).name}, {digest_of(body)} -->\n{body}\n<!-- end -->\n"
    text = page.read_text(encoding="utf-8") if page.exists() else f"# {page.stem.replace('-', ' ').capitalize()}\n"
    text = _WAITING.sub("", text)
    for found in _SECTION.finditer(text):
        if found[3].startswith(f"## {title}\n"):
            page.write_text(text.replace(found[0], own), encoding="utf-8")
            return
    page.write_text(f"{text.rstrip()}\n\n{own}", encoding="utf-8")


class _Both(TextIOBase):
    """Writes to two streams."""

    def __init__(self, first: TextIOBase, second: TextIOBase) -> None:
        self._streams = first, second

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
            stream.flush()
        return len(text)


@contextmanager
def page_section(
    page: Path | None, script: str, title: str, about: str = "", *, is_table: bool = True
) -> Iterator[None]:
    """What is printed within also becomes a section of a page, once all is measured; without a page nothing else is.

    `about` is the prose before the figures; what is no Markdown table stays as it is printed (`is_table` false).
    """
    if page is None:
        yield
        return
    facts, kept = machine_facts(), StringIO()
    if str(facts["commit"]).endswith("-dirty"):
        raise SystemExit("commit what was changed first: figures of a page name the commit that they were measured on")
    with redirect_stdout(_Both(sys.stdout, kept)):  # type: ignore[type-var]
        yield
    said = kept.getvalue().rstrip()
    figures = said if is_table else f"```text\n{said}\n```"
    head = f"{list_facts(facts)}\n- written: by `{say_command()}`"
    write_section(page, script, title, [textwrap.fill(" ".join(about.split()), 120), head, figures])
