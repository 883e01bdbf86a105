"""What the checks of pixels, stars and frames take away from sets without a fault: it should be nothing.

    python benchmarks/false_alarms.py FOLDER ... [--register FOLDER ...] [--every 1]

For each folder: its frames, those that are left out with the reasons, frames with more than 0.1 % of their pixels in
parts that are taken for no data, the largest such share, and the stars that stand in such parts. A frame's rim and the
overscan that a header states count as well. `--register` names folders whose frames have no place on the sky.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import zemosaic
from page import add_page_option, page_section
from zemosaic.errors import FrameRejected
from zemosaic.model.box import Box
from zemosaic.model.measurements import Measurements
from zemosaic.model.runs import map_of
from zemosaic.pipelines.frames.pipeline import Inputs, open_inputs
from zemosaic.pipelines.modes.build import BuildOptions, make_run
from zemosaic.pipelines.modes.direct import match_only
from zemosaic.settings import Settings, load_settings
from zemosaic.stages.measure.frame import measure_frame
from zemosaic.stages.measure.no_data import find_no_data
from zemosaic.stages.measure.raw import measure_raw

MUCH = 0.001
"""Share of a frame's pixels above which a part counts as an alarm."""


ABOUT = """What the checks of pixels, stars and frames take away from sets without a fault: it should be nothing. Parts
are frames with more than 0.1 % of their pixels in what is taken for no data, the largest such share, and the stars
that stand there, of all; a frame's rim and the overscan that a header states count as well."""


def look_at_parts(opened: Inputs, settings: Settings, every: int) -> str:
    """Cells of the table: parts without data in every so-manieth frame, and the stars that stand in them."""
    shares, n_stars, n_lost = [], 0, 0
    for frame in opened.frames[::every]:
        whole = Box.of_shape(frame.shape)
        data, weight = opened.source.read_window(frame, whole)
        runs = find_no_data(data, weight, frame.header.data_box)
        shares.append(float(np.sum(runs[:, 2] - runs[:, 1])) / whole.n_pixels)
        try:
            found: Measurements = (
                measure_raw(data, weight, frame.storage.bayer, settings.measure)
                if frame.storage.bayer
                else measure_frame(data, weight, settings.measure)
            )
        except FrameRejected:
            continue
        x, y = np.rint(found.stars.x).astype(int), np.rint(found.stars.y).astype(int)
        n_stars += len(x)
        n_lost += int(np.count_nonzero(map_of(runs, whole)[y, x]))
    n_much = int(np.sum(np.array(shares) > MUCH))
    return f"{n_much} of {len(shares)} | {100 * max(shares):.2g} | {n_lost} of {n_stars}"


PARTS_AND_FACTS = {
    "quality.kept-though-blocked",
    "quality.kept-though-dimmed",
    "quality.lonely-part",
    "quality.shared-fault",
    "quality.shifted-rows",
    "match.odd-gains",
    "solve.headers-off",
}
"""Codes of what is told of parts of frames, of facts that half of them contradict, and of headers off the catalogue."""


def look_at_frames(folder: Path, settings: Settings) -> tuple[Counter[str], Counter[str]]:
    """Reasons of frames that are left out up to the match, and codes of `PARTS_AND_FACTS` that were told."""
    left_out: Counter[str] = Counter()
    words: Counter[str] = Counter()

    def listen(event: object) -> None:
        if isinstance(event, zemosaic.events.LeftOut):
            left_out[event.reason.partition(":")[0][:60]] += 1
        elif isinstance(event, zemosaic.events.Notice):
            words.update({event.told.code} & PARTS_AND_FACTS)

    with tempfile.TemporaryDirectory() as out:
        match_only([folder], Path(out) / "out", settings, make_run(BuildOptions(yes=True), listen))
    return left_out, words


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row a set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--register", nargs="*", type=Path, default=[], help="folders of frames without a place")
    parser.add_argument("--every", type=int, default=1, help="look at the pixels of every so-manieth frame")
    add_page_option(parser)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    with page_section(options.page, __file__, "False alarms", ABOUT):
        print("| set | frames | with parts | largest part, % | stars in parts | left out | told |")
        print("|---|---:|---:|---:|---:|---|---|")
        for folder in (*options.folders, *options.register):
            print(describe_set(folder, options.every, folder in options.register), flush=True)


def describe_set(folder: Path, every: int, is_registered: bool) -> str:
    """A row of the table."""
    settings = load_settings(assignments=["solve.method=register"] if is_registered else [])
    opened = open_inputs([folder], settings, make_run(BuildOptions(yes=True), lambda _: None))
    parts = look_at_parts(opened, settings, every)
    left_out, words = look_at_frames(folder, settings)
    counts = [", ".join(f"{n} {what}" for what, n in sorted(some.items())) or "none" for some in (left_out, words)]
    return f"| {folder.name} | {len(opened.frames)} | {parts} | {' | '.join(counts)} |"


if __name__ == "__main__":
    main()
