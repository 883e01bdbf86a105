"""Whatever a page shows as a command or as Python is run here, over one small set, or it is named who runs it."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from zemosaic.cli import main
from zemosaic.simulate import FrameRecipe, SimulatedSky, simulate_frames

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))

RUN_BY_CI = (ROOT / ".ci/run", ROOT / ".github/workflows/ci.yml", ROOT / ".github/workflows/packaging.yml")
"""Installing, linting, testing and packing: what contributors type and these files hold, word for word."""

RUN_ELSEWHERE = {
    r"zemosaic demo\b": ".ci/run",
    r"zemosaic warm\b": "packaging/Containerfile",
    r"zemosaic simulate\b": "tests/house/test_simulate.py",
    r"zemosaic build .*--executor dask:tcp": "tests/engine/test_remote.py",
    r"dask (scheduler|worker|ssh)\b": "tests/engine/test_remote.py",
    r"(podman|docker) ": ".github/workflows/packaging.yml",
    r"aladin ": "tests/pipelines/test_hips.py",
    r"uv tool ": ".github/workflows/packaging.yml",
    r"python -m (venv|pip wheel) ": "benchmarks/installs.py",
}
"""What would take minutes, a network or another program, and the file that runs it."""

_CODE = re.compile(
    r"^```(?P<kind>[\w{}]*)\n(?P<block>.*?)^```|(?<!`)`(?P<inline>zemosaic [^`\n]+ [^-`\n][^`\n]*)`", re.M | re.S
)
_INDENTED = re.compile(r"(?:^    (?:zemosaic|python) .*\n)+", re.M)
PROGRAMS = (
    "zemosaic", "python", "dask", "podman", "docker", "aladin", "uv", "build/packed", "pip", "ruff", "mypy",
    "lint-imports", "towncrier", "pyinstaller", "sphinx-build",
)  # fmt: skip
"""With which a line of a shell begins; other blocks are output, headers, drawings."""

_PROGRAM = re.compile(rf"(?:\w+=\S* )*(?:{'|'.join(PROGRAMS)})\b")


@dataclass(frozen=True, slots=True)
class Example:
    """A piece of a page: lines of a shell, or Python."""

    kind: str
    text: str


def find_examples(page: Path) -> list[Example]:
    """All of a page, in its order."""
    text = _INDENTED.sub(lambda found: f"```\n{found[0]}```\n", page.read_text(encoding="utf-8"))
    examples = []
    for found in _CODE.finditer(text):
        if found["inline"]:
            # Options alone, or an ellipsis for what is told elsewhere: such a line is a name and no command.
            examples += [] if "..." in found["inline"] else [Example("shell", found["inline"])]
        elif found["kind"] == "python":
            examples.append(Example("python", found["block"]))
        elif _PROGRAM.match(found["block"].strip()):
            examples.append(Example("shell", found["block"]))
    return examples


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small frames (`frames`), two of another night (`tonight`), and a mosaic of the first (`out`)."""
    place = tmp_path_factory.mktemp("examples")
    simulate_frames(
        place / "all", SimulatedSky(3, 83.82, -5.39, 0.3), 6, FrameRecipe(shape=(180, 240), trail_fraction=0)
    )
    files = sorted((place / "all").glob("*.fits"))
    for name, part in (("frames", files[:4]), ("tonight", files[4:])):
        (place / name).mkdir()
        for file in part:
            file.rename(place / name / file.name)
    for name, level in (("darks", 10.0), ("flats", 9000.0), ("biases", 5.0)):
        (place / name).mkdir()
        head = fits.Header({"IMAGETYP": name[:-1] if name != "biases" else "bias", "EXPTIME": 10.0})
        fits.writeto(place / name / "master.fits", np.full((180, 240), level, np.float32), head)
    assert main(["build", str(place / "frames"), "-o", str(place / "out")]) == 0
    return place


FRAMES = (
    "frames", "panels", "tiles", "stacks", "lights", "M 31_sub", "M 1_sub", "Seestar/M31", "sim", "set", "SET",
    "FRAMES", "FOLDER", "TILES", "data/frames", "shared/frames", "zemosaic-demo/frames",
)  # fmt: skip
NIGHTS = ("tonight", "NIGHT")
MOSAICS = ("out", "mosaic", "M31", "OUT")


