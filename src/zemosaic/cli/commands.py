"""What each command does: settings, a run, a pipeline."""

from __future__ import annotations

import _thread
import gc
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zemosaic.cli.show import JsonLines, People
from zemosaic.engine.events import CancelToken
from zemosaic.engine.memory import keep_freed_memory, parse_bytes
from zemosaic.engine.remote import check_executor
from zemosaic.errors import NothingToDo, SettingError
from zemosaic.model.frame import Frame
from zemosaic.pipelines.corrections.adding import frozen_grid, inputs_so_far
from zemosaic.pipelines.run.context import Run, RunOptions, start_run
from zemosaic.settings import Settings, list_keys, load_settings

DEMO_FIELD = 314.7, 44.3
"""ICRS centre of the demo in degrees: the North America nebula, rich in stars that the packaged list knows."""

HURRY_S = 3.0
"""After a Ctrl-C, steps that look at the cancel token in vain so long are interrupted."""


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
def _watched(options: RunOptions, as_json: bool, people: People) -> Iterator[Run]:
    """A run whose events are shown, to `people` unless as JSON, and which the first Ctrl-C stops in good order."""
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
    try:
        with JsonLines() if as_json else people as show:
            yield start_run(options, show, cancel)
    finally:
        hurry.cancel()
        signal.signal(signal.SIGINT, before)


_OPTIONS = {
    "header": "grid",
    "frames": "input",
    "darks": "calibrate",
    "flats": "calibrate",
    "biases": "calibrate",
}
"""Options of the command line that stand for a setting of the same name, and its stage."""


def _load(config: Path | None, assign: list[str], **options: Path | None) -> Settings:
    """Settings of a file, assignments and options."""
    given: dict[str, dict[str, Any]] = {}
    for name, path in options.items():
        if path is not None:
            given.setdefault(_OPTIONS[name], {})[name] = str(path)
    return load_settings(config, assign, given)


