"""Which bits of a mask mean 'do not use': planes of surveys and space telescopes flag much that harms no picture."""

from __future__ import annotations

from zemosaic.io.headers.cards import Cards
from zemosaic.model.frame import ANY_BIT
from zemosaic.settings import MaskBits

__all__ = ["read_mask_bits"]

_DO_NOT_USE = 1
"""JWST and Roman sum up in their first bit what all others mean together (jwst.datamodels and romancal dqflags)."""

_HST_GOOD = 16 | 64
"""Hot and warm pixels of ACS and UVIS, whose dark current is steady and taken out (ACS Data Handbook, table 3.4)."""

_HST_IR_GOOD = 64 | 512 | 8192
"""WFC3 IR: warm pixels, dips of the flat that are divided out, cosmic rays that the ramp's fit left out."""

_LSST_BAD = ("BAD", "SAT", "CR", "NO_DATA", "UNMASKEDNAN")
"""Planes of LSST and HSC masks, whose cards MP_NAME number the bits. DETECTED, the commonest of all, means a star."""

_DES_BAD = 1 | 2 | 8 | 16 | 64 | 128 | 256 | 512 | 1024
"""DES: bad, saturated, of a bad amplifier, cosmic ray, trail, edge bleed, crosstalk, edge, streak (Morganson et al.
2018, PASP 130, 074501, table 6). Interpolated, suspect and repaired pixels, and those near bright stars, are used."""


def read_mask_bits(cards: Cards, mask: Cards, setting: MaskBits = "auto") -> tuple[int, bool]:
    """The bits of a mask that mean 'do not use', and whether anybody told.

    Parameters
    ----------
    cards : Cards
        The header of the image: who made it.
    mask : Cards
        The header of the mask.
    setting : "auto", "any" or int
        ``InputSettings.mask_bits``.

    Returns
    -------
    bits : int
        `ANY_BIT` for every value but 0, which is also what a plane means that nobody knows.
    is_known : bool
    """
    if setting != "auto":
        return (ANY_BIT, True) if setting == "any" else (setting, True)
    planes = [mask.integer(f"MP_{name}") for name in _LSST_BAD]
    numbers = [number for number in planes if number is not None and 0 <= number < 63]
    if numbers:
        return sum(1 << number for number in set(numbers)), True
    telescope, camera = cards.text("TELESCOP").upper(), cards.text("INSTRUME").upper()
    if telescope in {"JWST", "ROMAN"}:
        return _DO_NOT_USE, True
    if telescope == "HST":
        is_infrared = camera == "WFC3" and cards.text("DETECTOR").upper() == "IR"
        return ~(_HST_IR_GOOD if is_infrared else _HST_GOOD) & 0xFFFF, True
    if camera == "DECAM":
        # The community pipeline numbers its reasons; all of them are reasons not to use a pixel.
        return (_DES_BAD if mask.text("EXTNAME").upper() in {"MSK", "MASK"} else ANY_BIT), True
    return ANY_BIT, False
