"""The page: verdict first, proof below; everything it needs is in the one file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from zemosaic.report import depth_figures, frame_figures, match_figures, sky_maps
from zemosaic.report.facts import Facts
from zemosaic.report.left_out import Group, groups_of
from zemosaic.report.svg import style, with_comma
from zemosaic.report.values import MosaicView, ReportData
from zemosaic.report.verdict import FAINT_STEP, LOOK_STEP, Verdict, judge, worst_of
from zemosaic.report.words import Words

__all__ = ["COLUMNS", "make_page"]

CHANNELS = {1: ("report.channel.mono",), 3: ("report.channel.red", "report.channel.green", "report.channel.blue")}

_STRIPS = {
    "gain": ("gain", "gain_error"), "sky": ("sky", ""), "fwhm": ("fwhm_px", ""), "round": ("ellipticity", ""),
    "stars": ("n_stars", ""), "place": ("place_rms_px", ""),
}  # fmt: skip
"""Strips along the time of the frames: columns of the quantity and of its error, or ""."""

_GREEN = "_g"
"""Of a colour mosaic's columns those are shown that end so."""

COLUMNS = {"use", "date_obs", *(f"{name}{end}" for names in _STRIPS.values() for name in names for end in ("", _GREEN))}
"""Of the table of frames: what the page shows. A table of 20,000 rows has a million cells more."""

LEAST_CLIPPED = 1.0
"""Top of the scale of clipped shares in percent, at least: a mosaic with nothing clipped is dark."""

N_WORST = 10
"""Places in the table and on the map."""

CLIPPED_TOP = 0.999
"""Share of the places that the scale of clipped shares holds: single pixels would darken all others."""


@dataclass(frozen=True, slots=True, eq=False)
class _Mosaic:
    """One mosaic as the templates see it."""

    key: str
    label: str
    unit: str
    channels: tuple[str, ...]
    verdict: Verdict
    worst_frame: str
    worst_paths: tuple[str, ...]
    figures: Mapping[str, Markup]


def make_page(data: ReportData, language: str) -> str:
    """The report as one HTML file.

    Parameters
    ----------
    data : ReportData
    language : {"en", "fr"}

    Returns
    -------
    str
        Without script and without anything from outside. Names and other text from files lose their power.
    """
    with style():
        return _make_page(data, Words(language), Facts(data.report, language))


def _make_page(data: ReportData, words: Words, facts: Facts) -> str:
    mosaics = [_show_mosaic(view, data, words) for view in data.mosaics]
    groups = groups_of(data.report, words)
    when = frame_figures.timeline_of(data.frames.get("date_obs", np.full(len(data.frames["use"]), "")))
    return _environment().get_template("page.html.j2").render(
        language=words.language, title=data.title, css=Markup(_read("style.css")),
        say=words.say, fact=facts.number, text=facts.text, told=facts.told, file_name=facts.file_name,
        duration=facts.duration, has=facts.has, get=facts.get,
        verdict=worst_of(mosaic.verdict for mosaic in mosaics), mosaics=mosaics,
        counted=_count(facts, groups, words), groups=groups,
        strips=_strips(data, when, words), timed=when.timed,
        reference=bool(facts.get("settings/match/reference")),
        stages=_stages(data.report), changed=_changed(data), command=_command(data.report),
        notices=range(len(data.report.get("notices", ()))),
    )  # fmt: skip


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _show_mosaic(view: MosaicView, data: ReportData, words: Words) -> _Mosaic:
    facts = data.report[view.key]
    n_channels = len(facts.get("frame_noise", facts.get("depth", {}).get("noise", [0])))
    worst = _worst_paths(view.key, facts)
    return _Mosaic(
        view.key, view.label, view.unit, tuple(words.plain(code) for code in CHANNELS[n_channels]),
        judge(facts.get("borders")), _worst_frame(facts), worst,
        # What a run has no numbers for is an empty figure, which the templates leave out.
        defaultdict(Markup, {name: _in_language(svg, words) for name, svg in (
            _maps(view, facts, worst, words) | _match_figures(facts, words) | _depth_figure(facts, view.unit, words)
        ).items()}),
    )  # fmt: skip


