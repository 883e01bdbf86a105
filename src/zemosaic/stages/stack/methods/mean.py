"""The mean of all samples, weighted by inverse variance: nothing is left out, frames are added one by one."""

from __future__ import annotations

from zemosaic.stages.stack.method import Method

__all__ = ["METHOD"]

METHOD = Method(guarded=False)
