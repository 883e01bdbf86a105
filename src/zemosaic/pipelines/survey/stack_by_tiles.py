"""A mosaic by way of its tiles: stacked, matched over their overlaps, blended."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from zemosaic.io.read.read_counts import ReadCounts
from zemosaic.io.write.mosaic_file import MosaicFile
from zemosaic.pipelines.patches.ledger import PatchLedger
from zemosaic.pipelines.patches.stacking import Filled
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.pipelines.survey.assembly import assemble_tiles
from zemosaic.pipelines.survey.blending import blend_patches, log_and_notice
from zemosaic.pipelines.survey.tiles import TileRecipe, make_tiles
from zemosaic.text import message

__all__ = ["stack_by_tiles"]


def stack_by_tiles(recipe: TileRecipe, file: MosaicFile, folder: Path, run: Run) -> Filled:
    """Make a mosaic by way of tiles and write its planes; takes the place of `stack_onto_grid`.

    Parameters
    ----------
    recipe : TileRecipe
    file : MosaicFile
    folder : Path
        For the tiles while they are needed. A run that is stopped leaves them for the next one.
    run : Run

    Returns
    -------
    Filled
    """
    cut = recipe.cut
    # Every pixel of the blended mosaic depends on all tiles, through their solve, and on the code that blends them.
    tile_keys = [key for _, _, key in recipe.wanted]
    figures_key = make_key("survey", tile_keys, recipe.settings.survey, recipe.settings.match)
    ledger = PatchLedger(recipe.job, file, run.store, figures_key) if run.store else None
    figures: dict[str, Any] | None = run.store.get(figures_key) if run.store else None
    if figures is not None and ledger and all(map(ledger.recall, blend_patches(recipe.job.grid, recipe.levels))):
        return Filled(figures, ReadCounts())
    log_and_notice(
        run,
        f"[GRID] {len(recipe.wanted)} tiles of {cut.boxes[0].width} x {cut.boxes[0].height} px, "
        f"{cut.overlap_px} px shared",
        message(
            "survey.tiles",
            n_tiles=len(recipe.wanted),
            width_px=cut.boxes[0].width,
            height_px=cut.boxes[0].height,
            shared_px=cut.overlap_px,
        ),
    )
    tiles, reads = make_tiles(recipe, folder, run)
    figures = {
        "n_samples": sum(tile.n_samples for tile in tiles),
        "n_rejected": sum(tile.n_rejected for tile in tiles),
        "n_tiles": len(tiles),
        **assemble_tiles(tiles, recipe, ledger or file, run),
    }
    if run.store:
        run.store.put(figures_key, figures)
    shutil.rmtree(folder, ignore_errors=True)
    return Filled(figures, reads)
