"""Dark and flat applied to a window of a raw frame."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["FLAT_LEAST", "calibrate_window"]

F4 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

FLAT_LEAST = 0.1
"""Below this response a pixel is dust on the sensor or the edge of a filter: it gets weight 0."""

_BAND_PX = 1 << 15
"""Pixels that are calibrated at once: what is held beside them then fits a processor's second cache."""


def calibrate_window(
    raw: F4,
    weight: F4,
    *,
    dark: F4 | None = None,
    flat: F4 | None = None,
    bad: Mask | None = None,
    read_share: float = 0.0,
    saturation_adu: float = math.inf,
) -> tuple[F4, F4]:
    """``(raw - dark) / flat`` in a window, with the weight that follows.

    Parameters
    ----------
    raw, weight : ndarray, float32, shape (h, w)
        Samples and their relative inverse variance.
    dark : ndarray, float32, shape (h, w), optional
        Master dark (bias included), or bias, in the same window.
    flat : ndarray, float32, shape (h, w), optional
        Master flat, 1 on average.
    bad : ndarray, bool, shape (h, w), optional
        Pixels that get weight 0.
    read_share : float
        Share of read and dark noise in the variance of a sky pixel of response 1, in [0, 1]; the rest is the sky's
        photon noise. (Variance of the dark frames over that of the raw frame's sky.)
    saturation_adu : float
        Raw level at and above which a sample is saturated. It then keeps at least this value, so that the level
        still tells; bright samples where the flat is below 1 may pass it, too.

    Returns
    -------
    data, weight : ndarray, float32, shape (h, w)
        Data are 0 where the weight is 0. The weight given is multiplied by
        ``flat^2 / (read_share + (1 - read_share) flat)``: after the division a pixel of response f has the variance
        ``(read + photons f) / f^2``.

    Raises
    ------
    ValueError
        When `read_share` is not in [0, 1] or shapes differ.
    """
    if not 0 <= read_share <= 1:
        raise ValueError(f"the share of read noise must be in [0, 1], got {read_share}")
    for name, array in (("weight", weight), ("dark", dark), ("flat", flat), ("bad", bad)):
        if array is not None and array.shape != raw.shape:
            raise ValueError(f"{name} has shape {array.shape}, raw {raw.shape}")
    data, out = np.empty(raw.shape, np.float32), np.empty(raw.shape, np.float32)
    n_rows = max(_BAND_PX // max(raw.shape[1], 1), 1)
    for y in range(0, len(raw), n_rows):
        rows = slice(y, y + n_rows)
        if dark is None:
            data[rows] = raw[rows]
        else:
            np.subtract(raw[rows], dark[rows], out=data[rows])
        out[rows] = weight[rows]
        invalid = ~(weight[rows] > 0)
        if flat is not None:
            invalid |= ~(flat[rows] > FLAT_LEAST)
            _divide_by_flat(data[rows], out[rows], flat[rows], np.float32(read_share))
        if bad is not None:
            invalid |= bad[rows]
        if math.isfinite(saturation_adu):
            is_bright = raw[rows] >= saturation_adu
            np.maximum(data[rows], np.float32(saturation_adu), out=data[rows], where=is_bright)
        np.copyto(data[rows], 0, where=invalid)
        np.copyto(out[rows], 0, where=invalid)
    return data, out


def _divide_by_flat(data: F4, weight: F4, flat: F4, share: np.float32) -> None:
    """Divide samples by the flat, and weigh them by what is then their noise; both in place."""
    response = np.maximum(flat, np.float32(FLAT_LEAST))  # samples of less are dropped
    data /= response
    variance = response * (1 - share)
    variance += share
    response *= response
    response /= variance
    weight *= response
