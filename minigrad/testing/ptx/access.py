"""Accesses of a thread to memory: where they lead, and whether they may.

`locate` finds the place on the host of global, shared, local and parameter memory, checks bounds
and alignment, and keeps the marks that show races (state.py, memory.py).
"""

from __future__ import annotations

import numpy as np

from . import operations as op
from . import state as st
from .native import (
    bits_of_f32,
    bits_of_f64,
    compiled,
    f32_of_bits,
    f64_of_bits,
    load_s8,
    load_s16,
    load_s32,
    load_s64,
    load_u8,
    load_u16,
    load_u32,
    store_s64,
    store_u8,
    store_u16,
    store_u32,
)


@compiled
def record_fault(state, kind, address, nbytes, other):
    if load_s64(state + st.FAULT) == st.NONE:
        store_s64(state + st.FAULT, kind)
        store_s64(state + st.FAULT_ADDRESS, address)
        store_s64(state + st.FAULT_BYTES, nbytes)
        store_s64(state + st.FAULT_OTHER, other)
    return np.int64(0)


@compiled
def _mark_global(state, offset, address, nbytes, writes, atomic):
    """Whether no other block has touched these bytes in a way that conflicts."""
    shift = load_s64(state + st.GLOBAL_SHIFT)
    first, stamp = load_s64(state + st.FIRST_STAMP) << 1, load_s64(state + st.STAMP) << 1
    many = load_s64(state + st.MANY_STAMP) << 1
    for granule in range(offset >> shift, (offset + nbytes - 1 >> shift) + 1):
        write_mark = load_s64(state + st.GLOBAL_WRITTEN) + 8 * granule
        read_mark = load_s64(state + st.GLOBAL_READ) + 8 * granule
        writer, reader = load_s64(write_mark), load_s64(read_mark)
        foreign_writer = writer >= first and (writer & ~np.int64(1)) != stamp
        if foreign_writer and not (atomic and writer & 1):
            record_fault(state, st.GLOBAL_RACE, address, nbytes, (writer - first) >> 1)
            return False
        if writes:
            if reader >= first and reader != stamp and not atomic:
                other = (reader - first) >> 1 if reader != many else np.int64(-1)
                record_fault(state, st.GLOBAL_RACE, address, nbytes, other)
                return False
            store_s64(write_mark, many | 1 if foreign_writer else stamp | np.int64(atomic))
        elif reader < first:
            store_s64(read_mark, stamp)
        elif reader != stamp:
            store_s64(read_mark, many)
    return True


@compiled
def _keep_page(state, offset):
    """Keep what the page of this byte held, if this launch writes to it for the first time."""
    page = offset >> 9
    stamp = load_s64(state + st.PAGE_STAMPS) + 8 * page
    if load_s64(stamp) != load_s64(state + st.FIRST_STAMP):
        store_s64(stamp, load_s64(state + st.FIRST_STAMP))
        count = load_s64(state + st.PAGE_COUNT)
        store_s64(load_s64(state + st.PAGES) + 8 * count, page)
        source = load_s64(state + st.GLOBAL_HOST) + (page << 9)
        target = load_s64(state + st.OLD_PAGES) + (count << 9)
        for i in range(0, 512, 8):
            store_s64(target + i, load_s64(source + i))
        store_s64(state + st.PAGE_COUNT, count + 1)


@compiled
def _mark_shared(state, offset, nbytes, writes):
    """Whether no other thread has touched these bytes since the last barrier in a way that
    conflicts, and what is read was written."""
    shift = load_s64(state + st.SHARED_SHIFT)
    epoch = load_s64(state + st.EPOCH) << st.THREAD_BITS
    mine = epoch | load_s64(state + st.THREAD)
    for granule in range(offset >> shift, (offset + nbytes - 1 >> shift) + 1):
        write_mark = load_s64(state + st.SHARED_WRITTEN) + 8 * granule
        read_mark = load_s64(state + st.SHARED_READ) + 8 * granule
        filled = load_s64(state + st.SHARED_FILLED) + 8 * granule
        writer, reader = load_s64(write_mark), load_s64(read_mark)
        if writer >= epoch and writer != mine:
            record_fault(state, st.SHARED_RACE, offset, nbytes, writer - epoch)
            return False
        if writes:
            if reader >= epoch and reader != mine:
                record_fault(state, st.SHARED_RACE, offset, nbytes, reader - epoch)
                return False
            store_s64(write_mark, mine)
            store_s64(filled, load_s64(state + st.BLOCK_SERIAL))
        else:
            if load_s64(filled) != load_s64(state + st.BLOCK_SERIAL):
                record_fault(state, st.UNWRITTEN, offset, nbytes, 0)
                return False
            several = reader >= epoch and reader != mine
            store_s64(read_mark, epoch | st.MANY_THREADS if several else mine)
    return True


