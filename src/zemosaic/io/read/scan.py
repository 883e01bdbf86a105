"""Find the frames in files and folders, by their headers alone."""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.cards import BLOCK, Cards, FitsStream, Hdu, open_fits, text_of
from zemosaic.io.headers.facts import frame_from_cards, image_layout
from zemosaic.io.headers.masks import read_mask_bits
from zemosaic.io.headers.wcs_cards import put_wcs_over
from zemosaic.io.read.find_files import FoundFile, find_files
from zemosaic.io.read.images import walk_images
from zemosaic.model.frame import Frame, FrameId, FrameKind, MapKind, MapRef
from zemosaic.settings import InputSettings, MaskBits
from zemosaic.text import Message, message

__all__ = ["RejectedFile", "ScanResult", "scan"]

_HEAD_MAX_BYTES = 1 << 20
"""13,000 cards: what is longer is no header that a person or a solver wrote."""

_HEAD_LINE = re.compile(r"\s*([A-Za-z0-9_-]{1,8})\s*=(.*)")

_COUNTS = ("COV", "COVERAGE")
# Extensions that describe the image beside them, by EXTNAME; in this order one is preferred to the next.
_MAP_KINDS: dict[str, MapKind] = {
    **dict.fromkeys(("WHT", "WEIGHT", "WGT", "WT", "WTMAP", "IVAR", "INVVAR"), "weight"),
    **dict.fromkeys(("VAR", "VARIANCE"), "variance"),
    **dict.fromkeys(("ERR", "ERROR", "SIGMA", "STDDEV", "RMS", "UNCERT"), "error"),
    **dict.fromkeys(_COUNTS, "weight"),
    **dict.fromkeys(("MASK", "DQ", "MSK", "BPM", "FLAGS", "QUALITY"), "mask"),
}
_ALPHA = "ALPHA"  # weighs beside any of them; 0 to 255 in whole numbers, else 0 to 1
_PREFERENCE = {name: rank for rank, name in enumerate(_MAP_KINDS)}
_NOT_FRAMES = {
    _ALPHA,
    "REJ",
    "EXPT",
    "SAT",
    "CTX",
    "CON",
    "CONTEXT",
    "EXPMAP",
    "PSF",
    "BKG",
    "BACKGROUND",
    "SEG",
    "SEGM",
    "AREA",
    "WAVELENGTH",
    "ICCPROFILE",
    "THUMBNAIL",
    "PREVIEW",
}
_NO_FRAME = re.compile(r"(VAR|ERR|PATHLOSS|BARSHADOW)_.*|D2IMARR.*|WCSDVARR.*|.*THUMBNAIL.*")
"""Extensions that are parts of a noise model or tables of a WCS, of JWST, HST and others."""


