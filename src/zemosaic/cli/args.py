"""The options of the command line, each declared once, and the values in which commands are handed them.

A command is a function of one of the values below, and `command` makes an option of each of its fields. The values
grow from one command to the next: what `scan` is asked, `match` is asked too.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from zemosaic.cli.log import logged
from zemosaic.text import LANGUAGES

__all__ = [
    "BuildArgs",
    "CoaddArgs",
    "ExportArgs",
    "Json",
    "MatchArgs",
    "MeasureArgs",
    "Out",
    "ScanArgs",
    "SolveArgs",
    "Workers",
    "command",
]


def _note(context: typer.Context, param: typer.CallbackParam, value: bool) -> bool:
    """Note how the user wants to be told, for whoever tells why the command ended."""
    context.obj[param.name] = value
    return value


def _note_language(context: typer.Context, param: typer.CallbackParam, value: str) -> str:
    if value not in LANGUAGES:
        raise typer.BadParameter(f"'{value}' is not one of {', '.join(LANGUAGES)}")
    context.obj[param.name] = value
    return value


Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="INPUT", help="Files (FITS, XISF, TIFF, camera raw), or folders to search for them."),
]
Out = Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="Folder for the results; made when missing.")]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file (TOML); see 'zemosaic config'.")
]
Assign = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.KEY=VALUE", help="One setting, as stack.method=median. Repeatable."),
]
Json = Annotated[
    bool, typer.Option("--json", callback=_note, help="One JSON object a line on standard output, for machines.")
]
Language = Annotated[
    str,
    typer.Option(
        "--language",
        metavar="LANGUAGE",
        envvar="ZEMOSAIC_LANGUAGE",
        callback=_note_language,
        help="Of what is told on the way and of the report page: en or fr. Other files are in English.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", callback=_note, help="Show the traceback of an internal error.")]
LogFile = Annotated[
    Path | None, typer.Option("--log", metavar="FILE", help="Write all log lines to this file, details too.")
]
Verbose = Annotated[
    int, typer.Option("-v", "--verbose", count=True, help="Show log lines on standard error; twice: details too.")
]
Frames = Annotated[
    Path | None,
    typer.Option(
        "--frames",
        metavar="FILE",
        help="Leave out frames that a table (frames.ecsv or .csv) or a list (used.txt or the like) does not use.",
    ),
]
Darks = Annotated[
    Path | None,
    typer.Option(
        "--darks",
        metavar="PATH",
        help="Folder or file of darks; without it those among the inputs are used; the word none: no darks.",
    ),
]
Flats = Annotated[Path | None, typer.Option("--flats", metavar="PATH", help="Folder or file of flats, likewise.")]
Biases = Annotated[Path | None, typer.Option("--biases", metavar="PATH", help="Folder or file of biases, likewise.")]
Ram = Annotated[
    str, typer.Option("--ram", metavar="SIZE", help="Memory cap, as 4G or 800M; default half of what is free.")
]
Workers = Annotated[
    int, typer.Option("--workers", metavar="N", min=0, help="Tasks at once; 0 takes the processors there are.")
]
WriteWcs = Annotated[
    Path | None,
    typer.Option("--write-wcs", metavar="FOLDER", help="Folder for a .wcs header file a frame, and the table."),
]
HeaderFile = Annotated[
    Path | None,
    typer.Option("--header", metavar="FILE", help="FITS or text header that fixes the output grid."),
]
RegisterOnly = Annotated[
    bool,
    typer.Option("--register-only", help="Register frames to each other by stars; the mosaic has no place on the sky."),
]
Executor = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="WHERE",
        help="Where tasks run: threads, serial, processes, dask (here) or dask:ADDRESS of a scheduler.",
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Ignore results stored by an earlier run.")]
Yes = Annotated[bool, typer.Option("--yes", help="Go on where a question would be asked.")]
Solution = Annotated[
    Path | None,
    typer.Option("--solution", metavar="FILE", help="Use gains and surfaces of this table (match.ecsv)."),
]
KeepWarps = Annotated[
    Path | None,
    typer.Option("--keep-warps", metavar="FOLDER", help="Also write each registered, corrected frame here."),
]
Mode = Annotated[
    str, typer.Option("--mode", metavar="MODE", help="auto, direct, master-tiles, grid or existing-tiles.")
]
Add = Annotated[bool, typer.Option("--add", help="Add these frames to the mosaic in the output folder.")]
Tolerance = Annotated[
    float,
    typer.Option(
        "--tolerance",
        metavar="SIGMA",
        min=0,
        help="With --add: frames that would change by less than this many sigma stay as they are; 0: none.",
    ),
]
Watched = Annotated[
    bool,
    typer.Option(
        "--watched",
        help="For a program that runs this one: stop when standard input closes; keep a picture that grows.",
    ),
]
Until = Annotated[
    str, typer.Option("--until", metavar="STEP", help="Stop early; 'frames': when each frame is measured and judged.")
]
Finished = Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder of a run that has ended.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportArgs:
    """What every command that makes something of a finished folder is asked."""

    out: Finished
    ram: Ram = ""
    workers: Workers = 0
    as_json: Json = False
    language: Language = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanArgs:
    """What every command that reads frames is asked."""

    inputs: Inputs
    config: Config = None
    assign: Assign = None
    as_json: Json = False
    language: Language = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureArgs(ScanArgs):
    """Where pixels are read too: which frames, with what calibration, and how much of the machine."""

    frames: Frames = None
    darks: Darks = None
    flats: Flats = None
    biases: Biases = None
    ram: Ram = ""
    workers: Workers = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveArgs(MeasureArgs):
    """``zemosaic solve``."""

    write_wcs: WriteWcs = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchArgs(MeasureArgs):
    """``zemosaic match``: where frames meet on a grid, and an output folder keeps results."""

    out: Out
    header: HeaderFile = None
    register_only: RegisterOnly = False
    executor: Executor = "threads"
    fresh: Fresh = False
    yes: Yes = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CoaddArgs(MatchArgs):
    """``zemosaic coadd``: where a mosaic is made."""

    solution: Solution = None
    keep_warps: KeepWarps = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildArgs(CoaddArgs):
    """``zemosaic build``."""

    mode: Mode = "auto"
    until: Until = ""
    watched: Watched = False
    add: Add = False
    tolerance: Tolerance = 0.0


def command(app: typer.Typer, short_help: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function: a parameter that is one of the values above becomes an option a field.

    Every command has ``--debug``, ``--log`` and ``--verbose`` besides.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        app.command(name=function.__name__, short_help=short_help)(_expand(function))
        return function

    return register


def _expand(function: Callable[..., None]) -> Callable[..., None]:
    hints = get_type_hints(function, include_extras=True)
    values: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    plain = [p for p in inspect.signature(function).parameters.values() if p.name not in values]
    asked = [_as_keyword(parameter, hints[parameter.name]) for parameter in plain]
    for kind in values.values():
        asked += _parameters_of(kind)
    for name, default, hint in (("log_file", None, LogFile), ("verbose", 0, Verbose), ("debug", False, Debug)):
        asked.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint))

    @functools.wraps(function)
    def call(**given: Any) -> None:
        del given["debug"]  # noted when it was read
        log_file, verbose = given.pop("log_file"), given.pop("verbose")
        for name, kind in values.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        with logged(log_file, verbose):
            function(**given)

    call.__signature__ = inspect.Signature(asked)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in asked}
    return call


def _as_keyword(parameter: inspect.Parameter, hint: object) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hint)


def _parameters_of(kind: Callable[..., object]) -> list[inspect.Parameter]:
    """A keyword a field: what must be given first, how it is told last."""
    hints = get_type_hints(kind, include_extras=True)
    signature = inspect.signature(kind).parameters.values()
    ordered = sorted(signature, key=lambda p: (p.default is not inspect.Parameter.empty, p.name == "as_json"))
    return [_as_keyword(parameter, hints[parameter.name]) for parameter in ordered]
