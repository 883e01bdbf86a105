"""What every mode leaves beside its mosaics: tables, settings, the report, and a record of its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zemosaic.engine.events import LeftOut
from zemosaic.engine.memory import peak_bytes
from zemosaic.io.tables.solution import write_solution
from zemosaic.model.frame import FrameId
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.corrections.adding import record_inputs
from zemosaic.pipelines.measuring.measure_frames import MeasuredFrame
from zemosaic.pipelines.modes.mosaics import MadeMosaics, MosaicGroup
from zemosaic.pipelines.modes.session import Session
from zemosaic.pipelines.outputs.frame_facts import count_frames
from zemosaic.pipelines.outputs.provenance import write_provenance
from zemosaic.pipelines.outputs.report import Treatment, write_frames_table, write_report, write_settings
from zemosaic.pipelines.patches.ledger import forget_unused_results
from zemosaic.pipelines.patches.plan import frame_weight
from zemosaic.pipelines.products.make import make_products
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import Settings

__all__ = ["Outputs", "finish_outputs", "write_tables"]


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What a run wrote.

    Attributes
    ----------
    paths : mapping
        Files by name.
    products : mapping
        Files by name that were made of the finished mosaic, as ``output.also`` asks.
    left_out : tuple of LeftOut
        Files and frames that were not used.
    """

    paths: Mapping[str, Path]
    products: Mapping[str, Path]
    left_out: tuple[LeftOut, ...]


def finish_outputs(
    mode: str, inputs: Sequence[Path], session: Session, made: MadeMosaics, out: Path, settings: Settings, run: Run
) -> Outputs:
    """Write down what was made, and forget stored results that nothing needs any more.

    Parameters
    ----------
    mode : str
        Its name, as the command line has it.
    inputs : sequence of Path
        The files and folders that were given.
    session : Session
        Of the frames that were given.
    made : MadeMosaics
    out : Path
        The output folder.
    settings : Settings
        As the user gave them.
    run : Run
    """
    left_out = session.placed.left_out + tuple(made.left_out)
    tables = write_tables(out, made.groups, {**session.placed.known, **made.known}, left_out, session.grid)
    write_settings(out / "settings.toml", settings)
    used = frozenset(frame_id for group in made.groups for frame_id in group.used)
    facts = {
        "mode": mode,
        "inputs": [str(path.absolute()) for path in inputs],
        "frames": count_frames(session.placed.frames, used, left_out),
        "grid": _grid_facts(session.grid),
        **made.facts,
        "reading": made.reads.figures(),
        "memory_peak_bytes": peak_bytes(),
    }
    table = session.guide.table
    write_provenance(out / "provenance.json", inputs, [table.absolute()] if table else [], settings, run)
    write_report(out / "report.json", facts, left_out, settings, run.log.journal)
    record_inputs(out, mode, inputs, solved=session.guide.solved)
    forget_unused_results(run, session.inputs.frames)
    products = make_products(out, settings.output, run)
    return Outputs({**made.paths, **tables, "report": out / "report.json"}, products, left_out)


def write_tables(
    out: Path,
    groups: Sequence[MosaicGroup],
    known: Mapping[FrameId, MeasuredFrame],
    left_out: Sequence[LeftOut],
    grid: SkyGrid,
) -> dict[str, Path]:
    """One table of frames and one of corrections for all filters, in the order of the files' names.

    Weights are told in the units of a mosaic on `grid`.
    """
    placed = [item for group in groups for item in group.frames]
    placed.sort(key=lambda item: (item.frame.storage.path, item.frame.storage.hdu))
    treated = {frame_id: treatment for group in groups for frame_id, treatment in _treatments(group, grid)}
    frames = [item.frame for item in placed]
    paths = {"match": out / "match.ecsv", "frames": out / "frames.ecsv"}
    matched = [frame for frame in frames if frame.id in treated]
    write_solution(paths["match"], matched, [treated[frame.id].scale for frame in matched])
    write_frames_table(paths["frames"], placed, treated, {i for group in groups for i in group.used}, known, left_out)
    return paths


def _treatments(group: MosaicGroup, grid: SkyGrid) -> Iterator[tuple[str, Treatment]]:
    """What was done with the frames of a mosaic that have a correction."""
    scales = group.corrections.scales
    for item in group.frames:
        frame_id = item.frame.id
        if frame_id in scales:
            weight = frame_weight(item, scales[frame_id], grid) if frame_id in group.used else None
            yield frame_id, Treatment(scales[frame_id], weight, group.clipped.get(frame_id))


def _grid_facts(grid: SkyGrid) -> dict[str, Any]:
    """Size, scale and centre, for the report."""
    ra, dec = grid.wcs.pixel_to_sky((grid.shape[1] - 1) / 2, (grid.shape[0] - 1) / 2)
    return {
        "height": grid.shape[0],
        "width": grid.shape[1],
        "scale_arcsec": grid.scale_arcsec,
        "height_deg": grid.shape[0] * grid.scale_arcsec / 3600,
        "width_deg": grid.shape[1] * grid.scale_arcsec / 3600,
        "center_deg": [float(ra), float(dec)],
    }
