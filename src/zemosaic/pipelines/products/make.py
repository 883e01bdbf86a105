"""Which products there are, and how they are made: after a build, or of a finished folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from zemosaic.errors import Cancelled, ZeMosaicError
from zemosaic.pipelines.products.aesthetic import write_aesthetic_files
from zemosaic.pipelines.products.edit import write_edit_files
from zemosaic.pipelines.products.folder import FinishedFolder, open_folder
from zemosaic.pipelines.products.hips import write_hips
from zemosaic.pipelines.products.regions import write_region_files
from zemosaic.pipelines.products.report_page import write_report_page
from zemosaic.pipelines.products.tiff import write_tiff_files
from zemosaic.pipelines.products.viewer import write_viewer
from zemosaic.pipelines.run.context import Run, output_folder
from zemosaic.settings import OutputSettings
from zemosaic.text import message

__all__ = ["PRODUCTS", "export_products", "make_products"]

Product = Callable[[FinishedFolder, Run], Mapping[str, Path]]
"""Makes files of a finished folder, each under its final name only when it is whole, and returns them by name. What it
needs beside the base of the package it imports when it is called."""

PRODUCTS: Mapping[str, Product] = {
    "report": write_report_page,
    "edit": write_edit_files,
    "tiff": write_tiff_files,
    "aesthetic": write_aesthetic_files,
    "regions": write_region_files,
    "viewer": write_viewer,
    "hips": write_hips,
    "hips-png": partial(write_hips, suffix=".png"),
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
