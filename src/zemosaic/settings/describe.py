"""The keys of the settings as a list, and the page of the documents that is made from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zemosaic.settings.models import Settings

__all__ = ["Key", "list_keys", "write_page"]


@dataclass(frozen=True, slots=True)
class Key:
    """One setting.

    Attributes
    ----------
    stage, name : str
        It is set as ``stage.name``.
    prose : str
        What it does.
    default : str
        Its default value as TOML.
    allowed : str
        Its values: the words it may be, or its type with its bounds.
    expert : bool
        Whether hardly anyone needs it.
    """

    stage: str
    name: str
    prose: str
    default: str
    allowed: str
    expert: bool


def list_keys(language: str = "en") -> dict[str, tuple[str, list[Key]]]:
    """Of each stage, in the order of a run: what it is about, and its keys.

    Prose in other languages than English is that of ``prose-LANGUAGE.json``, by key, and by stage.
    """
    defaults = Settings().model_dump()
    told: dict[str, str] = {}
    if language != "en":
        told = json.loads(Path(__file__).with_name(f"prose-{language}.json").read_text(encoding="utf-8"))
    stages: dict[str, tuple[str, list[Key]]] = {}
    for stage, field in Settings.model_fields.items():
        schema: dict[str, Any] = field.annotation.model_json_schema()  # type: ignore[union-attr]
        keys = [
            Key(stage, name, told.get(f"{stage}.{name}", facts["description"]), json.dumps(defaults[stage][name]),
                _allowed(facts, told), facts.get("expert", False))
            for name, facts in schema["properties"].items()
        ]  # fmt: skip
        stages[stage] = (told.get(stage, schema["description"]), keys)
    return stages


_WORDS = {
    "minimum": "from {:g}",
    "exclusiveMinimum": "above {:g}",
    "maximum": "to {:g}",
    "exclusiveMaximum": "below {:g}",
    "string": "text",
    "number": "number",
    "integer": "whole number",
    "boolean": "true, false",
    "array": "list of",
}
"""How bounds and types of a JSON schema are said."""

_BOUNDS = "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"


def _allowed(facts: dict[str, Any], told: dict[str, str]) -> str:
    said = {name: told.get(f"allowed.{name}", words) for name, words in _WORDS.items()}
    if "enum" in facts:
        return ", ".join(facts["enum"])
    if facts["type"] == "array":
        return f"{said['array']} {', '.join(facts['items']['enum'])}"
    return " ".join([said[facts["type"]], *(said[k].format(facts[k]) for k in _BOUNDS if k in facts)])


def write_page() -> str:
    """``docs/reference/settings.md``: every key with its prose, default and values, in Markdown."""
    lines = [
        "# Settings",
        "",
        "Made by `python scripts/write_reference.py` from `src/zemosaic/settings/models.py`: edit that.",
        "",
        "One key is set by `--set stack.method=median`, several by a TOML file (`zemosaic config > my.toml`, then",
        '`--config my.toml`), and from Python by `settings={"stack": {"method": "median"}}`. Text is quoted in files',
        "and in Python. Keys marked *expert* hardly anyone needs.",
    ]
    for stage, (about, keys) in list_keys().items():
        lines += ["", f"## {stage}", "", about, "", "| key | values | default | what it does |", "|---|---|---|---|"]
        for key in keys:
            mark = "*Expert.* " if key.expert else ""
            cells = (f"`{key.stage}.{key.name}`", key.allowed, f"`{key.default}`", mark + key.prose)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
