"""What the interpreter knows besides a thread's registers: places of memory, marks, the fault.

A block of int64; the names are the places of its entries in bytes. Compiled code reads and writes
them by address: a NumPy array would count its references at every call.
"""

from __future__ import annotations

import numpy as np

(
    # The first fault: what, where, how many bytes, and which other thread or block has part in it.
    FAULT, FAULT_ADDRESS, FAULT_BYTES, FAULT_OTHER,
    # Global memory: its first address, where it lies on the host, bytes, and its marks.
    GLOBAL_BASE, GLOBAL_HOST, GLOBAL_BYTES, GLOBAL_ENDS, GLOBAL_WRITTEN, GLOBAL_READ, GLOBAL_SHIFT,
    # Stamps: of the launch's first block, of this block, and of several blocks.
    FIRST_STAMP, STAMP, MANY_STAMP,
    # Shared memory and its marks; its epoch is a number for each stretch between two barriers.
    SHARED_HOST, SHARED_BYTES, SHARED_WRITTEN, SHARED_READ, SHARED_FILLED, SHARED_SHIFT, EPOCH,
    BLOCK_SERIAL,
    # Local memory, `LOCAL_BYTES` for each thread, and whether each byte was written.
    LOCAL_HOST, LOCAL_FILLED, LOCAL_BYTES,
    PARAM_HOST, PARAM_BYTES,
    # The thread that runs, its place in its block, and how many operations it may still take.
    THREAD, STEPS, CARRY,
    # The record of accesses: where it lies, its length, entries so far, and the next number of
    # each access of each thread.
    TRACE, TRACE_LENGTH, TRACE_COUNT, TRACE_NUMBERS, TRACE_ROWS,
    BLOCK,
    # What pages held before the launch wrote to them: the last launch that wrote to each page,
    # the pages written so far, their old bytes, and how many they are.
    PAGE_STAMPS, PAGES, OLD_PAGES, PAGE_COUNT,
    BYTES,
) = range(0, 8 * 41, 8)  # fmt: skip

# Faults
(
    NONE, OUTSIDE, MISALIGNED, UNWRITTEN, SHARED_RACE, GLOBAL_RACE, UNREACHED_BARRIER, ENDLESS,
    DIVERGED_WARP, READ_ONLY,
) = range(10)  # fmt: skip

MANY_THREADS = 2047  # the reader of a granule that several threads have read
THREAD_BITS = 11


class State:
    """The block on the host's side: `state[PLACE]`."""

    def __init__(self) -> None:
        self._cells = np.zeros(BYTES // 8, np.int64)
        self.address = self._cells.ctypes.data

    def __getitem__(self, place: int) -> int:
        return int(self._cells[place // 8])

    def __setitem__(self, place: int, value: int) -> None:
        self._cells[place // 8] = value
