"""Clipping by Rosner's generalised extreme studentised deviate test."""

from __future__ import annotations

from zemosaic.kernels.stack.normal_tables import esd_critical
from zemosaic.kernels.stack.trim import trim_esd_rows
from zemosaic.settings import StackSettings
from zemosaic.stages.stack.method import Method
from zemosaic.stages.stack.passes import Channel

__all__ = ["METHOD"]


def _clip(channel: Channel, settings: StackSettings, y0: int, y1: int) -> None:
    critical = esd_critical(len(channel.samples.values), settings.esd_significance)
    trim_esd_rows(channel.samples, channel.maps, y0, y1, settings.esd_fraction, critical, channel.table)


METHOD = Method(
    tell=lambda settings: (
        f"significance {settings.esd_significance:g}, at most {settings.esd_fraction:g} of the values"
    ),
    clip=_clip,
    grows=True,
)