@dataclass(frozen=True, slots=True)
class RejectedFile:
    """A file, or one image of it, that is no frame.

    Attributes
    ----------
    path : str
        Absolute path, with ``[hdu]`` when it is one image of several.
    told : Message
        Why.
    """

    path: str
    told: Message

    @property
    def reason(self) -> str:
        """Why, in English, on one line."""
        return str(self.told)


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a scan found.

    Attributes
    ----------
    frames : tuple of Frame
        Of the sky, sorted by `FrameId`, each once.
    calibration : tuple of Frame
        Darks, biases and flats, likewise.
    rejected : tuple of RejectedFile
        In the order of their paths.
    notices : tuple of Message
        What a reader should know: copies, sidecars without a frame.
    """

    frames: tuple[Frame, ...]
    calibration: tuple[Frame, ...]
    rejected: tuple[RejectedFile, ...]
    notices: tuple[Message, ...]


def scan(
    paths: Sequence[Path],
    settings: InputSettings,
    on_progress: Callable[[int], None] | None = None,
    check: Callable[[], None] | None = None,
    kind: FrameKind | None = None,
) -> ScanResult:
    """Read the headers of all image files among files and folder trees.

    Parameters
    ----------
    paths : sequence of Path
        Files (taken whatever their name) and folders (searched for names that end in .fit, .fits,
        .fts, .fz, .gz or .fits.bz2, or as those of XISF, TIFF and camera raw files, in any case). Hidden names, and
        folders that a run wrote, are passed over.
    settings : InputSettings
        ``include``, ``exclude`` and ``bayer`` act here.
    on_progress : callable, optional
        Called with the number of files done.
    check : callable, optional
        Called before each file; what it raises (a cancellation) ends the scan.
    kind : {"dark", "bias", "flat"}, optional
        What files are whose header and folder do not name a calibration frame; pictures of the sky by default.

    Raises
    ------
    NothingToDo
        When a path does not exist. Whatever is wrong *inside* a file only rejects that file.

    Notes
    -----
    A frame is known by its content, not its path: its id is a digest of header bytes, size and three
    sampled blocks of the data (for a gzip or bzip2 stream, of the checksum that it carries), with those of its
    `.head` file and weight map. Two files of the same content give one frame; the first path counts.
    """
    listed = find_files(paths, settings)
    rejected = [RejectedFile(path, why) for path, why in listed.refused]
    frames: dict[FrameId, Frame] = {}
    copies: list[Message] = []
    for done, file in enumerate(listed.files, 1):
        if check is not None:
            check()
        for found in _scan_file(file, settings, kind):
            if isinstance(found, RejectedFile):
                rejected.append(found)
            elif found.id in frames:
                copies.append(message("input.copy-of", file=found.name, path=frames[found.id].storage.path))
            else:
                frames[found.id] = found
        if on_progress is not None:
            on_progress(done)
    notices = []
    if copies:
        notices.append(message("input.copies", n=len(copies), **_some(copies)))
    if listed.orphans:
        names = [os.path.basename(path) for path in listed.orphans]
        notices.append(message("input.orphans", n=len(names), **_some(names)))
    if listed.passed_over:
        names = [os.path.basename(path) for path in listed.passed_over]
        notices.append(message("input.maps-alone", n=len(names), **_some(names)))
    doubts = Counter(doubt for frame in frames.values() for doubt in frame.header.doubts)
    notices += [message("header.not-believed", n=doubts[doubt], doubt=doubt) for doubt in sorted(doubts, key=str)]
    if listed.others:
        kinds = [f"{number} {ending}" for ending, number in sorted(listed.others.items())]
        notices.append(message("input.other-kinds", n=listed.others.total(), kinds=kinds))
    rejected.sort(key=lambda r: r.path)
    ordered = [frames[key] for key in sorted(frames)]
    return ScanResult(
        frames=tuple(frame for frame in ordered if frame.decided.kind == "light"),
        calibration=tuple(frame for frame in ordered if frame.decided.kind != "light"),
        rejected=tuple(rejected),
        notices=tuple(notices),
    )


def _some(names: Sequence[str | Message]) -> dict[str, object]:
    """The first of several, and of how many more there is no room to tell."""
    return {"some": names[:3], "more": message("input.and-more", n=len(names) - 3) if len(names) > 3 else None}


def _scan_file(file: FoundFile, settings: InputSettings, kind: FrameKind | None) -> list[Frame | RejectedFile]:
    """All frames of a file, and what is wrong with it."""
    path = file.path
    try:
        with open_fits(path) as source:
            hdus, broken = _walk_as_far_as_possible(path, source)
            images = [hdu for hdu in hdus if hdu.is_image]
            if not images:
                raise broken or FrameRejected("file.no-image-hdus", n_hdus=len(hdus))
            found = _frames_of_images(file, source, hdus[0], images, settings, file.kind or kind)
        if broken:
            found.append(RejectedFile(f"{path}[{len(hdus)}]", broken.told))
        return found
    except FrameRejected as problem:
        return [RejectedFile(path, problem.told)]
    except OSError as problem:
        return [RejectedFile(path, message("file.unreadable", problem=problem.strerror or problem))]
    except (EOFError, zlib.error) as problem:
        packing = "bzip2" if path.lower().endswith(".bz2") else "gzip"
        return [RejectedFile(path, message("file.packing-damaged", packing=packing, problem=problem))]


def _walk_as_far_as_possible(path: str, source: FitsStream) -> tuple[list[Hdu], FrameRejected | None]:
    """The whole HDUs of a file, and what is wrong with the one that follows them."""
    hdus: list[Hdu] = []
    try:
        hdus.extend(walk_images(path, source))  # keeps those before a broken one
    except FrameRejected as problem:
        return hdus, problem
    return hdus, None


def _frames_of_images(
    file: FoundFile,
    source: FitsStream,
    primary: Hdu,
    images: list[Hdu],
    settings: InputSettings,
    kind: FrameKind | None,
) -> list[Frame | RejectedFile]:
    sky = [hdu for hdu in images if not _is_companion(_extname(hdu))]
    sky = [hdu for hdu in sky if sum(n > 1 for n in hdu.axes) > 1] or sky  # a row of numbers describes the image
    if not sky:
        names = ", ".join(_extname(hdu) for hdu in images)
        raise FrameRejected("file.only-maps", names=names)
    heads = _read_heads(file.head) if file.head else []
    found: list[Frame | RejectedFile] = []
    for i, hdu in enumerate(sky):
        cards = hdu.cards if hdu is primary or primary.is_image else put_wcs_over(hdu.cards, primary.cards)
        digest = hashlib.blake2b(digest_size=16)
        _add_to_digest(digest, source, hdu)
        if hdu is not primary:
            digest.update(primary.header)
        if i < len(heads):
            cards = put_wcs_over(heads[i], cards)
            digest.update(repr(heads[i]).encode())
        chip = (_extname(hdu) or f"hdu{hdu.index}") if len(sky) > 1 else ""
        try:
            frame = frame_from_cards(
                hdu, cards, file.path, FrameId(""), bayer_setting=settings.bayer, chip=chip, folder_kind=kind
            )
            maps = _Maps(file, source, images, digest)
            weight, mask = _find_weight_map(frame, maps), _find_mask(frame, maps, cards, settings.mask_bits)
            if weight and mask and not mask.is_known and mask.path == file.path:
                mask = None  # a plane that nobody knows adds nothing to what a weight map tells
            alpha = _find_alpha(frame, source, images, digest)
            storage = replace(frame.storage, weight=weight, mask=mask, alpha=alpha)
            found.append(replace(frame, id=FrameId(digest.hexdigest()), storage=storage))
        except FrameRejected as problem:
            name = f"{file.path}[{hdu.index}]" if len(sky) > 1 else file.path
            found.append(RejectedFile(name, problem.told))
    return found


def _is_companion(name: str) -> bool:
    """Whether an extension of this name describes the image beside it."""
    return name in _PREFERENCE or name in _NOT_FRAMES or _NO_FRAME.fullmatch(name) is not None


def _extname(hdu: Hdu) -> str:
    return hdu.cards.text("EXTNAME").upper()


def _add_to_digest(digest: hashlib.blake2b, source: FitsStream, hdu: Hdu) -> None:
    """Header, place, size and samples of the data tell one image from another without reading it all."""
    digest.update(hdu.header)
    digest.update(f"{hdu.index} {source.n_bytes} ".encode())
    if source.is_packed:
        digest.update(source.trailer)  # holds the CRC of all content
        return
    last = max(hdu.data_bytes - BLOCK, 0)
    for offset in (0, last // (2 * BLOCK) * BLOCK, last):
        source.stream.seek(hdu.data_offset + offset)
        digest.update(source.stream.read(min(BLOCK, hdu.data_bytes)))


def _read_heads(path: str) -> list[Cards]:
    """The overriding cards of a `.head` file: one group, ended by END, for each image of its frame file.

    Lines as people write them (``RA = 83.6``) serve as well as cards, whose ``=`` stands in the ninth place.
    """
    with open(path, "rb") as file:
        lines = [text_of(line) for line in file.read(_HEAD_MAX_BYTES).splitlines()]
    lines = [f"{card[1]:<8}={card[2]}" if (card := _HEAD_LINE.fullmatch(line)) else line for line in lines]
    heads = []
    while any(line.strip() for line in lines):
        end = next((i for i, line in enumerate(lines) if line.strip() == "END"), len(lines))
        heads.append(Cards.from_lines(lines[:end]))
        lines = lines[end + 1 :]
    return heads


@dataclass(frozen=True, slots=True)
class _Maps:
    """Where the maps of an image are, and the digest that learns of those that are used."""

    file: FoundFile
    source: FitsStream
    images: list[Hdu]
    digest: hashlib.blake2b

    def in_sidecar(self, kind: MapKind, frame: Frame) -> Hdu:
        """The map in a sidecar file; FrameRejected when it is none of this frame."""
        path = self.file.maps[kind]
        try:
            with open_fits(path) as beside:
                hdu = _map_in_sidecar(list(walk_images(path, beside)), frame)
                _add_to_digest(self.digest, beside, hdu)
        except (FrameRejected, OSError, EOFError, zlib.error) as problem:
            raise FrameRejected("map.unusable", kind=kind, file=os.path.basename(path), problem=problem) from problem
        return hdu

    def in_extension(self, frame: Frame, *, masks: bool) -> Hdu | None:
        """The best map among the extensions."""
        fitting = [hdu for hdu in self.images if (_MAP_KINDS.get(_extname(hdu)) == "mask") == masks]
        hdu = _map_among_extensions(self.images, fitting, frame)
        if hdu is not None:
            _add_to_digest(self.digest, self.source, hdu)
        return hdu


def _find_weight_map(frame: Frame, maps: _Maps) -> MapRef | None:
    """The weight map of a frame: a sidecar file before an extension."""
    for kind, path in maps.file.maps.items():
        if kind != "mask":
            return MapRef(path, maps.in_sidecar(kind, frame).index, kind)
    hdu = maps.in_extension(frame, masks=False)
    return None if hdu is None else MapRef(maps.file.path, hdu.index, _MAP_KINDS[_extname(hdu)])


def _find_mask(frame: Frame, maps: _Maps, cards: Cards, setting: MaskBits) -> MapRef | None:
    """The plane that says which pixels not to use: a sidecar file before an extension."""
    beside = maps.file.maps.get("mask")
    hdu = maps.in_sidecar("mask", frame) if beside else maps.in_extension(frame, masks=True)
    if hdu is None:
        return None
    bits, is_known = read_mask_bits(cards, hdu.cards, setting)
    return MapRef(beside or maps.file.path, hdu.index, "mask", bits=bits, is_known=is_known)


def _find_alpha(frame: Frame, source: FitsStream, images: list[Hdu], digest: hashlib.blake2b) -> MapRef | None:
    """The alpha map in a frame's file; the digest learns of it."""
    own = next(hdu for hdu in images if hdu.index == frame.storage.hdu)
    hdu = next((hdu for hdu in images if _extname(hdu) == _ALPHA and _belongs(hdu, own, frame)), None)
    if hdu is None or image_layout(hdu.axes)[0] != "mono":
        return None
    _add_to_digest(digest, source, hdu)
    return MapRef(frame.storage.path, hdu.index, "alpha", full=255.0 if hdu.bitpix > 0 else 1.0)


