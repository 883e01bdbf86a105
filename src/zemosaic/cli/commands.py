"""What each command does: settings, a run, a pipeline."""

from __future__ import annotations

import _thread
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zemosaic.cli.args import BuildArgs, CoaddArgs, ExportArgs, MatchArgs, ScanArgs, SolveArgs
from zemosaic.cli.show import JsonLines, People
from zemosaic.engine.events import CancelToken, EventSink
from zemosaic.errors import EnvironmentProblem, SettingError
from zemosaic.model.each import Each
from zemosaic.model.frame import Frame
from zemosaic.settings import Settings, list_keys, load_settings
from zemosaic.text import Message, message, say

if TYPE_CHECKING:
    from zemosaic.pipelines.modes.build import BuildOptions

DEMO_SET: dict[str, Any] = {
    "n_frames": 24,
    "seed": 1,
    "shape": (1280, 720),
    "size_deg": 1.5,
    "center_deg": (314.7, 44.3),
}
"""The North America nebula, rich in stars that the packaged list knows: three panels of eight frames, as few pixels as
still show a mosaic, since who looks for the first time waits for all of them."""

HURRY_S = 3.0
"""After a Ctrl-C, steps that look at the cancel token in vain so long are interrupted, whatever they are at. No file is
spoilt by that: each has a temporary name until it is whole, and a mosaic that is half made is gone on with."""


@contextmanager
def _loading() -> Iterator[None]:
    """Modules make some 300,000 objects that stay: looking through them again and again is a tenth of the start-up."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _watched(as_json: bool, people: People, *, by_stdin: bool = False) -> Iterator[tuple[EventSink, CancelToken]]:
    """Where to send events, which are shown to `people` unless as JSON, and what the first Ctrl-C asks to stop.

    So does the end of standard input where `by_stdin`: a program that dies takes its run with it, on every system.
    """
    # Here: the app's server has no arrays, and starts without numpy.
    from zemosaic.engine.memory import keep_freed_memory

    keep_freed_memory()
    cancel = CancelToken()
    # Long solves do not look at the token: this is what a second Ctrl-C does.
    hurry = threading.Timer(HURRY_S, _thread.interrupt_main)
    hurry.daemon = True

    def stop(signum: int, frame: object) -> None:
        # A second Ctrl-C must always work, so the old handler comes back at once.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cancel.cancel()
        hurry.start()

    before = signal.signal(signal.SIGINT, stop)
    if by_stdin:
        threading.Thread(target=_stop_at_end_of_input, args=(cancel, hurry), daemon=True).start()
    try:
        with JsonLines(people.language) if as_json else people as show:
            yield show, cancel
    finally:
        hurry.cancel()
        signal.signal(signal.SIGINT, before)


def _stop_at_end_of_input(cancel: CancelToken, hurry: threading.Timer) -> None:
    """Wait for the end of standard input, then ask the run to stop."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    cancel.cancel()
    hurry.start()


_SETTINGS = {
    "header": "grid",
    "frames": "input",
    "darks": "calibrate",
    "flats": "calibrate",
    "biases": "calibrate",
}
"""Options that stand for a setting of the same name, and its stage."""


def _load(args: ScanArgs, *first: str, config: Path | None = None) -> Settings:
    """Settings of a file (`config` where none is named), then assignments, `first` before those given, then options."""
    register = ["solve.method=register"] if getattr(args, "register_only", False) else []
    given: dict[str, dict[str, Any]] = {}
    for name, stage in _SETTINGS.items():
        if (path := getattr(args, name, None)) is not None:
            given.setdefault(stage, {})[name] = str(path)
    return load_settings(args.config or config, [*first, *(args.assign or ()), *register], given)


def _options(args: ScanArgs | ExportArgs, **fixed: Any) -> BuildOptions:
    """The options that a command takes, by their names; those that it has none for are as `fixed`, or by default."""
    from zemosaic.pipelines.modes.build import BuildOptions

    names = [field.name for field in fields(BuildOptions) if hasattr(args, field.name)]
    return BuildOptions(compile_ahead=True, **{name: getattr(args, name) for name in names}, **fixed)


def build(args: BuildArgs) -> None:
    """Make a mosaic."""
    with _loading():
        from zemosaic.pipelines.modes.build import find_settings_file

    options = _options(args)
    settings = _load(args, config=find_settings_file(args.out, options))
    if args.until:
        _look(args, options, settings)
    else:
        _build(args, options, settings)


