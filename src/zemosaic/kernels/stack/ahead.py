"""Samples asked for before they are needed.

The rows of a patch's frames lie far apart in memory. A processor that sees a row being read guesses what follows in it,
not the row of the next frame, and of short rows it guesses too late.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from zemosaic.kernels.compiled import leaf

__all__ = ["fetch_row"]

AHEAD = 2
"""Frames between the one that is worked on and the one whose row is asked for."""

LINE_BYTES = 64
"""What memory comes in."""


@intrinsic
def _fetch(typingctx, array, index):  # type: ignore[no-untyped-def]
    """Ask for the line of memory that holds an element of an array; nothing waits for it."""
    signature = types.void(array, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        place = builder.bitcast(builder.gep(data, [args[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        # To read; into the second-level cache, since the first holds what is worked on; data.
        builder.call(function, [place, *(ir.Constant(number, n) for n in (0, 2, 1))])
        return context.get_dummy_value()

    return signature, codegen


@leaf
def fetch_row(samples, i, y):
    """Ask for row `y` of the samples of the frame `AHEAD` of frame `i`."""
    i += AHEAD
    if i >= samples.values.shape[0]:
        return
    a, b = samples.span[i, y, 0], samples.span[i, y, 1]
    value, weight, alpha = samples.values[i, y, a:b], samples.weights[i, y, a:b], samples.alpha[i, y, a:b]
    for x in range(0, b - a, LINE_BYTES // 4):
        _fetch(value, x)
        _fetch(weight, x)
    for x in range(0, b - a, LINE_BYTES):
        _fetch(alpha, x)
