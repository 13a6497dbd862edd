"""Sums over packed bits, eight rows per instruction: a byte of a column is a mask of eight numbers.

`column_sums` is Dᵀu, `add_columns` is D w. The columns are packed as by ``numpy.packbits``: row 8k + i is bit
7 − i of byte k. Each group of eight numbers is stored in reverse order, so that lane i of a vector is for
bit i. With masked additions (AVX-512) one instruction adds eight numbers; other processors select and add.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
WORD = 8  # bytes of a column that are loaded at once
TOGETHER = 4  # columns per load of the numbers
INNER = 512  # bytes of a column whose numbers (32 KiB) fit in the first-level cache
TILE = 512  # columns whose cache lines (32 KiB) fit in the first-level cache

_DOUBLES, _BITS = ir.VectorType(ir.DoubleType(), LANES), ir.VectorType(ir.IntType(1), LANES * WORD)
_INT, _LONG = ir.IntType(32), ir.IntType(64)


def _long(value: int) -> Any:
    return ir.Constant(_LONG, value)


def _array(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return the pointer to an array's numbers."""
    return context.make_array(kind)(context, builder, value).data


def _word(builder: Any, data: Any, place: Any) -> Any:
    """Return the 64 bits that begin at byte `place`."""
    pointer = builder.bitcast(builder.gep(data, [place]), _LONG.as_pointer())
    return builder.bitcast(builder.load(pointer, align=1), _BITS)


def _mask(builder: Any, bits: Any, byte: int) -> Any:
    """Return the bits of one byte of a word."""
    lanes = list(range(LANES * byte, LANES * (byte + 1)))
    undefined = ir.Constant(_BITS, ir.Undefined)
    return builder.shuffle_vector(bits, undefined, ir.Constant(ir.VectorType(_INT, LANES), lanes))


def _vector(builder: Any, data: Any, place: Any) -> Any:
    """Return the pointer to the eight numbers that begin at `place`."""
    return builder.bitcast(builder.gep(data, [place]), _DOUBLES.as_pointer())


@intrinsic
def _sums_of_four(typing, packed, first, column, words, values, out):  # type: ignore[no-untyped-def]
    """Add to out[column + c] the sums of four columns, over `words` words that begin at byte `first`."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kinds = signature.args
        bits, numbers, sums = (_array(context, builder, kinds[k], arguments[k]) for k in (0, 4, 5))
        stride = builder.extract_value(context.make_array(kinds[0])(context, builder, arguments[0]).shape, 1)
        begin, which, count = arguments[1], arguments[2], arguments[3]
        zero = ir.Constant(_DOUBLES, [0.0] * LANES)
        totals = [cgutils.alloca_once_value(builder, zero) for _ in range(TOGETHER)]
        for total in totals:
            builder.store(zero, total)
        columns = [
            builder.add(builder.mul(builder.add(which, _long(c)), stride), begin) for c in range(TOGETHER)
        ]
        with cgutils.for_range(builder, count) as loop:
            byte = builder.mul(loop.index, _long(WORD))
            loads = [_word(builder, bits, builder.add(column, byte)) for column in columns]
            for k in range(WORD):
                place = builder.mul(builder.add(builder.add(begin, byte), _long(k)), _long(LANES))
                eight = builder.load(_vector(builder, numbers, place), align=8)
                for total, word in zip(totals, loads, strict=True):
                    term = builder.select(_mask(builder, word, k), eight, zero)
                    builder.store(builder.fadd(builder.load(total), term), total)
        for c, total in enumerate(totals):
            eight, place = builder.load(total), builder.gep(sums, [builder.add(which, _long(c))])
            value = builder.load(place)
            for lane in range(LANES):
                value = builder.fadd(value, builder.extract_element(eight, ir.Constant(_INT, lane)))
            builder.store(value, place)
        return context.get_dummy_value()

    return types.void(packed, first, column, words, values, out), emit


@intrinsic
def _add_word(typing, packed, columns, begin, end, weights, byte, out):  # type: ignore[no-untyped-def]
    """Add weights[k] to the 64 numbers of out that begin at row 8 · byte, where column columns[k] is 1."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kinds = signature.args
        bits, which, factors, sums = (_array(context, builder, kinds[k], arguments[k]) for k in (0, 1, 4, 6))
        stride = builder.extract_value(context.make_array(kinds[0])(context, builder, arguments[0]).shape, 1)
        begin, end, byte = arguments[2], arguments[3], arguments[5]
        zero = ir.Constant(_DOUBLES, [0.0] * LANES)
        rows = builder.mul(byte, _long(LANES))
        places = [_vector(builder, sums, builder.add(rows, _long(LANES * k))) for k in range(WORD)]
        totals = [cgutils.alloca_once_value(builder, zero) for _ in range(WORD)]
        for total, place in zip(totals, places, strict=True):
            builder.store(builder.load(place, align=8), total)
        with cgutils.for_range(builder, builder.sub(end, begin)) as loop:
            k = builder.add(begin, loop.index)
            column = builder.load(builder.gep(which, [k]))
            word = _word(builder, bits, builder.add(builder.mul(column, stride), byte))
            one = builder.insert_element(zero, builder.load(builder.gep(factors, [k])), ir.Constant(_INT, 0))
            eight = builder.shuffle_vector(one, zero, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))
            for j, total in enumerate(totals):
                term = builder.select(_mask(builder, word, j), eight, zero)
                builder.store(builder.fadd(builder.load(total), term), total)
        for total, place in zip(totals, places, strict=True):
            builder.store(builder.load(total), place, align=8)
        return context.get_dummy_value()

    return types.void(packed, columns, begin, end, weights, byte, out), emit


@njit(cache=True, nogil=True)
def column_sums(packed, values, out, low, high):  # type: ignore[no-untyped-def]
    """Write Dᵀu to out[low:high]; `packed` (P, K), `values` (8 K,) reversed by eights."""
    width = packed.shape[1]
    whole, fours = width // WORD * WORD, high - (high - low) % TOGETHER
    out[low:high] = 0.0
    for start in range(0, whole, INNER):
        words = (min(start + INNER, whole) - start) // WORD
        for p in range(low, fours, TOGETHER):
            _sums_of_four(packed, start, p, words, values, out)
    for p in range(low, high):
        for k in range(whole if p < fours else 0, width):
            byte = packed[p, k]
            for lane in range(LANES):
                if byte >> lane & 1:
                    out[p] += values[LANES * k + lane]


@njit(cache=True, nogil=True)
def add_columns(packed, columns, weights, out, low, high):  # type: ignore[no-untyped-def]
    """Add weights (k,) times columns (k,) of D to out (8 K,), reversed by eights, in the bytes low:high."""
    whole = low + (high - low) // WORD * WORD
    for begin in range(0, len(columns), TILE):
        end = min(begin + TILE, len(columns))
        for byte in range(low, whole, WORD):
            _add_word(packed, columns, begin, end, weights, byte, out)
    for k in range(len(columns)):
        for byte in range(whole, high):
            bits = packed[columns[k], byte]
            for lane in range(LANES):
                if bits >> lane & 1:
                    out[LANES * byte + lane] += weights[k]


def reversed_by_eights(values: np.ndarray) -> np.ndarray:
    """Return numbers (8 K,) with each group of eight in reverse order."""
    return np.ascontiguousarray(values.reshape(-1, LANES)[:, ::-1]).ravel()
