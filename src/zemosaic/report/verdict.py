"""The verdict: three grades by written limits on what was measured, and the codes of its sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FAINT_FRAME", "FAINT_STEP", "GRADES", "LOOK_FRAME", "LOOK_STEP", "Verdict", "judge", "worst_of"]

GRADES = ("clean", "faint", "look", "unknown")
"""No border can be seen; faint ones may show when stretched hard; look at the places; nothing was measured."""

FAINT_STEP, LOOK_STEP = 0.1, 0.3
"""Root mean square of all steps beyond their errors, and the size of a single place beyond its own (see `_PLACE`), in
units of the noise of a mosaic's pixel. An edge of 0.1 is lost in noise unless an eye follows it over a hundred pixels;
0.3 shows at a glance in a stretched picture."""

FAINT_FRAME, LOOK_FRAME = 0.05, 0.15
"""Mean step all along the border of one frame, beyond its errors. A straight edge as long as a frame is seen at half of
what a short one needs: a frame that is wrong by its own noise gives 1 / sqrt(depth), 0.15 at 44 frames deep."""

_PLACE = 6.0
"""A single place, an eighth of one side of a frame, may have so many times the root mean square's limits: a short edge
is lost in structure, and few squares tell its error."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the page says first.

    Attributes
    ----------
    grade : str
        One of `GRADES`.
    because : str
        Which figure decides: "rms", "place" or "frame"; "" where the mosaic is clean or nothing is known.
    """

    grade: str
    because: str = ""


def judge(borders: Mapping[str, Any] | None) -> Verdict:
    """The grade of one mosaic by the figures ``borders`` of report.json."""
    if not borders or borders.get("step") is None:
        return Verdict("unknown")
    figures = (
        ("frame", borders.get("sure_frame"), FAINT_FRAME, LOOK_FRAME),
        ("place", borders.get("sure_place"), FAINT_STEP * _PLACE, LOOK_STEP * _PLACE),
        ("rms", borders.get("sure_step"), FAINT_STEP, LOOK_STEP),
    )
    for grade, column in (("look", 3), ("faint", 2)):
        for figure in figures:
            if figure[1] is not None and figure[1] > figure[column]:
                return Verdict(grade, figure[0])
    return Verdict("clean")


def worst_of(verdicts: Iterable[Verdict]) -> Verdict:
    """The one that a reader must know: the worst grade; unknown counts between clean and faint."""
    order = ("clean", "unknown", "faint", "look")
    return max(verdicts, key=lambda verdict: order.index(verdict.grade), default=Verdict("unknown"))
