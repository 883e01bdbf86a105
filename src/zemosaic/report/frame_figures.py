"""Frame by frame against time: one strip a quantity, nights side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from zemosaic.report.svg import FAINT, ONE, TWO, bars, dots, draw, plot, shade_span

__all__ = ["Timeline", "strip", "timeline_of"]

F8 = npt.NDArray[np.float64]

NIGHT_GAP_H = 2.0
"""Hours without a frame that part sessions: two halves of a night with a pause between are drawn side by side."""

SPACE = 0.04
"""Room between nights, as a share of all hours shown."""

MOST_NAMED = 6
"""Nights whose date is written."""

SPREAD = 8.0
"""Axes show so many times the distance between the quartiles beyond them; what lies beyond is drawn at the edge."""


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Where each frame lies on the axis of time.

    Attributes
    ----------
    at : ndarray, shape (n,)
        Hours since the first frame, without the days between nights; the row of a frame of unknown time.
    nights : list of (first, last, label)
    timed : bool
        Whether frames tell their time; otherwise they follow each other.
    """

    at: F8
    nights: list[tuple[float, float, str]]
    timed: bool


def timeline_of(dates: npt.NDArray[Any]) -> Timeline:
    """Nights side by side, each as long as it was; frames in a row where none tells when it was taken."""
    hours = np.array([_hours(str(text)) for text in dates])
    known = np.isfinite(hours)
    if not known.any():
        return Timeline(np.arange(1.0, len(dates) + 1), [], timed=False)
    order = np.flatnonzero(known)[np.argsort(hours[known], kind="stable")]
    sorted_hours = hours[order]
    night = np.concatenate([[0], np.cumsum(np.diff(sorted_hours) > NIGHT_GAP_H)])
    first = np.array([sorted_hours[night == k].min() for k in range(night[-1] + 1)])
    last = np.array([sorted_hours[night == k].max() for k in range(night[-1] + 1)])
    room = SPACE * max(float(np.sum(last - first)), 0.1)
    begin = np.concatenate([[0.0], np.cumsum(last - first + room)[:-1]])
    at = np.full(len(dates), np.nan)
    at[order] = sorted_hours - first[night] + begin[night]
    labels = [str(dates[order[np.flatnonzero(night == k)[0]]])[:10] for k in range(night[-1] + 1)]
    return Timeline(at, list(zip(begin, begin + last - first, labels, strict=True)), timed=True)


def _hours(text: str) -> float:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None).timestamp() / 3600
    except ValueError:
        return float("nan")


def strip(
    when: Timeline, value: F8, error: F8 | None, used: npt.NDArray[np.bool_], label: str, say: Callable[[str], str]
) -> Markup:
    """One quantity of all frames; those left out are hollow."""
    figure, axes = plot(340, 150)
    known = np.isfinite(value) & np.isfinite(when.at)
    if known.any():
        low, high = _limits(value[known & used] if (known & used).any() else value[known])
        axes.set_ylim(low, high)
        shown = np.clip(value, low + 0.02 * (high - low), high - 0.02 * (high - low))
        left, right = float(when.at[known].min()), float(when.at[known].max())
        edge = 0.02 * max(right - left, 0.05)
        axes.set_xlim(left - edge, right + edge)
        for k, (first, last, _) in enumerate(when.nights):
            if k % 2 == 0 and len(when.nights) > 1:
                shade_span(axes, first - edge, last + edge)
        if error is not None:
            bars(axes, np.where(used, when.at, np.nan), shown, error, FAINT)
        dots(axes, np.where(used, when.at, np.nan), shown, ONE, 3.2)
        dots(axes, np.where(used, np.nan, when.at), shown, TWO, 3.2, hollow=True)
        _name_nights(axes, when, say)
    axes.set_ylabel(label)
    return draw(figure, label)


def _limits(value: F8) -> tuple[float, float]:
    """Range of an axis that a few wild values do not decide."""
    q1, q3 = np.quantile(value, [0.25, 0.75])
    reach = SPREAD * max(q3 - q1, 1e-3 * abs(q3), 1e-12)
    inside = value[(value >= q1 - reach) & (value <= q3 + reach)]
    low, high = float(inside.min()), float(inside.max())
    room = 0.1 * max(high - low, 1e-3 * abs(high), 1e-12)
    return low - room, high + room


def _name_nights(axes: Any, when: Timeline, say: Callable[[str], str]) -> None:
    if not when.timed:
        axes.set_xlabel(say("report.fig.frame_number"))
        return
    if len(when.nights) == 1:
        axes.set_xlabel(f"{when.nights[0][2]}, {say('report.fig.hours')}")
        return
    dates = [label for *_, label in when.nights]
    new = [night for k, night in enumerate(when.nights) if k == 0 or dates[k] != dates[k - 1]]
    named = new[:: -(-len(new) // MOST_NAMED)]
    axes.set_xticks([(first + last) / 2 for first, last, _ in named], [label for *_, label in named], fontsize=7)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
