"""Interpreter of PTX programs: one block after the other, its threads in turns between barriers.

`run_blocks` runs a program (program.py) and stops at what a GPU would leave undefined: accesses outside allocations or misaligned, reads of shared or local memory that nobody wrote, two
threads that touch one place of shared memory between two barriers and two blocks that touch one
place of global memory (one of them writing), barriers that not all threads reach, programs without
an end. It counts how often each row was executed and, if asked, records each access.

Within a stretch between two barriers a thread runs alone up to the barrier, so what holds for every
order of threads, warps and blocks can be tried by choosing other orders. Instructions of a whole
warp (mma) wait for its 32 threads.

Arithmetic is that of the PTX ISA: integers wrap, shifts are clamped, division by zero gives all
ones, float32 results that are NaN are 0x7fffffff. What PTX only approximates (ex2, rsqrt, …) is
computed as precisely as float32 allows.

Source: PTX ISA, https://docs.nvidia.com/cuda/parallel-thread-execution/
"""

from __future__ import annotations

import numpy as np
from numba import njit

from . import operations as op
from . import state as st
from .native import (
    bits_of_f32,
    bits_of_f64,
    divide_signed,
    divide_unsigned,
    f32_of_bits,
    f64_of_bits,
    fma,
    high_unsigned,
    load_f32,
    load_f64,
    load_s8,
    load_s16,
    load_s32,
    load_s64,
    load_u8,
    load_u16,
    load_u32,
    load_u64,
    store_f64,
    store_s64,
    store_u8,
    store_u16,
    store_u32,
    store_u64,
)

# What a thread waits for.
RUNNING, AT_BARRIER, AT_WARP, EXITED, FAULTED = range(5)

_ROW = 32  # bytes of a row of the program
_WARP = 32
_NAN32 = 0x7FFFFFFF

_compiled = njit(nogil=True, cache=True, error_model="numpy")


# Memory --------------------------------------------------------------------------------------


@_compiled
def _fail(state, kind, address, nbytes, other):
    if state[st.FAULT] == st.NONE:
        state[st.FAULT] = kind
        state[st.FAULT_ADDRESS], state[st.FAULT_BYTES] = address, nbytes
        state[st.FAULT_OTHER] = other
    return np.int64(0)


@_compiled
def _mark_global(state, offset, address, nbytes, writes, atomic):
    """Whether no other block has touched these bytes in a way that conflicts."""
    shift = state[st.GLOBAL_SHIFT]
    first, stamp = state[st.FIRST_STAMP] << 1, state[st.STAMP] << 1
    many = state[st.MANY_STAMP] << 1
    for granule in range(offset >> shift, (offset + nbytes - 1 >> shift) + 1):
        write_mark = state[st.GLOBAL_WRITTEN] + 8 * granule
        read_mark = state[st.GLOBAL_READ] + 8 * granule
        writer, reader = load_s64(write_mark), load_s64(read_mark)
        foreign_writer = writer >= first and (writer & ~np.int64(1)) != stamp
        if foreign_writer and not (atomic and writer & 1):
            _fail(state, st.GLOBAL_RACE, address, nbytes, (writer - first) >> 1)
            return False
        if writes:
            if reader >= first and reader != stamp and not atomic:
                other = (reader - first) >> 1 if reader != many else np.int64(-1)
                _fail(state, st.GLOBAL_RACE, address, nbytes, other)
                return False
            store_s64(write_mark, many | 1 if foreign_writer else stamp | np.int64(atomic))
        elif reader < first:
            store_s64(read_mark, stamp)
        elif reader != stamp:
            store_s64(read_mark, many)
    return True


@_compiled
def _mark_shared(state, offset, nbytes, writes):
    """Whether no other thread has touched these bytes since the last barrier in a way that
    conflicts, and what is read was written."""
    shift = state[st.SHARED_SHIFT]
    epoch = state[st.EPOCH] << st.THREAD_BITS
    mine = epoch | state[st.THREAD]
    for granule in range(offset >> shift, (offset + nbytes - 1 >> shift) + 1):
        write_mark = state[st.SHARED_WRITTEN] + 8 * granule
        read_mark = state[st.SHARED_READ] + 8 * granule
        filled = state[st.SHARED_FILLED] + 8 * granule
        writer, reader = load_s64(write_mark), load_s64(read_mark)
        if writer >= epoch and writer != mine:
            _fail(state, st.SHARED_RACE, offset, nbytes, writer - epoch)
            return False
        if writes:
            if reader >= epoch and reader != mine:
                _fail(state, st.SHARED_RACE, offset, nbytes, reader - epoch)
                return False
            store_s64(write_mark, mine)
            store_s64(filled, state[st.BLOCK_SERIAL])
        else:
            if load_s64(filled) != state[st.BLOCK_SERIAL]:
                _fail(state, st.UNWRITTEN, offset, nbytes, 0)
                return False
            several = reader >= epoch and reader != mine
            store_s64(read_mark, epoch | st.MANY_THREADS if several else mine)
    return True


@_compiled
def _record(state, row, address, nbytes, space):
    """Note an access: (row, thread, which of this thread's accesses there, address, bytes)."""
    number = state[st.TRACE_NUMBERS] + 8 * (state[st.THREAD] * state[st.TRACE_ROWS] + row)
    count = load_s64(number)
    store_s64(number, count + 1)
    if state[st.TRACE_COUNT] < state[st.TRACE_LENGTH]:
        entry = state[st.TRACE] + 48 * state[st.TRACE_COUNT]
        store_s64(entry, row)
        store_s64(entry + 8, state[st.BLOCK] * 1024 + state[st.THREAD])
        store_s64(entry + 16, count)
        store_s64(entry + 24, address)
        store_s64(entry + 32, nbytes)
        store_s64(entry + 40, space)
    state[st.TRACE_COUNT] += 1


