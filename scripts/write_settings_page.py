"""Write ``docs/reference/settings.md`` from the settings' models: python scripts/write_settings_page.py."""

from __future__ import annotations

from pathlib import Path

from zemosaic.settings import write_page

if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("docs/reference/settings.md").write_text(
        write_page(), encoding="utf-8", newline="\n"
    )
