"""The documents: what they name is there, and the guide can be read at once."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

import zemosaic
from zemosaic.cli.app import app
from zemosaic.cli.describe import write_page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from page import digest_of, head_of, sections_of, write_section  # noqa: E402

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
READ_AT_ONCE = sorted([*(ROOT / "docs/guide").glob("*.md"), *(ROOT / "docs/method").glob("*.md")])
LONGEST_SENTENCE_WORDS = 35

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors_of(page: Path) -> set[str]:
    """Headings as links name them: in small letters, words tied by hyphens."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def missing_targets(page: Path) -> list[str]:
    missing = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            missing.append(link)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert missing_targets(page) == []


def test_a_link_to_nowhere_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One head\n[a](page.md#one-head) [b](other.md) [c](#two)\n")
    assert missing_targets(page) == ["other.md", "#two"]


def test_the_page_of_commands_is_that_of_the_program() -> None:
    """Else: python scripts/write_reference.py."""
    assert (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8") == write_page()


def test_every_public_name_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"auto\w+:: ([\w.]+)", page))
    assert named == (set(zemosaic.__all__) - {"events"}) | {"zemosaic.engine.events"}


@cache
def options_of_commands() -> dict[str, set[str]]:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    inner = {name: list(getattr(command, "commands", {}).values()) or [command] for name, command in commands.items()}
    asked = {name: {word for one in many for p in one.params for word in p.opts} for name, many in inner.items()}
    return {name: words | {"-h", "--help"} for name, words in asked.items()}