@compiled
def _record(state, row, address, nbytes, space):
    """Note an access: (row, thread, which of this thread's accesses there, address, bytes)."""
    number = load_s64(state + st.TRACE_NUMBERS) + 8 * (
        load_s64(state + st.THREAD) * load_s64(state + st.TRACE_ROWS) + row
    )
    count = load_s64(number)
    store_s64(number, count + 1)
    if load_s64(state + st.TRACE_COUNT) < load_s64(state + st.TRACE_LENGTH):
        entry = load_s64(state + st.TRACE) + 48 * load_s64(state + st.TRACE_COUNT)
        store_s64(entry, row)
        store_s64(entry + 8, load_s64(state + st.BLOCK) * 1024 + load_s64(state + st.THREAD))
        store_s64(entry + 16, count)
        store_s64(entry + 24, address)
        store_s64(entry + 32, nbytes)
        store_s64(entry + 40, space)
    store_s64(state + st.TRACE_COUNT, load_s64(state + st.TRACE_COUNT) + 1)


@compiled
def locate(state, row, space, address, nbytes, writes, atomic):
    """Where these bytes lie on the host, or 0 after a fault."""
    if space == op.GENERIC:
        space = op.GLOBAL
        if address >= op.LOCAL_WINDOW:
            space, address = op.LOCAL, address - op.LOCAL_WINDOW
        elif address >= op.SHARED_WINDOW:
            space, address = op.SHARED, address - op.SHARED_WINDOW
    if address & (nbytes - 1):
        return record_fault(state, st.MISALIGNED, address, nbytes, 0)
    if load_s64(state + st.TRACE) and (space == op.GLOBAL or space == op.SHARED):
        _record(state, row, address, nbytes, space)
    if space == op.GLOBAL:
        offset = address - load_s64(state + st.GLOBAL_BASE)
        if offset < 0 or offset >= load_s64(state + st.GLOBAL_BYTES):
            return record_fault(state, st.OUTSIDE, address, nbytes, 0)
        if offset + nbytes > load_s64(load_s64(state + st.GLOBAL_ENDS) + 8 * (offset >> 9)):
            return record_fault(state, st.OUTSIDE, address, nbytes, 0)
        if not _mark_global(state, offset, address, nbytes, writes, atomic):
            return np.int64(0)
        if writes:
            _keep_page(state, offset)
        return load_s64(state + st.GLOBAL_HOST) + offset
    if space == op.SHARED:
        if address < 0 or address + nbytes > load_s64(state + st.SHARED_BYTES):
            return record_fault(state, st.OUTSIDE, address, nbytes, 0)
        if not _mark_shared(state, address, nbytes, writes):
            return np.int64(0)
        return load_s64(state + st.SHARED_HOST) + address
    if space == op.LOCAL:
        if address < 0 or address + nbytes > load_s64(state + st.LOCAL_BYTES):
            return record_fault(state, st.OUTSIDE, address, nbytes, 0)
        place = load_s64(state + st.THREAD) * load_s64(state + st.LOCAL_BYTES) + address
        for i in range(nbytes):
            if writes:
                store_u8(load_s64(state + st.LOCAL_FILLED) + place + i, 1)
            elif not load_u8(load_s64(state + st.LOCAL_FILLED) + place + i):
                return record_fault(state, st.UNWRITTEN, address, nbytes, 0)
        return load_s64(state + st.LOCAL_HOST) + place
    if writes:
        return record_fault(state, st.READ_ONLY, address, nbytes, 0)
    if address < 0 or address + nbytes > load_s64(state + st.PARAM_BYTES):
        return record_fault(state, st.OUTSIDE, address, nbytes, 0)
    return load_s64(state + st.PARAM_HOST) + address


@compiled
def bytes_of(kind):
    if kind <= op.S8:
        return 1
    if kind <= op.S16:
        return 2
    return 4 if kind <= op.S32 or kind == op.F32 else 8


@compiled
def load_extended(place, kind):
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


@compiled
def store_short(place, kind, number):
    """The lowest bits of a number, as many as `kind` has."""
    if kind == op.U32 or kind == op.S32 or kind == op.F32:
        store_u32(place, number)
    elif kind >= op.U64:
        store_s64(place, number)
    elif kind <= op.S8:
        store_u8(place, number)
    else:
        store_u16(place, number)


@compiled
def update(place, kind, action, value, other):
    """The old number, after the action."""
    old = load_extended(place, kind)
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
    store_short(place, kind, new)
    return old