@_compiled
def _locate(state, row, space, address, nbytes, writes, atomic):
    """Where these bytes lie on the host, or 0 after a fault."""
    if space == op.GENERIC:
        space = op.GLOBAL
        if address >= op.LOCAL_WINDOW:
            space, address = op.LOCAL, address - op.LOCAL_WINDOW
        elif address >= op.SHARED_WINDOW:
            space, address = op.SHARED, address - op.SHARED_WINDOW
    if address & (nbytes - 1):
        return _fail(state, st.MISALIGNED, address, nbytes, 0)
    if state[st.TRACE] and (space == op.GLOBAL or space == op.SHARED):
        _record(state, row, address, nbytes, space)
    if space == op.GLOBAL:
        offset = address - state[st.GLOBAL_BASE]
        if offset < 0 or offset >= state[st.GLOBAL_BYTES]:
            return _fail(state, st.OUTSIDE, address, nbytes, 0)
        if offset + nbytes > load_s64(state[st.GLOBAL_ENDS] + 8 * (offset >> 9)):
            return _fail(state, st.OUTSIDE, address, nbytes, 0)
        if not _mark_global(state, offset, address, nbytes, writes, atomic):
            return np.int64(0)
        return state[st.GLOBAL_HOST] + offset
    if space == op.SHARED:
        if address < 0 or address + nbytes > state[st.SHARED_BYTES]:
            return _fail(state, st.OUTSIDE, address, nbytes, 0)
        if not _mark_shared(state, address, nbytes, writes):
            return np.int64(0)
        return state[st.SHARED_HOST] + address
    if space == op.LOCAL:
        if address < 0 or address + nbytes > state[st.LOCAL_BYTES]:
            return _fail(state, st.OUTSIDE, address, nbytes, 0)
        place = state[st.THREAD] * state[st.LOCAL_BYTES] + address
        for i in range(nbytes):
            if writes:
                store_u8(state[st.LOCAL_FILLED] + place + i, 1)
            elif not load_u8(state[st.LOCAL_FILLED] + place + i):
                return _fail(state, st.UNWRITTEN, address, nbytes, 0)
        return state[st.LOCAL_HOST] + place
    if writes:
        return _fail(state, st.READ_ONLY, address, nbytes, 0)
    if address < 0 or address + nbytes > state[st.PARAM_BYTES]:
        return _fail(state, st.OUTSIDE, address, nbytes, 0)
    return state[st.PARAM_HOST] + address


@_compiled
def _bytes(kind):
    if kind <= op.S8:
        return 1
    if kind <= op.S16:
        return 2
    return 4 if kind <= op.S32 or kind == op.F32 else 8


@_compiled
def _load_extended(place, kind):
    """A number of `kind` in 64 bits: floats as their bits, signed ones with their sign."""
    if kind == op.U32 or kind == op.F32:
        return np.int64(load_u32(place))
    if kind >= op.U64:
        return load_s64(place)
    if kind == op.S32:
        return np.int64(load_s32(place))
    if kind == op.U8:
        return np.int64(load_u8(place))
    if kind == op.S8:
        return np.int64(load_s8(place))
    if kind == op.U16:
        return np.int64(load_u16(place))
    return np.int64(load_s16(place))


@_compiled
def _store_short(place, kind, number):
    """The lowest bits of a number, as many as `kind` has."""
    if kind == op.U32 or kind == op.S32 or kind == op.F32:
        store_u32(place, number)
    elif kind >= op.U64:
        store_s64(place, number)
    elif kind <= op.S8:
        store_u8(place, number)
    else:
        store_u16(place, number)


@_compiled
def _atomic(place, kind, action, value, other):
    """The old number, after the action."""
    old = _load_extended(place, kind)
    new = value
    if action == op.ATOMIC_ADD:
        if kind == op.F32:
            total = f32_of_bits(old) + f32_of_bits(value)
            new = np.int64(bits_of_f32(total))
        elif kind == op.F64:
            new = np.int64(bits_of_f64(f64_of_bits(old) + f64_of_bits(value)))
        else:
            new = old + value
    elif action == op.ATOMIC_MIN or action == op.ATOMIC_MAX:
        less = value < old
        if kind == op.U64:
            less = np.uint64(value) < np.uint64(old)
        if less != (action == op.ATOMIC_MIN):
            new = old
    elif action == op.ATOMIC_COMPARE:
        new = other if old == value else old
    elif action == op.ATOMIC_AND:
        new = old & value
    elif action == op.ATOMIC_OR:
        new = old | value
    _store_short(place, kind, new)
    return old


# Arithmetic ----------------------------------------------------------------------------------


@_compiled
def _put_f32(d, value):
    store_u64(d, np.uint64(_NAN32) if value != value else np.uint64(bits_of_f32(value)))


@_compiled
def _relation(less, equal, greater):
    if less:
        return op.LESS
    if equal:
        return op.EQUAL
    return op.GREATER if greater else op.UNORDERED


@_compiled
def _round_whole(x, rounding):
    """x rounded to a whole number."""
    if rounding == op.ZERO:
        return np.trunc(x)
    if rounding == op.DOWN:
        return np.floor(x)
    if rounding == op.UP:
        return np.ceil(x)
    return np.rint(x)


