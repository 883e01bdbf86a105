"""Frame to output grid: coordinates on a lattice, corrections on its nodes, pixels through a kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from zemosaic.kernels.resample.areas import resample_polygon
from zemosaic.kernels.resample.bayer import MARGIN_PX as CFA_MARGIN_PX
from zemosaic.kernels.resample.bayer import resample_cfa
from zemosaic.kernels.resample.lanczos import WIDTH, lanczos_table
from zemosaic.kernels.resample.lattice import positions_round
from zemosaic.kernels.resample.points import KERNEL_TAPS, resample
from zemosaic.kernels.resample.window import Output, Window
from zemosaic.model.box import Box
from zemosaic.model.photo_scale import PhotoScale, places_in, surface_basis, surface_terms
from zemosaic.model.sky.celestial import CelestialWcs
from zemosaic.settings import WarpSettings
from zemosaic.stages.raw.cfa import pixel_variance
from zemosaic.stages.warp.lattice import Lattice, plan_lattice

__all__ = [
    "Lattice",
    "WarpPlan",
    "WindowReader",
    "correction_nodes",
    "fit_pixel_area",
    "pixel_variance_ratio",
    "plan_lattice",
    "source_box",
    "warp_window",
]

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

AREA_ORDER = 4
"""Order of the polynomial that follows a frame's pixel area."""


class WindowReader(Protocol):
    """Gives a frame's pixels in a box: data and relative weight, float32, shapes (c, h, w) and (1 or c, h, w)."""

    def __call__(self, box: Box, /) -> tuple[Floats, Floats]: ...


@dataclass(frozen=True, slots=True, eq=False)
class WarpPlan:
    """What warping any part of one frame needs.

    Attributes
    ----------
    lattice : Lattice
        Coordinates.
    wcs : CelestialWcs
        The frame's WCS and shape.
    scale : PhotoScale
        Gain, response and background surface.
    sigma : ndarray, shape (c,)
        Noise of a raw sample of weight 1, per channel; > 0.
    valid_box : Box
        Region of the frame that holds data; the taper begins at its edge.
    saturation_adu : float or None
        Raw level at which samples are flagged.
    area_ref_deg2 : float
        A_ref of the output grid.
    pixel_values : {"counts", "surface"}
        Whether the pixel area varies inside the frame (`fit_pixel_area`).
    bayer : str or None
        Colour pattern of the frame's first four pixels ("RGGB" ...) where the pixels read are a raw plane; the
        corrections are then those of red, green and blue.
    area_terms : ndarray
        Fitted pixel area; made from `wcs` and `pixel_values`.
    area_deg2 : float
        Area of the frame's central pixel; made from `wcs`.
    """

    lattice: Lattice
    wcs: CelestialWcs
    scale: PhotoScale
    sigma: Array
    valid_box: Box
    saturation_adu: float | None
    area_ref_deg2: float
    pixel_values: Literal["counts", "surface"] = "counts"
    bayer: str | None = None
    area_terms: Array = field(init=False)
    area_deg2: float = field(init=False)

    def __post_init__(self) -> None:
        if not (np.all(np.isfinite(self.sigma)) and np.all(np.asarray(self.sigma) > 0)):
            raise ValueError(f"the noise of every channel must be finite and positive, got {self.sigma}")
        object.__setattr__(self, "area_terms", fit_pixel_area(self.wcs, self.pixel_values))
        object.__setattr__(self, "area_deg2", float(self.wcs.pixel_area_deg2()))


def fit_pixel_area(image: CelestialWcs, pixel_values: Literal["counts", "surface"]) -> Array:
    """The area of a frame's pixels on the sky as a polynomial over the frame.

    Parameters
    ----------
    image : CelestialWcs
        The frame.
    pixel_values : {"counts", "surface"}
        "counts": a pixel's value grows with its own area. "surface": the frame was divided by a flat field of
        even surface brightness, so all of its values refer to one area, that of the central pixel.

    Returns
    -------
    ndarray
        Coefficients of ln(area / deg^2) over `surface_basis` of order `AREA_ORDER` (one number for "surface").
    """
    height, width = image.shape
    if pixel_values == "surface":
        return np.log([image.pixel_area_deg2()])
    x, y = np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 9))
    log_area = np.log(image.pixel_area_deg2(x.ravel(), y.ravel()))
    seen = np.isfinite(log_area)
    basis = surface_basis(x.ravel(), y.ravel(), image.shape, AREA_ORDER)
    terms: Array = np.linalg.lstsq(basis[:, seen].T, log_area[seen], rcond=1e-12)[0]
    return terms


