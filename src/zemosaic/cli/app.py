"""The commands and their options. Heavy imports wait until a command runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="zemosaic",
    help="Turn a folder of overlapping sky frames into one seamless, photometrically true mosaic.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="INPUT", help="Files (FITS, TIFF, camera raw), or folders to search for them."),
]
Out = Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="Folder for the results; made when missing.")]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file (TOML); see 'zemosaic config'.")
]
Assign = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.KEY=VALUE", help="One setting, as stack.method=median. Repeatable."),
]
RegisterOnly = Annotated[
    bool,
    typer.Option("--register-only", help="Register frames to each other by stars; the mosaic has no place on the sky."),
]
Ram = Annotated[
    str, typer.Option("--ram", metavar="SIZE", help="Memory cap, as 4G or 800M; default half of what is free.")
]
Workers = Annotated[
    int, typer.Option("--workers", metavar="N", min=0, help="Tasks at once; 0 takes the processors there are.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Ignore results stored by an earlier run.")]
Executor = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="WHERE",
        help="Where tasks run: threads, serial, processes, dask (here) or dask:ADDRESS of a scheduler.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Go on where a question would be asked.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output, for machines.")]
Keep = Annotated[
    Path | None,
    typer.Option("--keep-warps", metavar="FOLDER", help="Also write each registered, corrected frame here."),
]
HeaderFile = Annotated[
    Path | None,
    typer.Option("--header", metavar="FILE", help="FITS or text header that fixes the output grid."),
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
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal error.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"zemosaic {version('zemosaic')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and stop.")
]


@app.callback()
def _root(version: Version = False) -> None:
    """Options before the command."""


def _with_register(assign: list[str] | None, register_only: bool) -> list[str]:
    return [*(assign or []), *(["solve.method=register"] if register_only else [])]


@app.command()
def build(
    inputs: Inputs,
    out: Out,
    mode: Annotated[
        str, typer.Option("--mode", metavar="MODE", help="auto, direct, master-tiles, grid or existing-tiles.")
    ] = "auto",
    config: Config = None,
    assign: Assign = None,
    header: HeaderFile = None,
    solution: Annotated[
        Path | None,
        typer.Option("--solution", metavar="FILE", help="Use gains and surfaces of this table (match.ecsv)."),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            "--frames", metavar="FILE", help="Leave out frames whose use is false in this table (frames.ecsv or .csv)."
        ),
    ] = None,
    register_only: RegisterOnly = False,
    darks: Darks = None,
    flats: Flats = None,
    biases: Biases = None,
    ram: Ram = "",
    workers: Workers = 0,
    executor: Executor = "threads",
    add: Annotated[bool, typer.Option("--add", help="Add these frames to the mosaic in the output folder.")] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            metavar="SIGMA",
            min=0,
            help="With --add: frames that would change by less than this many sigma stay as they are; 0: none.",
        ),
    ] = 0.0,
    keep_warps: Keep = None,
    fresh: Fresh = False,
    yes: Yes = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a mosaic: measure, match, warp, reject, coadd.

    Example: zemosaic build ~/Seestar/M31 -o ~/M31
    """
    from zemosaic.cli import commands

    commands.build(
        inputs, out, mode=mode, config=config, assign=_with_register(assign, register_only), header=header,
        solution=solution, frames=frames, masters={"darks": darks, "flats": flats, "biases": biases}, ram=ram,
        workers=workers, keep_warps=keep_warps, fresh=fresh, yes=yes, as_json=as_json, executor=executor,
        add=add, tolerance=tolerance,
    )  # fmt: skip