@_compiled
def _to_int(x, from_double, rounding, kind):
    """x rounded to `kind`, clamped to its range. NaN: 0 if neither type has 64 bits, else the
    number with the sign bit alone."""
    bits = 8 * _bytes(kind)
    signed = kind == op.S8 or kind == op.S16 or kind == op.S32 or kind == op.S64
    if x != x:
        if not from_double and bits < 64:
            return np.int64(0)
        lowest = np.int64(-1) << (bits - 1)
        return lowest if signed or bits == 64 else -lowest
    x = _round_whole(x, rounding)
    if signed:
        high = 2.0 ** (bits - 1)
        if x >= high:
            return ~(np.int64(-1) << (bits - 1))
        if x < -high:
            return np.int64(-1) << (bits - 1)
        return np.int64(x)
    if x <= 0.0:
        return np.int64(0)
    if x >= 2.0**bits:
        return np.int64(-1) if bits == 64 else (np.int64(1) << bits) - 1
    return np.int64(np.uint64(x))


@_compiled
def _two_sum_error(a, b, total):
    """What rounding took from a + b = total, exactly."""
    share = total - a
    return (a - (total - share)) + (b - share)


@_compiled
def _directed_fma64(a, b, c, rounding):
    """a·b + c rounded to zero, down or up: the nearest result, and its neighbour where the exact
    one lies on the other side. The sign of the rest decides: a·b is split into two exact parts."""
    nearest = fma(a, b, c)
    if not np.isfinite(nearest):
        return nearest
    product = a * b
    low = fma(a, b, -product)
    total = product + c
    error = _two_sum_error(product, c, total)
    rest = ((total - nearest) + error) + low
    if rounding == op.ZERO:
        rounding = op.DOWN if nearest > 0 else op.UP
    if rounding == op.DOWN and rest < 0:
        return np.nextafter(nearest, -np.inf)
    if rounding == op.UP and rest > 0:
        return np.nextafter(nearest, np.inf)
    return nearest


@_compiled
def _narrowed(x, rounding):
    """A float64 as float32, rounded as asked."""
    near = np.float32(x)
    if rounding == op.NEAREST or not np.isfinite(x) or np.float64(near) == x:
        return near
    if rounding == op.ZERO:
        rounding = op.DOWN if x > 0 else op.UP
    if rounding == op.DOWN and np.float64(near) > x:
        return np.nextafter(near, np.float32(-np.inf))
    if rounding == op.UP and np.float64(near) < x:
        return np.nextafter(near, np.float32(np.inf))
    return near


@_compiled
def _directed_fma32(a, b, c, rounding):
    """As above. In float64 the product is exact; if the sum is not, its last bit is made odd, which
    keeps it on the exact result's side of every float32."""
    product, addend = np.float64(a) * np.float64(b), np.float64(c)
    total = product + addend
    error = _two_sum_error(product, addend, total)
    if np.isfinite(total) and error != 0.0:
        bits = np.int64(bits_of_f64(total))
        if bits & 1 == 0:
            away = (error > 0) == (total > 0)
            total = f64_of_bits(bits + 1 if away else bits - 1)
    return _narrowed(total, rounding)


@_compiled
def _least(x, y):
    """The smaller number; the other one if one is NaN. −0 is smaller than 0."""
    if x != x:
        return y
    if y != y:
        return x
    if x == y:
        return x if np.signbit(x) else y
    return min(x, y)


@_compiled
def _most(x, y):
    if x != x:
        return y
    if y != y:
        return x
    if x == y:
        return y if np.signbit(x) else x
    return max(x, y)


@_compiled
def _permute(a, b, selector):
    """prmt: four bytes chosen among the eight of b:a, or copies of their sign."""
    pool = np.int64(b) << 32 | np.int64(a)
    result = np.int64(0)
    for i in range(4):
        choice = (np.int64(selector) >> (4 * i)) & 15
        byte = pool >> (8 * (choice & 7)) & 255
        if choice & 8:
            byte = np.int64(255) if byte & 128 else np.int64(0)
        result |= byte << (8 * i)
    return result


@_compiled
def _mask(bits):
    """As many ones."""
    return ~np.uint64(0) if bits >= 64 else (np.uint64(1) << np.uint64(bits)) - np.uint64(1)


@_compiled
def _extract(a, position, length, width, signed):
    """bfe: `length` bits of a from `position` on, extended by their highest bit if signed."""
    position, length = position & 255, length & 255
    if length == 0:
        return np.uint64(0)
    highest = min(position + length - 1, width - 1)
    shifted = a >> np.uint64(position) if position < 64 else np.uint64(0)
    field = shifted & _mask(min(length, max(width - position, 0)))
    if signed and (a >> np.uint64(highest)) & np.uint64(1):
        field |= ~_mask(min(length, max(width - position, 0)))
    return field & _mask(width)


@_compiled
def _insert(a, b, position, length, width):
    """bfi: b with `length` bits from `position` on replaced by a's lowest."""
    position, length = position & 255, length & 255
    if position >= width:
        return b
    mask = (_mask(min(length, width - position)) << np.uint64(position)) & _mask(width)
    return (b & ~mask) | ((a << np.uint64(position)) & mask)


@_compiled
def _ones(x):
    count = 0
    while x:
        x &= x - np.uint64(1)
        count += 1
    return count


@_compiled
def _leading_zeros(x, width):
    count = 0
    while count < width and not (x >> np.uint64(width - 1 - count)) & np.uint64(1):
        count += 1
    return count


@_compiled
def _reversed(x, width):
    result = np.uint64(0)
    for i in range(width):
        if (x >> np.uint64(i)) & np.uint64(1):
            result |= np.uint64(1) << np.uint64(width - 1 - i)
    return result


