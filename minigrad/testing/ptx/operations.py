"""Operation codes of the interpreter, and the kinds of values that they take.

One PTX instruction is one operation, or a few where PTX combines several things (a comparison and
a logical operation, flushing subnormals before and after). 32 and 64 are widths of integers; F32
and F64 are floats. What an instruction becomes is decided in program.py, what it does in
interpreter.py.
"""

from __future__ import annotations

# Of values in memory and registers.
U8, S8, U16, S16, U32, S32, U64, S64, F32, F64 = range(10)
# Of memory.
GLOBAL, SHARED, LOCAL, PARAM, GENERIC = range(5)
# Of rounding: to nearest even, to zero, down, up, to nearest with ties away.
NEAREST, ZERO, DOWN, UP, AWAY = range(5)
# Of atomic operations.
ATOMIC_ADD, ATOMIC_MIN, ATOMIC_MAX, ATOMIC_EXCHANGE, ATOMIC_COMPARE, ATOMIC_AND, ATOMIC_OR = range(
    7
)
# Results of a comparison, as bits of a mask.
LESS, EQUAL, GREATER, UNORDERED = 1, 2, 4, 8
# A carry goes in, comes out.
CARRY_IN, CARRY_OUT = 1, 2

# Where shared and local memory lie among the generic addresses.
SHARED_WINDOW, LOCAL_WINDOW = 1 << 60, 1 << 61

(
    ADD32, ADD64, SUB32, SUB64, MUL32, MUL64, MAD32, MAD64, WIDE_U32, WIDE_S32,
    MAD_WIDE_U32, MAD_WIDE_S32, HIGH_U32, HIGH_S32, HIGH_U64, HIGH_S64,
    DIV_U32, DIV_S32, DIV_U64, DIV_S64, REM_U32, REM_S32, REM_U64, REM_S64,
    MIN_U32, MIN_S32, MIN_U64, MIN_S64, MAX_U32, MAX_S32, MAX_U64, MAX_S64,
    AND, OR, XOR, NOT, NOT_PRED, NEG32, NEG64, ABS32, ABS64,
    SHL32, SHL64, SHR_U32, SHR_S32, SHR_U64, SHR_S64, FUNNEL_LEFT, FUNNEL_RIGHT,
    INSERT32, INSERT64, EXTRACT_U32, EXTRACT_S32, EXTRACT_U64, EXTRACT_S64,
    POPC32, POPC64, CLZ32, CLZ64, BREV32, BREV64, PERMUTE,
    ADD_CARRY32, ADD_CARRY64, SUB_CARRY32, SUB_CARRY64,
    MAD_LOW_CARRY32, MAD_LOW_CARRY64, MAD_HIGH_CARRY32, MAD_HIGH_CARRY64,
    ADD_F32, ADD_F64, SUB_F32, SUB_F64, MUL_F32, MUL_F64, FMA_F32, FMA_F64,
    FMA_DIRECTED_F32, FMA_DIRECTED_F64, DIV_F32, DIV_F64, SQRT_F32, SQRT_F64, RCP_F32, RCP_F64,
    MIN_F32, MIN_F64, MAX_F32, MAX_F64, NEG_F32, NEG_F64, ABS_F32, ABS_F64, FLUSH_F32,
    EXP2_F32, LOG2_F32, SIN_F32, COS_F32, RSQRT_F32, RSQRT_F64, COARSE_F64, COPYSIGN_F32,
    COPYSIGN_F64,
    COMPARE_U32, COMPARE_S32, COMPARE_U64, COMPARE_S64, COMPARE_F32, COMPARE_F64, SELECT, MOVE,
    CONVERT_INT, INT_TO_F32, INT_TO_F64, F32_TO_INT, F64_TO_INT, F32_TO_F64, F64_TO_F32,
    ROUND_F32, ROUND_F64, ROUND_TF32, SPLIT64, JOIN64, SPLIT32, JOIN32,
    LOAD, LOAD_VECTOR, STORE, STORE_VECTOR, ATOMIC,
    BRANCH, BRANCH_IF, BRANCH_UNLESS, BRANCH_TABLE, SKIP_IF, SKIP_UNLESS, BARRIER, EXIT, MMA,
    NOTHING,
) = range(141)  # fmt: skip