def _map_in_sidecar(hdus: list[Hdu], frame: Frame) -> Hdu:
    images = [hdu for hdu in hdus if hdu.is_image]
    if not images:
        raise FrameRejected("file.no-image")
    hdu = next((hdu for hdu in images if hdu.index == frame.storage.hdu), images[0])
    layout, shape = image_layout(hdu.axes)
    if layout != "mono" and frame.storage.layout not in {"chw", "hwc"}:
        raise FrameRejected("map.three-channels")
    if shape != frame.shape:
        raise FrameRejected(
            "map.other-shape",
            map_width_px=shape[1],
            map_height_px=shape[0],
            width_px=frame.shape[1],
            height_px=frame.shape[0],
            map_shape=list(shape),
            frame_shape=list(frame.shape),
        )
    return hdu


def _map_among_extensions(images: list[Hdu], fitting: list[Hdu], frame: Frame) -> Hdu | None:
    """The best of the fitting maps of the frame's shape and EXTVER, of those the one nearest behind the frame.

    A count of frames stands in for a weight only where nothing else, not even an alpha, tells one.
    """
    own = next(hdu for hdu in images if hdu.index == frame.storage.hdu)
    has_alpha = any(_extname(hdu) == _ALPHA for hdu in images)
    candidates = []
    for hdu in fitting:
        rank = _PREFERENCE.get(_extname(hdu))
        if rank is None or not _belongs(hdu, own, frame) or (has_alpha and _extname(hdu) in _COUNTS):
            continue
        candidates.append((rank, (hdu.index - frame.storage.hdu) % (1 << 30), hdu))
    return min(candidates, key=lambda item: item[:2])[2] if candidates else None


def _belongs(map_hdu: Hdu, own: Hdu, frame: Frame) -> bool:
    versions = map_hdu.cards.integer("EXTVER"), own.cards.integer("EXTVER")
    if None not in versions and versions[0] != versions[1]:
        return False
    try:
        layout, shape = image_layout(map_hdu.axes)
    except FrameRejected:
        return False
    return shape == frame.shape and (layout == "mono" or frame.storage.layout in {"chw", "hwc"})