@_compiled
def _carry(state, code, flags, a, b, c):
    """The result of an addition, subtraction or multiplication with carries of `width` bits."""
    wide = (code - op.ADD_CARRY32) & 1 == 1
    mask = ~np.uint64(0) if wide else np.uint64(0xFFFFFFFF)
    entry = np.uint64(state[st.CARRY]) if flags & op.CARRY_IN else np.uint64(0)
    if code == op.SUB_CARRY32 or code == op.SUB_CARRY64:
        result = (a - b - entry) & mask
        out = a < b or (a == b and entry != np.uint64(0))
    else:
        if code == op.MAD_LOW_CARRY32 or code == op.MAD_LOW_CARRY64:
            a, b = (a * b) & mask, c
        elif code == op.MAD_HIGH_CARRY64:
            a, b = high_unsigned(a, b), c
        elif code == op.MAD_HIGH_CARRY32:
            a, b = (a * b) >> np.uint64(32), c
        total = (a + b) & mask
        result = (total + entry) & mask
        out = total < a or result < total
    if flags & op.CARRY_OUT:
        state[st.CARRY] = 1 if out else 0
    return result


@_compiled
def _rarely(state, op_code, row, registers, d, a, b, c):
    """Operations that few kernels have. row: the address of the program's row. Whether it was one
    of them."""
    if op_code >= op.ADD_CARRY32 and op_code <= op.MAD_HIGH_CARRY64:
        wide = (op_code - op.ADD_CARRY32) & 1
        x = load_u64(a) if wide else np.uint64(load_u32(a))
        y = load_u64(b) if wide else np.uint64(load_u32(b))
        z = load_u64(c) if wide else np.uint64(load_u32(c))
        result = _carry(state, op_code, load_s32(row + 20), x, y, z)
        store_u64(d, result)
    elif op_code == op.HIGH_U32:
        store_u32(d, np.uint64(load_u32(a)) * np.uint64(load_u32(b)) >> np.uint64(32))
    elif op_code == op.HIGH_S32:
        store_u32(d, np.int64(load_s32(a)) * np.int64(load_s32(b)) >> 32)
    elif op_code == op.HIGH_U64:
        store_u64(d, high_unsigned(load_u64(a), load_u64(b)))
    elif op_code == op.HIGH_S64:
        x, y = load_s64(a), load_s64(b)
        high = np.int64(high_unsigned(np.uint64(x), np.uint64(y)))
        store_s64(d, high - (y if x < 0 else 0) - (x if y < 0 else 0))
    elif op_code == op.FUNNEL_LEFT:
        pair = np.uint64(load_u32(b)) << np.uint64(32) | np.uint64(load_u32(a))
        store_u32(d, pair << np.uint64(load_u32(c) & 31) >> np.uint64(32))
    elif op_code == op.FUNNEL_RIGHT:
        pair = np.uint64(load_u32(b)) << np.uint64(32) | np.uint64(load_u32(a))
        store_u32(d, pair >> np.uint64(load_u32(c) & 31))
    elif op_code == op.INSERT32 or op_code == op.INSERT64:
        wide = op_code == op.INSERT64
        x = load_u64(a) if wide else np.uint64(load_u32(a))
        y = load_u64(b) if wide else np.uint64(load_u32(b))
        length = np.int64(load_u32(registers + load_s32(row + 20)))
        store_u64(d, _insert(x, y, np.int64(load_u32(c)), length, 64 if wide else 32))
    elif op_code >= op.EXTRACT_U32 and op_code <= op.EXTRACT_S64:
        wide = op_code >= op.EXTRACT_U64
        signed = op_code == op.EXTRACT_S32 or op_code == op.EXTRACT_S64
        x = load_u64(a) if wide else np.uint64(load_u32(a))
        position, length = np.int64(load_u32(b)), np.int64(load_u32(c))
        store_u64(d, _extract(x, position, length, 64 if wide else 32, signed))
    elif op_code == op.POPC32:
        store_u64(d, np.uint64(_ones(np.uint64(load_u32(a)))))
    elif op_code == op.POPC64:
        store_u64(d, np.uint64(_ones(load_u64(a))))
    elif op_code == op.CLZ32:
        store_u64(d, np.uint64(_leading_zeros(np.uint64(load_u32(a)), 32)))
    elif op_code == op.CLZ64:
        store_u64(d, np.uint64(_leading_zeros(load_u64(a), 64)))
    elif op_code == op.BREV32:
        store_u64(d, _reversed(np.uint64(load_u32(a)), 32))
    elif op_code == op.BREV64:
        store_u64(d, _reversed(load_u64(a), 64))
    elif op_code == op.PERMUTE:
        store_u32(d, _permute(load_u32(a), load_u32(b), load_u32(c)))
    elif op_code == op.FMA_DIRECTED_F32:
        x, y, z = load_f32(a), load_f32(b), load_f32(c)
        _put_f32(d, _directed_fma32(x, y, z, load_s32(row + 20)))
    elif op_code == op.FMA_DIRECTED_F64:
        x, y, z = load_f64(a), load_f64(b), load_f64(c)
        store_f64(d, _directed_fma64(x, y, z, load_s32(row + 20)))
    elif op_code == op.EXP2_F32:
        _put_f32(d, np.float32(np.exp2(np.float64(load_f32(a)))))
    elif op_code == op.LOG2_F32:
        _put_f32(d, np.float32(np.log2(np.float64(load_f32(a)))))
    elif op_code == op.SIN_F32:
        _put_f32(d, np.float32(np.sin(np.float64(load_f32(a)))))
    elif op_code == op.COS_F32:
        _put_f32(d, np.float32(np.cos(np.float64(load_f32(a)))))
    elif op_code == op.RSQRT_F32:
        _put_f32(d, np.float32(1.0 / np.sqrt(np.float64(load_f32(a)))))
    elif op_code == op.RSQRT_F64:
        store_f64(d, 1.0 / np.sqrt(load_f64(a)))
    elif op_code == op.COARSE_F64:
        # The upper half of the bits; subnormal numbers become zero.
        bits = load_u64(a) & np.uint64(0xFFFFFFFF00000000)
        if bits & np.uint64(0x7FF0000000000000) == np.uint64(0):
            bits &= np.uint64(1 << 63)
        store_u64(d, bits)
    elif op_code == op.COPYSIGN_F32:  # the sign of a, the number of b
        store_u32(d, (load_u32(a) & 0x80000000) | (load_u32(b) & 0x7FFFFFFF))
    elif op_code == op.COPYSIGN_F64:
        sign = np.uint64(1 << 63)
        store_u64(d, (load_u64(a) & sign) | (load_u64(b) & ~sign))
    elif op_code == op.ROUND_TF32:
        bits = load_u32(a)
        if bits & 0x7F800000 != 0x7F800000:
            bits = np.uint32(bits + 0x1000)
        store_u32(d, bits & 0xFFFFE000 if bits & 0x7FFFFFFF <= 0x7F800000 else _NAN32)
    else:
        return False
    return True


