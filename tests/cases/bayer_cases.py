"""Stars on raw Bayer planes, for tests."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import erf

from zemosaic.stages.raw.cfa import channel_map

PATTERNS = ["RGGB", "BGGR", "GRBG", "GBRG"]


def mosaic(planes, pattern):
    """One raw plane from three full ones."""
    h, w = planes.shape[1:]
    channel = channel_map(pattern)[np.arange(h)[:, None] % 2, np.arange(w)[None] % 2]
    return np.take_along_axis(planes, channel[None], 0)[0].astype(np.float32)


def star_image(shape, y, x, fwhm):
    q = 2.3548 / (math.sqrt(2) * fwhm)
    profiles = [np.diff(erf((np.arange(n + 1) - 0.5 - p) * q)) / 2 for n, p in zip(shape, (y, x), strict=True)]
    return np.outer(*profiles)
