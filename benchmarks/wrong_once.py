"""The scripts of results that went wrong, run again: background, seams and stars of each beside its control.

    python benchmarks/wrong_once.py SCRIPTS [--only SCRIPT ...] [--seeds 1 2] [--keep FOLDER] [--page FILE]

SCRIPTS is a folder of ``NAME/make.py``; each makes its frames, builds their mosaic by the command line, and scores it
against the truth that it alone knows (`zemosaic.simulate.score_mosaic` cannot read these skies). The control is a run
of the same kind without the fault. Told is what a run left out or said and its control did not. A figure beyond
its limit is bold; a row is "told" when something was said of it, and "short" when it is wrong in silence.
It goes to ``docs/measured/hard-skies.md`` unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from page import add_page_option, page_section
from small_sets import Figure

MOST_SIGMA = 0.15
"""Of a frame's noise: background after a cubic, and seams."""

MOST_OF_CONTROL = 1.5
"""Scatter of the stars' fluxes, over the control's."""

MOST_CHANGE_SIGMA = 0.01
"""Between mosaics of the same frames in other units."""

FRAME_SIGMA_ADU = 14.0
"""Noise of a pixel in frames of `invariance`, whose script prints ADU."""

RUN = """
import pathlib, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, str(pathlib.Path(sys.argv[0]).parents[1]))
import lib
score_as_it_is = lib.score

def score(sky, mosaic, *more, **named):
    found = score_as_it_is(sky, mosaic, *more, **named)
    np, rest = lib.np, found["_res"]
    y, x = np.mgrid[: rest.shape[0], : rest.shape[1]]
    terms = np.stack([np.ones(rest.shape), x, y])
    plane = np.linalg.lstsq(terms[:, found["_inner"]].T, rest[found["_inner"]], rcond=None)[0]
    level = f"{mosaic}.level.fits"
    with lib.fits.open(mosaic) as hdus:
        hdus[0].data = hdus[0].data / found["gscale"] - np.tensordot(plane, terms, 1)
        hdus.writeto(level, overwrite=True)
    return score_as_it_is(sky, level, *more, **named) | {name: found[name] for name in ("bg0", "bg1")}

lib.score = score
known = {"__file__": sys.argv[0], "__name__": "__main__"}
try:
    exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"), known)
except ValueError:
    mosaic = known["D"] / "out/mosaic.fits"
    known["show"](known["score"](known["sky"], mosaic, known["frames"], 14, fwhm_as=14, psf=(2.87, 3.0)))
"""
"""Runs a script. The mosaic is brought to the truth's scale first and its plane is taken off. Scripts take the true
nebula off below stars as it is, whatever the mosaic's scale, as of long and short exposures together (`satmix`); and a
slope of all of a mosaic, which no overlap tells, makes a step of the 14 px between the strips beside a border.
`bumped` holds the table of the match against all frames before it scores, and stops where one was left out: it is
scored here as it would have been."""


@dataclass(frozen=True)
class Case:
    """A script's name with its arguments behind the seed, and those of a run without the fault."""

    words: str
    control: str
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """What stands in the table."""
        return " ".join([*("=".join(pair) for pair in self.variables), self.words])


CASES = (
    Case("blackborder hard frames", "blackborder nan frames"),
    Case("blackborder soft frames", "blackborder nan frames"),
    Case("blackborder soft stacks", "blackborder nan stacks"),
    Case("bumped 3 20 .5 trail", "bumped 3 0 .5 trail"),
    Case("bumped 3 20 .5 double", "bumped 3 0 .5 trail"),
    Case("cloud 2 0.0", "cloud 2 1.0"),
    Case("cloud 4 0.0", "cloud 4 1.0"),
    Case("deadregion 4 zero", "roof 4 0 .3"),
    Case("deadregion 4 const", "roof 4 0 .3"),
    Case("deadregion 4 circle", "roof 4 0 .3"),
    Case("moon 4 5000 600", "moon 4 0 0"),
    Case("moon 4 5000 600", "moon 4 0 0", (("CUB", "0"),)),
    Case("roof 2 1 .3", "roof 2 0 .3"),
    Case("roof 4 1 .3", "roof 4 0 .3"),
    # The long frames alone: most of their stars do not saturate.
    Case("satmix 5 5 10 uint16", "satmix 5 0 10 uint16"),
    Case("satmix 5 5 10 float", "satmix 5 0 10 float"),
    Case("tiny 3 1 .05 600 .15", "tiny 3 1 .3 600 .15"),
    Case("tiny 2 2 .05 600 .15", "tiny 2 2 .3 600 .15"),
    Case("tiny 2 2 .05 60 .15", "tiny 2 2 .3 600 .15"),
    Case("vignette 4 .4 5000", "vignette 4 0 5000"),
    Case("vignette 4 .4 5000 20", "vignette 4 0 5000 20"),
)


@dataclass(frozen=True)
class Outcome:
    """What a script printed, and codes of what its run left out and told."""

    printed: str
    told: Counter[str] = field(default_factory=Counter)

    def figure(self, name: str) -> float:
        """One of the whole mosaic; NaN when it was not to be had."""
        found = re.search(r"^\{.*\}$", self.printed, re.MULTILINE)
        value = json.loads(found[0]).get(name) if found else None
        return float("nan") if value is None else float(value)


