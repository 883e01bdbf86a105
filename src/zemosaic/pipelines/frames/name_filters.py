"""One name for each filter, whatever the headers of its frames write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zemosaic.model.filters import agree_on_names, tell_doubtful_names
from zemosaic.model.frame import Frame
from zemosaic.pipelines.run.context import Run
from zemosaic.settings import InputSettings
from zemosaic.text import message

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
    changed = [
        message("filter.spelling", old=old, n_frames=names.count(old), new=new)
        for old, new in sorted(agreed.items())
        if old != new
    ]
    if changed:
        run.log.notice(message("filter.spellings", changed=changed))
    for doubtful in tell_doubtful_names([name for name in agreed.values() if name]):
        listed = [f"'{name}'" for name in doubtful]
        told = message("filter.doubtful", names=listed, n_names=len(doubtful), one=doubtful[-1], other=doubtful[0])
        run.log.notice(told)
    return [replace(frame, decided=replace(frame.decided, filter=agreed[frame.decided.filter])) for frame in frames]