def _look(args: BuildArgs, options: BuildOptions, settings: Settings) -> None:
    """Measure and judge frames; a build of the same folder later goes on from there."""
    from zemosaic.cli.pace import Paced
    from zemosaic.pipelines.modes.build import make_run
    from zemosaic.pipelines.modes.look import look_at_frames

    if args.until != "frames":
        raise SettingError("build.until-unknown", step=args.until)
    with _watched(args.as_json, People("frames.ecsv", language=args.language), by_stdin=args.watched) as (show, cancel):
        paths = look_at_frames(args.inputs, args.out, settings, make_run(options, Paced(show), cancel))
    _tell(paths, args.as_json)


def coadd(args: CoaddArgs) -> None:
    """Make a mosaic of frames as they are."""
    with _loading():
        options = _options(args, mode="direct")
    _build(args, options, _load(args, "match.method=none"))


def _build(args: CoaddArgs, options: BuildOptions, settings: Settings) -> None:
    from zemosaic.cli.pace import Paced
    from zemosaic.pipelines.modes.build import run_build

    people = People("frames.ecsv", language=args.language)
    with _watched(args.as_json, people, by_stdin=options.watched) as (show, cancel):
        paced = Paced(show)
        made = run_build(args.inputs, args.out, settings, options, paced, cancel)
        paced.keep()
    _tell(made.list_files(), args.as_json)


def serve(port: int, roots: list[Path], *, lan: bool = False, browse: bool = False) -> None:
    """Serve the app; a second ``zemosaic gui`` opens the first."""
    try:
        from zemosaic.app.history import Home
        from zemosaic.app.launch import open_running, serve
    except ModuleNotFoundError as problem:
        raise EnvironmentProblem("app.not-installed", part=problem.name) from problem
    home = Home()
    if not (browse and open_running(home)):
        serve(home, roots, port=port, lan=lan, browse=browse)


def make_shortcut() -> None:
    """Write an icon that opens the app, and print where it is."""
    from zemosaic.app.runs import own_command
    from zemosaic.app.shortcut import make_shortcut as write

    print(write([*own_command(), "gui"]))


def match(args: MatchArgs) -> None:
    """Solve gains and surfaces only."""
    settings = _load(args)
    from zemosaic.pipelines.modes.build import make_run
    from zemosaic.pipelines.modes.direct import match_only

    with _watched(args.as_json, People("frames.ecsv", language=args.language)) as (show, cancel):
        paths = match_only(args.inputs, args.out, settings, make_run(_options(args), show, cancel))
    _tell(paths, args.as_json)


def export(args: ExportArgs, also: str) -> None:
    """Make products of a finished folder."""
    settings = load_settings(overrides={"output": {"also": also}})
    with _loading():
        from zemosaic.pipelines.modes.build import make_run
        from zemosaic.pipelines.products.make import export_products

    with _watched(args.as_json, People(language=args.language)) as (show, cancel):
        paths = export_products(args.out, settings.output, make_run(_options(args), show, cancel))
    _tell(paths, args.as_json)


def solve(args: SolveArgs) -> None:
    """Find where frames point."""
    settings = _load(args)
    from zemosaic.pipelines.modes.build import make_run
    from zemosaic.pipelines.solving.known_sky import known_sky
    from zemosaic.pipelines.solving.solve_command import solve_inputs

    people = People("solve.ecsv" if args.write_wcs else "", language=args.language)
    with _watched(args.as_json, people) as (show, cancel):
        run = make_run(_options(args), show, cancel)
        rows = solve_inputs(args.inputs, known_sky(), settings, run, args.write_wcs)
    for row in rows:
        if args.as_json:
            reason = say(row["reason"], args.language) if row["reason"] else ""
            print(json.dumps({"event": "Solved", **row, "reason": reason}))
        else:
            print(_tell_place(row, args.language))


_HOW_PLACED = {
    "header": message("show.by-header"),
    "header, refined": message("show.by-header-refined"),
    "solved": message("show.solved"),
    "tied": message("show.tied"),
}
"""The words of `Place.how` that another language has others for."""