def run_script(scripts: Path, scratch: Path, words: str, seed: int, variables: tuple[tuple[str, str], ...]) -> Outcome:
    """One run of a script in its own folder; of what it made only the report is read."""
    name, *rest = words.split()
    out = scratch / "_".join([*(v for pair in variables for v in pair), name, str(seed), *rest])
    command = [sys.executable, "-c", RUN, str(scripts / name / "make.py"), str(seed), *rest]
    known = os.environ | {"CASES_OUT": str(out)} | dict(variables)
    done = subprocess.run(command, env=known, capture_output=True, text=True, check=False)
    told: Counter[str] = Counter()
    for path in out.glob("*/*/out/report.json"):
        report = json.loads(path.read_text(encoding="utf-8"))
        told.update(item["code"] for item in report["left_out"])
        told.update({item["code"] for item in report["notices"]} - {"kernels.compiling"})
    return Outcome(done.stdout, told)


def judge_case(case: Case, outcome: Outcome, control: Outcome) -> tuple[list[Figure], Counter[str]]:
    """Background, seams and stars with their limits, and what its run told beyond the control's."""
    figures = [
        Figure("background", outcome.figure("bg3"), 0, MOST_SIGMA),
        Figure("seams", outcome.figure("seam"), 0, MOST_SIGMA),
        Figure("stars", outcome.figure("star_mmag"), 0, MOST_OF_CONTROL * control.figure("star_mmag")),
    ]
    return figures, Counter({code: n for code, n in outcome.told.items() if code not in control.told})


def row_of(name: str, seed: int, figures: list[Figure], told: Counter[str]) -> str:
    """One line of the table."""
    cells = [f"**{f.value:.3g}**" if f.is_short else f"{f.value:.3g}" for f in figures]
    said = ", ".join(f"`{code}`" + (f" x {n}" if n > 1 else "") for code, n in sorted(told.items()))
    verdict = ("told" if told else "**short**") if any(f.is_short for f in figures) else ""
    return f"| {name} | {seed} | {' | '.join(cells)} | {figures[-1].high:.3g} | {said} | {verdict} |"


def units_rows(outcome: Outcome, seed: int) -> Iterator[str]:
    """Lines of the mosaics of the same frames in other units."""
    for name, rms in re.findall(r"^(\w+) +diff from plain.* rms ([\d.e+-]+|nan)", outcome.printed, re.MULTILINE):
        change = float(rms) / FRAME_SIGMA_ADU
        verdict = "" if change <= MOST_CHANGE_SIGMA else "**short**"
        yield f"| {name} | {seed} | {change:.2g} | {MOST_CHANGE_SIGMA} | {verdict} |"


ABOUT = """Scripts of results that were wrong once, run by the command line. Sigma is the noise of a pixel of one
frame; background is what is left after a cubic, seams are steps beside the mosaic's plane (which no overlap tells),
both may reach 0.15 sigma; stars are the scatter of their fluxes in mmag, which may reach 1.5 times the control's (a
run without the fault). Told is what was left out or said and the control's run did not say."""


def main() -> None:
    """Run the scripts, print a row a case and seed; write the page when all were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted({case.words.split()[0] for case in CASES} | {"invariance"})
    parser.add_argument("scripts", type=Path, help="folder of the scripts")
    parser.add_argument("--only", nargs="*", default=names, choices=names)
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--keep", type=Path, help="folder in which frames and mosaics stay")
    add_page_option(parser, "hard-skies.md")
    options = parser.parse_args()
    page = options.page if options.only == names else None
    seeds = " and ".join(map(str, options.seeds))
    with page_section(page, __file__, f"Scripts of wrong results, seeds {seeds}", ABOUT):
        for line in lines_of(options.scripts.resolve(), options.keep, options.only, options.seeds):
            print(line, flush=True)


def lines_of(scripts: Path, keep: Path | None, only: list[str], seeds: list[int]) -> Iterator[str]:
    """The tables, a line as soon as it is known."""

    @cache
    def run(words: str, seed: int, variables: tuple[tuple[str, str], ...] = ()) -> Outcome:
        if keep is not None:
            return run_script(scripts, keep.resolve(), words, seed, variables)
        with tempfile.TemporaryDirectory() as scratch:
            return run_script(scripts, Path(scratch), words, seed, variables)

    yield "| case | seed | background | seams | stars | may reach | told | |\n|---|---:|---:|---:|---:|---:|---|---|"
    for case in (case for case in CASES if case.words.split()[0] in only):
        for seed in seeds:
            figures, told = judge_case(case, run(case.words, seed, case.variables), run(case.control, seed))
            yield row_of(case.name, seed, figures, told)
    if "invariance" in only:
        yield "\nThe same frames in other units:\n"
        yield "| units | seed | change, sigma | at most | |\n|---|---:|---:|---:|---|"
        for seed in seeds:
            yield from units_rows(run("invariance", seed), seed)


if __name__ == "__main__":
    main()
