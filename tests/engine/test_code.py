"""Results depend on the code that makes them: on all of it, and on nothing else."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

import zemosaic
from zemosaic.engine import code

ROOT = Path(zemosaic.__file__).parent
ROOMS = ("model", "kernels", "stages", "io", "pipelines")


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported_modules(path: Path) -> set[Path]:
    """What the parser says that a file imports of the rooms, wherever in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unseen = {id(node) for block in ast.walk(tree) if is_for_types(block) for node in ast.walk(block)}
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    inside = [name.split(".")[1:] for name in names if name.startswith("zemosaic.") and name.split(".")[1] in ROOMS]
    stems = [ROOT.joinpath(*parts) for parts in inside]
    return {file for stem in stems for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()}


@pytest.mark.parametrize("room", ROOMS)
def test_every_import_is_followed(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        assert imported_modules(path) <= set(code.sources([module])), path


def test_ways_to_combine_count_though_nothing_names_them() -> None:
    found = code.sources(["stages.stack.stack"])
    assert set((ROOT / "stages/stack/methods").glob("*.py")) <= set(found)
    assert ROOT / "kernels/stack/clip.py" in found
    assert ROOT / "stages/match/match.py" not in found


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no modules of zemosaic: stages.match.march"):
        code.code_digest(("stages.match.match", "stages.match.march"))


def forget() -> None:
    for known in vars(code).values():
        if hasattr(known, "cache_clear"):
            known.cache_clear()


def test_a_change_is_felt_where_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "zemosaic"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("__pycache__", "data"))
    monkeypatch.setattr(code, "_ROOT", root)

    def digests() -> list[str]:
        forget()
        users = ("stages.measure.raw", "stages.match.match", "stages.stack.stack")
        return [*(code.code_digest((module,)) for module in users), code.package_digest()]

    def changed_by(name: str) -> list[bool]:
        before = digests()
        with (root / name).open("a", encoding="utf-8") as file:
            file.write("# changed\n")
        return [one != two for one, two in zip(before, digests(), strict=True)]

    try:
        assert changed_by("kernels/measure/hot_pixels.py") == [True, False, False, True]
        assert changed_by("stages/match/surfaces.py") == [False, True, False, True]
        assert changed_by("stages/stack/methods/mean.py") == [False, False, True, True]
        assert changed_by("model/box.py") == [True, True, True, True]
        assert changed_by("pipelines/outputs/report.py") == [False, False, False, True]
        assert changed_by("cli/app.py") == [False, False, False, True]
    finally:
        forget()
