"""Interpreter of PTX programs: one block after the other, its threads in turns between barriers.

`run_blocks` runs a program (program.py) and stops at what a GPU would leave undefined: accesses
outside allocations or misaligned, reads of shared or local memory that nobody wrote, two threads
that touch one place of shared memory between two barriers and two blocks that touch one place of
global memory (one of them writing), barriers that not all threads reach, programs without an end.
It counts how often each row was executed and, if asked, records each access.

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

from . import operations as op
from . import state as st
from .access import bytes_of, load_extended, locate, record_fault, store_short, update
from .arithmetic import compare, least, most, put_f32, round_to_f32, round_whole, to_int
from .native import (
    bits_of_f32,
    compiled,
    compiled_once,
    divide_signed,
    divide_unsigned,
    f32_of_bits,
    fma,
    load_f32,
    load_f64,
    load_s32,
    load_s64,
    load_u16,
    load_u32,
    load_u64,
    store_f64,
    store_s64,
    store_u8,
    store_u32,
    store_u64,
)
from .uncommon import run_uncommon

# What a thread waits for.
RUNNING, AT_BARRIER, AT_WARP, EXITED, FAULTED = range(5)

_ROW = 32  # bytes of a row of the program
_WARP = 32


@compiled
def _place(state, number, row, base, nbytes, writes, atomic):
    """Where the bytes lie that a row accesses: at the base, a register's place, plus the offset."""
    address = load_s64(base) + load_s32(row + 20)
    return locate(state, number, np.int64(load_s32(row + 24)), address, nbytes, writes, atomic)


@compiled
def _run_thread(state, code, lists, registers, counts, pc):
    """One thread from row `pc` until it waits or ends: (what for, the row it stands at)."""
    steps = load_s64(state + st.STEPS)
    while True:
        row = code + _ROW * pc
        operation = load_s32(row)
        d, a = registers + load_s32(row + 4), registers + load_s32(row + 8)
        b, c = registers + load_s32(row + 12), registers + load_s32(row + 16)
        store_s64(counts + 8 * pc, load_s64(counts + 8 * pc) + 1)
        pc += 1
        steps -= 1
        if operation == op.FMA_F32:
            put_f32(d, fma(load_f32(a), load_f32(b), load_f32(c)))
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
            compare(d, load_s32(a), load_s32(b), load_s32(row + 20))
        elif operation == op.COMPARE_U32:
            compare(d, load_u32(a), load_u32(b), load_s32(row + 20))
        elif operation == op.COMPARE_S64:
            compare(d, load_s64(a), load_s64(b), load_s32(row + 20))
        elif operation == op.COMPARE_U64:
            compare(d, load_u64(a), load_u64(b), load_s32(row + 20))
        elif operation == op.COMPARE_F32:
            compare(d, load_f32(a), load_f32(b), load_s32(row + 20))
        elif operation == op.COMPARE_F64:
            compare(d, load_f64(a), load_f64(b), load_s32(row + 20))
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
            place = _place(state, pc - 1, row, a, bytes_of(kind), False, False)
            if place == 0:
                return FAULTED, pc - 1
            store_s64(d, load_extended(place, kind))
        elif operation == op.STORE:
            kind = load_s32(row + 28)
            place = _place(state, pc - 1, row, a, bytes_of(kind), True, False)
            if place == 0:
                return FAULTED, pc - 1
            store_short(place, kind, load_s64(d))
        elif operation == op.LOAD_VECTOR or operation == op.STORE_VECTOR:
            kind, count = load_s32(row + 28), np.int64(load_s32(row + 16))
            nbytes, stores = np.int64(bytes_of(kind)), operation == op.STORE_VECTOR
            place = _place(state, pc - 1, row, a, count * nbytes, stores, False)
            if place == 0:
                return FAULTED, pc - 1
            fields = lists + 4 * load_s32(row + 4)
            for i in range(count):
                register = registers + load_s32(fields + 4 * i)
                if stores:
                    store_short(place + i * nbytes, kind, load_s64(register))
                else:
                    store_s64(register, load_extended(place + i * nbytes, kind))
        elif operation == op.ATOMIC:
            kind, action = load_s32(row + 28) & 255, load_s32(row + 28) >> 8
            place = _place(state, pc - 1, row, a, bytes_of(kind), True, True)
            if place == 0:
                return FAULTED, pc - 1
            value, other = load_extended(b, kind), load_extended(c, kind)
            store_s64(d, update(place, kind, action, value, other))
        elif operation == op.ADD_F32:
            put_f32(d, load_f32(a) + load_f32(b))
        elif operation == op.SUB_F32:
            put_f32(d, load_f32(a) - load_f32(b))
        elif operation == op.MUL_F32:
            put_f32(d, load_f32(a) * load_f32(b))
        elif operation == op.DIV_F32:
            put_f32(d, load_f32(a) / load_f32(b))
        elif operation == op.RCP_F32:
            put_f32(d, np.float32(1.0) / load_f32(a))
        elif operation == op.SQRT_F32:
            put_f32(d, np.sqrt(load_f32(a)))
        elif operation == op.MIN_F32:
            put_f32(d, least(load_f32(a), load_f32(b)))
        elif operation == op.MAX_F32:
            put_f32(d, most(load_f32(a), load_f32(b)))
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
            store_f64(d, least(load_f64(a), load_f64(b)))
        elif operation == op.MAX_F64:
            store_f64(d, most(load_f64(a), load_f64(b)))
        elif operation == op.NEG_F64:
            store_u64(d, load_u64(a) ^ np.uint64(1 << 63))
        elif operation == op.ABS_F64:
            store_u64(d, load_u64(a) & ~np.uint64(1 << 63))
        elif operation == op.CONVERT_INT:
            number = load_extended(a, load_s32(row + 20))
            kind = load_s32(row + 24)
            store_s64(d, number)
            store_s64(d, load_extended(d, kind))
        elif operation == op.INT_TO_F32:
            kind = load_s32(row + 20)
            number = load_extended(a, kind)
            if kind == op.U64:
                store_u32(d, bits_of_f32(np.float32(np.uint64(number))))
            else:
                store_u32(d, bits_of_f32(np.float32(number)))
        elif operation == op.INT_TO_F64:
            kind = load_s32(row + 20)
            number = load_extended(a, kind)
            store_f64(d, np.float64(np.uint64(number)) if kind == op.U64 else np.float64(number))
        elif operation == op.F32_TO_INT:
            x = np.float64(load_f32(a))
            store_s64(d, to_int(x, False, load_s32(row + 20), load_s32(row + 24)))
        elif operation == op.F64_TO_INT:
            store_s64(d, to_int(load_f64(a), True, load_s32(row + 20), load_s32(row + 24)))
        elif operation == op.F32_TO_F64:
            store_f64(d, np.float64(load_f32(a)))
        elif operation == op.F64_TO_F32:
            put_f32(d, round_to_f32(load_f64(a), load_s32(row + 20)))
        elif operation == op.ROUND_F32:
            put_f32(d, np.float32(round_whole(np.float64(load_f32(a)), load_s32(row + 20))))
        elif operation == op.ROUND_F64:
            store_f64(d, round_whole(load_f64(a), load_s32(row + 20)))
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
            store_s64(state + st.STEPS, steps)
            if operation == op.EXIT:
                return EXITED, pc - 1
            return AT_BARRIER if operation == op.BARRIER else AT_WARP, pc - 1
        elif not run_uncommon(state, operation, row, registers, d, a, b, c):
            return FAULTED, pc - 1
        if steps < 0:
            record_fault(state, st.ENDLESS, 0, 0, 0)
            return FAULTED, pc - 1