def correction_nodes(
    xy: Array, shape: tuple[int, int], area_terms: Array, area_ref_deg2: float, scale: PhotoScale
) -> tuple[Array, Array]:
    """The correction of a frame at lattice nodes: ``value = scale * sample - offset``.

    Parameters
    ----------
    xy : ndarray, shape (2, ny, nx)
        Frame coordinates of the nodes; NaN gives NaN.
    shape : tuple of int
        Of the frame.
    area_terms : ndarray
        From `fit_pixel_area`.
    area_ref_deg2 : float
        A_ref.
    scale : PhotoScale
        Gain, response and surface.

    Returns
    -------
    nodes_scale, nodes_offset : ndarray, shape (c, ny, nx)
        ``A_ref / (g F A)`` and ``B``.

    Notes
    -----
    Polynomials are followed to 1.5 frame sizes beyond the edges and held there, so that far nodes stay finite.
    """
    height, width = shape
    x = np.minimum(np.maximum(xy[0], -1.5 * width), 2.5 * width)
    y = np.minimum(np.maximum(xy[1], -1.5 * height), 2.5 * height)
    u, v = places_in(x, y, shape)
    order = AREA_ORDER if len(area_terms) > 1 else 0
    terms = surface_terms(u, v, max(order, scale.order))
    area = np.exp(np.tensordot(area_terms, terms[: len(area_terms)], 1))
    gain = scale.gain[:, None, None]
    return area_ref_deg2 / (gain * scale.response_of(terms) * area), scale.surface_of(terms)


def source_box(plan: WarpPlan, box: Box, settings: WarpSettings) -> Box:
    """Pixels of a frame that warping an output box can touch, clipped to the frame (empty: none).

    Parameters
    ----------
    plan : WarpPlan
        The frame.
    box : Box
        Output pixels wanted.
    settings : WarpSettings
        The kernel sets the margin.
    """
    part = plan.lattice.box.intersect(box)
    return part if part.is_empty else _source_box(plan, plan.lattice.cut(part), settings)


def _source_box(plan: WarpPlan, lattice: Lattice, settings: WarpSettings) -> Box:
    """`source_box` of the part of the output that a lattice serves."""
    box, far = lattice.box, 2.0**31
    y_low, y_high, x_low, x_high = positions_round(
        lattice.xy, lattice.step, box.y0 - lattice.y0, box.y1 - lattice.y0, box.x0 - lattice.x0, box.x1 - lattice.x0
    )
    if y_low > y_high or x_low > x_high:  # the projection shows nothing here
        return Box(0, 0, 0, 0)
    margin = max(CFA_MARGIN_PX if plan.bayer else 0, _margin_px(lattice, settings))
    y0, x0 = (math.floor(max(low - margin, -far)) for low in (y_low, x_low))
    y1, x1 = (math.ceil(min(high + margin, far)) + 1 for high in (y_high, x_high))
    return Box(y0, y1, x0, x1).intersect(Box.of_shape(plan.wcs.shape))


def _margin_px(lattice: Lattice, settings: WarpSettings) -> int:
    """Frame pixels that a kernel reaches beyond a position."""
    if settings.kernel in KERNEL_TAPS:
        # Lanczos loads WIDTH columns at once; with all of them at hand no pixel takes the slow way.
        return WIDTH - 1
    along = [np.abs(np.diff(lattice.xy, axis=axis)) / lattice.step for axis in (1, 2)]
    finite = [step[np.isfinite(step)] for step in along]
    reach = sum(float(step.max()) for step in finite if step.size) / 2
    return math.ceil(min(reach, 1e6) + 0.5) + 1


def _resample(window: Window, out: Output, settings: WarpSettings, bayer: str | None) -> None:
    if bayer is not None:
        resample_cfa(window, out, bayer, settings.kernel, settings.clamp, settings.pixfrac)
    elif settings.kernel in KERNEL_TAPS:
        resample(window, out, settings.kernel, settings.clamp, dering=True)
    else:
        resample_polygon(window, out, settings.pixfrac if settings.kernel == "drizzle" else None)