def build(
    inputs: list[Path],
    out: Path,
    *,
    mode: str,
    config: Path | None,
    assign: list[str],
    header: Path | None,
    solution: Path | None,
    frames: Path | None = None,
    masters: Mapping[str, Path | None],
    ram: str,
    workers: int,
    executor: str = "threads",
    add: bool = False,
    tolerance: float = 0.0,
    keep_warps: Path | None,
    fresh: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Make a mosaic."""
    if tolerance and not add:
        raise SettingError("--tolerance is about frames that a mosaic holds already; it needs --add")
    onto = None
    if add:
        onto, config, mode = frozen_grid(out), config or out / "settings.toml", "direct"
        inputs = list(dict.fromkeys([*inputs_so_far(out), *(path.absolute() for path in inputs)]))
    settings = _load(config, assign, header=header, frames=frames, **masters)
    cap_bytes = parse_bytes(ram) if ram else 0
    options = RunOptions(workers, cap_bytes, fresh, yes, keep_warps, check_executor(executor), onto, tolerance)
    with _loading():
        from zemosaic.pipelines.modes.choose import build_mosaic

    with _watched(options, as_json, People("frames.ecsv")) as run:
        paths = build_mosaic(inputs, out, settings, run, mode, solution)
    _tell(paths, as_json)


def match(
    inputs: list[Path],
    out: Path,
    *,
    config: Path | None,
    assign: list[str],
    header: Path | None,
    masters: Mapping[str, Path | None],
    ram: str,
    workers: int,
    fresh: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Solve gains and surfaces only."""
    settings = _load(config, assign, header=header, **masters)
    from zemosaic.pipelines.modes.direct import match_only

    options = RunOptions(workers, parse_bytes(ram) if ram else 0, fresh, yes)
    with _watched(options, as_json, People("frames.ecsv")) as run:
        paths = match_only(inputs, out, settings, run)
    _tell(paths, as_json)


def solve(
    inputs: list[Path],
    folder: Path | None,
    *,
    config: Path | None,
    assign: list[str],
    masters: Mapping[str, Path | None],
    ram: str,
    workers: int,
    as_json: bool,
) -> None:
    """Find where frames point."""
    settings = _load(config, assign, **masters)
    from zemosaic.pipelines.solving.solve_command import solve_inputs

    options = RunOptions(workers, parse_bytes(ram) if ram else 0)
    with _watched(options, as_json, People("solve.ecsv" if folder else "")) as run:
        rows = solve_inputs(inputs, settings, run, folder)
    for row in rows:
        if as_json:
            print(json.dumps({"event": "Solved", **row}))
        elif row["ra_deg"] is None:
            print(f"{row['name']}  unsolved: {row['reason']}")
        else:
            mirrored = "  mirrored" if row["mirrored"] else ""
            fit = f"  {row['n_stars']} stars, {row['rms_px'] or 0:.2f} px" if row["n_stars"] else ""
            place = f"{row['ra_deg']:.5f} {row['dec_deg']:+.5f}  {row['scale_arcsec']:.4f} arcsec"
            print(f"{row['name']}  {row['how']}  {place}  {row['rotation_deg']:+.2f} deg{mirrored}{fit}")


def scan(inputs: list[Path], *, config: Path | None, assign: list[str], as_json: bool) -> None:
    """List frames."""
    settings = load_settings(config, assign)
    from zemosaic.pipelines.frames.pipeline import scan_inputs

    with _watched(RunOptions(), as_json, People(all_left_out=True)) as run:
        frames, beside = scan_inputs(inputs, settings.input, run)
    for frame in sorted([*frames, *beside], key=lambda f: f.path):
        if as_json:
            facts = {
                name: getattr(frame, name)
                for name in ("id", "path", "kind", "hdu", "shape", "layout", "filter", "exposure_s", "date_obs")
            }
            print(json.dumps({"event": "Frame", **facts, "has_wcs": frame.wcs_cards is not None}))
        else:
            height, width = frame.shape
            exposure = f"{frame.exposure_s:g} s" if frame.exposure_s is not None else "-"
            what = f"{_kind_of(frame)}  {frame.filter or '-'}  {exposure}  {_place_of(frame)}"
            print(f"{frame.path}  {width} x {height}  {what}")


def _kind_of(frame: Frame) -> str:
    """What was exposed, or how a picture of the sky holds its colours."""
    if frame.kind != "light":
        return frame.kind
    stack = f", stack of {frame.n_stacked}" if frame.n_stacked > 1 else ""
    return (frame.bayer or ("mono" if frame.n_channels == 1 else "colour")) + stack


def _place_of(frame: Frame) -> str:
    """What the header tells of where a picture of the sky is; the rest is solved for."""
    if frame.kind != "light":
        return "-"
    if frame.wcs_cards:
        return "WCS"
    if frame.hint is None:
        return "no position"
    return "RA, Dec" if frame.hint.scale_arcsec else "RA, Dec, no scale"


def simulate(
    out: Path,
    *,
    kind: str,
    n_frames: int,
    seed: int,
    size_deg: float,
    center_deg: tuple[float, float] = (83.8, 22.0),
) -> None:
    """Write a simulated set."""
    from zemosaic.simulate import SimulatedSky, simulate_frames, simulate_raws

    makers: dict[str, Callable[..., object]] = {"frames": simulate_frames, "raws": simulate_raws}
    if kind not in makers:
        raise SettingError(f"kind '{kind}' is not one of {', '.join(makers)}")
    from zemosaic.io.astrometry.catalogue import tycho2
    from zemosaic.pipelines.run.log import Log

    with People() as show:
        log = Log(show)
        advance = log.start("simulate", n_frames)
        stars = None
        if kind == "raws":  # to be solved they need the stars that are really there
            known = tycho2().cone(*center_deg, size_deg)
            stars = known.ra_deg, known.dec_deg, known.mag
        sky = SimulatedSky(seed, *center_deg, size_deg, stars)
        makers[kind](out, sky, n_frames, on_progress=lambda done, total: advance(done))
        log.end("simulate", f"{n_frames} {kind} and their truth in {out}")


def demo(out: Path, *, workers: int) -> None:
    """Simulate, build, score, show."""
    from zemosaic.pipelines.modes.direct import build_direct
    from zemosaic.simulate import score_mosaic

    frames = out / "frames"
    if not (frames / "truth.json").exists():  # written last: a set that was stopped half way is made again
        simulate(frames, kind="raws", n_frames=24, seed=1, size_deg=1.7, center_deg=DEMO_FIELD)
    with _watched(RunOptions(workers), False, People("frames.ecsv")) as run:
        paths = build_direct([frames], out / "mosaic", Settings(), run, None)
    score = score_mosaic(frames, paths["mosaic"])
    _tell_score(score)
    _tell(paths, as_json=False)
    _open(paths.get("preview"))


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


def _open(picture: Path | None) -> None:
    """Show a picture to whoever sits before a screen; elsewhere its path has been printed."""
    if picture is not None and sys.stdout.isatty():
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


def doctor() -> None:
    """Print what the machine offers."""
    import importlib.metadata as metadata
    import platform

    from zemosaic.engine.memory import default_cap_bytes, default_workers

    print(f"zemosaic {metadata.version('zemosaic')}, Python {platform.python_version()}, {platform.platform()}")
    print(f"processors: {default_workers()}; memory cap by default: {default_cap_bytes() / 2**30:.1f} GiB")
    for name in ("numpy", "scipy", "astropy", "numba", "pydantic", "pillow"):
        print(f"  {name} {metadata.version(name)}")
    from zemosaic.errors import EnvironmentProblem
    from zemosaic.io.astrometry.catalogue import tycho2

    try:
        catalogue = tycho2()
        print(f"plate solving: {catalogue.name}, {len(catalogue):,} stars, built in; no other program is needed")
    except EnvironmentProblem as problem:
        print(f"plate solving: not possible: {problem}")
    from zemosaic.io.astrometry.blind import SolveField, installed_solvers

    for solver in installed_solvers():
        print(f"blind solving, for frames without a position or scale in the header: {solver.name} found")
    if not installed_solvers():
        print(
            f"blind solving, for frames without a position or scale in the header: {SolveField.name} not found; "
            "install astrometry.net with index files to have it"
        )
    for name, what in (
        ("tifffile", "TIFF files as frames"),
        ("rawpy", "camera raw (CR2, NEF, ARW, DNG ...) as frames"),
    ):
        try:
            print(f"{what}: {name} {metadata.version(name)} found")
        except metadata.PackageNotFoundError:
            print(f'{what}: {name} not found; pip install "zemosaic[raw]" to have it')


def _tell(paths: dict[str, Path], as_json: bool) -> None:
    if not paths:
        raise NothingToDo("the run made no output")
    if as_json:
        print(json.dumps({"event": "Done", "outputs": {name: str(path) for name, path in paths.items()}}))
    else:
        width = max(10, *map(len, paths))
        for name, path in paths.items():
            print(f"{name:<{width}} {path}")
