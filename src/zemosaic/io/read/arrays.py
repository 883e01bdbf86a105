"""Images in memory as frames: the same faces as files."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.wcs import WCS

from zemosaic.errors import FrameRejected
from zemosaic.io.headers.cards import Cards, Hdu
from zemosaic.io.headers.facts import frame_from_cards, image_layout
from zemosaic.io.headers.scaling import Scaling, read_softening
from zemosaic.io.headers.wcs_cards import cards_of_wcs, put_wcs_over
from zemosaic.io.read.frame_reader import put_physical_values
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameId

__all__ = ["ArraySource"]

F4 = npt.NDArray[np.float32]


class ArraySource:
    """Frames that are arrays; an `ImageSource`. Arrays are kept by reference and never modified.

    Add all frames first; then windows may be read from several threads.
    """

    def __init__(self) -> None:
        self._images: dict[FrameId, tuple[npt.NDArray[np.generic], F4 | None, Scaling]] = {}

    def add(
        self,
        data: npt.ArrayLike,
        wcs: WCS | None = None,
        weight: npt.ArrayLike | None = None,
        header: fits.Header | None = None,
        bayer: str = "auto",
    ) -> Frame:
        """Make a frame of an array.

        Parameters
        ----------
        data : array_like, shape (y, x), (3, y, x) or (y, x, 3)
            Physical values, or those of an asinh scale that the header tells; NaN where there is none.
        wcs : astropy.wcs.WCS, optional
            Where it is on the sky; stands above the header's.
        weight : array_like, shape (y, x) or (3, y, x), optional
            Relative inverse variance, used as it is; negative and NaN count as 0.
        header : astropy.io.fits.Header, optional
            Filter, exposure time and so on, and the WCS where `wcs` is None.
        bayer : str
            ``InputSettings.bayer``: the colour pattern of a raw plane.

        Raises
        ------
        FrameRejected
            When the shape is not a picture's, the weight has another shape, or the array was added before.
        """
        array = np.asarray(data)
        if array.dtype.kind not in "iuf":
            raise FrameRejected("array.no-numbers", dtype=array.dtype)
        layout, shape = image_layout(array.shape)
        planes = array.reshape([n for n in array.shape if n != 1])
        planes = np.moveaxis(planes, -1, 0) if layout == "hwc" else planes.reshape(-1, *shape)
        weights = None if weight is None else _clean_weight(weight, planes.shape)
        cards = Cards({}) if header is None else Cards.parse(header.tostring().encode("latin-1", "replace"))
        if wcs is not None:
            cards = put_wcs_over(Cards.parse(cards_of_wcs(wcs).encode("ascii")), cards)
        digest = hashlib.blake2b(f"{array.dtype} {array.shape} {cards}".encode(), digest_size=16)
        for part in (planes, weights):
            if part is not None:
                digest.update(np.ascontiguousarray(part).data)
        frame_id = FrameId(digest.hexdigest())
        if frame_id in self._images:
            raise FrameRejected("array.given-before")
        axes = {f"NAXIS{i}": str(n) for i, n in enumerate(reversed(array.shape), 1)}
        hdu = Hdu(0, Cards({"NAXIS": str(array.ndim), "BITPIX": "-32", **axes}), b"", 0, array.nbytes)
        frame = frame_from_cards(hdu, cards, f"memory:{len(self._images)}", frame_id, bayer_setting=bayer)
        if frame.decided.kind != "light":
            raise FrameRejected("frame.no-light", kind=frame.decided.kind)
        self._images[frame_id] = (planes, weights, Scaling(softening=read_softening(cards)))
        return frame

    def read_window(self, frame: Frame, box: Box) -> tuple[F4, F4]:
        """See `ImageSource.read_window`.

        Raises
        ------
        ValueError
            When the box is empty or reaches out of the frame.
        """
        if box.is_empty or not Box.of_shape(frame.shape).contains(box):
            raise ValueError(f"{box} is not inside a frame of {frame.shape[0]} rows and {frame.shape[1]} columns")
        planes, weights, scaling = self._images[frame.id]
        raw = planes[:, *box.slices]
        data = np.empty(raw.shape, np.float32)
        bad = put_physical_values(raw, data, scaling)
        weight = np.ones(data.shape, np.float32)
        if weights is not None:
            weight[:] = weights[:, *box.slices]
        if bad is not None:
            weight[bad] = 0
        data[weight == 0] = 0
        return data, weight


def _clean_weight(weight: npt.ArrayLike, shape: tuple[int, ...]) -> F4:
    values = np.asarray(weight)
    planes = values.reshape(-1, *values.shape[-2:])
    if planes.shape[1:] != shape[1:] or planes.shape[0] not in {1, shape[0]}:
        raise FrameRejected("array.weight-shape", weight_shape=values.shape, shape=shape)
    clean = np.empty(planes.shape, np.float32)
    put_physical_values(planes, clean)
    return np.maximum(clean, 0)
