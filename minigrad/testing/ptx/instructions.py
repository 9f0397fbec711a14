"""Instruction tables: which operation of the interpreter each PTX instruction becomes.

`SIMPLE` has those that are one operation on registers, by their name in PTX; the patterns below it
are of those that take a few, which program.py spells out.

Source: PTX ISA, https://docs.nvidia.com/cuda/parallel-thread-execution/
"""

from __future__ import annotations

import re

from . import operations as op

KINDS = {
    "u8": op.U8, "b8": op.U8, "s8": op.S8, "u16": op.U16, "b16": op.U16, "s16": op.S16,
    "u32": op.U32, "b32": op.U32, "s32": op.S32, "u64": op.U64, "b64": op.U64, "s64": op.S64,
    "f32": op.F32, "f64": op.F64,
}  # fmt: skip
SPACES = {
    "global": op.GLOBAL, "const": op.GLOBAL, "shared": op.SHARED, "local": op.LOCAL,
    "param": op.PARAM,
}  # fmt: skip
ROUNDING = {
    "rn": op.NEAREST, "rz": op.ZERO, "rm": op.DOWN, "rp": op.UP, "rna": op.AWAY,
    "rni": op.NEAREST, "rzi": op.ZERO, "rmi": op.DOWN, "rpi": op.UP,
}  # fmt: skip
ATOMIC = {
    "add": op.ATOMIC_ADD, "min": op.ATOMIC_MIN, "max": op.ATOMIC_MAX, "exch": op.ATOMIC_EXCHANGE,
    "cas": op.ATOMIC_COMPARE, "and": op.ATOMIC_AND, "or": op.ATOMIC_OR,
}  # fmt: skip
COMPARISONS = {
    "eq": op.EQUAL, "ne": op.LESS | op.GREATER, "lt": op.LESS, "le": op.LESS | op.EQUAL,
    "gt": op.GREATER, "ge": op.GREATER | op.EQUAL,
}  # fmt: skip
COMPARISONS |= {"lo": op.LESS, "ls": op.LESS | op.EQUAL, "hi": op.GREATER}
COMPARISONS |= {"hs": op.GREATER | op.EQUAL, "num": op.LESS | op.EQUAL | op.GREATER}
COMPARISONS |= {f"{name}u": mask | op.UNORDERED for name, mask in list(COMPARISONS.items())[:6]}
COMPARISONS |= {"nan": op.UNORDERED}

_BOTH_SIGNS = ("u", "s", "b")


def _table() -> dict[str, int]:
    """Instructions whose operands are d, a, b, c in this order, by their name in PTX."""
    found: dict[str, int] = {}
    for bits, at in ((32, 0), (64, 1)):
        for sign in _BOTH_SIGNS:
            kind = f"{sign}{bits}"
            for name, first in {
                "add": op.ADD32, "sub": op.SUB32, "mul.lo": op.MUL32, "mad.lo": op.MAD32,
                "neg": op.NEG32, "abs": op.ABS32, "shl": op.SHL32, "bfi": op.INSERT32,
                "popc": op.POPC32, "clz": op.CLZ32, "brev": op.BREV32,
            }.items():  # fmt: skip
                found[f"{name}.{kind}"] = first + at
            for name, only in {"and": op.AND, "or": op.OR, "xor": op.XOR, "not": op.NOT}.items():
                found[f"{name}.{kind}"] = only
            found[f"selp.{kind}"] = op.SELECT
            found[f"mov.{kind}"] = op.MOVE
            for name, first in {
                "mul.hi": op.HIGH_U32, "div": op.DIV_U32, "rem": op.REM_U32, "min": op.MIN_U32,
                "max": op.MAX_U32, "shr": op.SHR_U32, "bfe": op.EXTRACT_U32,
            }.items():  # fmt: skip
                found[f"{name}.{kind}"] = first + 2 * at + (sign == "s")
        kind = f"f{bits}"
        for name, first in {
            "add": op.ADD_F32, "add.rn": op.ADD_F32, "sub": op.SUB_F32, "sub.rn": op.SUB_F32,
            "mul": op.MUL_F32, "mul.rn": op.MUL_F32, "fma.rn": op.FMA_F32, "div.rn": op.DIV_F32,
            "sqrt.rn": op.SQRT_F32, "rcp.rn": op.RCP_F32, "min": op.MIN_F32, "max": op.MAX_F32,
            "neg": op.NEG_F32, "abs": op.ABS_F32, "copysign": op.COPYSIGN_F32,
        }.items():  # fmt: skip
            found[f"{name}.{kind}"] = first + at
        found[f"selp.{kind}"], found[f"mov.{kind}"] = op.SELECT, op.MOVE
    for sign, at in (("u", 0), ("s", 1)):
        found[f"mul.wide.{sign}32"] = op.WIDE_U32 + at
        found[f"mad.wide.{sign}32"] = op.MAD_WIDE_U32 + at
    # The approximations are as good as float32 allows, those of float64 as coarse as they may be.
    for name, code in {
        "div.approx": op.DIV_F32, "div.full": op.DIV_F32, "rcp.approx": op.RCP_F32,
        "sqrt.approx": op.SQRT_F32, "rsqrt.approx": op.RSQRT_F32, "ex2.approx": op.EXP2_F32,
        "lg2.approx": op.LOG2_F32, "sin.approx": op.SIN_F32, "cos.approx": op.COS_F32,
    }.items():  # fmt: skip
        found[f"{name}.f32"] = code
    found |= {
        "and.pred": op.AND, "or.pred": op.OR, "xor.pred": op.XOR, "not.pred": op.NOT_PRED,
        "mov.pred": op.MOVE, "mov.b8": op.MOVE, "mov.u16": op.MOVE, "mov.b16": op.MOVE,
        "mov.s16": op.MOVE, "selp.b16": op.SELECT, "selp.u16": op.SELECT, "selp.s16": op.SELECT,
        "shf.l.wrap.b32": op.FUNNEL_LEFT, "shf.r.wrap.b32": op.FUNNEL_RIGHT,
        "prmt.b32": op.PERMUTE,
    }  # fmt: skip
    return found


SIMPLE = _table()
# Of 16 bits: computed in 32, whose lower half is the result.
SHORT = re.compile(r"(add|sub|mul\.lo|mad\.lo|and|or|xor|not|neg|shl|shr|min|max|div|rem)\.(.)16$")
WIDE_SHORT = re.compile(r"(mul|mad)\.wide\.(.)16$")
CARRY = re.compile(r"(add|sub|mad)(c?)(?:\.(lo|hi))?(\.cc)?\.[us](32|64)$")
DIRECTED = re.compile(r"(fma|add|mul)\.(rz|rm|rp)\.(f32|f64)$")
MMA = "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
NOTHING = re.compile(r"(membar|fence)\..*|bar\.warp\.sync")
