"""The page of the documents that lists all that the program tells."""

from __future__ import annotations

import re
from collections.abc import Mapping

from zemosaic.text import load_catalogue

__all__ = ["SUBJECTS", "write_page"]

SUBJECTS: Mapping[str, tuple[str, str]] = {
    "adding": ("Frames added to a mosaic", "Build a mosaic of mode direct first, and add to that folder."),
    "app": ("The app", "Choose another folder, or load the page again."),
    "array": ("Images given as arrays", "Give each image as (array, WCS or header) with planes of one shape."),
    "bayer": ("Colour patterns", "Set `input.bayer` to the camera's pattern where the pixels were not enough."),
    "build": ("What a build is asked", "Correct the argument that is named."),
    "calibrate": (
        "Darks, flats, biases",
        "Give ones of the same camera and size: `--darks`, `--flats`, `--biases`.",
    ),
    "catalogue": ("The star list", "Install the package again."),
    "coadd": ("`zemosaic.coadd`", "Coadd images of one kind at a time, on a grid that fits into memory."),
    "dask": ("Dask", "Run one version everywhere, on storage that all workers see."),
    "doctor": (
        "`zemosaic doctor`",
        "Name the folder that `-o` named; install the part that is named, where you need it.",
    ),
    "done": ("Ends of stages", "Nothing."),
    "explain": ("`zemosaic explain`", "Name a place inside of the mosaic, of a folder whose store is whole."),
    "file": ("Files", "Copy the file again from where it came; save it in a form that is read."),
    "filter": ("Filters", "Name them alike: `input.filters`."),
    "folder": ("Folders", "Allow the folder to be read."),
    "frame": (
        "Frames left out, or doubted",
        "Nothing, as a rule: the sentence names the file or the card that decides.",
    ),
    "gauge": ("The slow background", "Give a reference that covers the mosaic: `match.reference`."),
    "grid": ("The output grid", "Choose `grid.*`, or give `--header`."),
    "header": ("Headers", "Correct the card, or write the right one into a file NAME.head beside the image."),
    "input": ("Inputs", "Name folders that hold frames; see `input.include` and `input.exclude`."),
    "kernels": ("Compiling for this machine", "Set NUMBA_CACHE_DIR to a folder that can be written; see first-run.md."),
    "map": ("Weight maps and masks", "Give a map of the frame's size, or take it away."),
    "match": ("Gains and backgrounds", "Wider overlaps and longer exposures tell more; see matching.md."),
    "measure": ("What is measured on a frame", "Nothing where it is true; `input.mask_bits` where a mask is misread."),
    "mode": ("Modes", "Choose another by `--mode`."),
    "mosaic": ("Kinds of frames", "Nothing; each kind has a mosaic of its own."),
    "noise": ("The noise of light", "Nothing; see rejection.md."),
    "output": ("Writing", "Make space, allow writing, or choose another folder by `-o`."),
    "patches": ("Memory", "Nothing; a higher `--ram` is faster."),
    "picture": ("Pictures", "Nothing; the science file is never changed."),
    "plan": ("`stack_plan.csv`", "Correct the table, or take it out of the folder."),
    "products": ("Products of a finished mosaic", "Build the mosaic again."),
    "quality": ("Frames judged poor", "Look at the frame; set `use` in frames.csv, and run with `--frames`."),
    "register": ("Frames laid on each other", "Give frames that overlap by more."),
    "run": ("The run", "Start the same run again: it goes on from what is stored."),
    "score": ("Scores of simulated sets", "Score a mosaic of the same set."),
    "setting": ("Settings", "Correct the key or the value; see settings.md."),
    "show": ("Words round what is shown", "Nothing."),
    "simulate": ("`zemosaic simulate`", "Ask for a set that fits the sky, in an empty folder."),
    "solution": ("`--solution`", "Give a match.ecsv of the same frames."),
    "solve": ("Where frames point", "Write RA, DEC, FOCALLEN and XPIXSZ into a file NAME.head; see solving.md."),
    "stack": ("Rejection", "Match the frames, or clip nothing: `stack.method=mean`; see rejection.md."),
    "store": ("Stored results", "Nothing; what is damaged is made again."),
    "survey": ("Survey tiles", "Nothing; see survey-grid.md."),
    "system": ("The operating system", "Make space, allow access, plug the disk in again."),
    "tasks": ("Other processes", "Give fewer `--workers` or a lower `--ram`."),
    "tiles": ("Tiles", "See master-tiles.md."),
    "two-pass": ("The second pass", "Nothing; the first mosaic is kept."),
    "viewer": ("The page to look around in", "Build the mosaic again."),
    "warp": ("Warping", "Look at the frame's WCS."),
}
"""Of the first part of each code: what it is about, and what to do where a sentence names nothing better."""


def write_page() -> str:
    """``docs/reference/messages.md``: every code with its English sentence, subject by subject, in Markdown."""
    lines = [
        "# Messages",
        "",
        "Made by `python scripts/write_reference.py` from `src/zemosaic/text/en.json`: edit that.",
        "",
        "Reasons, notices and errors have stable codes; `--json`, report.json and frames.ecsv hold them",
        "([output.md](output.md)). Names in braces are the facts. Some sentences are a part of others.",
        "`--language fr`, or ZEMOSAIC_LANGUAGE=fr, says them in French (`fr.json` beside `en.json`).",
    ]
    subject = ""
    for code, sentence in load_catalogue("en").items():
        if code.partition(".")[0] != subject:
            subject = code.partition(".")[0]
            title, remedy = SUBJECTS[subject]
            lines += ["", f"## {title}", "", f"What to do: {remedy}", "", "| code | sentence |", "|---|---|"]
        plain = re.sub(r"(\{\w+)[^}]*\}", r"\1}", sentence).strip().replace("|", "\\|")
        lines.append(f"| `{code}` | {plain} |")
    return "\n".join(lines) + "\n"
