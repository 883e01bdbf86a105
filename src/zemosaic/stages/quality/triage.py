"""Which frames are good enough: clouds, focus, trailing, dawn and wrong fields, with the reason in numbers.

A frame is judged against its neighbours in the session, never against a fixed level: what is a poor night on one
mountain is a fine one in a garden.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from zemosaic.text import Message, message

__all__ = ["QualityLimits", "QualityTable", "Verdict", "cut_by_value", "frame_score", "keep_best", "triage"]

F8 = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Kind = Literal[
    "good", "cloud", "soft", "trailed", "dawn", "wrong field", "no stars", "double", "blind", "blocked", "coarse", "cut"
]

_NEIGHBOURS = 15
"""Frames before and after one that it is compared with: some minutes, in which focus and sky change little."""

_LEAST = 5
"""A session of fewer frames has no neighbours to speak of: all are kept."""


_LEAST_FOR_SCATTER = 60
"""A session of fewer frames does not know how far seeing scatters in it: all sessions together do."""

_ROUNDS = 6
"""Of telling soft frames from the mean of the sharp ones; nearly always fewer are needed."""


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """When a frame is left out.

    Attributes
    ----------
    transparency : float
        Cloud: below this share of what its clear neighbours let through.
    n_stars : float
        Cloud: below this share of its clear neighbours' number of stars, where the sky tells the same story or no
        transparency is known.
    bright : float
        Cloud: sky above this multiple of its darker neighbours', where no transparency speaks against it.
    fwhm : float
        Soft: FWHM above this multiple of its sharp neighbours' mean, at least ...
    fwhm_sigma : float
        ... and this many times the session's own scatter (of ln FWHM) above it.
    ellipticity, ellipticity_sigma : float
        Trailed: this much more elliptical than the neighbours, likewise.
    sky : float
        Dawn: sky above this multiple of the session's median, at its beginning or end.
    field : float
        Wrong field: farther from every other frame than this many field diagonals.
    """

    transparency: float = 0.8
    n_stars: float = 0.5
    bright: float = 2.0
    fwhm: float = 1.15
    fwhm_sigma: float = 2.2
    ellipticity: float = 0.12
    ellipticity_sigma: float = 5.0
    sky: float = 3.0
    field: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class QualityTable:
    """What is known of each frame; one row a frame, in any order.

    Attributes
    ----------
    session : sequence of str
        Frames are compared within one session: a night, camera and filter.
    time_s : ndarray, shape (n,), float64
        When a frame was taken; only the order within a session matters.
    fwhm_px, ellipticity : ndarray, shape (n,), float64
        Medians over the frame's stars; NaN where it has none. A noise of 2 % in FWHM or less serves well
        (`zemosaic.stages.raw.cfa.fit_raw_stars` for raw frames).
    n_stars : ndarray, shape (n,), float64
        Stars of a signal to noise of 10 and more: fainter detections are too often noise or nebulosity.
    sky, noise : ndarray, shape (n,), float64
        Level, above the pedestal where that is known, and noise of the sky.
    transparency : ndarray, shape (n,), float64
        Response relative to the run's, from the gain solve, per unit of exposure time; NaN where not known (yet).
    distance_field : ndarray, shape (n,), float64
        Distance of a frame's centre from the nearest other frame's, in diagonals of a field; NaN where not known.
    """

    session: Sequence[str]
    time_s: F8
    fwhm_px: F8
    ellipticity: F8
    n_stars: F8
    sky: F8
    noise: F8
    transparency: F8
    distance_field: F8

    def __post_init__(self) -> None:
        n = len(self.session)
        for name in self.__slots__:
            if len(getattr(self, name)) != n:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows, session has {n}")

    def __len__(self) -> int:
        return len(self.session)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is thought of one frame.

    Attributes
    ----------
    kind : str
        "good", or why the frame is left out.
    why : Message or None
        With the numbers; None for good frames.
    """

    kind: Kind = "good"
    why: Message | None = None

    @property
    def reason(self) -> str:
        """Why, in English, on one line; "" for good frames."""
        return str(self.why) if self.why else ""

    @property
    def use(self) -> bool:
        """Whether the frame is used."""
        return self.kind == "good"


