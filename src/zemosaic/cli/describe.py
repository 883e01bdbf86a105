"""The page of the documents that lists all commands and their options."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup, TyperOption

from zemosaic.cli.app import app

__all__ = ["write_page"]

EVERYWHERE = ("--debug", "--log", "--verbose", "--help")
"""Options of every command: they are told once, not in each table."""


def write_page() -> str:
    """``docs/reference/commands.md``: every command with its arguments and options, in Markdown."""
    # Releases of Typer bring Click along in different places, so its types cannot be named here.
    group: Any = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "Made by `python scripts/write_reference.py` from `src/zemosaic/cli/app.py` and `args.py`: edit those.",
        "",
        f"Every command has {_list_options(EVERYWHERE)} besides; `zemosaic --version` tells the version.",
    ]
    for name, command in group.commands.items():
        lines += _describe(f"zemosaic {name}", command)
    return "\n".join(lines) + "\n"


def _list_options(options: tuple[str, ...]) -> str:
    ticked = [f"`{option}`" for option in options]
    return f"{', '.join(ticked[:-1])} and {ticked[-1]}"


def _describe(title: str, command: Any) -> list[str]:
    if isinstance(command, TyperGroup):
        return [line for name, inner in command.commands.items() for line in _describe(f"{title} {name}", inner)]
    lines = ["", f"## {title}", "", *_reflow(command.help or "")]
    rows = [_row(parameter) for parameter in command.params if not _is_everywhere(parameter)]
    if rows:
        lines += ["", "| argument or option | default | what it does |", "|---|---|---|", *rows]
    return lines


def _reflow(help_text: str) -> list[str]:
    """The paragraphs of a docstring; the line that begins with Example becomes code."""
    lines = []
    for line in help_text.strip().split("\n"):
        word, _, example = line.strip().partition(": ")
        lines.append(f"Example: `{example}`" if word == "Example" else line.strip())
    return lines


def _is_everywhere(parameter: Any) -> bool:
    return any(option in EVERYWHERE for option in parameter.opts)


def _row(parameter: Any) -> str:
    option = isinstance(parameter, TyperOption)
    flag = option and (parameter.is_flag or parameter.count)
    name = " ".join(f"`{word}`" for word in parameter.opts) if option else ""
    if not flag:
        name = f"{name} {parameter.metavar or parameter.type.name.upper()}".strip()
    plain = isinstance(parameter.default, str | int | float) and not flag and parameter.default != ""
    default = f"`{parameter.default}`" if plain else "must be given" if parameter.required else ""
    cells = (name, default, parameter.help or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
