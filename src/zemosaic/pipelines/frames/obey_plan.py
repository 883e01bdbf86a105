"""What a survey's own plan says of its frames is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zemosaic.engine.events import LeftOut
from zemosaic.errors import NothingToDo
from zemosaic.io.tables.stack_plan import PLAN_NAME, PlanRow, StackPlan, read_stack_plan
from zemosaic.model.frame import Frame
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.kept import Kept
from zemosaic.text import message

__all__ = ["obey_plans"]


def obey_plans(frames: Sequence[Frame], inputs: Sequence[Path], run: Run) -> Kept[Frame]:
    """Frames as the plans in the input folders have them.

    Parameters
    ----------
    frames : sequence of Frame
    inputs : sequence of Path
        Files and folders; a folder may hold a ``stack_plan.csv``, which speaks for the frames below it.
    run : Run

    Returns
    -------
    Kept of Frame
        Without those below a folder with a plan that does not list them; exposure, filter and mount of the others
        as planned. Results depend on no order, so order and batch are only read, as is the Bortle class: the sky is
        measured.

    Raises
    ------
    NothingToDo
        When no frame is left.
    SettingError
        When a plan cannot be read.
    """
    kept = list(frames)
    left_out: list[LeftOut] = []
    for folder in inputs:
        path = folder / PLAN_NAME
        if path.is_file():
            obeyed = _obey(read_stack_plan(path), kept, folder.absolute(), run)
            kept = obeyed.frames
            left_out += obeyed.left_out
    if frames and not kept:
        raise NothingToDo("plan.no-frame", file=PLAN_NAME)
    return Kept(kept, tuple(left_out))


def _obey(plan: StackPlan, frames: Sequence[Frame], folder: Path, run: Run) -> Kept[Frame]:
    for name in plan.ignored:
        run.log.notice(message("plan.column-ignored", file=plan.path.name, column=name))
    if plan.unreadable:
        run.log.notice(
            message("plan.values-unread", file=plan.path.name, n_values=len(plan.unreadable), first=plan.unreadable[0])
        )
    below = [frame.storage.path for frame in frames if Path(frame.storage.path).is_relative_to(folder)]
    rows = plan.find(list(dict.fromkeys(below)))
    spoken_for = set(below)
    kept, left_out = [], []
    for frame in frames:
        if frame.storage.path in rows:
            kept.append(_as_planned(frame, rows[frame.storage.path]))
        elif frame.storage.path in spoken_for:
            left_out.append(run.log.leave_out(frame, message("plan.not-listed", file=plan.path.name)))
        else:
            kept.append(frame)
    batches = {row.batch for row in plan.rows if row.batch}
    told = message(
        "plan.lists",
        file=plan.path.name, n_rows=len(plan.rows), n_here=len(rows), n_unlisted=len(spoken_for) - len(rows),
        batches=message("plan.in-batches", n=len(batches)) if batches else None,
    )  # fmt: skip
    run.log.notice(told)
    return Kept(kept, tuple(left_out))


def _as_planned(frame: Frame, row: PlanRow) -> Frame:
    planned = frame.decided
    planned = replace(planned, filter=row.filter or planned.filter, mount=row.mount or planned.mount)
    if row.exposure_s is not None:
        planned = replace(planned, exposure_s=row.exposure_s)
        if planned.gain_prior_key in {"", "EXPTIME"}:
            # Nothing better than the exposure is known of the gain.
            planned = replace(planned, gain_prior=row.exposure_s, gain_prior_key="EXPTIME")
    return replace(frame, decided=planned)