# Threads -------------------------------------------------------------------------------------


@_compiled
def _run_thread(state, code, lists, registers, counts, pc):
    """One thread from row `pc` until it waits or ends: (what for, the row it stands at)."""
    steps = state[st.STEPS]
    while True:
        row = code + _ROW * pc
        operation = load_s32(row)
        d, a = registers + load_s32(row + 4), registers + load_s32(row + 8)
        b, c = registers + load_s32(row + 12), registers + load_s32(row + 16)
        store_s64(counts + 8 * pc, load_s64(counts + 8 * pc) + 1)
        pc += 1
        steps -= 1
        if operation == op.FMA_F32:
            _put_f32(d, fma(load_f32(a), load_f32(b), load_f32(c)))
        elif operation == op.ADD32:
            store_u32(d, load_u32(a) + load_u32(b))
        elif operation == op.ADD64:
            store_u64(d, load_u64(a) + load_u64(b))
        elif operation == op.SUB32:
            store_u32(d, load_u32(a) - load_u32(b))
        elif operation == op.SUB64:
            store_u64(d, load_u64(a) - load_u64(b))
        elif operation == op.MUL32:
            store_u32(d, np.uint64(load_u32(a)) * np.uint64(load_u32(b)))
        elif operation == op.MUL64:
            store_u64(d, load_u64(a) * load_u64(b))
        elif operation == op.MAD32:
            product = np.uint64(load_u32(a)) * np.uint64(load_u32(b))
            store_u32(d, product + np.uint64(load_u32(c)))
        elif operation == op.MAD64:
            store_u64(d, load_u64(a) * load_u64(b) + load_u64(c))
        elif operation == op.WIDE_U32:
            store_u64(d, np.uint64(load_u32(a)) * np.uint64(load_u32(b)))
        elif operation == op.WIDE_S32:
            store_s64(d, np.int64(load_s32(a)) * np.int64(load_s32(b)))
        elif operation == op.MAD_WIDE_U32:
            store_u64(d, np.uint64(load_u32(a)) * np.uint64(load_u32(b)) + load_u64(c))
        elif operation == op.MAD_WIDE_S32:
            store_s64(d, np.int64(load_s32(a)) * np.int64(load_s32(b)) + load_s64(c))
        elif operation == op.AND:
            store_u64(d, load_u64(a) & load_u64(b))
        elif operation == op.OR:
            store_u64(d, load_u64(a) | load_u64(b))
        elif operation == op.XOR:
            store_u64(d, load_u64(a) ^ load_u64(b))
        elif operation == op.NOT:
            store_u64(d, ~load_u64(a))
        elif operation == op.NOT_PRED:
            store_u64(d, load_u64(a) ^ np.uint64(1))
        elif operation == op.NEG32:
            store_u32(d, -np.int64(load_u32(a)))
        elif operation == op.NEG64:
            store_s64(d, -load_s64(a))
        elif operation == op.ABS32:
            store_u32(d, abs(np.int64(load_s32(a))))
        elif operation == op.ABS64:
            number = load_s64(a)
            store_s64(d, -number if number < 0 else number)
        elif operation == op.SHL32:
            amount = load_u32(b)
            store_u32(
                d, np.uint64(load_u32(a)) << np.uint64(amount) if amount < 32 else np.uint64(0)
            )
        elif operation == op.SHL64:
            amount = load_u32(b)
            store_u64(d, load_u64(a) << np.uint64(amount) if amount < 64 else np.uint64(0))
        elif operation == op.SHR_U32:
            amount = load_u32(b)
            store_u32(
                d, np.uint64(load_u32(a)) >> np.uint64(amount) if amount < 32 else np.uint64(0)
            )
        elif operation == op.SHR_U64:
            amount = load_u32(b)
            store_u64(d, load_u64(a) >> np.uint64(amount) if amount < 64 else np.uint64(0))
        elif operation == op.SHR_S32:
            store_u32(d, np.int64(load_s32(a)) >> min(np.int64(load_u32(b)), 31))
        elif operation == op.SHR_S64:
            store_s64(d, load_s64(a) >> min(np.int64(load_u32(b)), 63))
        elif operation == op.COMPARE_S32:
            x, y = load_s32(a), load_s32(b)
            hit = _relation(x < y, x == y, True) & load_s32(row + 20)
            store_u64(d, np.uint64(hit != 0))
        elif operation == op.COMPARE_U32:
            x, y = load_u32(a), load_u32(b)
            hit = _relation(x < y, x == y, True) & load_s32(row + 20)
            store_u64(d, np.uint64(hit != 0))
        elif operation == op.COMPARE_S64:
            x, y = load_s64(a), load_s64(b)
            hit = _relation(x < y, x == y, True) & load_s32(row + 20)
            store_u64(d, np.uint64(hit != 0))
        elif operation == op.COMPARE_U64:
            x, y = load_u64(a), load_u64(b)
            hit = _relation(x < y, x == y, True) & load_s32(row + 20)
            store_u64(d, np.uint64(hit != 0))
        elif operation == op.COMPARE_F32:
            x, y = load_f32(a), load_f32(b)
            hit = _relation(x < y, x == y, x > y) & load_s32(row + 20)
            store_u64(d, np.uint64(hit != 0))
        elif operation == op.COMPARE_F64:
            x, y = load_f64(a), load_f64(b)
            hit = _relation(x < y, x == y, x > y) & load_s32(row + 20)
            store_u64(d, np.uint64(hit != 0))
        elif operation == op.SELECT:
            store_u64(d, load_u64(a) if load_u64(c) & np.uint64(1) else load_u64(b))
        elif operation == op.MOVE:
            store_u64(d, load_u64(a))
        elif operation == op.BRANCH:
            pc = np.int64(load_s32(row + 20))
        elif operation == op.BRANCH_IF or operation == op.SKIP_IF:
            if load_u64(a) & np.uint64(1):
                pc = np.int64(load_s32(row + 20))
        elif operation == op.BRANCH_UNLESS or operation == op.SKIP_UNLESS:
            if not load_u64(a) & np.uint64(1):
                pc = np.int64(load_s32(row + 20))
        elif operation == op.LOAD:
            kind = load_s32(row + 28)
            address = load_s64(a) + load_s32(row + 20)
            place = _locate(
                state, pc - 1, np.int64(load_s32(row + 24)), address, _bytes(kind), False, False
            )
            if place == 0:
                return FAULTED, pc - 1
            store_s64(d, _load_extended(place, kind))
        elif operation == op.STORE:
            kind = load_s32(row + 28)
            address = load_s64(a) + load_s32(row + 20)
            place = _locate(
                state, pc - 1, np.int64(load_s32(row + 24)), address, _bytes(kind), True, False
            )
            if place == 0:
                return FAULTED, pc - 1
            _store_short(place, kind, load_s64(d))
        elif operation == op.LOAD_VECTOR or operation == op.STORE_VECTOR:
            kind, count = load_s32(row + 28), np.int64(load_s32(row + 16))
            nbytes, stores = np.int64(_bytes(kind)), operation == op.STORE_VECTOR
            address = load_s64(a) + load_s32(row + 20)
            place = _locate(
                state, pc - 1, np.int64(load_s32(row + 24)), address, count * nbytes, stores, False
            )
            if place == 0:
                return FAULTED, pc - 1
            fields = lists + 4 * load_s32(row + 4)
            for i in range(count):
                register = registers + load_s32(fields + 4 * i)
                if stores:
                    _store_short(place + i * nbytes, kind, load_s64(register))
                else:
                    store_s64(register, _load_extended(place + i * nbytes, kind))
        elif operation == op.ATOMIC:
            kind, action = load_s32(row + 28) & 255, load_s32(row + 28) >> 8
            address = load_s64(a) + load_s32(row + 20)
            place = _locate(
                state, pc - 1, np.int64(load_s32(row + 24)), address, _bytes(kind), True, True
            )
            if place == 0:
                return FAULTED, pc - 1
            value, other = _load_extended(b, kind), _load_extended(c, kind)
            store_s64(d, _atomic(place, kind, action, value, other))
        elif operation == op.ADD_F32:
            _put_f32(d, load_f32(a) + load_f32(b))
        elif operation == op.SUB_F32:
            _put_f32(d, load_f32(a) - load_f32(b))
        elif operation == op.MUL_F32:
            _put_f32(d, load_f32(a) * load_f32(b))
        elif operation == op.DIV_F32:
            _put_f32(d, load_f32(a) / load_f32(b))
        elif operation == op.RCP_F32:
            _put_f32(d, np.float32(1.0) / load_f32(a))
        elif operation == op.SQRT_F32:
            _put_f32(d, np.sqrt(load_f32(a)))
        elif operation == op.MIN_F32:
            _put_f32(d, _least(load_f32(a), load_f32(b)))
        elif operation == op.MAX_F32:
            _put_f32(d, _most(load_f32(a), load_f32(b)))
        elif operation == op.NEG_F32:
            store_u32(d, load_u32(a) ^ 0x80000000)
        elif operation == op.ABS_F32:
            store_u32(d, load_u32(a) & 0x7FFFFFFF)
        elif operation == op.FLUSH_F32:
            bits = load_u32(a)
            store_u32(d, bits if bits & 0x7F800000 else bits & 0x80000000)
        elif operation == op.ADD_F64:
            store_f64(d, load_f64(a) + load_f64(b))
        elif operation == op.SUB_F64:
            store_f64(d, load_f64(a) - load_f64(b))
        elif operation == op.MUL_F64:
            store_f64(d, load_f64(a) * load_f64(b))
        elif operation == op.FMA_F64:
            store_f64(d, fma(load_f64(a), load_f64(b), load_f64(c)))
        elif operation == op.DIV_F64:
            store_f64(d, load_f64(a) / load_f64(b))
        elif operation == op.RCP_F64:
            store_f64(d, 1.0 / load_f64(a))
        elif operation == op.SQRT_F64:
            store_f64(d, np.sqrt(load_f64(a)))
        elif operation == op.MIN_F64:
            store_f64(d, _least(load_f64(a), load_f64(b)))
        elif operation == op.MAX_F64:
            store_f64(d, _most(load_f64(a), load_f64(b)))
        elif operation == op.NEG_F64:
            store_u64(d, load_u64(a) ^ np.uint64(1 << 63))
        elif operation == op.ABS_F64:
            store_u64(d, load_u64(a) & ~np.uint64(1 << 63))
        elif operation == op.CONVERT_INT:
            number = _load_extended(a, load_s32(row + 20))
            kind = load_s32(row + 24)
            store_s64(d, number)
            store_s64(d, _load_extended(d, kind))
        elif operation == op.INT_TO_F32:
            kind = load_s32(row + 20)
            number = _load_extended(a, kind)
            if kind == op.U64:
                store_u32(d, bits_of_f32(np.float32(np.uint64(number))))
            else:
                store_u32(d, bits_of_f32(np.float32(number)))
        elif operation == op.INT_TO_F64:
            kind = load_s32(row + 20)
            number = _load_extended(a, kind)
            store_f64(d, np.float64(np.uint64(number)) if kind == op.U64 else np.float64(number))
        elif operation == op.F32_TO_INT:
            x = np.float64(load_f32(a))
            store_s64(d, _to_int(x, False, load_s32(row + 20), load_s32(row + 24)))
        elif operation == op.F64_TO_INT:
            store_s64(d, _to_int(load_f64(a), True, load_s32(row + 20), load_s32(row + 24)))
        elif operation == op.F32_TO_F64:
            store_f64(d, np.float64(load_f32(a)))
        elif operation == op.F64_TO_F32:
            _put_f32(d, _narrowed(load_f64(a), load_s32(row + 20)))
        elif operation == op.ROUND_F32:
            _put_f32(d, np.float32(_round_whole(np.float64(load_f32(a)), load_s32(row + 20))))
        elif operation == op.ROUND_F64:
            store_f64(d, _round_whole(load_f64(a), load_s32(row + 20)))
        elif operation == op.DIV_U32:
            x, y = np.uint64(load_u32(a)), np.uint64(load_u32(b))
            store_u32(d, divide_unsigned(x, y))
        elif operation == op.DIV_S32:
            store_u32(d, divide_signed(np.int64(load_s32(a)), np.int64(load_s32(b))))
        elif operation == op.DIV_U64:
            store_u64(d, divide_unsigned(load_u64(a), load_u64(b)))
        elif operation == op.DIV_S64:
            store_s64(d, divide_signed(load_s64(a), load_s64(b)))
        elif operation == op.REM_U32:
            x, y = np.uint64(load_u32(a)), np.uint64(load_u32(b))
            store_u32(d, x - divide_unsigned(x, y) * y)
        elif operation == op.REM_S32:
            x, y = np.int64(load_s32(a)), np.int64(load_s32(b))
            store_u32(d, x - divide_signed(x, y) * y)
        elif operation == op.REM_U64:
            x, y = load_u64(a), load_u64(b)
            store_u64(d, x - divide_unsigned(x, y) * y)
        elif operation == op.REM_S64:
            x, y = load_s64(a), load_s64(b)
            store_s64(d, x - divide_signed(x, y) * y)
        elif operation == op.MIN_U32:
            store_u32(d, min(load_u32(a), load_u32(b)))
        elif operation == op.MIN_S32:
            store_u32(d, min(load_s32(a), load_s32(b)))
        elif operation == op.MIN_U64:
            store_u64(d, min(load_u64(a), load_u64(b)))
        elif operation == op.MIN_S64:
            store_s64(d, min(load_s64(a), load_s64(b)))
        elif operation == op.MAX_U32:
            store_u32(d, max(load_u32(a), load_u32(b)))
        elif operation == op.MAX_S32:
            store_u32(d, max(load_s32(a), load_s32(b)))
        elif operation == op.MAX_U64:
            store_u64(d, max(load_u64(a), load_u64(b)))
        elif operation == op.MAX_S64:
            store_s64(d, max(load_s64(a), load_s64(b)))
        elif operation == op.SPLIT64:
            number = load_u64(a)
            store_u64(d, number & np.uint64(0xFFFFFFFF))
            store_u64(b, number >> np.uint64(32))
        elif operation == op.JOIN64:
            low, high = np.uint64(load_u32(a)), np.uint64(load_u32(b))
            store_u64(d, high << np.uint64(32) | low)
        elif operation == op.SPLIT32:
            number = load_u32(a)
            store_u64(d, np.uint64(number & 0xFFFF))
            store_u64(b, np.uint64(number >> 16))
        elif operation == op.JOIN32:
            store_u32(d, np.int64(load_u16(b)) << 16 | np.int64(load_u16(a)))
        elif operation == op.BRANCH_TABLE:
            choice = np.int64(load_u32(a))
            pc = np.int64(load_s32(lists + 4 * (load_s32(row + 20) + choice)))
        elif operation == op.NOTHING:
            pass
        elif operation == op.BARRIER or operation == op.MMA or operation == op.EXIT:
            state[st.STEPS] = steps
            if operation == op.EXIT:
                return EXITED, pc - 1
            return AT_BARRIER if operation == op.BARRIER else AT_WARP, pc - 1
        elif not _rarely(state, operation, row, registers, d, a, b, c):
            return FAULTED, pc - 1
        if steps < 0:
            _fail(state, st.ENDLESS, 0, 0, 0)
            return FAULTED, pc - 1


