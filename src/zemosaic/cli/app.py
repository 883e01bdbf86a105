"""The commands and their options. Heavy imports wait until a command runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from zemosaic.cli.args import (
    BuildArgs,
    CoaddArgs,
    ExportArgs,
    Json,
    Language,
    MatchArgs,
    Out,
    ScanArgs,
    SolveArgs,
    Workers,
    command,
)
from zemosaic.text import Message, message, say

app = typer.Typer(
    name="zemosaic",
    help="Turn a folder of overlapping sky frames into one seamless, photometrically true mosaic.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


@command(app)
def build(args: BuildArgs) -> None:
    """Make a mosaic: measure, match, warp, reject, coadd.

    Example: zemosaic build ~/Seestar/M31 -o ~/M31
    """
    from zemosaic.cli import commands

    commands.build(args)


@command(app, short_help="Warp and combine frames that have a WCS; no matching.")
def coadd(args: CoaddArgs) -> None:
    """Warp and combine frames that have a WCS, without matching them (as SWarp does).

    Example: zemosaic coadd frames/ -o out --set stack.method=mean
    """
    from zemosaic.cli import commands

    commands.coadd(args)


@command(app, short_help="Solve gains and backgrounds only; writes match.ecsv.")
def match(args: MatchArgs) -> None:
    """Solve gains and background surfaces only; writes match.ecsv, which coadd --solution reads.

    Example: zemosaic match frames/ -o out && zemosaic coadd frames/ -o out --solution out/match.ecsv
    """
    from zemosaic.cli import commands

    commands.match(args)


@command(app, short_help="Find where frames point: a table, and header files.")
def solve(args: SolveArgs) -> None:
    """Find where frames point: check the WCS of headers, solve the others offline, refine all together.

    Example: zemosaic solve ~/Seestar/M31 --write-wcs wcs
    """
    from zemosaic.cli import commands

    commands.solve(args)


@command(app, short_help="List the frames in files and folders; reads headers only.")
def scan(args: ScanArgs) -> None:
    """List the frames in files and folders, and what is wrong with the others. Reads headers only.

    Example: zemosaic scan ~/Seestar/M31
    """
    from zemosaic.cli import commands

    commands.scan(args)


@command(app)
def simulate(
    out: Out,
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="frames (calibrated, with WCS) or raws (Bayer, hints only).")
    ] = "frames",
    n_frames: Annotated[int, typer.Option("-n", "--frames", metavar="N", min=1, help="How many.")] = 25,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another sky.")] = 1,
    size_deg: Annotated[float, typer.Option("--size", metavar="DEGREES", min=1.5, help="Side of the field.")] = 3.0,
) -> None:
    """Write simulated frames of a sky whose truth is known.

    Example: zemosaic simulate -o sim -n 40 && zemosaic build sim -o out
    """
    from zemosaic.cli import commands

    commands.simulate(out, kind=kind, n_frames=n_frames, seed=seed, size_deg=size_deg)


@command(app, short_help="Simulate raw frames, make their mosaic, compare, show.")
def demo(
    out: Out = Path("zemosaic-demo"),
    workers: Workers = 0,
) -> None:
    """Simulate raw frames of real stars, solve them, make their mosaic, compare it with the truth, and show it.

    Example: zemosaic demo -o try-it
    """
    from zemosaic.cli import commands

    commands.demo(out, workers=workers)


@command(app, short_help="Compile all kernels now: for installers and clusters.")
def warm(workers: Workers = 0) -> None:
    """Compile all kernels for this machine now; else the first run that calls one does it.

    Example: zemosaic warm
    """
    from zemosaic.cli import commands

    commands.warm(workers=workers)


@command(app, short_help="Print all settings with their defaults and what they do.")
def config() -> None:
    """Print all settings with their defaults, as a settings file with prose.

    Example: zemosaic config > my.toml && zemosaic build frames/ -o out --config my.toml
    """
    from zemosaic.cli import commands

    commands.show_config()


@command(app, short_help="Tell of every frame over a place whether it was clipped, and why.")
def explain(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder of a build of mode direct.")],
    at: Annotated[str, typer.Option("--at", metavar="PLACE", help='"RA DEC", in degrees or as "5:35:17 -5:23:28".')],
    as_json: Json = False,
) -> None:
    """Tell of every frame over a place of a mosaic its value, weight and gain, kept or clipped, and against what.

    The frames must still be where they were. Example: zemosaic explain ~/M31 --at "10.6847 41.2688"
    """
    from zemosaic.cli import commands

    commands.explain(out, at, as_json=as_json)


@command(app, short_help="Make a finished mosaic into files for other programs.")
def export(
    args: ExportArgs,
    also: Annotated[str, typer.Option("--also", metavar="NAMES", help="What to make, as in the setting output.also.")],
) -> None:
    """Make what output.also would have made, of a finished output folder; its frames are not needed.

    Example: zemosaic export ~/M31 --also edit
    """
    from zemosaic.cli import commands

    commands.export(args, also)


@command(app, short_help="Make the report page of a finished mosaic.")
def report(args: ExportArgs) -> None:
    """Make the report page of a finished output folder; its frames are not needed.

    Example: zemosaic report ~/M31
    """
    from zemosaic.cli import commands

    commands.export(args, "report")


@command(app, short_help="List, verify or remove what an output folder keeps.")
def store(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder of a run.")],
    action: Annotated[str, typer.Argument(metavar="ACTION", help="list, verify or clean.")] = "list",
    as_json: Json = False,
) -> None:
    """List, verify or remove the results that an output folder keeps so that the next run need not make them again.

    Example: zemosaic store ~/M31 verify
    """
    from zemosaic.cli.store import store as show

    show(out, action, as_json=as_json)


Port = Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port to listen at; 0: a free one.")]
Root = Annotated[
    list[Path] | None,
    typer.Option("--root", metavar="FOLDER", help="Folder that may be looked into. Repeatable; default your home."),
]


@command(app, short_help="Open the app in a browser.")
def gui(
    port: Port = 0,
    root: Root = None,
    shortcut: Annotated[bool, typer.Option("--shortcut", help="Only make an icon that opens the app.")] = False,
) -> None:
    """Open the app in a browser: choose frames, make a mosaic, look at it.

    Example: zemosaic gui
    """
    from zemosaic.cli import commands

    if shortcut:
        commands.make_shortcut()
    else:
        commands.serve(port, root or [], browse=True)


@command(app, short_help="Serve the app without opening a browser.")
def serve(
    port: Port = 0,
    root: Root = None,
    lan: Annotated[
        bool,
        typer.Option("--lan", help="Let other machines connect too: whoever has the link can read the folders."),
    ] = False,
) -> None:
    """Serve the app without opening a browser; the link that it prints lets one in.

    Example: zemosaic serve --port 8421 --root /data
    """
    from zemosaic.cli import commands

    commands.serve(port, root or [], lan=lan)


@command(app, short_help="Tell what this machine offers: memory, optional parts.")
def doctor(
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Pack what a bug report needs of this output folder: no pixels, no places on Earth.",
        ),
    ] = None,
    language: Language = "en",
) -> None:
    """Tell what this machine offers: versions, processors, memory, optional parts.

    Example: zemosaic doctor --report ~/M31
    """
    from zemosaic.cli import doctor as machine

    machine.doctor(report, language)


def run(argv: list[str] | None) -> int:
    """Parse, run, and turn what went wrong into one line and an exit code."""
    from zemosaic.errors import ZeMosaicError

    told: dict[str, Any] = {}
    try:
        app(args=argv, obj=told)
    except SystemExit as ended:
        # Usage errors have been shown by then; their code is 2. A Ctrl-C that nobody handled ends here too.
        code = ended.code if isinstance(ended.code, int) else 0
        return _fail(message("run.interrupted"), code, told) if code == 130 else code
    except ZeMosaicError as problem:
        return _fail(problem.told, problem.exit_code, told)
    except KeyboardInterrupt:
        return _fail(message("run.interrupted"), 130, told)
    except BrokenPipeError:
        return 0
    except MemoryError:
        return _fail(message("run.memory-exhausted"), 4, told)
    except OSError as problem:
        # What is wrong with an input is handled where it is read; this is the machine: space, permission, a lost disk.
        return _fail(
            message(
                "run.machine-fault",
                path=problem.filename or message("run.system"),
                problem=problem.strerror or problem,
            ),
            4,
            told,
        )
    except Exception as problem:
        if told.get("debug"):
            raise
        return _fail(message("run.internal-error", type=type(problem).__name__, problem=problem), 5, told)
    return 0


def _fail(why: Message, exit_code: int, told: dict[str, Any]) -> int:
    """Say why the run ends: a line for people, an object for machines where the command was told ``--json``."""
    text = say(why, told.get("language", "en"))
    print(f"zemosaic: {text}", file=sys.stderr)
    if told.get("as_json"):
        event = {"event": "Failed", **why.as_json(), "message": text, "exit_code": exit_code}
        print(json.dumps(event), flush=True)
    return exit_code