def _tell_place(row: Mapping[str, Any], language: str) -> str:
    """A frame's place, or why it has none, in a line."""
    if row["ra_deg"] is None:
        return f"{row['name']}  {say(message('show.unsolved', reason=row['reason']), language)}"
    how = say(_HOW_PLACED[row["how"]], language) if row["how"] in _HOW_PLACED else row["how"]
    parts = [
        row["name"],
        how,
        f"{row['ra_deg']:.5f} {row['dec_deg']:+.5f}",
        f"{row['scale_arcsec']:.4f} arcsec",
        f"{row['rotation_deg']:+.2f} deg",
    ]
    if row["mirrored"]:
        parts.append(say(message("show.mirrored"), language))
    if row["n_stars"]:
        parts.append(say(message("show.fit", n_stars=row["n_stars"], rms_px=row["rms_px"] or 0.0), language))
    return "  ".join(parts)


def scan(args: ScanArgs) -> None:
    """List frames."""
    settings = _load(args)
    from zemosaic.cli.pace import read_paces
    from zemosaic.pipelines.frames.pipeline import check_found, scan_inputs
    from zemosaic.pipelines.modes.forecast import forecast_mosaic
    from zemosaic.pipelines.run.context import start_run
    from zemosaic.pipelines.solving.header_corners import header_corners

    with _watched(args.as_json, People(all_left_out=True, language=args.language)) as (show, cancel):
        found = check_found(scan_inputs(args.inputs, settings.input, start_run(sink=show, cancel=cancel)))
    for frame in sorted([*found.frames, *found.calibration], key=lambda f: f.storage.path):
        if args.as_json:
            print(json.dumps({"event": "Frame", **_facts_of(frame), "corners_deg": header_corners(frame)}))
        else:
            height, width = frame.shape
            exposure = f"{frame.decided.exposure_s:g} s" if frame.decided.exposure_s is not None else "-"
            kind, place = (say(told, args.language) for told in (_kind_of(frame), _place_of(frame)))
            what = f"{kind}  {frame.decided.filter or '-'}  {exposure}  {place}"
            print(f"{frame.storage.path}  {width} x {height}  {what}")
    if args.as_json:
        paces = read_paces()
        forecast = forecast_mosaic(found.frames, settings, paces)
        print(json.dumps({"event": "Forecast", **asdict(forecast), "is_first": not paces}))


def _facts_of(frame: Frame) -> dict[str, object]:
    storage, header, decided = frame.storage, frame.header, frame.decided
    return {
        "id": frame.id, "path": storage.path, "kind": decided.kind, "hdu": storage.hdu, "shape": frame.shape,
        "layout": storage.layout, "filter": decided.filter, "exposure_s": decided.exposure_s,
        "date_obs": header.date_obs, "has_wcs": header.wcs_cards is not None,
    }  # fmt: skip


def _kind_of(frame: Frame) -> Message:
    """What was exposed, or how a picture of the sky holds its colours."""
    stack = message("show.stack", n_frames=frame.header.n_stacked) if frame.header.n_stacked > 1 else None
    if frame.decided.kind != "light" or frame.storage.bayer:
        name = frame.storage.bayer if frame.decided.kind == "light" else frame.decided.kind
        return message("show.kind", kind=name, stack=stack if frame.decided.kind == "light" else None)
    return message("show.mono" if frame.n_channels == 1 else "show.colour", stack=stack)


def _place_of(frame: Frame) -> Message:
    """What the header tells of where a picture of the sky is; the rest is solved for."""
    if frame.decided.kind != "light":
        return message("show.kind", kind="-", stack=None)
    if frame.header.wcs_cards:
        return message("show.kind", kind="WCS", stack=None)
    if frame.header.hint is None:
        return message("show.no-position")
    return message("show.position" if frame.header.hint.scale_arcsec else "show.no-scale")


def explain(out: Path, at: str, *, as_json: bool) -> None:
    """Tell of every frame over a place of a mosaic."""
    from zemosaic.cli.explain import tell_explanation
    from zemosaic.pipelines.modes.explain import explain as explain_place

    with _watched(as_json, People()) as (show, cancel):
        found = explain_place(out, at, on_event=show, cancel=cancel)
    if as_json:
        print(json.dumps({"event": "Explained", **asdict(found)}))
    else:
        print("\n".join(tell_explanation(found)))