@_compiled
def _multiply_fragments(lists, row, registers, stride, first):
    """mma.m16n8k8 of the warp whose first thread's registers are number `first`. D = A·B + C; of
    thread `lane`, g = lane // 4 and t = lane % 4:
    a0, a1, a2, a3: A[g, t], A[g + 8, t], A[g, t + 4], A[g + 8, t + 4]; b0, b1: B[t, g], B[t + 4, g];
    c0 … c3 and d0 … d3: [g, 2t], [g, 2t + 1], [g + 8, 2t], [g + 8, 2t + 1].
    The lowest 13 bits of A and B do not count."""
    fields = lists + 4 * load_s32(row + 20)
    A, B, C = np.empty((16, 8)), np.empty((8, 8)), np.empty((16, 8))
    for lane in range(_WARP):
        base = registers + stride * (first + lane)
        g, t = lane >> 2, lane & 3
        for i in range(4):
            bits = load_u32(base + load_s32(fields + 4 * (4 + i))) & 0xFFFFE000
            A[g + 8 * (i & 1), t + 4 * (i >> 1)] = np.float64(f32_of_bits(bits))
            C[g + 8 * (i >> 1), 2 * t + (i & 1)] = load_f32(base + load_s32(fields + 4 * (10 + i)))
        for i in range(2):
            bits = load_u32(base + load_s32(fields + 4 * (8 + i))) & 0xFFFFE000
            B[t + 4 * i, g] = np.float64(f32_of_bits(bits))
    for lane in range(_WARP):
        base = registers + stride * (first + lane)
        g, t = lane >> 2, lane & 3
        for i in range(4):
            r, col = g + 8 * (i >> 1), 2 * t + (i & 1)
            total = C[r, col]
            for k in range(8):
                total += A[r, k] * B[k, col]
            _put_f32(base + load_s32(fields + 4 * i), np.float32(total))


