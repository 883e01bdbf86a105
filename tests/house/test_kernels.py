"""How kernels are compiled: who may call them, who compiles them, where they are kept."""

from __future__ import annotations

import ast
from pathlib import Path

import zemosaic

ROOT = Path(__file__).parents[2]
KERNELS = Path(zemosaic.__file__).parent / "kernels"


def decorated(tree: ast.AST, *names: str) -> list[ast.FunctionDef]:
    """Functions that one of the decorators makes kernels."""
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
        and any(isinstance(by, ast.Name) and by.id in names for by in node.decorator_list)
    ]  # fmt: skip


def calls_from_python(tree: ast.Module, parts: set[str]) -> set[str]:
    """Which parts are named where Python runs: outside of kernels."""
    inside = {id(node) for function in decorated(tree, "kernel", "part") for node in ast.walk(function)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in inside} & parts


def test_python_calls_no_part_of_a_kernel() -> None:
    """It would end the process. Outside of the room no part is even imported; in it no function of Python names one."""
    rooms = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(KERNELS.rglob("*.py"))}
    parts = {function.name for tree in rooms.values() for function in decorated(tree, "part")}
    assert len(parts) > 90
    kernels = {function.name for tree in rooms.values() for function in decorated(tree, "kernel")}
    assert parts & kernels == set()
    for path, tree in rooms.items():
        imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}
        known = imported | {function.name for function in decorated(tree, "part")}
        assert calls_from_python(tree, parts & known) == set(), path
    outside = [p for folder in ("src", "tests", "benchmarks") for p in (ROOT / folder).rglob("*.py") if p not in rooms]
    for path in outside:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zemosaic.kernels"):
                assert not parts & {name.name for name in node.names}, path
    planted = ast.parse("@part\ndef f(): pass\n@kernel\ndef g(): f()\ndef h(): f()\n")
    assert calls_from_python(planted, {"f"}) == {"f"}