@app.command(short_help="Warp and combine frames that have a WCS; no matching.")
def coadd(
    inputs: Inputs,
    out: Out,
    solution: Annotated[
        Path | None,
        typer.Option("--solution", metavar="FILE", help="Apply gains and surfaces of this table (match.ecsv)."),
    ] = None,
    config: Config = None,
    assign: Assign = None,
    header: HeaderFile = None,
    register_only: RegisterOnly = False,
    darks: Darks = None,
    flats: Flats = None,
    biases: Biases = None,
    ram: Ram = "",
    workers: Workers = 0,
    keep_warps: Keep = None,
    yes: Yes = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Warp and combine frames that have a WCS, without matching them (as SWarp does).

    Example: zemosaic coadd frames/ -o out --set stack.method=mean
    """
    from zemosaic.cli import commands

    commands.build(
        inputs, out, mode="direct", config=config, assign=["match.method=none", *_with_register(assign, register_only)],
        header=header,
        solution=solution, masters={"darks": darks, "flats": flats, "biases": biases}, ram=ram, workers=workers,
        keep_warps=keep_warps, fresh=False, yes=yes, as_json=as_json,
    )  # fmt: skip


@app.command(short_help="Solve gains and backgrounds only; writes match.ecsv.")
def match(
    inputs: Inputs,
    out: Out,
    config: Config = None,
    assign: Assign = None,
    header: HeaderFile = None,
    darks: Darks = None,
    flats: Flats = None,
    biases: Biases = None,
    ram: Ram = "",
    workers: Workers = 0,
    fresh: Fresh = False,
    yes: Yes = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Solve gains and background surfaces only; writes match.ecsv, which coadd --solution reads.

    Example: zemosaic match frames/ -o out && zemosaic coadd frames/ -o out --solution out/match.ecsv
    """
    from zemosaic.cli import commands

    commands.match(
        inputs, out, config=config, assign=assign or [], header=header,
        masters={"darks": darks, "flats": flats, "biases": biases}, ram=ram, workers=workers, fresh=fresh, yes=yes,
        as_json=as_json,
    )  # fmt: skip


@app.command(short_help="Find where frames point: a table, and header files.")
def solve(
    inputs: Inputs,
    write_wcs: Annotated[
        Path | None,
        typer.Option("--write-wcs", metavar="FOLDER", help="Folder for a .wcs header file a frame, and the table."),
    ] = None,
    config: Config = None,
    assign: Assign = None,
    darks: Darks = None,
    flats: Flats = None,
    biases: Biases = None,
    ram: Ram = "",
    workers: Workers = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find where frames point: check the WCS of headers, solve the others offline, refine all together.

    Example: zemosaic solve ~/Seestar/M31 --write-wcs wcs
    """
    from zemosaic.cli import commands

    commands.solve(
        inputs, write_wcs, config=config, assign=assign or [],
        masters={"darks": darks, "flats": flats, "biases": biases}, ram=ram, workers=workers, as_json=as_json,
    )  # fmt: skip


@app.command(short_help="List the frames in files and folders; reads headers only.")
def scan(
    inputs: Inputs,
    config: Config = None,
    assign: Assign = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the frames in files and folders, and what is wrong with the others. Reads headers only.

    Example: zemosaic scan ~/Seestar/M31
    """
    from zemosaic.cli import commands

    commands.scan(inputs, config=config, assign=assign or [], as_json=as_json)


@app.command()
def simulate(
    out: Out,
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="frames (calibrated, with WCS) or raws (Bayer, hints only).")
    ] = "frames",
    n_frames: Annotated[int, typer.Option("-n", "--frames", metavar="N", min=1, help="How many.")] = 25,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another sky.")] = 1,
    size_deg: Annotated[float, typer.Option("--size", metavar="DEGREES", min=1.5, help="Side of the field.")] = 3.0,
    debug: Debug = False,
) -> None:
    """Write simulated frames of a sky whose truth is known.

    Example: zemosaic simulate -o sim -n 40 && zemosaic build sim -o out
    """
    from zemosaic.cli import commands

    commands.simulate(out, kind=kind, n_frames=n_frames, seed=seed, size_deg=size_deg)


@app.command(short_help="Simulate raw frames, make their mosaic, compare, show.")
def demo(
    out: Out = Path("zemosaic-demo"),
    workers: Workers = 0,
    debug: Debug = False,
) -> None:
    """Simulate raw frames of real stars, solve them, make their mosaic, compare it with the truth, and show it.

    Example: zemosaic demo -o try-it
    """
    from zemosaic.cli import commands

    commands.demo(out, workers=workers)


@app.command(short_help="Print all settings with their defaults and what they do.")
def config() -> None:
    """Print all settings with their defaults, as a settings file with prose.

    Example: zemosaic config > my.toml && zemosaic build frames/ -o out --config my.toml
    """
    from zemosaic.cli import commands

    commands.show_config()


@app.command(short_help="List, verify or remove what an output folder keeps.")
def store(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder of a run.")],
    action: Annotated[str, typer.Argument(metavar="ACTION", help="list, verify or clean.")] = "list",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List, verify or remove the results that an output folder keeps so that the next run need not make them again.

    Example: zemosaic store ~/M31 verify
    """
    from zemosaic.cli.store import store as show

    show(out, action, as_json=as_json)


@app.command(short_help="Tell what this machine offers: memory, optional parts.")
def doctor() -> None:
    """Tell what this machine offers: versions, processors, memory, optional parts.

    Example: zemosaic doctor
    """
    from zemosaic.cli import commands

    commands.doctor()


def run(argv: list[str] | None) -> int:
    """Parse, run, and turn what went wrong into one line and an exit code."""
    from zemosaic.errors import ZeMosaicError

    argv = sys.argv[1:] if argv is None else argv
    try:
        app(args=argv)
    except SystemExit as ended:
        # Usage errors have been shown by then; their code is 2. A Ctrl-C that nobody handled ends here too.
        code = ended.code if isinstance(ended.code, int) else 0
        return _fail("stopped", code, argv) if code == 130 else code
    except ZeMosaicError as problem:
        return _fail(str(problem), problem.exit_code, argv, problem.facts)
    except KeyboardInterrupt:
        return _fail("stopped", 130, argv)
    except BrokenPipeError:
        return 0
    except MemoryError:
        return _fail("out of memory; give a lower --ram or fewer --workers", 4, argv)
    except OSError as problem:
        # What is wrong with an input is handled where it is read; this is the machine: space, permission, a lost disk.
        return _fail(f"{problem.filename or 'the system'}: {problem.strerror or problem}", 4, argv)
    except Exception as problem:
        if "--debug" in argv:
            raise
        what = f"internal error ({type(problem).__name__}: {problem})"
        return _fail(f"{what}; run again with --debug and report it", 5, argv)
    return 0


def _fail(message: str, code: int, argv: list[str], facts: dict[str, object] | None = None) -> int:
    """Say why the run ends: a line for people, an object for machines."""
    print(f"zemosaic: {message}", file=sys.stderr)
    if "--json" in argv:
        event = {"event": "Failed", "message": message, "exit_code": code, "facts": facts or {}}
        print(json.dumps(event, default=str), flush=True)
    return code