def warp_window(
    plan: WarpPlan,
    box: Box,
    read: WindowReader,
    settings: WarpSettings,
    values: Floats,
    weights: Floats,
    alpha: Bytes,
) -> bool:
    """Warp the part of a frame that falls into an output box.

    Parameters
    ----------
    plan : WarpPlan
        The frame.
    box : Box
        Output pixels wanted, within the frame's reach (``plan.lattice.box``); not empty.
    read : WindowReader
        Gives the frame's pixels.
    settings : WarpSettings
        Kernel, clamping, drop size, taper.
    values, weights : ndarray, float32, shape (c, *box.shape)
        Corrected values (input units per A_ref), filled where the frame reaches, and their inverse variance as means
        over large areas: ``alpha m / (scale sigma)^2``, times ``A_ref / A`` for frames coarser than the grid.
    alpha : ndarray, uint8, shape box.shape
        Taper in 127ths, with bit 128 for saturated samples; 0 where there is no weight. The variance of a value is
        ``alpha / 127 / weight``.

    Returns
    -------
    bool
        Whether the arrays were filled (0 where there is no data). They are left as they were where the frame has no
        pixel for the box.

    Raises
    ------
    ValueError
        When the box goes beyond the frame's reach.
    """
    if box.is_empty or not plan.lattice.box.contains(box):
        raise ValueError(f"{box} is not within the frame's reach, {plan.lattice.box}")
    lattice = plan.lattice.cut(box)
    source = _source_box(plan, lattice, settings)
    if source.is_empty:
        return False
    data, weight = read(source)
    nodes_scale, nodes_offset = correction_nodes(
        lattice.xy, plan.wcs.shape, plan.area_terms, plan.area_ref_deg2, plan.scale
    )
    valid = plan.valid_box
    window = Window(
        data,
        weight,
        origin=(source.y0, source.x0),
        nodes_xy=lattice.xy,
        nodes_scale=nodes_scale,
        nodes_offset=nodes_offset,
        step=lattice.step,
        start=(box.y0 - lattice.y0, box.x0 - lattice.x0),
        inverse_variance=_independence(plan, settings) / np.square(np.asarray(plan.sigma, float)),
        taper_box=(valid.y0, valid.y1, valid.x0, valid.x1),
        taper_px=settings.taper_px,
        saturation=math.inf if plan.saturation_adu is None else plan.saturation_adu,
    )
    _resample(window, Output(values, weights, alpha), settings, plan.bayer)
    return True


def _independence(plan: WarpPlan, settings: WarpSettings) -> float:
    """Share of output pixels that bring noise of their own.

    A pixel of a coarser frame covers ``A / A_ref`` output pixels, which all show its noise: the variance of a mean over
    a large area is that many times larger than if they were independent. A kernel that samples
    points cannot gain the other way; one that integrates over areas can.
    """
    share = plan.area_ref_deg2 / plan.area_deg2
    return share if settings.kernel in {"area", "drizzle"} else min(share, 1.0)


def pixel_variance_ratio(settings: WarpSettings, raw_channel: int | None = None) -> float:
    """Scatter of single output pixels over the variance that the weight states, at equal pixel scales.

    The weight's variance is that of means over large areas: a kernel that smooths leaves less scatter in one pixel, and
    correlates it with its neighbours. Averaged over all positions between pixels.

    Parameters
    ----------
    settings : WarpSettings
        Kernel and drop size.
    raw_channel : int, optional
        0, 1, 2 for red, green, blue of raw Bayer frames (`zemosaic.stages.raw.cfa.pixel_variance`).

    Returns
    -------
    float
        Mean of the sum of squared taps: 1 for "nearest", 4/9 for "bilinear" and "area", 0.79 for "lanczos3",
        ``(1 - pixfrac / 3)^2`` for "drizzle" (Fruchter & Hook 2002, PASP 114, 144, eq. 9).
    """
    if raw_channel is not None:
        return pixel_variance(settings.kernel, raw_channel, settings.pixfrac)
    if settings.kernel == "nearest":
        return 1.0
    if settings.kernel in {"bilinear", "area"}:
        return 4 / 9
    if settings.kernel == "drizzle":
        return (1 - settings.pixfrac / 3) ** 2
    taps = lanczos_table(KERNEL_TAPS[settings.kernel] // 2)[:-1].astype(float)
    return float(np.mean(np.sum(taps**2, axis=1)) ** 2)