def lay_out(sets: Path, place: Path) -> None:
    """The folders and files that pages speak of, by their names there."""
    for source, names in (("frames", FRAMES), ("tonight", NIGHTS)):
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).symlink_to(sets / source)
    for name in ("darks", "flats", "biases"):
        (place / name).symlink_to(sets / name)
    shutil.copytree(sets / "frames", place / "night1/lights")
    for name in MOSAICS:
        shutil.copytree(sets / "out", place / name)
    first, second = sorted((sets / "frames").glob("*.fits"))[:2]
    (place / "a.fits").symlink_to(first)
    (place / "b.fits").symlink_to(second)
    (place / "wide.fits").symlink_to(sets / "out/mosaic.fits")
    (place / "grid.hdr").write_text(fits.getheader(sets / "out/mosaic.fits").tostring(sep="\n"), encoding="ascii")
    (place / "my.toml").write_text('[stack]\nmethod = "median"\n', encoding="utf-8")


def run_line(line: str, place: Path) -> None:
    """One line of a shell: run here, or looked up where it is run."""
    line = re.sub(r"^(?:\w+=\S* )+", "", line)
    for elsewhere, file in RUN_ELSEWHERE.items():
        if re.match(elsewhere, line):
            assert (ROOT / file).exists(), f"{line}: {file} is gone"
            return
    if script := re.match(r"python ((?:benchmarks|scripts|tests)/\S+\.py)(.*)", line):
        source = (ROOT / script[1]).read_text(encoding="utf-8")
        missing = [word for word in re.findall(r"--[a-z][a-z-]+", script[2]) if f'"{word}"' not in source]
        assert missing == [], line
    elif line.startswith("zemosaic "):
        run_command(line, place)
    else:
        assert any(line in file.read_text(encoding="utf-8") for file in RUN_BY_CI if file.exists()), f"who runs: {line}"


def run_command(line: str, place: Path) -> None:
    """A command of ZeMosaic, in this process; ``> file`` as a shell would."""
    line, _, target = line.partition(" > ")
    words = [re.sub(r"^(~/|/(?=data|shared))", f"{place}/", word) for word in shlex.split(line)[1:]]
    with contextlib.ExitStack() as stack:
        if target:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(target.strip(), "w"))))
        assert main(words) == 0, line


def lines_of(text: str) -> list[str]:
    """Commands of a block, without remarks."""
    lines = [re.sub(r"\s+#\s.*$", "", line).strip() for line in text.replace("\\\n", " ").splitlines()]
    return [part.strip() for line in lines for part in line.split(" && ") if part.strip()]


@pytest.mark.parametrize("page", [p for p in PAGES if find_examples(p)], ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(page: Path, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(sets, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config/astropy").mkdir(parents=True)
    # The app serves until Ctrl-C: tests/app has it at work.
    monkeypatch.setattr("zemosaic.app.launch.serve", lambda *_, **__: None)
    names: dict[str, object] = {}
    for example in find_examples(page):
        if example.kind == "python":
            exec(compile(example.text, str(page), "exec"), names)
        else:
            for line in lines_of(example.text):
                run_line(line, tmp_path)


def test_a_wrong_example_is_noticed(tmp_path: Path) -> None:
    """A command that fails, an option that a script lacks, a program that nobody runs."""
    page = tmp_path / "page.md"
    page.write_text("`zemosaic scan nowhere`\n```\npython benchmarks/tiles.py --deep\nmake all\n```\n")
    found = [line for example in find_examples(page) for line in lines_of(example.text)]
    assert found == ["zemosaic scan nowhere", "python benchmarks/tiles.py --deep", "make all"]
    for line in found:
        with pytest.raises(AssertionError):
            run_line(line, tmp_path)


SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "scripts").glob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_import_what_is_there(script: Path) -> None:
    """Most run for minutes, and nobody for weeks: what they take from the package must not have moved meanwhile."""
    taken = [
        node for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
    ]
    for node in taken:
        if node.module and node.module.split(".")[0] == "zemosaic":
            module = importlib.import_module(node.module)
            missing = [name.name for name in node.names if not hasattr(module, name.name)]
            missing = [name for name in missing if importlib.util.find_spec(f"{node.module}.{name}") is None]
            assert missing == [], node.module