def triage(table: QualityTable, limits: QualityLimits | None = None) -> list[Verdict]:
    """Judge every frame.

    Parameters
    ----------
    table : QualityTable
    limits : QualityLimits, optional

    Returns
    -------
    list of Verdict
        One for each row. The first of these that fits is given: no stars, wrong field, dawn, cloud, trailed, soft.

    Notes
    -----
    Clouds are told by what they take away, so the measure of a clear frame is the better half of its neighbours, or
    of the session when all neighbours are cloudy: right as long as half of a session is clear. The widths and
    shapes of frames called cloudy are not used for the rest. A star count falls where the field has fewer stars, too:
    alone it decides only below half of the limit, else the sky must be brighter by a quarter or the noise by an
    eighth, and a transparency, if there is one, low. A trail that is taken for a hundred stars hides a low count; the
    bright sky of a cloud remains.
    """
    limits = limits or QualityLimits()
    verdicts = [Verdict()] * len(table)
    for session in dict.fromkeys(table.session):
        rows = np.flatnonzero(np.array([name == session for name in table.session]))
        rows = rows[np.argsort(table.time_s[rows], kind="stable")]
        _judge_fields(table, rows, limits, verdicts)
        if len(rows) >= _LEAST:
            _judge_sky(table, rows, limits, verdicts)
    _judge_stars(table, limits, verdicts)
    return verdicts


def _judge_fields(table: QualityTable, rows: Rows, limits: QualityLimits, out: list[Verdict]) -> None:
    for row in rows:
        if table.n_stars[row] == 0:
            out[row] = Verdict("no stars", message("quality.no-stars"))
        elif table.distance_field[row] > limits.field:
            out[row] = Verdict("wrong field", message("quality.wrong-field", distance_fields=table.distance_field[row]))


def _judge_sky(table: QualityTable, rows: Rows, limits: QualityLimits, out: list[Verdict]) -> None:
    """Clouds and dawn."""
    sky, noise, stars, clear = (getattr(table, name)[rows] for name in ("sky", "noise", "n_stars", "transparency"))
    # Clouds come in runs longer than the neighbourhood, so the session as a whole has a say too.
    usual_stars = np.maximum(_neighbours(stars, 65), 0.6 * _percentile(stars, 65))
    usual_clear = np.fmax(_neighbours(clear, 65), 0.6 * _percentile(clear, 65))
    dark = np.fmin(_neighbours(sky, 35), _percentile(sky, 35))
    quiet = np.fmin(_neighbours(noise, 35), _percentile(noise, 35))
    middle = _percentile(sky, 50)
    at_end = _bright_ends(sky > limits.sky * middle)
    for k, row in enumerate(rows):
        if not out[row].use:
            continue
        count, light = stars[k] / max(usual_stars[k], 1), clear[k] / usual_clear[k]
        brighter, louder = sky[k] / dark[k], noise[k] / quiet[k]
        dull = count < limits.n_stars / 2 or (count < limits.n_stars and (brighter > 1.25 or louder > 1.125))
        dull |= brighter > limits.bright and not at_end[k]
        if light < limits.transparency or (dull and not light > (1 + limits.transparency) / 2):
            signs = [message("quality.sign-light", share=light)] if np.isfinite(light) else []
            if count < 1:  # what a bright sky's noise adds to the stars is no sign of a cloud
                signs.append(message("quality.sign-stars", n_stars=stars[k], n_usual=usual_stars[k]))
            signs.append(message("quality.sign-sky", ratio=brighter))
            out[row] = Verdict("cloud", message("quality.cloud", signs=signs))
        elif at_end[k]:
            out[row] = Verdict("dawn", message("quality.dawn", sky=sky[k], middle=middle))


