"""Write ``docs/reference/messages.md`` from the catalogue of sentences: python scripts/write_messages_page.py."""

from __future__ import annotations

from pathlib import Path

from zemosaic.text.describe import write_page

if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("docs/reference/messages.md").write_text(
        write_page(), encoding="utf-8", newline="\n"
    )
