"""``build`` for both doors, the command line and Python: what may be asked for, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zemosaic.engine.events import CancelToken, EventSink, LeftOut
from zemosaic.engine.memory import parse_bytes
from zemosaic.engine.remote import check_executor
from zemosaic.errors import SettingError
from zemosaic.pipelines.run.context import Run, RunOptions, start_run
from zemosaic.settings import Settings
from zemosaic.text import LANGUAGES

__all__ = ["BuildOptions", "BuildResult", "find_settings_file", "make_run", "run_build"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What may be asked of a build beside its settings: the options of ``zemosaic build``, by the same names.

    Attributes
    ----------
    mode : {"auto", "direct", "master-tiles", "grid", "existing-tiles"}
        Which way from frames to a mosaic; auto looks at the inputs and says what it takes. See
        ``docs/method/master-tiles.md`` and ``docs/method/survey-grid.md``.
    solution : path or None
        Table of gains and surfaces (``match.ecsv``) to apply instead of matching.
    add : bool
        Add the inputs to the mosaic in the output folder, whose grid and settings stay.
    tolerance : float
        With `add`: frames that would change by less than this many sigma stay as they are; 0: none.
    workers : int
        Tasks at once; 0 takes the processors there are.
    ram : str or int
        Memory cap, as ``"4G"`` or in bytes; "" takes half of what is free.
    executor : str
        Where tasks run: threads, serial, processes, dask, or ``dask:ADDRESS`` of a scheduler.
    fresh : bool
        Ignore results stored by an earlier run.
    yes : bool
        Go on where a question would be asked, as before a very large grid.
    keep_warps : path or None
        Folder that receives each registered, corrected frame.
    watched : bool
        Whether another program shows this run: `PatchFinished` events and a picture that grows.
    compile_ahead : bool
        Whether kernels that this machine has not compiled yet are compiled in other processes before they are called;
        a script that asks for it, or for the executor processes, guards its main module.
    language : {"en", "fr"}
        Of the report page.
    """

    mode: str = "auto"
    solution: str | Path | None = None
    add: bool = False
    tolerance: float = 0.0
    workers: int = 0
    ram: str | int = ""
    executor: str = "threads"
    fresh: bool = False
    yes: bool = False
    keep_warps: str | Path | None = None
    watched: bool = False
    compile_ahead: bool = False
    language: str = "en"


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The files that a build wrote.

    Attributes
    ----------
    mosaics : mapping of str to Path
        By filter, as it stands in the file's name: ``{"Ha": .../mosaic_Ha.fits}``; "" where there is one kind of
        frames alone (``mosaic.fits``). Colour and mono frames of one filter are two kinds.
    previews : mapping of str to Path
        The same for ``preview.png``; empty with ``output.preview = false``.
    frames, match, report : Path
        ``frames.ecsv``: used or why not, and what was measured; ``match.ecsv``: gains and surfaces; ``report.json``.
    tiles : Path or None
        Folder of the master tiles, where the mode makes them.
    products : mapping of str to Path
        What was made of the finished mosaic, as ``output.also`` asks: ``{"edit": .../mosaic_edit.fits}``.
    left_out : tuple of LeftOut
        Files and frames that were not used: name, reason, path.
    """

    mosaics: Mapping[str, Path]
    previews: Mapping[str, Path]
    frames: Path
    match: Path
    report: Path
    tiles: Path | None = None
    products: Mapping[str, Path] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = field(default=(), repr=False)

    @property
    def mosaic(self) -> Path:
        """The one mosaic.

        Raises
        ------
        SettingError
            Where there are several.
        """
        if len(self.mosaics) > 1:
            raise SettingError("build.several-mosaics", n_mosaics=len(self.mosaics), names=self.mosaics)
        return next(iter(self.mosaics.values()))

    def list_files(self) -> dict[str, Path]:
        """All files by name: ``mosaic`` or ``mosaic_Ha``, ``preview``, ``match``, ``frames``, ``tiles``, ``report``,
        then the products."""
        files: dict[str, Path] = {}
        for label, path in self.mosaics.items():
            tag = f"_{label}" if label else ""
            files[f"mosaic{tag}"] = path
            if label in self.previews:
                files[f"preview{tag}"] = self.previews[label]
        files |= {"match": self.match, "frames": self.frames}
        return files | ({"tiles": self.tiles} if self.tiles else {}) | {"report": self.report, **self.products}


def find_settings_file(out: Path, options: BuildOptions) -> Path | None:
    """The settings that a build stands on where nobody names a file: those of the mosaic that frames are added to.

    Raises
    ------
    NothingToDo
        When there is no mosaic to add to.
    """
    if not options.add:
        return None
    from zemosaic.pipelines.corrections.adding import frozen_grid

    frozen_grid(out)
    return out / "settings.toml"


def make_run(
    options: BuildOptions, on_event: EventSink, cancel: CancelToken | None = None, onto: Path | None = None
) -> Run:
    """A run that uses the machine as the options say, onto the grid of the mosaic `onto` where there is one.

    Raises
    ------
    SettingError
        For options that are out of range.
    """
    if options.tolerance < 0 or options.workers < 0:
        raise SettingError("build.negative", tolerance=options.tolerance, workers=options.workers)
    if options.language not in LANGUAGES:
        raise SettingError("build.unknown-language", name=options.language, known=LANGUAGES)
    run_options = RunOptions(
        workers=options.workers,
        ram_bytes=parse_bytes(str(options.ram)) if options.ram else 0,
        fresh=options.fresh,
        yes=options.yes,
        keep_warps=Path(options.keep_warps) if options.keep_warps else None,
        executor=check_executor(options.executor),
        onto=onto,
        tolerance=options.tolerance,
        watched=options.watched,
        compile_ahead=options.compile_ahead,
        language=options.language,
    )
    return start_run(run_options, on_event, cancel)


def run_build(
    inputs: Sequence[Path],
    out: Path,
    settings: Settings,
    options: BuildOptions,
    on_event: EventSink,
    cancel: CancelToken | None = None,
) -> BuildResult:
    """Make the mosaic that was asked for.

    Raises
    ------
    SettingError
        For options that are out of range or contradict each other, and as `build_mosaic`.
    NothingToDo
        When there is no mosaic to add to, no usable frame, or no frame reaches the grid.
    EnvironmentProblem
        When the folder cannot be written or the memory cap is too small.
    Cancelled
        When `cancel` says so.
    """
    # Here, so that a command that makes no mosaic does not wait for what makes one.
    from zemosaic.pipelines.corrections.adding import frozen_grid, read_record
    from zemosaic.pipelines.modes.choose import build_mosaic

    if options.tolerance and not options.add:
        raise SettingError("adding.tolerance-alone")
    mode, onto = options.mode, None
    if options.add:
        if mode not in {"auto", "direct"}:
            raise SettingError("adding.other-mode-asked", mode=mode)
        mode, onto = "direct", frozen_grid(out)
        before = read_record(out)
        if before.mode != "direct":
            raise SettingError("adding.other-mode", folder=out, mode=before.mode)
        inputs = list(dict.fromkeys([*before.inputs, *(path.absolute() for path in inputs)]))
    run = make_run(options, on_event, cancel, onto)
    made = build_mosaic(inputs, out, settings, run, mode, Path(options.solution) if options.solution else None)
    files = made.paths
    return BuildResult(
        _by_filter(files, "mosaic"), _by_filter(files, "preview"), files["frames"], files["match"], files["report"],
        files.get("tiles"), made.products, made.left_out,
    )  # fmt: skip


def _by_filter(files: Mapping[str, Path], kind: str) -> dict[str, Path]:
    """Of ``mosaic`` or ``mosaic_Ha``: the paths by filter."""
    return {
        name.removeprefix(kind).removeprefix("_"): path
        for name, path in files.items()
        if name == kind or name.startswith(f"{kind}_")
    }
