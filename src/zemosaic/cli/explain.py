"""``zemosaic explain``: why a pixel of a mosaic is what it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zemosaic.pipelines.modes.explain import ChannelHere, Explanation, MosaicHere, SampleHere

__all__ = ["tell_explanation"]

_CLIPPED = {
    "sample": "clipped: beyond its limits",
    "pair": "clipped: the higher of two frames alone",
    "region": "clipped: deviates with its surroundings",
    "rim": "clipped: beside clipped samples",
    "saturated": "clipped: saturated, others say more",
}
"""What a sample was clipped by, in words."""


def tell_explanation(found: Explanation) -> Iterator[str]:
    """The lines for people: a table of frames for each channel of each mosaic."""
    yield f"RA {found.ra_deg:.6f} Dec {found.dec_deg:+.6f}"
    for mosaic in found.mosaics:
        yield f"{mosaic.file}, pixel x {mosaic.x}, y {mosaic.y}, counted from 0"
        for c, channel in enumerate(mosaic.channels):
            name = f"{'RGB'[c]} " if len(mosaic.channels) > 1 else ""
            yield f"  {name}{_tell_channel(channel)}"
            yield from _rows(mosaic, c)


def _tell_channel(channel: ChannelHere) -> str:
    if channel.value is None:
        return "no data"
    noise = f" +- {channel.noise:.4g}" if channel.noise is not None else ""
    mean = f"; mean of the {channel.n_kept} kept {channel.mean:.6g}" if channel.mean is not None else ""
    return f"value {channel.value:.6g}{noise}{mean}; {channel.n_clipped} clipped"


def _rows(mosaic: MosaicHere, c: int) -> Iterator[str]:
    """A row a frame, the names in one column."""
    width = max((len(frame.name) for frame in mosaic.frames), default=0)
    yield f"    {'frame':<{width}} {'value':>11} {'noise':>9} {'weight':>10} {'gain':>8}  limits"
    for frame in sorted(mosaic.frames, key=lambda frame: frame.name):
        sample = frame.samples[c]
        yield f"    {frame.name:<{width}} {_tell_sample(sample) if sample else 'no data here'}"


def _tell_sample(sample: SampleHere) -> str:
    sigma = f"{sample.sigma:.4g}" if sample.sigma is not None else "-"
    limits = f"{sample.lowest:.6g} .. {sample.highest:.6g}" if sample.lowest is not None else "none"
    verdict = _CLIPPED[sample.clipped_by] if sample.clipped_by else "kept"
    return f"{sample.value:>11.6g} {sigma:>9} {sample.weight:>10.4g} {sample.gain:>8.5f}  {limits}  {verdict}"
