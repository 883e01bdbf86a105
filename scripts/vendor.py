"""Fetch the JavaScript of others that the wheel carries, by npm, and hold it against the sums in its table.

``python scripts/vendor.py`` writes the files of ``src/zemosaic/viewer/vendor.json`` anew and fails where a sum differs.
For another version change ``version`` in the table, run ``python scripts/vendor.py --accept``, and read what changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "src" / "zemosaic" / "viewer"
TABLE = FOLDER / "vendor.json"


def fetch(package: dict[str, Any], *, accept: bool) -> list[str]:
    """Write the files of one package; the names of those whose sum is another, unless that is accepted."""
    differ = []
    with tempfile.TemporaryDirectory() as scratch:
        asked = f"{package['name']}@{package['version']}"
        subprocess.run(["npm", "pack", "--silent", asked], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(scratch).glob("*.tgz")
        with tarfile.open(archive) as packed:
            for file in package["files"]:
                member = packed.extractfile(f"package/{file['from']}")
                content = member.read() if member else b""
                found = hashlib.sha256(content).hexdigest()
                if accept:
                    file["sha256"] = found
                elif found != file["sha256"]:
                    differ.append(f"{asked}: {file['to']} is {found}, not {file['sha256']}")
                    continue
                (FOLDER / file["to"]).write_bytes(content)
    return differ


def main() -> int:
    """Fetch all packages of the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accept", action="store_true", help="Write the sums of what is fetched into the table.")
    accept = parser.parse_args().accept
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    differ = [line for package in table for line in fetch(package, accept=accept)]
    if accept:
        TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print("\n".join(differ) or "all as in the table", file=sys.stderr if differ else sys.stdout)
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())
