"""Fetch the JavaScript of others that the wheel carries, by npm, and hold it against the sums in its table.

``python scripts/vendor.py`` writes the files of each ``vendor.json`` below ``src/zemosaic`` anew, beside it, and fails
where a sum differs. For another version change ``version`` in a table, run ``python scripts/vendor.py --accept``, and
read what changed.
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

SOURCE = Path(__file__).resolve().parents[1] / "src" / "zemosaic"


def fetch(package: dict[str, Any], folder: Path, *, accept: bool) -> list[str]:
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
                (folder / file["to"]).write_bytes(content)
    return differ


def main() -> int:
    """Fetch all packages of the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accept", action="store_true", help="Write the sums of what is fetched into the table.")
    accept = parser.parse_args().accept
    differ: list[str] = []
    for table in sorted(SOURCE.rglob("vendor.json")):
        packages = json.loads(table.read_text(encoding="utf-8"))
        differ += [line for package in packages for line in fetch(package, table.parent, accept=accept)]
        if accept:
            table.write_text(json.dumps(packages, indent=1) + "\n", encoding="utf-8")
    print("\n".join(differ) or "all as in the tables", file=sys.stderr if differ else sys.stdout)
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())