def _worst_paths(key: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of the ten largest steps, those that are sure first; of a place, the channel where it is largest."""
    places = [
        (f"{key}/seams/{c}/after/worst/{k}", place)
        for c, seams in enumerate(facts.get("seams", ()))
        for k, place in enumerate(seams["after"].get("worst", ()))
    ]
    places.sort(key=lambda item: (-round(item[1]["sure_noise"], 2), -abs(item[1]["step_noise"])))
    found: dict[tuple[Any, ...], str] = {}
    for path, place in places:
        found.setdefault((place["frame"], round(place["u"], 1), round(place["v"], 1)), path)
    return tuple(found.values())[:N_WORST]


def _worst_frame(facts: Mapping[str, Any]) -> str:
    """Name of the frame whose border stands out most."""
    frames = [frame for seams in facts.get("seams", ()) for frame in seams["after"].get("frames", ())]
    return str(max(frames, key=lambda frame: frame["sure_noise"])["frame"]) if frames else ""


def _maps(view: MosaicView, facts: Mapping[str, Any], worst: Sequence[str], words: Words) -> dict[str, Markup]:
    """Pictures on the mosaic's grid."""
    axes = words.plain("report.fig.ra"), words.plain("report.fig.dec")
    out: dict[str, Markup] = {}
    if view.picture is not None:
        title = words.plain("report.fig.map.picture")
        out["picture"] = sky_maps.map_of_picture(view.picture, view.wcs, title, axes)
    if view.coverage is not None:
        seen = np.where(view.coverage > 0, view.coverage, np.nan)
        top = float(np.nanmax(seen)) if np.isfinite(seen).any() else 1.0
        title = words.plain("report.fig.map.coverage")
        out["coverage"] = sky_maps.map_of_values(seen, view.wcs, title, axes, top, "")
    if view.clipped is not None:
        percent = 100 * view.clipped
        known = percent[np.isfinite(percent)]
        top = max(float(np.quantile(known, CLIPPED_TOP)) if len(known) else 0.0, LEAST_CLIPPED)
        title = words.plain("report.fig.map.clipped")
        out["clipped"] = sky_maps.map_of_values(percent, view.wcs, title, axes, top, " %")
    slow = np.array(facts.get("slow_map", ()), np.float32)
    if np.isfinite(slow).any():
        title = words.plain("report.fig.map.slow")
        out["slow"] = sky_maps.map_of_values(slow, view.wcs, title, axes, float(np.nanmax(slow)), " σ")
    if "stars" in facts.get("catalogue", {}):
        title = words.plain("report.fig.map.offsets")
        out["catalogue_map"] = sky_maps.map_of_offsets(facts["catalogue"], view.wcs, title, axes)
    if worst:
        places = []
        for path in worst:
            channel, k = (int(part) for part in (path.split("/")[2], path.split("/")[5]))
            place = facts["seams"][channel]["after"]["worst"][k]
            places.append((place["ra_deg"], place["dec_deg"]))
        title = words.plain("report.fig.worst.title")
        out["worst"] = sky_maps.map_of_places(view.picture, view.wcs, places, title, axes)
    return out


def _in_language(svg: Markup, words: Words) -> Markup:
    return with_comma(svg) if words.language == "fr" else svg


def _match_figures(facts: Mapping[str, Any], words: Words) -> dict[str, Markup]:
    """Figures of steps, fluxes and places; none where frames were not matched."""
    out: dict[str, Markup] = {}
    if facts.get("borders", {}).get("step") is not None:
        out["steps"] = match_figures.sizes_of_steps(facts, (FAINT_STEP, LOOK_STEP), words.plain)
        out["pulls"] = match_figures.pulls_of_steps(facts, words.plain)
    if facts.get("stars", {}).get("n_stars"):
        out["fluxes"] = match_figures.scatter_of_fluxes(facts, words.plain)
        out["flux_field"] = match_figures.field_of_fluxes(facts, words.plain)
    if "stars" in facts.get("catalogue", {}):
        out["catalogue_scatter"] = match_figures.offsets_of_catalogue(facts, words.plain)
    if facts.get("places", {}).get("n_detections"):
        out["place_field"] = match_figures.field_of_places(facts, words.plain)
        out["place_histograms"] = match_figures.histograms_of_places(facts, words.plain)
    return out


def _depth_figure(facts: Mapping[str, Any], unit: str, words: Words) -> dict[str, Markup]:
    if "noise" not in facts.get("depth", {}):
        return {}
    return {"boxes": depth_figures.noise_in_boxes(facts, unit, words.plain)}


def _count(facts: Facts, groups: Sequence[Group], words: Words) -> Markup:
    """How many frames went in and what came of them."""
    numbers = {name: facts.number(f"frames/{name}", "d") for name in ("n_in", "n_used", "n_left_out")}
    if not groups:
        return words.say("report.counted.all", **numbers)
    parts = [Markup("{}: {}").format(group.name, facts.number(f"{group.path}/n", "d")) for group in groups[:3]]
    reasons = words.say("report.counted.reasons", reasons=Markup(", ").join(parts))
    return words.say("report.counted", **numbers, reasons=reasons)


def _strips(data: ReportData, when: frame_figures.Timeline, words: Words) -> list[Mapping[str, Any]]:
    """Quantities of all frames against time; of a colour mosaic those of green."""
    frames = data.frames
    out: list[Mapping[str, Any]] = []
    for key, names in _STRIPS.items():
        name, error_name = (green if (green := f"{name}{_GREEN}") in frames else name for name in names)
        if name not in frames or not np.isfinite(frames[name]).any():
            continue
        value = 1 - frames[name] if key == "round" else frames[name]
        error = frames[error_name] * value if error_name in frames else None
        label = words.plain(f"report.frames.{key}.shows")
        svg = frame_figures.strip(when, value, error, frames["use"] > 0, label, words.plain)
        out.append({"key": f"frames.{key}", "svg": _in_language(svg, words)})
    return out


def _stages(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Stages by time, and their share of the longest."""
    seconds = report.get("seconds", {})
    longest = max([*seconds.values(), 1e-9])
    return [{"name": name, "share": seconds[name] / longest} for name in seconds]


def _changed(data: ReportData) -> list[Mapping[str, str]]:
    """Settings that are not as they come."""
    return [
        {"key": f"{stage}.{key}", "path": f"settings/{stage}/{key}", "default": str(data.defaults[stage].get(key))}
        for stage, keys in data.report.get("settings", {}).items()
        for key, value in keys.items()
        if stage in data.defaults and data.defaults[stage].get(key) != value
    ]


def _command(report: Mapping[str, Any]) -> str:
    """The command line that makes the same mosaic; it reads the settings that lie beside the page."""
    inputs = " ".join(_quoted(path) for path in report.get("inputs", ["FRAMES"]))
    return f"zemosaic build {inputs} -o OUT --mode {report.get('mode', 'auto')} --config settings.toml"


def _quoted(path: str) -> str:
    return (
        path if path and all(c.isalnum() or c in "/._-:~\\" for c in path) else "'" + path.replace("'", "'\\''") + "'"
    )
