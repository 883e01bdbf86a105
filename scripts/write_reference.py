"""Write the pages of ``docs/reference`` that are made from the program itself: python scripts/write_reference.py."""

from __future__ import annotations

from pathlib import Path

from zemosaic.cli.describe import write_page as write_commands
from zemosaic.settings.describe import write_page as write_settings
from zemosaic.text.describe import write_page as write_messages

PAGES = {"commands.md": write_commands, "settings.md": write_settings, "messages.md": write_messages}

if __name__ == "__main__":
    folder = Path(__file__).parents[1] / "docs/reference"
    for name, write_page in PAGES.items():
        (folder / name).write_text(write_page(), encoding="utf-8", newline="\n")
