"""Tags that place a picture on the sky: Astronomy Visualization Metadata 1.2, as an XMP packet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zemosaic.model.sky.celestial import CelestialWcs

__all__ = ["avm_packet"]

SHEAR = 1e-4
"""Axes of pixels that are this far from square, or from each other's right angle, no scale and rotation tell."""

_FRAMES = {"RA--": "ICRS", "GLON": "GAL", "ELON": "ECL"}
"""Coordinate frames by the first axis of a WCS; equatorial ones are FK5 or FK4 where RADESYS says so."""

_HEAD = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    '<rdf:Description rdf:about="" xmlns:avm="http://www.communicatingastronomy.org/avm/1.0/">\n'
)
_TAIL = '</rdf:Description>\n</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>\n'


@dataclass(frozen=True, slots=True)
class _Reduced:
    """The WCS of a picture of means of blocks: reference pixel (from 1, bottom up), scale, rotation."""

    pixel: tuple[float, float]
    scale_deg: tuple[float, float]
    rotation_deg: float


def avm_packet(wcs: CelestialWcs, factor: int) -> bytes:
    """The tags of a picture whose pixels are means of ``factor x factor`` pixels of an image.

    Parameters
    ----------
    wcs : CelestialWcs
        Of the image; its ``shape`` is the image's.
    factor : int
        The last blocks may be partial.

    Returns
    -------
    bytes
        b"" where no tag tells the WCS: axes that are sheared, or of no sky that the tags know.
    """
    inner = wcs.wcs.wcs
    found, frame = _reduce(wcs, factor), _FRAMES.get(str(inner.ctype[0])[:4])
    if found is None or frame is None:
        return b""
    if frame == "ICRS" and str(inner.radesys) in {"FK5", "FK4"}:
        frame = str(inner.radesys)
    height, width = (-(-n // factor) for n in wcs.shape)
    tags: dict[str, str | tuple[float, ...]] = {
        "MetadataVersion": "1.2",
        "Spatial.CoordinateFrame": frame,
        "Spatial.Equinox": f"{inner.equinox if np.isfinite(inner.equinox) else 2000.0:.1f}",
        "Spatial.ReferenceValue": (float(inner.crval[0]), float(inner.crval[1])),
        "Spatial.ReferenceDimension": (width, height),
        "Spatial.ReferencePixel": found.pixel,
        "Spatial.Scale": found.scale_deg,
        "Spatial.Rotation": f"{found.rotation_deg:.10g}",
        "Spatial.CoordsystemProjection": str(inner.ctype[0])[5:8],
        "Spatial.Quality": "Full",
    }
    lines = [_element(name, value) for name, value in tags.items()]
    return (_HEAD + "".join(lines) + _TAIL).encode()


def _reduce(wcs: CelestialWcs, factor: int) -> _Reduced | None:
    """Scale and rotation in which FITS once told them (CDELT, CROTA2); None for axes that they do not tell."""
    (a, b), (c, d) = wcs.wcs.pixel_scale_matrix
    determinant = a * d - b * c
    size = float(np.sqrt(abs(determinant)))
    if abs(a * b + c * d) > SHEAR * size**2 or abs(np.hypot(a, c) - np.hypot(b, d)) > SHEAR * size:
        return None
    x, y = ((float(n) - 0.5) / factor + 0.5 for n in wcs.wcs.wcs.crpix)
    scale = factor * size
    return _Reduced((x, y), (scale * float(np.sign(determinant)), scale), float(np.rad2deg(np.arctan2(-b, d))) + 0.0)


def _element(name: str, value: str | tuple[float, ...]) -> str:
    if isinstance(value, str):
        return f"<avm:{name}>{value}</avm:{name}>\n"
    items = "".join(f"<rdf:li>{number:.12g}</rdf:li>" for number in value)
    return f"<avm:{name}><rdf:Seq>{items}</rdf:Seq></avm:{name}>\n"