@_compiled
def _run_block(state, code, lists, registers, stride, counts, threads, warps, lanes, pcs, waits):
    """One block to its end; False after a fault, whose thread and row are in state and pcs."""
    for t in range(threads):
        pcs[t], waits[t] = 0, RUNNING
    while True:
        for w in warps:
            while True:
                collective = 0
                for lane in lanes:
                    t = w * _WARP + lane
                    if t < threads and waits[t] == RUNNING:
                        state[st.THREAD] = t
                        waits[t], pcs[t] = _run_thread(
                            state, code, lists, registers + stride * t, counts, pcs[t]
                        )
                        if waits[t] == FAULTED:
                            return False
                    if t < threads and waits[t] == AT_WARP:
                        collective += 1
                if collective == 0:
                    break
                first = w * _WARP
                for t in range(first, first + _WARP):
                    if t >= threads or waits[t] != AT_WARP or pcs[t] != pcs[first]:
                        state[st.THREAD] = min(t, threads - 1)
                        _fail(state, st.DIVERGED_WARP, 0, 0, first)
                        return False
                _multiply_fragments(lists, code + _ROW * pcs[first], registers, stride, first)
                for t in range(first, first + _WARP):
                    pcs[t] += 1
                    waits[t] = RUNNING
        waiting = 0
        for t in range(threads):
            waiting += waits[t] == AT_BARRIER
        if waiting == 0:
            return True
        for t in range(threads):
            if waits[t] != AT_BARRIER or pcs[t] != pcs[0]:
                state[st.THREAD] = t
                _fail(state, st.UNREACHED_BARRIER, 0, 0, 0)
                return False
        for t in range(threads):
            pcs[t] += 1
            waits[t] = RUNNING
        state[st.EPOCH] += 1