def simulate(
    out: Path,
    *,
    kind: str,
    n_frames: int,
    seed: int,
    size_deg: float,
    center_deg: tuple[float, float] = (83.8, 22.0),
    shape: tuple[int, int] = (1920, 1080),
    show: EventSink | None = None,
    each: Each = map,
) -> None:
    """Write a simulated set; `shape` is that of raws, and `each` makes these. It is told on the terminal unless events
    go elsewhere.
    """
    from zemosaic.simulate import RawRecipe, SimulatedSky, simulate_frames, simulate_raws

    makers: dict[str, Callable[..., object]] = {
        "frames": simulate_frames,
        "raws": partial(simulate_raws, recipe=RawRecipe(shape), each=each),
    }
    if kind not in makers:
        raise SettingError("simulate.unknown-kind", kind=kind, known=list(makers))
    from zemosaic.io.astrometry.catalogue import tycho2
    from zemosaic.pipelines.run.log import Log

    with nullcontext(show) if show else People() as sink:
        log = Log(sink)
        advance = log.start("simulate", n_frames)
        stars = None
        if kind == "raws":  # to be solved they need the stars that are really there
            known = tycho2().cone(*center_deg, size_deg)
            stars = known.ra_deg, known.dec_deg, known.mag
        sky = SimulatedSky(seed, *center_deg, size_deg, stars)
        makers[kind](out, sky, n_frames, on_progress=lambda done, total: advance(done))
        log.end("simulate", message("done.simulate", n_frames=n_frames, kind=kind, out=out))


def demo(out: Path, *, workers: int) -> None:
    """Simulate, build, score, show."""
    from zemosaic.pipelines.modes.build import BuildOptions, make_run, run_build
    from zemosaic.pipelines.run.log import Log
    from zemosaic.pipelines.run.warm import choose_groups, compile_beside
    from zemosaic.simulate import score_mosaic

    frames, settings = out / "frames", Settings()
    options = BuildOptions(mode="direct", workers=workers)
    with _watched(False, People("frames.ecsv")) as (show, cancel):
        groups = choose_groups(settings, matched=True, raw=True)
        run = make_run(options, show, cancel)
        each = run.machine.make_executor().map
        with compile_beside(groups, run):
            if not (frames / "truth.json").exists():  # written last: a set that was stopped half way is made again
                simulate(frames, kind="raws", show=show, each=each, **DEMO_SET)
            made = run_build([frames], out / "mosaic", settings, options, show, cancel)
        log = Log(show)
        log.start("score")
        score = score_mosaic(frames, made.mosaic, each)
        log.end("score", message("done.score"))
    _tell_score(score)
    _tell(made.list_files(), as_json=False)
    for picture in made.previews.values():
        _open(picture)


def warm(*, workers: int) -> None:
    """Compile all kernels."""
    from zemosaic.pipelines.modes.build import BuildOptions, make_run
    from zemosaic.pipelines.run.warm import compile_all

    with _watched(False, People()) as (show, cancel):
        told = compile_all(make_run(BuildOptions(workers=workers), show, cancel))
    print(told)


_SCORED = {
    "star_mmag": "scatter of star fluxes, mmag",
    "background_sigma": "error of the background, sigma of a frame",
    "seam_sigma": "steps at frame borders, sigma of a frame",
    "filled": "share of the sky that is filled",
}
"""Figures of a score that say how good a mosaic is."""


def _tell_score(score: Mapping[str, float]) -> None:
    """A table of the figures of `score_mosaic`: a row a figure, a column a colour."""
    colours = [name.removesuffix("_star_mmag") for name in score if name.endswith("_star_mmag")]
    prefixes = [f"{colour}_" for colour in colours] or [""]
    print((f"{'compared with the truth':<41}" + "".join(f"{colour:>8}" for colour in colours)).rstrip())
    for name, what in _SCORED.items():
        print(f"{what:<41}" + "".join(f"{score[prefix + name]:>8.3g}" for prefix in prefixes))


def _open(picture: Path) -> None:
    """Show a picture to whoever sits before a screen; elsewhere its path has been printed."""
    if sys.stdout.isatty():
        from PIL import Image

        with Image.open(picture) as image:
            image.show(title=picture.name)


def show_config() -> None:
    """Print the settings file."""
    for stage, (about, keys) in list_keys().items():
        print(f"# {about}\n[{stage}]")
        for key in keys:
            expert = "For experts. " if key.expert else ""
            print(f"# {expert}{key.prose}\n{key.name} = {key.default}\n")


def _tell(paths: Mapping[str, Path], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"event": "Done", "outputs": {name: str(path) for name, path in paths.items()}}))
    else:
        width = max(10, *map(len, paths))
        for name, path in paths.items():
            print(f"{name:<{width}} {path}")
