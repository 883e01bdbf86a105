"""One octave down and up again: the two loops of every image pyramid (Burt & Adelson 1983, ACM TOG 2, 217).

Weights are the binomial 1, 4, 6, 4, 1. Beyond its edges an image goes on as its edge pixels, so a constant stays one.
"""

from __future__ import annotations

import numpy as np

from zemosaic.kernels.compiled import kernel

__all__ = ["expand", "reduce"]


@kernel
def reduce(image, out):  # type: ignore[no-untyped-def]
    """Blur and take every second pixel, beginning with the first.

    Parameters
    ----------
    image : ndarray, float32, shape (h, w)
    out : ndarray, float32, shape ((h + 1) // 2, (w + 1) // 2)
        Filled.
    """
    h, w = image.shape
    row = np.empty(w, np.float32)
    for j in range(out.shape[0]):
        y = 2 * j
        a, b = image[max(y - 2, 0)], image[max(y - 1, 0)]
        d, e = image[min(y + 1, h - 1)], image[min(y + 2, h - 1)]
        for x in range(w):
            row[x] = np.float32(0.0625) * (a[x] + e[x] + np.float32(4) * (b[x] + d[x]) + np.float32(6) * image[y, x])
        for i in range(out.shape[1]):
            x = 2 * i
            far = row[max(x - 2, 0)] + row[min(x + 2, w - 1)]
            near = row[max(x - 1, 0)] + row[min(x + 1, w - 1)]
            out[j, i] = np.float32(0.0625) * (far + np.float32(4) * near + np.float32(6) * row[x])


@kernel
def expand(image, out):  # type: ignore[no-untyped-def]
    """Twice the size, smoothly: the transpose of `reduce`, brought to unit sum.

    Parameters
    ----------
    image : ndarray, float32, shape ((h + 1) // 2, (w + 1) // 2)
    out : ndarray, float32, shape (h, w)
        Filled.
    """
    h, w = image.shape
    row = np.empty(w, np.float32)
    for y in range(out.shape[0]):
        j = y // 2
        below = image[min(j + 1, h - 1)]
        if y % 2:
            for i in range(w):
                row[i] = np.float32(0.5) * (image[j, i] + below[i])
        else:
            above = image[max(j - 1, 0)]
            for i in range(w):
                row[i] = np.float32(0.125) * (above[i] + np.float32(6) * image[j, i] + below[i])
        for x in range(out.shape[1]):
            i = x // 2
            right = row[min(i + 1, w - 1)]
            if x % 2:
                out[y, x] = np.float32(0.5) * (row[i] + right)
            else:
                out[y, x] = np.float32(0.125) * (row[max(i - 1, 0)] + np.float32(6) * row[i] + right)