def _judge_stars(table: QualityTable, limits: QualityLimits, out: list[Verdict]) -> None:
    """Trailing and focus, among frames that passed so far."""
    sessions = []
    for session in dict.fromkeys(table.session):
        rows = np.array([k for k, name in enumerate(table.session) if name == session and out[k].use], np.int64)
        if len(rows) >= _LEAST:
            sessions.append(rows[np.argsort(table.time_s[rows], kind="stable")])
    usual_long = np.full(len(table), np.nan)
    for rows in sessions:
        usual_long[rows] = _neighbours(table.ellipticity[rows], 50)
    more = table.ellipticity - usual_long
    usual_wide, broad = (np.exp(v) for v in _usual_widths(np.log(table.fwhm_px), sessions, limits))
    for rows in sessions:
        far = max(limits.ellipticity, limits.ellipticity_sigma * _lower_scatter(more[_alike(rows, sessions)]))
        for row in rows:
            long, wide = table.ellipticity[row], table.fwhm_px[row]
            if not np.isfinite(wide) and not np.isfinite(table.transparency[row]):
                out[row] = Verdict("no stars", message("quality.stars-unmeasured", n_stars=table.n_stars[row]))
            elif more[row] > far:
                out[row] = Verdict(
                    "trailed", message("quality.trailed", ellipticity=long, usual=usual_long[row], limit=far)
                )
            elif wide > broad[row] * usual_wide[row]:
                out[row] = Verdict(
                    "soft",
                    message(
                        "quality.soft",
                        fwhm_px=wide,
                        ratio=wide / usual_wide[row],
                        usual_px=usual_wide[row],
                        limit=broad[row],
                    ),
                )


def _usual_widths(ln_width: F8, sessions: Sequence[Rows], limits: QualityLimits) -> tuple[F8, F8]:
    """Of each frame, in ln: the mean width of its neighbours, soft ones left out, and how far above it is soft.

    Seeing multiplies, so its scatter is that of logarithms. The mean of a window of thirty frames is known better than
    its median by 1.3 times (normal) to 1.7 times (uniform), and frames once found to be soft do not hide others.
    """
    usual, limit = np.full((2, len(ln_width)), np.nan)
    soft = np.zeros(len(ln_width), bool)
    for rows in sessions:
        usual[rows] = _neighbours(ln_width[rows], 50)
    for _ in range(_ROUNDS):
        away = ln_width - usual
        for rows in sessions:
            like = _alike(rows, sessions)
            limit[rows] = max(math.log(limits.fwhm), limits.fwhm_sigma * _lower_scatter(away[like[~soft[like]]]))
            usual[rows] = _neighbour_means(np.where(np.abs(away[rows]) <= limit[rows], ln_width[rows], np.nan))
        before, soft = soft, away > limit
        if np.array_equal(soft, before):
            break
    return usual, limit


def _alike(rows: Rows, sessions: Sequence[Rows]) -> Rows:
    """The frames that tell how far seeing scatters in a session."""
    return rows if len(rows) >= _LEAST_FOR_SCATTER else np.concatenate(sessions)


def _windows(values: F8) -> F8:
    """The values of the frames round each frame, itself included, one row a frame."""
    n, size = len(values), min(2 * _NEIGHBOURS + 1, len(values))
    # At an end of the session the window keeps its size, so that a run of bad frames there stays in the minority.
    first = np.clip(np.arange(n) - _NEIGHBOURS, 0, n - size)
    return np.asarray(values[first[:, None] + np.arange(size)])


def _neighbours(values: F8, percentile: float) -> F8:
    """A percentile of the frames round each frame, itself included; of all where those have none; NaN without any."""
    part = np.sort(_windows(values), axis=1)
    n_finite = np.count_nonzero(np.isfinite(part), axis=1)
    place = percentile / 100 * np.maximum(n_finite - 1, 0)
    low = place.astype(np.int64)
    row = np.arange(len(values))
    below, above = part[row, low], part[row, np.minimum(low + 1, np.maximum(n_finite - 1, 0))]
    found = below + (place - low) * (above - below)
    return np.asarray(np.where(n_finite > 0, found, _percentile(values, percentile)))