@compiled
def _multiply_fragments(lists, row, registers, stride, first):
    """mma.m16n8k8 of the warp whose first thread's registers are number `first`. D = A·B + C; of
    thread `lane`, g = lane // 4 and t = lane % 4:
    a0, a1, a2, a3: A[g, t], A[g + 8, t], A[g, t + 4], A[g + 8, t + 4];
    b0, b1: B[t, g], B[t + 4, g];
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
            put_f32(base + load_s32(fields + 4 * i), np.float32(total))


@compiled
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
                        store_s64(state + st.THREAD, t)
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
                        store_s64(state + st.THREAD, min(t, threads - 1))
                        record_fault(state, st.DIVERGED_WARP, 0, 0, first)
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
                store_s64(state + st.THREAD, t)
                record_fault(state, st.UNREACHED_BARRIER, 0, 0, 0)
                return False
        for t in range(threads):
            pcs[t] += 1
            waits[t] = RUNNING
        store_s64(state + st.EPOCH, load_s64(state + st.EPOCH) + 1)


@compiled_once
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
        if load_s64(state + st.LOCAL_BYTES):
            for i in range(threads * load_s64(state + st.LOCAL_BYTES)):
                store_u8(load_s64(state + st.LOCAL_FILLED) + i, 0)
        store_s64(state + st.BLOCK, number)
        store_s64(state + st.STAMP, load_s64(state + st.FIRST_STAMP) + number)
        store_s64(state + st.BLOCK_SERIAL, load_s64(state + st.BLOCK_SERIAL) + 1)
        store_s64(state + st.EPOCH, load_s64(state + st.EPOCH) + 1)
        store_s64(state + st.STEPS, steps)
        if not _run_block(
            state, code, lists, registers, stride, counts, threads, warps, lanes, pcs, waits
        ):
            return done
        done += 1
    return done
