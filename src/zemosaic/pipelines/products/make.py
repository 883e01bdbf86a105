"""Which products there are, and how they are made: after a build, or of a finished folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from zemosaic.errors import Cancelled, ZeMosaicError
from zemosaic.pipelines.products.folder import FinishedFolder, open_folder
from zemosaic.pipelines.run.context import Run, output_folder
from zemosaic.settings import OutputSettings
from zemosaic.text import message

__all__ = ["PRODUCTS", "export_products", "make_products"]

Product = Callable[[FinishedFolder, Run], Mapping[str, Path]]
"""Makes files of a finished folder, each under its final name only when it is whole, and returns them by name."""


def _later(module: str, function: str, **given: Any) -> Product:
    """A product whose module is loaded when it is made: one product does not wait for what the others need."""

    def make(folder: FinishedFolder, run: Run) -> Mapping[str, Path]:
        write: Callable[..., Mapping[str, Path]] = getattr(import_module(f"{__package__}.{module}"), function)
        return write(folder, run, **given)

    return make


PRODUCTS: Mapping[str, Product] = {
    "report": _later("report_page", "write_report_page"),
    "edit": _later("edit", "write_edit_files"),
    "tiff": _later("tiff", "write_tiff_files"),
    "aesthetic": _later("aesthetic", "write_aesthetic_files"),
    "regions": _later("regions", "write_region_files"),
    "viewer": _later("viewer", "write_viewer"),
    "hips": _later("hips", "write_hips"),
    "hips-png": _later("hips", "write_hips", suffix=".png"),
}
"""By the words of ``output.also`` (`zemosaic.settings.PRODUCT_NAMES`), in the order in which they are made."""

_BESIDE = {"report"}
"""Made beside the others: drawn by one thread, in little memory."""


def make_products(out: Path, settings: OutputSettings, run: Run) -> dict[str, Path]:
    """Make products of a folder that this run has just finished; one that fails is told, for the mosaic is whole.

    Parameters
    ----------
    out : Path
    settings : OutputSettings
        ``also`` says which.
    run : Run

    Returns
    -------
    dict
        Files by name.
    """
    made, failed = _make_each(out, settings.also, run)
    for name, problem in failed.items():
        why = problem if isinstance(problem, ZeMosaicError) else f"{type(problem).__name__}: {problem}"
        run.log.notice(message("products.failed", product=name, why=why), "warning")
    return made


def export_products(out: Path, settings: OutputSettings, run: Run) -> dict[str, Path]:
    """Make products of a folder that an earlier run has finished; its frames are not needed.

    Parameters and returns are those of `make_products`.

    Raises
    ------
    NothingToDo
        When no run has ended there.
    EnvironmentProblem
        When a file cannot be written, or another run is at work in the folder.
    """
    open_folder(out)  # a folder without a mosaic is told before anything is written there
    with output_folder(out, run) as run:
        made, failed = _make_each(out, settings.also, run)
    for problem in failed.values():
        raise problem
    return made


def _make_each(out: Path, wanted: Collection[str], run: Run) -> tuple[dict[str, Path], dict[str, Exception]]:
    """The files of the products wanted, and what went wrong with others: one that fails does not cost the next."""
    names = [name for name in PRODUCTS if name in wanted]
    if not names:
        return {}, {}
    folder = open_folder(out)

    def make_lane(lane: Sequence[str]) -> dict[str, Mapping[str, Path] | Exception]:
        return {name: _make(name, folder, run) for name in lane}

    lanes = [name for name in names if name in _BESIDE], [name for name in names if name not in _BESIDE]
    made: dict[str, Mapping[str, Path] | Exception] = {}
    for lane in run.machine.make_executor().map(make_lane, lanes):
        made |= lane
    paths: dict[str, Path] = {}
    failed: dict[str, Exception] = {}
    for name in names:
        result = made[name]
        if isinstance(result, Exception):
            failed[name] = result
        else:
            paths |= result
    return paths, failed


def _make(name: str, folder: FinishedFolder, run: Run) -> Mapping[str, Path] | Exception:
    """The files of one product, or why there are none."""
    run.cancel.check()
    run.log.start(name)
    try:
        made = PRODUCTS[name](folder, run)
    except Cancelled:
        raise
    except Exception as problem:  # noqa: BLE001 - told by a build, raised again by an export
        run.log.end(name)
        return problem
    run.log.end(name, message("done.files", names=[path.name for path in made.values()]))
    return made