@_compiled
def run_blocks(
    state, code, lists, registers, stride, counts, grid, block, blocks, warps, lanes, pcs, waits,
    steps,
):  # fmt: skip
    """The blocks of a launch in the order of `blocks`: how many came to their end."""
    threads = block[0] * block[1] * block[2]
    for t in range(threads):
        special = registers + stride * t
        x, y, z = t % block[0], t // block[0] % block[1], t // (block[0] * block[1])
        for i, value in enumerate((x, y, z)):
            store_s64(special + 8 * i, value)
            store_s64(special + 8 * (3 + i), block[i])
            store_s64(special + 8 * (9 + i), grid[i])
        store_s64(special + 8 * 12, t % _WARP)
        store_s64(special + 8 * 13, t // _WARP)
    done = 0
    for number in blocks:
        place = (number % grid[0], number // grid[0] % grid[1], number // (grid[0] * grid[1]))
        for t in range(threads):
            for i in range(3):
                store_s64(registers + stride * t + 8 * (6 + i), place[i])
        if state[st.LOCAL_BYTES]:
            for i in range(threads * state[st.LOCAL_BYTES]):
                store_u8(state[st.LOCAL_FILLED] + i, 0)
        state[st.BLOCK] = number
        state[st.STAMP] = state[st.FIRST_STAMP] + number
        state[st.BLOCK_SERIAL] += 1
        state[st.EPOCH] += 1
        state[st.STEPS] = steps
        if not _run_block(
            state, code, lists, registers, stride, counts, threads, warps, lanes, pcs, waits
        ):
            return done
        done += 1
    return done
