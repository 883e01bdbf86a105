"""What is measured once on every image: sky, noise, stars and star-free block means."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from zemosaic.model.box import Box

__all__ = ["Blocks", "Measurements", "Stars"]

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Stars:
    """Stars of one image, brightest first.

    Attributes
    ----------
    x, y : ndarray, shape (n,), float64
        Centroids in pixels of the image.
    flux, flux_error : ndarray, shape (c, n), float32
        Flux in the measuring aperture, input units, and its one-sigma error from the sky noise.
    flux_wide : ndarray, shape (c, n), float32
        Flux in an aperture that holds nearly all of the light: bright stars tell the growth curve with it. NaN where
        a rim or a bad pixel cuts that aperture.
    peak : ndarray, shape (n,), float32
        Highest pixel over the background, any channel.
    fwhm_px, ellipticity : ndarray, shape (n,), float32
        Width and 1 - minor/major axis from Gaussian-weighted moments; NaN where they did not converge.
    saturated, blended : ndarray, shape (n,), bool
        A saturated or invalid pixel lies in the aperture; a neighbour spills into it.
    """

    x: F8
    y: F8
    flux: F4
    flux_error: F4
    flux_wide: F4
    peak: F4
    fwhm_px: F4
    ellipticity: F4
    saturated: Flags
    blended: Flags

    @classmethod
    def empty(cls, n_channels: int) -> Stars:
        """No star at all."""
        f8, f4, no = np.zeros(0), np.zeros(0, np.float32), np.zeros(0, bool)
        per_channel = np.zeros((n_channels, 0), np.float32)
        return cls(f8, f8, per_channel, per_channel, per_channel, f4, f4, f4, no, no)

    def __len__(self) -> int:
        return len(self.x)

    def snr(self) -> F8:
        """Signal to noise of each flux in its best channel, shape (n,); 0 where no channel tells."""
        known = np.isfinite(self.flux) & (self.flux_error > 0)
        ratio = np.divide(self.flux, self.flux_error, out=np.zeros(self.flux.shape), where=known)
        best: F8 = ratio.max(axis=0, initial=0.0)
        return best

    def times(self, factor: float) -> Stars:
        """The same stars in another unit."""
        by = np.float32(factor)
        flux, error, wide = self.flux * by, self.flux_error * by, self.flux_wide * by
        return replace(self, flux=flux, flux_error=error, flux_wide=wide, peak=self.peak * by)


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Star-masked, clipped means of small blocks of one image.

    Attributes
    ----------
    x, y : ndarray, shape (n,), float32
        Mean position of the pixels that were used, in pixels of the image.
    mean, error : ndarray, shape (c, n), float32
        Mean in input units and its one-sigma error; error is inf where the channel has too few pixels.
    size_px : float
        Side of a block.
    """

    x: F4
    y: F4
    mean: F4
    error: F4
    size_px: float

    @classmethod
    def empty(cls, n_channels: int) -> Blocks:
        """No block at all."""
        f4, per_channel = np.zeros(0, np.float32), np.zeros((n_channels, 0), np.float32)
        return cls(f4, f4, per_channel, per_channel, 0.0)

    def __len__(self) -> int:
        return len(self.x)

    def times(self, factor: npt.ArrayLike) -> Blocks:
        """The same blocks in another unit; `factor` is one number or that of each channel, shape (c,)."""
        by = np.asarray(factor, np.float32).reshape(-1, 1)
        return replace(self, mean=self.mean * by, error=self.error * by)

    def where(self, kept: npt.NDArray[np.bool_]) -> Blocks:
        """Some of the blocks, by a flag for each, shape (n,)."""
        return replace(self, x=self.x[kept], y=self.y[kept], mean=self.mean[:, kept], error=self.error[:, kept])


@dataclass(frozen=True, slots=True, eq=False)
class Measurements:
    """All that later stages know of an image until they need its pixels again.

    Attributes
    ----------
    shape : tuple of int
        ``(height, width)`` of the image.
    sky, noise : ndarray, shape (c,), float64
        Typical background level and the noise of one sample at that level, input units.
    area_noise : ndarray, shape (c,), float64
        Noise as it adds up over areas: the deviation of a mean over many samples times the root of their number. It is
        `noise` where samples are independent, more where an image was debayered, resampled or smoothed before.
    valid_box : Box
        Bounding box of the pixels with weight.
    fwhm_px, ellipticity : float
        Medians over clean stars; NaN when the image has none.
    stars : Stars
    blocks : Blocks
    fine : Blocks or None
        The same of half their side; None where the sky changes little across `blocks`.
    defects : ndarray, shape (n,), int32
        Hot and cold pixels of a raw frame as indices into its flat plane, ascending; none of other images.
    plateau : float
        The highest value, where several pixels of a channel share it exactly: the image saturates there, input units.
        inf where they do not.
    no_data : ndarray, shape (n, 3), int32
        Runs of pixels whose values are no measurement: row, first column and column past the last, rows ascending.
    outside : ndarray, shape (n, 3), int32
        Runs of pixels of `valid_box` that lie beyond the image's footprint, which the taper follows.
    masked_share : float
        Share of the pixels that have no weight as they are read: missing, or forbidden by a mask.
    """

    shape: tuple[int, int]
    sky: F8
    noise: F8
    area_noise: F8
    valid_box: Box
    fwhm_px: float
    ellipticity: float
    stars: Stars
    blocks: Blocks
    fine: Blocks | None = None
    plateau: float = math.inf
    defects: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    no_data: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 3), np.int32))
    outside: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 3), np.int32))
    masked_share: float = 0.0

    @property
    def n_channels(self) -> int:
        """Number of channels measured."""
        return len(self.sky)

    def times(self, factor: float) -> Measurements:
        """The same image in another unit: every value `factor` times as large."""
        return replace(
            self.with_blocks(lambda blocks: blocks.times(factor)),
            sky=self.sky * factor,
            noise=self.noise * factor,
            area_noise=self.area_noise * factor,
            plateau=self.plateau * factor,
            stars=self.stars.times(factor),
        )

    def with_blocks(self, change: Callable[[Blocks], Blocks]) -> Measurements:
        """The same with its blocks changed, the fine ones alike."""
        return replace(self, blocks=change(self.blocks), fine=None if self.fine is None else change(self.fine))