def slips_in_commands(text: str) -> list[str]:
    """Commands of ZeMosaic in code, whose name or one of whose options does not exist."""
    slips = []
    code = _FENCE.findall(text) + re.findall(r"`(zemosaic [^`\n]+)`", text)
    for line in re.split(r"\n|&&", "\n".join(code)):
        found = re.match(r"^(?:\w+=\S+ )*zemosaic (?!--)(.+)$", line.strip())
        if not found:
            continue
        command, *words = shlex.split(found[1], comments=True) or [""]
        known = options_of_commands().get(command)
        options = [word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
        if known is None or not known.issuperset(options):
            slips.append(line.strip())
    return slips


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_that_documents_name_exist(page: Path) -> None:
    assert slips_in_commands(page.read_text(encoding="utf-8")) == []


def test_a_slip_in_a_command_is_noticed() -> None:
    text = "```\nzemosaic build a -o b --mode grid\nzemosaic built a\n```\nor `zemosaic scan a --deep`"
    assert slips_in_commands(text) == ["zemosaic built a", "zemosaic scan a --deep"]


def long_sentences(text: str) -> list[str]:
    """Sentences of prose above the longest that can be read at once; tables and code are none."""
    prose = re.sub(r"^(\||#|!\[).*$", "", _FENCE.sub("", text), flags=re.MULTILINE)
    prose = re.sub(r"^ *([-*]|\d+\.) ", "\n\n", prose, flags=re.MULTILINE)
    sentences = [s for block in re.split(r"\n\s*\n", prose) for s in re.split(r"(?<=[.?!])\s+", block)]
    return [s for s in sentences if len(s.split()) > LONGEST_SENTENCE_WORDS]


@pytest.mark.parametrize("page", READ_AT_ONCE, ids=name_of)
def test_sentences_can_be_read_at_once(page: Path) -> None:
    assert long_sentences(page.read_text(encoding="utf-8")) == []


def test_a_long_sentence_is_noticed() -> None:
    assert len(long_sentences("Short. " + "word " * 36 + ".\n\n| " + "cell " * 40)) == 1


MEASURED = sorted((ROOT / "docs/measured").glob("*.md"))
TIMELESS = [page for page in PAGES if "measured" not in page.parts]

_HISTORY = re.compile(
    r"\b(before (this|that|the) rule|until the rule|no longer|used to be|as it was before|tried before|at first: "
    r"|earlier (version|sitting|measurement)|in former times|(was|has been) changed|since then)\b",
    re.IGNORECASE,
)
"""What a page tells of itself as it was: that is for the changelog, and for pages of figures."""


def history_in(text: str) -> list[str]:
    return [found[0] for found in _HISTORY.finditer(_FENCE.sub("", text))]


@pytest.mark.parametrize("page", TIMELESS, ids=name_of)
def test_pages_tell_what_is_not_what_was(page: Path) -> None:
    assert history_in(page.read_text(encoding="utf-8")) == []


def figures_in(text: str) -> list[str]:
    """Rows of tables with three cells or more that hold nothing but a number, as only a measurement makes them."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    number = re.compile(r"\s*\**-?\d[\d.,]*( ?%| s)?\**\s*")
    return [row for row in rows if sum(bool(number.fullmatch(cell)) for cell in row.split("|")) >= 3]


@pytest.mark.parametrize("page", [page for page in TIMELESS if page.name != "README.md"], ids=name_of)
def test_tables_of_figures_lie_with_what_was_measured(page: Path) -> None:
    assert figures_in(page.read_text(encoding="utf-8")) == []


_COST = re.compile(
    r"\b\d[\d.,]* ?(?:s|ms|seconds?|minutes?|GiB|MiB|Mpix/s|frames/s|tiles/s)(?=[\s.,;:)]|$)"
    r"|\b\d[\d.,]* times (?:as fast|faster|slower|as long)"
    r"|\d %(?= (?:more|faster|slower|less time|of (?:the|its)(?: [\w']+)? time))"
    r"|\d[^.|]* before, [^.|]*\d[^.|]* (?:after|now)\b"
)
"""What something takes, and how it was before and after: nobody knows that but by measuring."""


def costs_in(text: str) -> list[str]:
    """Times, speeds, memory, and pairs of figures before and after, in prose."""
    return [found[0] for found in _COST.finditer(_FENCE.sub("", text))]


@pytest.mark.parametrize("page", TIMELESS, ids=name_of)
def test_no_page_says_what_something_takes(page: Path) -> None:
    """Pages of figures do, which scripts write; others lead there."""
    assert costs_in(head_of(page.read_text(encoding="utf-8"))) == []


def test_costs_in_prose_are_noticed() -> None:
    text = "It takes 14 s. That is 30 % faster. -551 ADU before, -105 after. `--ram 4G` and 3 stars do not."
    assert costs_in(text) == ["14 s", "0 %", "551 ADU before, -105 after"]


WRITTEN = [page for page in MEASURED if page.name != "index.md"]


def slips_of_figures(text: str) -> list[str]:
    """What in a page of figures is not as the script wrote it that the page names, and figures that no script wrote."""
    slips = [f"{script} is not there" for script, *_ in sections_of(text) if not (ROOT / script).is_file()]
    for script, digest, body in sections_of(text):
        title = body.splitlines()[0]
        if digest_of(body) != digest:
            slips.append(f"{title}: changed by hand")
        if script in SCRIPTS and "write_section(" not in SCRIPTS[script] and "page_section(" not in SCRIPTS[script]:
            slips.append(f"{title}: {script} writes no page")
    return slips


SCRIPTS = {f"benchmarks/{path.name}": path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").glob("*.py")}


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_figures_are_those_that_a_script_wrote(page: Path) -> None:
    """Else: run the script that the page names; its command stands in the section, or in the page that waits for it."""
    text = page.read_text(encoding="utf-8")
    assert slips_of_figures(text) == []
    assert sections_of(text) or re.search(r"^Not measured yet: `python benchmarks/\w+\.py .+`\.$", text, re.MULTILINE)


def test_the_table_of_the_readme_is_that_of_the_measured_page() -> None:
    readme, measured = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/measured/benchmarks.md")
    )
    assert slips_of_figures(readme) == []
    rows = [line for _, _, body in sections_of(readme) for line in body.splitlines() if line.startswith("|")]
    assert len(rows) > 5, "python benchmarks/peers.py writes it"
    assert [row for row in rows if row not in measured.splitlines()] == []
    # Heads are words, no names of a script.
    assert re.findall(r"\w+_\w+", rows[0]) == []
    assert figures_in(head_of(readme)) == []


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_no_figure_stands_outside_of_what_a_script_wrote(page: Path) -> None:
    head = re.sub(r"\(\S+\)|`[^`]*`", "", head_of(page.read_text(encoding="utf-8")))
    assert re.findall(r"\d[\d.]*", head) == []


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_a_section_of_figures_says_where_they_come_from(page: Path) -> None:
    """The command, the day, the commit and the machine."""
    for _, _, body in sections_of(page.read_text(encoding="utf-8")):
        facts = ("date", "commit", "processor")
        assert [fact for fact in facts if not re.search(rf"^- {fact}: \S", body, re.MULTILINE)] == []
        assert re.search(r"`python benchmarks/\w+\.py", body)


def test_a_figure_that_was_changed_by_hand_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    write_section(page, "colour.py", "Ways", ["| a | 1 |"])
    write_section(page, "colour.py", "Other ways", ["| b | 1 |"])
    write_section(page, "colour.py", "Ways", ["| a | 2 |"])
    text = page.read_text(encoding="utf-8")
    assert slips_of_figures(text) == []
    assert text.index("## Ways") < text.index("## Other ways")
    assert slips_of_figures(text.replace("| a | 2 |", "| a | 3 |")) == ["## Ways: changed by hand"]


def test_history_and_figures_are_noticed() -> None:
    assert history_in("It was 3 before this rule.\n```\nno longer\n```\n") == ["before this rule"]
    assert figures_in("| a | 1 | 2.5 | **3 %** |\n| b | 1 | two | 3 px wide |\n") == ["| a | 1 | 2.5 | **3 %** |"]


def test_the_changelog_ends_at_this_version() -> None:
    """Its newest part is of the version in `pyproject.toml`, or fragments wait for that version."""
    newest = re.search(r"^## (\S+) \(", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    waiting = [path for path in (ROOT / "changes").glob("*.md") if path.name not in {"README.md", "template.md"}]
    assert waiting or (newest and newest[1] == version)


def test_names_of_fragments_have_a_place_in_the_changelog() -> None:
    kinds = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]["type"]
    known = "|".join(kind["directory"] for kind in kinds)
    names = [path.name for path in (ROOT / "changes").glob("*.md") if path.name not in {"README.md", "template.md"}]
    assert [name for name in names if not re.fullmatch(rf"[a-z0-9-]+\.({known})\.md", name)] == []
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert f"({known})" in workflow
