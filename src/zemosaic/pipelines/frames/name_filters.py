"""One name for each filter, whatever the headers of its frames write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zemosaic.model.filters import agree_on_names, tell_doubtful_names
from zemosaic.model.frame import Frame
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import InputSettings

__all__ = ["name_filters"]


def name_filters(frames: Sequence[Frame], settings: InputSettings, run: Run) -> list[Frame]:
    """Frames with one spelling a filter; what was taken as one, and what may be one, is told.

    Parameters
    ----------
    frames : sequence of Frame
    settings : InputSettings
        ``filters`` acts here.
    run : Run
    """
    names = [frame.decided.filter for frame in frames]
    agreed = agree_on_names(names, settings.filters.as_dict)
    changed = [f"'{old}' ({names.count(old)}) as '{new}'" for old, new in sorted(agreed.items()) if old != new]
    if changed:
        run.log.notice(f"spellings of one filter are taken together: {', '.join(changed)}")
    for doubtful in tell_doubtful_names([name for name in agreed.values() if name]):
        listed = ", ".join(f"'{name}'" for name in doubtful)
        run.log.notice(
            f"the filters {listed} are taken as {len(doubtful)}; if they are one, say so: "
            f"--set input.filters='{doubtful[-1]}={doubtful[0]}'"
        )
    return [replace(frame, decided=replace(frame.decided, filter=agreed[frame.decided.filter])) for frame in frames]
