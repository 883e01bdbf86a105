"""JavaScript of others is what its table says, and the wheel carries its licence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import zemosaic

SOURCE = Path(zemosaic.__file__).parent
FOLDER = SOURCE / "viewer"
LICENCES = {
    "BSD-3-Clause": "Redistribution and use in source and binary forms",
    "MIT": "Permission is hereby granted, free of charge",
    "Apache-2.0": "Apache License",
}


def test_vendored_files_are_those_of_the_tables() -> None:
    tables = sorted(SOURCE.rglob("vendor.json"))
    assert [path.parent.name for path in tables] == ["pages", "viewer"]
    for table in tables:
        for package in json.loads(table.read_text(encoding="utf-8")):
            for file in package["files"]:
                content = (table.parent / file["to"]).read_bytes()
                assert hashlib.sha256(content).hexdigest() == file["sha256"], file["to"]
            licence = (table.parent / f"{package['name']}.LICENSE.txt").read_text(encoding="utf-8")
            assert LICENCES[package["licence"]] in licence
    (seadragon,) = json.loads((FOLDER / "vendor.json").read_text(encoding="utf-8"))
    script = (FOLDER / "openseadragon.min.js").read_text(encoding="utf-8")
    assert script.startswith(f"//! openseadragon {seadragon['version']}\n")


def test_every_script_is_loaded_by_the_page_and_asks_for_nothing_outside() -> None:
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    for path in sorted(FOLDER.glob("*.js")):
        assert f'<script src="page/{path.name}"></script>' in page
        if path.name != "openseadragon.min.js":
            text = path.read_text(encoding="utf-8")
            assert "http" not in text
            assert "innerHTML" not in text
            assert len(text.splitlines()) < 220
