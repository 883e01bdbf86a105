"""Writes small XISF files, for tests: from the public specification, without the reader's code."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

SAMPLES = {"u1": "UInt8", "u2": "UInt16", "u4": "UInt32", "f4": "Float32", "f8": "Float64"}


def pack_lz4(content: bytes) -> bytes:
    """One LZ4 block: greedy matches of four bytes and more, the last twelve bytes as literals."""
    out, start, i, seen = bytearray(), 0, 0, {}

    def put(literals: bytes, back: int, match: int) -> None:
        lengths = len(literals), match - 4 if back else 0
        out.append(min(lengths[0], 15) << 4 | min(lengths[1], 15))
        out.extend(_rest(lengths[0]) + literals)
        if back:
            out.extend(back.to_bytes(2, "little") + _rest(lengths[1]))

    while i < len(content) - 12:
        found = seen.get(content[i : i + 4])
        seen[content[i : i + 4]] = i
        if found is None or i - found > 65535:
            i += 1
            continue
        n = 4
        while i + n < len(content) - 5 and content[found + n] == content[i + n]:
            n += 1
        put(content[start:i], i - found, n)
        i += n
        start = i
    put(content[start:], 0, 0)
    return bytes(out)


def _rest(length: int) -> bytes:
    """What follows a length of 15 or more."""
    if length < 15:
        return b""
    return b"\xff" * ((length - 15) // 255) + bytes([(length - 15) % 255])


def shuffled(content: bytes, item_bytes: int) -> bytes:
    """First bytes of all items, then second ones, and so on."""
    n = len(content) // item_bytes * item_bytes
    return b"".join(content[k:n:item_bytes] for k in range(item_bytes)) + content[n:]


def pack(content: bytes, packing: str, item_bytes: int) -> tuple[bytes, str]:
    """The bytes of a block and the attributes that tell how they are packed."""
    codec, _, shuffle = packing.partition("+")
    if not codec:
        return content, ""
    ordered = shuffled(content, item_bytes) if shuffle else content
    packed = zlib.compress(ordered) if codec == "zlib" else pack_lz4(ordered)
    suffix = f":{item_bytes}" if shuffle else ""
    return packed, f'compression="{packing}:{len(content)}{suffix}"'


def write_xisf(
    path: Path,
    array: npt.NDArray[np.generic],
    keywords: dict[str, str] | None = None,
    *,
    packing: str = "",
    attributes: str = "",
    inside: str = "",
    checksum: bool = False,
) -> Path:
    """A file with one image.

    Parameters
    ----------
    path : Path
    array : ndarray, shape (h, w) or (3, h, w), or (h, w, 3) with ``pixelStorage="Normal"`` among the attributes
        Rows from the top of the picture.
    keywords : dict
        FITS keywords and their values as they are written.
    packing : str
        ``zlib``, ``lz4``, ``lz4hc``, each with ``+sh`` or without; "" for none.
    attributes, inside : str
        More XML attributes and children of the image.
    checksum : bool
        Whether a SHA-1 of the block is stated.
    """
    content, packed_as = pack(array.tobytes(), packing, array.dtype.itemsize)
    shape = array.shape if array.ndim == 3 else (1, *array.shape)
    height, width, channels = shape if 'pixelStorage="Normal"' in attributes else (*shape[1:], shape[0])
    space = "RGB" if channels >= 3 else "Gray"
    cards = "".join(
        f"<FITSKeyword name={quoteattr(name)} value={quoteattr(value)} comment='as told'/>"
        for name, value in (keywords or {}).items()
    )
    stated = f'checksum="sha-1:{hashlib.sha1(content).hexdigest()}"' if checksum else ""
    size = 4096

    def header(offset: int) -> bytes:
        image = (
            f'<Image geometry="{width}:{height}:{channels}" sampleFormat="{SAMPLES[array.dtype.str[1:]]}" '
            f'colorSpace="{space}" location="attachment:{offset}:{len(content)}" {packed_as} {stated} {attributes}>'
        )
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?><xisf version="1.0" xmlns="http://www.pixinsight.com/xisf">{image}'
        )
        return (text + f"{cards}{inside}</Image></xisf>").encode()

    text = header(size)
    assert len(text) + 16 <= size
    start = b"XISF0100" + len(text).to_bytes(4, "little") + bytes(4) + text
    path.write_bytes(start.ljust(size, b"\0") + content)
    return path
