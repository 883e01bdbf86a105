"""Lanczos kernels: the table of taps, and the sum of taps times pixels as one vector operation."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "N_PHASES", "WIDTH", "dot4", "dot4_left", "dot6", "dot6_left", "dot8", "dot8_left", "dots4", "dots6", "dots8",
    "lanczos_table",
]  # fmt: skip

N_PHASES = 1024
"""Steps of the table between two pixels. Rounding to a step moves a sample by at most 1/2048 px, far below the
0.01 px that coordinates are known to; finer tables leave the first-level cache and cost a third of the speed."""

WIDTH = 8
"""Columns of a table row: taps are padded with zeros to one vector."""


@lru_cache(maxsize=4)
def lanczos_table(lobes: int) -> npt.NDArray[np.float32]:
    """Taps of the Lanczos kernel of `lobes` lobes for every phase.

    Parameters
    ----------
    lobes : {2, 3, 4}
        Half-width of the kernel in pixels.

    Returns
    -------
    ndarray, float32, shape (N_PHASES + 1, WIDTH), read-only
        Row p holds the ``2 lobes`` taps on pixels ``1 - lobes .. lobes`` relative to the pixel at
        or before a position whose fraction is ``p / N_PHASES``, then zeros. Each row sums to 1, so a
        constant stays constant; rows 0 and N_PHASES are exactly one pixel.

    Notes
    -----
    ``L(x) = sinc(x) sinc(x / lobes)`` (Duchon 1979, J. Appl. Meteor. 18, 1016), divided by the sum
    over its taps: the bare kernel's sum ripples by about 1 % (lobes = 3).
    """
    phase = np.arange(N_PHASES + 1)[:, None] / N_PHASES
    x = np.arange(1 - lobes, lobes + 1)[None, :] - phase
    taps = np.sinc(x) * np.sinc(x / lobes)
    taps[np.abs(taps) < 1e-12] = 0  # sinc of an integer is 0, not the sine's rounding error
    table = np.zeros((N_PHASES + 1, WIDTH), np.float32)
    table[:, : 2 * lobes] = taps / taps.sum(axis=1, keepdims=True)
    table.flags.writeable = False
    return table


def _dot(n_rows: int) -> Any:
    """Make the intrinsic ``dot(pixels, first, stride, taps, x_row, y_row)``.

    It returns ``sum_a sum_b taps[y_row + a] taps[x_row + b] pixels[first + a stride + b]`` for
    ``a < n_rows`` and ``b < WIDTH``, both arrays one-dimensional float32. Nothing is checked: the
    caller guarantees that all of it lies inside, and that pixels under padding taps are finite.

    Written with vector types because neither LLVM's loop nor its block vectoriser finds this shape
    by itself: 140 Mpix/s against 75 for the best plain loop (Lanczos-3, Zen 4). The order of
    additions is spelt out, so the result is the same on every processor with IEEE floats.
    """

    @intrinsic
    def dot(typingctx, pixels, first, stride, taps, x_row, y_row):  # type: ignore[no-untyped-def]
        signature = types.float32(pixels, types.intp, types.intp, taps, types.intp, types.intp)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            pixels, first, stride, taps, x_row, y_row = args
            pixels = context.make_array(signature.args[0])(context, builder, pixels).data
            taps = context.make_array(signature.args[3])(context, builder, taps).data
            rows = _rows_of(builder, pixels, stride, n_rows)
            return _sum_lanes(builder, _weigh_columns(builder, rows, first, taps, x_row, y_row))

        return signature, codegen

    return dot


def _dot_many(n_rows: int) -> Any:
    """Make ``dots(pixels, stride, taps, places, i, out)``: `_dot` of WIDTH neighbouring positions from `i` on.

    ``places[:, i]`` are `first`, `x_row` and `y_row` of position i; the sums go to ``out``. Each has the bits that
    `_dot` gives: the same numbers are added in the same order, but lanes of all positions at once, which takes a third
    of the exchanges.
    """

    @intrinsic
    def dots(typingctx, pixels, stride, taps, places, i, out):  # type: ignore[no-untyped-def]
        signature = types.void(pixels, types.intp, taps, places, types.intp, out)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            arrays = {k: context.make_array(signature.args[k])(context, builder, args[k]) for k in (0, 2, 3, 5)}
            pixels, taps, places, out = (arrays[k].data for k in (0, 2, 3, 5))
            stride, i, n = args[1], args[4], cgutils.unpack_tuple(builder, arrays[3].shape, 2)[1]
            begins = [builder.add(builder.mul(n, ir.Constant(n.type, k)), i) for k in range(3)]
            lines = [builder.gep(places, [begin]) for begin in begins]
            rows = _rows_of(builder, pixels, stride, n_rows)
            sums = []
            for lane in range(WIDTH):
                at = [builder.load(builder.gep(line, [ir.Constant(n.type, lane)])) for line in lines]
                at = [builder.sext(number, n.type) for number in at]
                sums.append(_weigh_columns(builder, rows, at[0], taps, at[1], at[2]))
            target = builder.bitcast(builder.gep(out, [i]), _VECTOR.as_pointer())
            builder.store(_sum_all_lanes(builder, sums), target, align=4)
            return context.get_dummy_value()

        return signature, codegen

    return dots


def _dot_left(n_rows: int) -> Any:
    """Make ``dot_left(pixels, weight, first, apart, stride, taps, x_row, y_row)``: `_dot` with holes as 0.

    It returns that sum, the sum of the taps that met a hole (a pixel whose weight is not above 0), and the share of
    the taps' absolute values that these had. The weight of ``pixels[i]`` is ``weight[i + apart]``.
    """

    @intrinsic
    def dot_left(typingctx, pixels, weight, first, apart, stride, taps, x_row, y_row):  # type: ignore[no-untyped-def]
        result, place = types.UniTuple(types.float32, 3), types.intp
        signature = result(pixels, weight, place, place, place, taps, place, place)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            pixels, weight, first, apart, stride, taps, x_row, y_row = args
            pixels = context.make_array(signature.args[0])(context, builder, pixels).data
            weight = context.make_array(signature.args[1])(context, builder, weight).data
            taps = context.make_array(signature.args[5])(context, builder, taps).data
            taps_x, taps_y = _load(builder, taps, x_row), _load(builder, taps, y_row)
            zero = ir.Constant(_VECTOR, [0.0] * WIDTH)

            def size_of(value: Any) -> Any:
                negative = builder.fcmp_ordered("<", value, zero)
                return builder.select(negative, builder.fsub(zero, value), value)

            sums: list[Any] = []
            for row in range(n_rows):
                tap = _spread(builder, taps_y, row)
                good = builder.fcmp_ordered(">", _load(builder, weight, builder.add(first, apart)), zero)
                pixel = builder.select(good, _load(builder, pixels, first), zero)
                lost = builder.select(good, zero, tap)
                terms = [builder.fmul(pixel, tap), lost, size_of(lost), size_of(tap)]
                sums = [builder.fadd(*pair) for pair in zip(sums, terms, strict=True)] if sums else terms
                first = builder.add(first, stride)
            total, lost, lost_size, size = sums
            across = size_of(taps_x)
            terms = [(total, taps_x), (lost, taps_x), (lost_size, across), (size, across)]
            total, lost, lost_size, size = (_sum_lanes(builder, builder.fmul(*term)) for term in terms)
            return context.make_tuple(builder, result, (total, lost, builder.fdiv(lost_size, size)))

        return signature, codegen

    return dot_left


_VECTOR = ir.VectorType(ir.FloatType(), WIDTH)


def _rows_of(builder: Any, pixels: Any, stride: Any, n_rows: int) -> list[Any]:
    """Pointers to the first rows of a plane: counted from each a position's place is the same."""
    return [builder.gep(pixels, [builder.mul(stride, ir.Constant(stride.type, row))]) for row in range(n_rows)]


