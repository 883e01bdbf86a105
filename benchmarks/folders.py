"""Folders as people have them: what lies among the frames, how they are named, what broke; and what the mosaic is.

    python benchmarks/folders.py [--only NAME ...] [--seed 4] [--record FILE] [--page FILE]

Each circumstance is made of one of the two tiny sets of `lies.py`, and its mosaic held against that of the set as it
was, by the same limits. Here a run must be right: what does not belong to the set is left out, and the rest is used.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from lies import Outcome, build, judge, make_sets, stamp, tell
from machine import find_commit
from page import add_page_option, write_section

Change = Callable[[Path], None]


def frames_of(folder: Path) -> list[Path]:
    """The frames of a set, sorted."""
    return sorted(path for path in folder.iterdir() if path.suffix in {".fits", ".fit"})


def rewrite(path: Path, change: Callable[[np.ndarray, fits.Header], np.ndarray]) -> None:
    """Write a frame anew with other pixels or cards."""
    pixels, header = fits.getdata(path, header=True)
    fits.writeto(path, change(pixels, header), header, overwrite=True)


def half(change: Callable[[np.ndarray, fits.Header], np.ndarray]) -> Change:
    """A change of every second frame."""

    def act(folder: Path) -> None:
        for path in frames_of(folder)[::2]:
            rewrite(path, change)

    return act


def cards(every: int = 1, **values: object) -> Change:
    """Cards set, or taken away by None, in every so-manieth frame."""

    def act(folder: Path) -> None:
        for path in frames_of(folder)[::every]:
            with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
                for name, value in values.items():
                    if value is None:
                        hdus[0].header.remove(name, ignore_missing=True)
                    else:
                        hdus[0].header[name] = value

    return act


def add_stack(folder: Path) -> None:
    """A live stack of the same exposures, as a colour image beside its raw frames."""
    paths = frames_of(folder)
    mean = np.mean([fits.getdata(path).astype(float) for path in paths], axis=0)
    plane = np.repeat(np.repeat(mean.reshape(240, 2, 320, 2).mean(axis=(1, 3)), 2, axis=0), 2, axis=1)
    header = fits.getheader(paths[0])
    header.remove("BAYERPAT", ignore_missing=True)
    header["STACKCNT"] = len(paths)
    fits.writeto(folder / "Stacked_6_Target_10.0s.fit", np.rint([plane] * 3).astype(np.uint16), header)


def add_calibration(named: bool) -> Change:
    """Darks, a flat and a bias in the folder, told by IMAGETYP or by their names alone."""

    def act(folder: Path) -> None:
        rng = np.random.default_rng(3)
        first = frames_of(folder)[0]
        pixels, header = fits.getdata(first, header=True)
        for kind, level in (("dark", 200), ("dark", 200), ("bias", 190), ("flat", 30000)):
            new = header.copy()
            new.remove("IMAGETYP", ignore_missing=True)
            if named:
                new["IMAGETYP"] = f"{kind.capitalize()} Frame"
            image = np.rint(rng.normal(level, 8, pixels.shape)).astype(pixels.dtype)
            fits.writeto(folder / f"{kind}_{rng.integers(1000)}{first.suffix}", image, new)

    return act


def add_previous(folder: Path) -> None:
    """The result of an earlier run left among the frames."""
    build(folder.parent, folder / "out")


def add_copies(folder: Path) -> None:
    """Frames copied under other names."""
    for k, path in enumerate(frames_of(folder)[:3]):
        shutil.copy(path, folder / f"Copy of {k}{path.suffix}")


def add_other_target(folder: Path) -> None:
    """Two frames of another object."""
    for k, path in enumerate(frames_of(folder)[:2]):
        pixels, header = fits.getdata(path, header=True)
        header["CRVAL1"], header["CRVAL2"] = 210.8, 54.3
        fits.writeto(folder / f"M101_{k}.fits", pixels[::-1].copy(), header)


def break_files(folder: Path) -> None:
    """A file that is being written, one of no bytes, and files of other programs with the names of frames."""
    first = frames_of(folder)[0]
    raw = first.read_bytes()
    (folder / f"half_written{first.suffix}").write_bytes(raw[: len(raw) // 2])
    (folder / f"empty{first.suffix}").write_bytes(b"")
    (folder / f"header_only{first.suffix}").write_bytes(raw[:2880])
    (folder / f"._{first.name}").write_bytes(b"\x00\x05\x16\x07" + bytes(400))
    (folder / f"{first.stem}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(200))
    (folder / f"web_page{first.suffix}").write_bytes(b"<!DOCTYPE html><html>404</html>")


def turn_half(pixels: np.ndarray, _: fits.Header) -> np.ndarray:
    """After the meridian: the image is turned, the WCS of before was copied."""
    return pixels[::-1, ::-1].copy()


def interleave(folder: Path) -> None:
    """Colours as the first axis."""
    for path in frames_of(folder):
        rewrite(path, lambda pixels, _: np.stack([pixels] * 3, axis=-1))


def to_bytes(folder: Path) -> None:
    """Values of 8 bits with a scale."""
    for path in frames_of(folder):
        rewrite(path, lambda pixels, _: np.clip(np.rint(np.nan_to_num(pixels) / 16), 0, 255).astype(np.uint8))
    cards(BSCALE=16.0)(folder)


def share_out(n_pixels: int, size: float) -> np.ndarray:
    """Which share of each pixel along a side each pixel of another size gets."""
    edges = np.arange(round(n_pixels / size) + 1)[:, None] * size
    return np.diff(np.clip(edges - np.arange(n_pixels), 0, 1), axis=0)


def squeeze(folder: Path) -> None:
    """Pixels a quarter higher, the light of each colour shared out anew.

    Those of calibrated frames are a fifth narrower, too: their area, and with it the grid that stars are measured on,
    stays. A raw frame's are not: sharing columns out over more of them makes noise that no raw frame has.
    """
    for path in frames_of(folder):
        pixels, header = fits.getdata(path, header=True)
        n, width_factor = (2, 1.0) if "BAYERPAT" in header else (1, 0.8)
        height, width = pixels.shape
        rows, columns = share_out(height // n, 1.25), share_out(width // n, width_factor).T
        shared = np.empty((n * len(rows), n * columns.shape[1]))
        for y, x in np.ndindex(n, n):
            colour = pixels[y::n, x::n].astype(float)
            light = rows @ np.nan_to_num(colour) @ columns
            shared[y::n, x::n] = np.where(rows @ np.isnan(colour) @ columns > 0, np.nan, light)
        for axis, side, size in ((1, "X", width_factor), (2, "Y", 1.25)):
            if "CD1_1" in header:
                header[f"CRPIX{axis}"] = (header[f"CRPIX{axis}"] - 0.5) / size + 0.5
                header[f"CD1_{axis}"], header[f"CD2_{axis}"] = (
                    header[f"CD1_{axis}"] * size,
                    header[f"CD2_{axis}"] * size,
                )
            if f"{side}PIXSZ" in header:
                header[f"{side}PIXSZ"] *= size
        whole = np.rint(shared) if pixels.dtype.kind in "iu" else shared
        fits.writeto(path, whole.astype(pixels.dtype), header, overwrite=True)


def lose_bzero(folder: Path) -> None:
    """One frame whose BZERO a program dropped: all values 32768 too low."""
    path = frames_of(folder)[2]
    with fits.open(path, do_not_scale_image_data=True) as hdus:
        raw, header = hdus[0].data.copy(), hdus[0].header.copy()
    header.remove("BZERO")
    fits.writeto(path, raw, header, overwrite=True)


def rename(name: str) -> Change:
    """Frames under a folder with an awkward name."""

    def act(folder: Path) -> None:
        (folder / name).mkdir()
        for path in frames_of(folder):
            path.rename(folder / name / path.name)

    return act


def read_only(folder: Path) -> None:
    """A folder that may not be written to."""
    for path in frames_of(folder):
        path.chmod(0o444)
    folder.chmod(0o555)


def loop(folder: Path) -> None:
    """A link to the folder in the folder, one to nowhere, and one to a frame."""
    (folder / "again").symlink_to(folder, target_is_directory=True)
    first = frames_of(folder)[0]
    (folder / f"nowhere{first.suffix}").symlink_to(folder / "gone.fits")
    (folder / f"link{first.suffix}").symlink_to(first)


def text_coordinates(folder: Path) -> None:
    """RA and DEC as text, RA in hours."""
    for path in frames_of(folder):
        with fits.open(path, mode="update") as hdus:
            header = hdus[0].header
            ra, dec = header["RA"] / 15, header["DEC"]
            header["RA"] = f"{int(ra):02d} {int(ra * 60 % 60):02d} {ra * 3600 % 60:05.2f}"
            header["DEC"] = f"{int(dec):+03d} {int(dec * 60 % 60):02d} {dec * 3600 % 60:04.1f}"


def foreign_bytes(folder: Path) -> None:
    """A header with bytes that FITS forbids, in OBJECT and FILTER."""
    for path in frames_of(folder):
        cards(OBJECT="Nebula", OBSERVER="Andre")(folder)
        path.write_bytes(path.read_bytes().replace(b"Andre", b"Andr\xe9", 1).replace(b"Nebula", b"N\xc3\xa9bul", 1))


CIRCUMSTANCES: dict[str, tuple[str, Change]] = {
    "two gains, one header": ("raw", half(lambda pixels, _: (pixels * 0.5).astype(pixels.dtype))),
    "turned at the meridian, old WCS": ("calibrated", half(turn_half)),
    "a live stack among its raws": ("raw", add_stack),
    "darks, flat, bias with IMAGETYP": ("raw", add_calibration(True)),
    "darks, flat, bias by name alone": ("raw", add_calibration(False)),
    "half-written, empty, foreign files": ("calibrated", break_files),
    "an earlier mosaic in the folder": ("calibrated", add_previous),
    "copies under other names": ("calibrated", add_copies),
    "frames of another target": ("calibrated", add_other_target),
    "DATE-OBS in the future": ("raw", cards(2, **{"DATE-OBS": "2080-01-01T00:00:00"})),
    "no DATE-OBS": ("raw", cards(1, **{"DATE-OBS": None})),
    "one DATE-OBS in all": ("calibrated", cards(1, **{"DATE-OBS": "2025-01-01T00:00:00"})),
    "colours in the first axis": ("calibrated", interleave),
    "8 bits": ("calibrated", to_bytes),
    "pixels that are not square, by a WCS": ("calibrated", squeeze),
    "pixels that are not square, by YPIXSZ": ("raw", squeeze),
    "BZERO lost in one": ("raw", lose_bzero),
    "a path in other scripts": ("calibrated", rename("星雲 Ночь é")),
    "a path with spaces, %, [brackets]": ("calibrated", rename("M 42 [100%] *best* #1 'x'")),
    "a folder that is read-only": ("calibrated", read_only),
    "links in a circle": ("calibrated", loop),
    "RA and DEC as text": ("raw", text_coordinates),
    "bytes that FITS forbids": ("calibrated", foreign_bytes),
}

FITTING: dict[str, str] = {
    "two gains, one header": "hold another share of the light",
    "8 bits": "saturate at #",
}
"""Of circumstances that no program can make good: what must be said of them; other words are the wrong ones."""


def tell_fitting(name: str, verdict: str, found: Outcome, control: Outcome) -> tuple[str, list[str]]:
    """The verdict on a circumstance that was told, by its fitting words; and all that was said of it."""
    said = [words for words in found.words if words not in control.words]
    fitting = [words for words in said if FITTING.get(name, "") in words]
    return verdict if fitting else "told in wrong words", fitting


def write_page(page: Path, lines: Sequence[dict[str, str]]) -> None:
    """The table of all that is recorded, the last of each name."""
    last = {line["name"]: line for line in lines}
    rows = [
        [name, *(last[name][key] for key in ("verdict", "wrong", "words"))] for name in CIRCUMSTANCES if name in last
    ]
    parts = [
        stamp(
            "python benchmarks/folders.py --record RECORD --page docs/measured/folders.md",
            (of["commit"] for of in last.values()),
        ),
        "Each folder is one of the two tiny sets of [the lies](lies.md), changed in one way, and its mosaic is held "
        "against that of the set as it was. Numbers in words are written as #.",
        "\n".join(f"| {' | '.join(row)} |" for row in [["folder", "mosaic", "wrong by", "said"], ["---"] * 4, *rows]),
    ]
    write_section(page, __file__, "One circumstance each", parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make each circumstance, print and record what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="circumstances to try")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--record", type=Path, required=True, help="file to which each run adds a line")
    add_page_option(parser)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    controls: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as scratch:
        lie, out = Path(scratch) / "lie", Path(scratch) / "out"
        sets = make_sets(Path(scratch) / "truth", options.seed)
        for name, (source, change) in CIRCUMSTANCES.items():
            if options.only and name not in options.only:
                continue
            if source not in controls:
                tell(lambda *_: None, sets[source], lie, "one", 0)
                controls[source] = build(lie, out)
                shutil.rmtree(out)
            tell(lambda *_: None, sets[source], lie, "one", 0)
            change(lie / "set")
            found = build(lie, out)
            os.chmod(lie / "set", 0o755)
            shutil.rmtree(out, ignore_errors=True)
            verdict, wrong, words = judge(found, controls[source])
            if verdict == "told":
                verdict, words = tell_fitting(name, verdict, found, controls[source])
            line = {
                "name": name,
                "verdict": verdict,
                "wrong": "; ".join(wrong) or "-",
                "words": "; ".join(words) or "-",
            }
            line = {key: re.sub(r"/\S*/set/", "", value).replace("|", "/")[:400] for key, value in line.items()}
            line["commit"] = find_commit()
            print(line, flush=True)
            with options.record.open("a") as record:
                record.write(json.dumps(line) + "\n")
    if options.page:
        write_page(options.page, [json.loads(line) for line in options.record.read_text().splitlines()])


if __name__ == "__main__":
    main()
