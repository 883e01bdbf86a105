"""What keeps the house in order: small modules, no swallowed errors, nothing heavy before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import zemosaic

SOURCE = Path(zemosaic.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
MAX_LINES = 450
HEAVY = ("numpy", "numba", "scipy", "astropy", "sep", "pydantic", "rich", "PIL")


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def test_modules_fit_in_a_head() -> None:
    sizes = {relative(p): len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES}
    assert len(sizes) > 40
    assert {name: n for name, n in sizes.items() if n > MAX_LINES} == {}


def broad_handlers(path: Path) -> list[int]:
    """Lines where everything is caught."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(kind is None or (isinstance(kind, ast.Name) and kind.id in BROAD) for kind in kinds):
                lines.append(node.lineno)
    return lines


BROAD = {"Exception", "BaseException"}


def test_only_the_last_stop_catches_everything() -> None:
    found = {relative(p): len(broad_handlers(p)) for p in MODULES if broad_handlers(p)}
    # The end of a worker process is a last stop too: it sends what went wrong home, where it is raised again.
    # The survey's finer steps never end a run: what fails is told, and a simpler step taken.
    # So it is with the second pass: the first mosaic is kept. And with products: the mosaic is whole without them.
    last_stops = {
        "cli/app.py",
        "engine/remote.py",
        "pipelines/products/make.py",
        "pipelines/survey/blending.py",
        "stages/classic/two_pass.py",
    }
    assert found == dict.fromkeys(last_stops, 1)


def test_a_broad_handler_is_noticed(tmp_path: Path) -> None:
    for text in ("except Exception:", "except:", "except (ValueError, BaseException) as e:"):
        path = tmp_path / "module.py"
        path.write_text(f"try:\n    pass\n{text}\n    pass\n", encoding="utf-8")
        assert broad_handlers(path) == [3]


def test_validation_is_not_left_to_assert() -> None:
    trees = {relative(p): ast.parse(p.read_text(encoding="utf-8")) for p in MODULES}
    assert [name for name, tree in trees.items() if any(isinstance(n, ast.Assert) for n in ast.walk(tree))] == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, zemosaic; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


OPTIONAL = {"distributed"}
"""What a module may need that is there with an extra alone."""


def test_importing_all_modules_compiles_nothing() -> None:
    code = (
        "import importlib, pkgutil, zemosaic\n"
        "from numba.core import event\n"
        "with event.install_recorder('numba:compile') as seen:\n"
        "    for found in pkgutil.walk_packages(zemosaic.__path__, 'zemosaic.'):\n"
        "        if found.name.endswith('__main__'):\n"
        "            continue\n"
        "        try:\n"
        "            importlib.import_module(found.name)\n"
        "        except ModuleNotFoundError as missing:\n"
        f"            if missing.name not in {OPTIONAL}:\n"
        "                raise\n"
        "print(len(seen.buffer))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "0"


def test_public_names_are_there_and_few() -> None:
    assert len(zemosaic.__all__) <= 13
    for name in zemosaic.__all__:
        assert getattr(zemosaic, name) is not None
        assert name in dir(zemosaic)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = zemosaic.nothing
