"""Header cards of a mosaic: what it is made of, and how."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.metadata import version

from zemosaic.io.write.mosaic_file import KEPT_PLACE, Card
from zemosaic.model.frame import Frame
from zemosaic.model.kind import Kind
from zemosaic.model.sky.grid import SkyGrid
from zemosaic.pipelines.outputs.report import hash_settings
from zemosaic.pipelines.patches.jobs import PatchInput
from zemosaic.pipelines.run.need import Placing
from zemosaic.settings import Settings
from zemosaic.stages.stack.methods import METHODS
from zemosaic.stages.warp.warp import pixel_variance_ratio

__all__ = ["mosaic_cards", "settings_card"]

PLACES: dict[Placing, str] = {
    "auto": "header WCS checked by the stars, or solved; refined together",
    "header": "as the headers say",
    "register": "registered to each other; the WCS is a plane of the frames' own",
}


def mosaic_cards(
    inputs: Sequence[PatchInput], grid: SkyGrid, settings: Settings, place: Placing, matched: str
) -> tuple[list[Card], list[str]]:
    """Header cards and HISTORY lines of a mosaic: what it is made of, and how; no clock time of the run."""
    frames = [item.frame for item in inputs]
    dates = sorted(frame.header.date_obs for frame in frames if frame.header.date_obs)
    instruments = sorted({frame.header.instrument for frame in frames if frame.header.instrument})
    cards: list[Card] = [
        ("NCOMBINE", sum(frame.header.n_stacked for frame in frames), "number of frames combined"),
        ("BUNIT", Kind.of(frames[0]).unit, "input units per area A_REF of the sky"),
        ("A_REF", grid.area_ref_deg2 * 3600**2, "[arcsec2] area of the central pixel"),
    ]
    smallest, largest = grid.area_shares
    cards += [
        ("AREA_MIN", round(smallest, 6), "smallest area of a pixel over A_REF"),
        ("AREA_MAX", round(largest, 6), "largest area of a pixel over A_REF"),
    ]
    # Where raw and other frames share the mosaic each card speaks of its own.
    ratios: list[tuple[str, int | None]] = []
    if any(frame.storage.bayer is None for frame in frames):
        ratios.append(("VARRATIO", None))
    if any(frame.storage.bayer for frame in frames):
        ratios += [(f"VARRAT_{'RGB'[c]}", c) for c in range(3)]
    for key, channel in ratios:
        ratio = round(pixel_variance_ratio(settings.warp, channel), 4)
        cards.append((key, ratio, "variance of one pixel's scatter over VAR"))
    # Where no frame tells its exposure time the sum is unknown, not 0.
    exposures = [frame.decided.exposure_s for frame in frames if frame.decided.exposure_s]
    if exposures:
        cards.append(("EXPTIME", float(sum(exposures)), "[s] total exposure of all frames"))
    if dates:
        cards += [
            ("DATE-OBS", dates[0], "start of the first frame"),
            ("DATE-END", _end(frames, dates[-1]), "end of the last frame"),
        ]
    if frames[0].decided.filter:
        cards.append(("FILTER", frames[0].decided.filter, "filter"))
    if instruments:
        cards.append(("INSTRUME", ", ".join(instruments)[:68], "instrument(s)"))
    cards.append(("SOFTWARE", f"zemosaic {version('zemosaic')}", "made with"))
    stack = settings.stack
    history = [
        f"zemosaic: {len(frames)} frames onto one {grid.shape[1]} x {grid.shape[0]} grid",
        f"places: {PLACES[place]}",
        f"match: {matched}",
        f"warp: {settings.warp.kernel}, taper {settings.warp.taper_px:g} px",
        "stack: " + ", ".join(filter(None, [stack.method, METHODS[stack.method].tell(stack)])),
    ]
    return cards, history


def settings_card(settings: Settings | None = None) -> Card:
    """The settings of the run, by a checksum (`hash_settings`); without settings a card that keeps its place.

    A file that is gone on with may have been begun with other settings, as far as its pixels do not depend on them: so
    the checksum is written when all else is there.
    """
    return "SETHASH", hash_settings(settings) if settings else KEPT_PLACE, ""


def _end(frames: Sequence[Frame], last: str) -> str:
    exposure = max((f.decided.exposure_s or 0.0) for f in frames if f.header.date_obs == last)
    try:
        return (datetime.fromisoformat(last) + timedelta(seconds=exposure)).isoformat()
    except ValueError:
        return last
