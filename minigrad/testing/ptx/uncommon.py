"""Operations that few kernels have, apart from the interpreter's loop, which stays short."""

from __future__ import annotations

import numpy as np

from . import operations as op
from .arithmetic import (
    NAN32,
    compute_with_carry,
    count_leading_zeros,
    count_ones,
    directed_fma_f32,
    directed_fma_f64,
    extract_field,
    insert_field,
    permute_bytes,
    put_f32,
    reverse_bits,
)
from .native import (
    compiled,
    high_unsigned,
    load_f32,
    load_f64,
    load_s32,
    load_s64,
    load_u32,
    load_u64,
    store_f64,
    store_s64,
    store_u32,
    store_u64,
)


@compiled
def run_uncommon(state, op_code, row, registers, d, a, b, c):
    """Operations that few kernels have. row: the address of the program's row. Whether it was one
    of them."""
    if op_code >= op.ADD_CARRY32 and op_code <= op.MAD_HIGH_CARRY64:
        wide = (op_code - op.ADD_CARRY32) & 1
        x = load_u64(a) if wide else np.uint64(load_u32(a))
        y = load_u64(b) if wide else np.uint64(load_u32(b))
        z = load_u64(c) if wide else np.uint64(load_u32(c))
        result = compute_with_carry(state, op_code, load_s32(row + 20), x, y, z)
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
        store_u64(d, insert_field(x, y, np.int64(load_u32(c)), length, 64 if wide else 32))
    elif op_code >= op.EXTRACT_U32 and op_code <= op.EXTRACT_S64:
        wide = op_code >= op.EXTRACT_U64
        signed = op_code == op.EXTRACT_S32 or op_code == op.EXTRACT_S64
        x = load_u64(a) if wide else np.uint64(load_u32(a))
        position, length = np.int64(load_u32(b)), np.int64(load_u32(c))
        store_u64(d, extract_field(x, position, length, 64 if wide else 32, signed))
    elif op_code == op.POPC32:
        store_u64(d, np.uint64(count_ones(np.uint64(load_u32(a)))))
    elif op_code == op.POPC64:
        store_u64(d, np.uint64(count_ones(load_u64(a))))
    elif op_code == op.CLZ32:
        store_u64(d, np.uint64(count_leading_zeros(np.uint64(load_u32(a)), 32)))
    elif op_code == op.CLZ64:
        store_u64(d, np.uint64(count_leading_zeros(load_u64(a), 64)))
    elif op_code == op.BREV32:
        store_u64(d, reverse_bits(np.uint64(load_u32(a)), 32))
    elif op_code == op.BREV64:
        store_u64(d, reverse_bits(load_u64(a), 64))
    elif op_code == op.PERMUTE:
        store_u32(d, permute_bytes(load_u32(a), load_u32(b), load_u32(c)))
    elif op_code == op.FMA_DIRECTED_F32:
        x, y, z = load_f32(a), load_f32(b), load_f32(c)
        put_f32(d, directed_fma_f32(x, y, z, load_s32(row + 20)))
    elif op_code == op.FMA_DIRECTED_F64:
        x, y, z = load_f64(a), load_f64(b), load_f64(c)
        store_f64(d, directed_fma_f64(x, y, z, load_s32(row + 20)))
    elif op_code == op.EXP2_F32:
        put_f32(d, np.float32(np.exp2(np.float64(load_f32(a)))))
    elif op_code == op.LOG2_F32:
        put_f32(d, np.float32(np.log2(np.float64(load_f32(a)))))
    elif op_code == op.SIN_F32:
        put_f32(d, np.float32(np.sin(np.float64(load_f32(a)))))
    elif op_code == op.COS_F32:
        put_f32(d, np.float32(np.cos(np.float64(load_f32(a)))))
    elif op_code == op.RSQRT_F32:
        put_f32(d, np.float32(1.0 / np.sqrt(np.float64(load_f32(a)))))
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
        store_u32(d, bits & 0xFFFFE000 if bits & 0x7FFFFFFF <= 0x7F800000 else NAN32)
    else:
        return False
    return True