def _neighbour_means(values: F8) -> F8:
    """The mean of the frames round each frame, itself included; of all where those have none; NaN without any."""
    part = _windows(values)
    known = np.isfinite(part)
    n_known, sums = known.sum(axis=1), np.where(known, part, 0).sum(axis=1)
    of_all = float(np.mean(values[np.isfinite(values)])) if n_known.any() else math.nan
    return np.asarray(np.where(n_known > 0, sums / np.maximum(n_known, 1), of_all))


def _percentile(values: F8, percentile: float) -> float:
    """A percentile of the finite values; NaN without any."""
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, percentile)) if len(finite) else math.nan


def _lower_scatter(deviation: F8) -> float:
    """Sigma from the better half alone, which bad frames do not widen."""
    finite = deviation[np.isfinite(deviation)]
    if not len(finite):
        return 0.0
    # Two sigma down rather than one: seeing that goes from good to fair and no farther has no tail to allow for.
    low, middle = np.percentile(finite, [2.275, 50])
    return float(middle - low) / 2


def _bright_ends(bright: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The runs of True at both ends."""
    return np.asarray(np.logical_and.accumulate(bright) | np.logical_and.accumulate(bright[::-1])[::-1])


def frame_score(table: QualityTable) -> F8:
    """How much a frame adds to faint stars: ``(transparency / (noise FWHM))^2``, the best frame's set to 1.

    A transparency that is not known counts as 1; a frame without stars scores 0.

    Returns
    -------
    ndarray, shape (n,)
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        clear = np.where(np.isfinite(table.transparency), table.transparency, 1.0)
        score = (clear / (table.noise * table.fwhm_px)) ** 2
    score = np.where(np.isfinite(score), score, 0.0)
    return np.asarray(score / max(float(score.max(initial=0.0)), 1e-300))


def cut_by_value(name: str, values: F8, low: float = -math.inf, high: float = math.inf) -> list[Verdict]:
    """Leave out frames by a user's own limits.

    Parameters
    ----------
    name : str
        What is cut, for the reason.
    values : ndarray, shape (n,)
        NaN fails any finite limit.
    low, high : float
        Frames with ``low <= value <= high`` stay.

    Returns
    -------
    list of Verdict
    """
    out = []
    for value in values:
        if value < low or (math.isnan(value) and low > -math.inf):
            out.append(Verdict("cut", message("quality.below-limit", name=name, value=value, limit=low)))
        elif value > high or (math.isnan(value) and high < math.inf):
            out.append(Verdict("cut", message("quality.above-limit", name=name, value=value, limit=high)))
        else:
            out.append(Verdict())
    return out


def keep_best(name: str, goodness: F8, fraction: float) -> list[Verdict]:
    """Keep the best fraction of frames.

    Parameters
    ----------
    name : str
        What is compared, for the reason.
    goodness : ndarray, shape (n,)
        Larger is better (`frame_score`, or minus a FWHM); NaN is worst.
    fraction : float
        Share of the frames to keep, in (0, 1]; the number is rounded up, and ties keep the earlier row.

    Returns
    -------
    list of Verdict

    Raises
    ------
    ValueError
        When `fraction` is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction of frames to keep must be in (0, 1], got {fraction}")
    n = len(goodness)
    kept = math.ceil(fraction * n - 1e-9)
    order = np.argsort(-np.where(np.isnan(goodness), -np.inf, goodness), kind="stable")
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(1, n + 1)
    return [
        Verdict()
        if place <= kept
        else Verdict("cut", message("quality.not-among-best", rank=place, n_frames=n, name=name, n_kept=kept))
        for place in rank
    ]
