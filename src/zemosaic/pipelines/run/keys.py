"""Keys of stored results: all that a result follows from, and the code that makes it."""

from __future__ import annotations

from collections.abc import Mapping

from zemosaic.engine.code import code_digest
from zemosaic.engine.values import digest_of

__all__ = ["CODE", "make_key"]

_PIXELS = (
    "io.read.frame_reader",
    "pipelines.calibration.calibrated_source",
    "pipelines.measuring.clean_source",
)
"""What reads pixels. It is handed to tasks behind a protocol, so their modules do not import it."""

CODE: Mapping[str, tuple[str, ...]] = {
    "applied": ("pipelines.corrections.adding",),
    "calibration": ("pipelines.calibration.calibrating", *_PIXELS),
    "cut": ("pipelines.patches.stacking",),
    "defects": ("pipelines.measuring.measure_frames", *_PIXELS),
    "hips": ("pipelines.products.hips",),
    "look": ("pipelines.frames.check_pixels", *_PIXELS),
    "master": ("pipelines.calibration.masters", *_PIXELS),
    "master_tile": ("pipelines.modes.master_tiles", *_PIXELS),
    "match": ("pipelines.corrections.match_frames",),
    "measure": ("pipelines.measuring.measure_task", *_PIXELS),
    "measure_tile": ("pipelines.survey.assembly",),
    "patch": ("pipelines.patches.stacking", *_PIXELS),
    "planes": ("pipelines.patches.stack_remotely", *_PIXELS),
    "refine": ("pipelines.solving.solve_frames", "pipelines.solving.header_places"),
    "solve": ("pipelines.solving.solve_frames",),
    "survey": ("pipelines.survey.stack_by_tiles", *_PIXELS),
    "tile": ("pipelines.survey.tiles", *_PIXELS),
    "tile_clipped": ("pipelines.modes.master_tiles", *_PIXELS),
}
"""Stage -> the modules that make its results. With all that these import they are part of its keys, so a change of code
makes again what it can change, and only that. What is handed in as a value is not here: it is in the key itself."""


def make_key(stage: str, *parts: object) -> str:
    """Key of a task: ``STAGE/DIGEST`` of its inputs and settings (see `digest_of`) and of the code of the stage.

    Parameters
    ----------
    stage : str
        One of `CODE`.
    *parts
        All that the result follows from.
    """
    return f"{stage}/{digest_of(code_digest(CODE[stage]), *parts)}"
