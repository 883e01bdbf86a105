"""Which products there are, and how they are made: after a build, or of a finished folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from zemosaic.pipelines.products.edit import write_edit_files
from zemosaic.pipelines.products.folder import FinishedFolder, open_folder
from zemosaic.pipelines.products.regions import write_region_files
from zemosaic.pipelines.products.report_page import write_report_page
from zemosaic.pipelines.products.tiff import write_tiff_files
from zemosaic.pipelines.products.viewer import write_viewer
from zemosaic.pipelines.run.context import Run, output_folder
from zemosaic.settings import OutputSettings

__all__ = ["PRODUCTS", "export_products", "make_products"]

Product = Callable[[FinishedFolder, Run], Mapping[str, Path]]
"""Makes files of a finished folder, each under its final name only when it is whole, and returns them by name. What it
needs beside the base of the package it imports when it is called."""

PRODUCTS: Mapping[str, Product] = {
    "report": write_report_page,
    "edit": write_edit_files,
    "tiff": write_tiff_files,
    "regions": write_region_files,
    "viewer": write_viewer,
}
"""By the words of ``output.also`` (`zemosaic.settings.PRODUCT_NAMES`), in the order in which they are made."""


def make_products(out: Path, settings: OutputSettings, run: Run) -> dict[str, Path]:
    """Make products of a finished folder that the caller keeps other runs out of.

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

    Raises
    ------
    NothingToDo
        When no run has ended there.
    EnvironmentProblem
        When a file cannot be written.
    """
    paths: dict[str, Path] = {}
    if not settings.also:
        return paths
    folder = open_folder(out)
    for name, make in PRODUCTS.items():
        if name in settings.also:
            run.cancel.check()
            run.log.start(name)
            made = make(folder, run)
            run.log.end(name, ", ".join(path.name for path in made.values()))
            paths |= made
    return paths


def export_products(out: Path, settings: OutputSettings, run: Run) -> dict[str, Path]:
    """Make products of a folder that an earlier run has finished; its frames are not needed.

    Parameters, returns and errors are those of `make_products`; another run at work in the folder is an error, too.
    """
    open_folder(out)  # a folder without a mosaic is told before anything is written there
    with output_folder(out, run) as run:
        return make_products(out, settings, run)