def _weigh_columns(builder: Any, rows: list[Any], first: Any, taps: Any, x_row: Any, y_row: Any) -> Any:
    """Sums over the rows under a kernel, times its taps across: what remains is to add the lanes."""
    total = None
    for row, pixels in enumerate(rows):
        tap = builder.load(builder.gep(taps, [builder.add(y_row, ir.Constant(y_row.type, row))]))
        product = builder.fmul(_load(builder, pixels, first), _fill(builder, tap))
        total = product if total is None else builder.fadd(total, product)
    return builder.fmul(total, _load(builder, taps, x_row))


def _load(builder: Any, data: Any, index: Any) -> Any:
    address = builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())
    return builder.load(address, align=4)


def _pick(builder: Any, source: Any, lanes: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(source, ir.Constant(source.type, ir.Undefined), mask)


def _spread(builder: Any, source: Any, lane: int) -> Any:
    return _pick(builder, source, [lane] * WIDTH)


def _fill(builder: Any, value: Any) -> Any:
    """A vector of one value."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, cgutils.int32_t(0))
    return _spread(builder, one, 0)


def _sum_all_lanes(builder: Any, sums: list[Any]) -> Any:
    """`_sum_lanes` of WIDTH vectors, as one."""

    def fold(a: Any, b: Any, low: list[int], high: list[int]) -> Any:
        return builder.fadd(_pick2(builder, a, b, low), _pick2(builder, a, b, high))

    halves = [fold(sums[k], sums[k + 4], [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]) for k in range(4)]
    pairs = [fold(halves[k], halves[k + 1], [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]) for k in (0, 2)]
    return fold(pairs[0], pairs[1], [0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15])


def _pick2(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


def _sum_lanes(builder: Any, total: Any) -> Any:
    for half in (4, 2, 1):
        low, high = list(range(half)), list(range(half, 2 * half))
        total = builder.fadd(_pick(builder, total, low), _pick(builder, total, high))
    return builder.extract_element(total, cgutils.int32_t(0))


dot4, dot6, dot8 = _dot(4), _dot(6), _dot(8)
dots4, dots6, dots8 = _dot_many(4), _dot_many(6), _dot_many(8)
dot4_left, dot6_left, dot8_left = _dot_left(4), _dot_left(6), _dot_left(8)
