"""Assembler: a parsed kernel becomes rows of numbers for the interpreter.

A row is an operation code and seven fields. Registers, constants and special registers are slots of
eight bytes in one file a thread; a field holds a slot's place in bytes. Device functions are
expanded where they are called: their registers become further slots, their parameters and local
arrays further local memory. An instruction that is not known (instructions.py) is an error that
names it.

Source: PTX ISA, https://docs.nvidia.com/cuda/parallel-thread-execution/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from . import operations as op
from .instructions import (
    ATOMIC,
    CARRY,
    COMPARISONS,
    DIRECTED,
    KINDS,
    MMA,
    NOTHING,
    ROUNDING,
    SHORT,
    SIMPLE,
    SPACES,
    WIDE_SHORT,
)
from .parse import (
    SIZES,
    Address,
    Function,
    Immediate,
    Instruction,
    Label,
    Module,
    Name,
    Operand,
    PtxError,
    Variable,
    Vector,
)

FIELDS = 8
SPECIAL = (
    "%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y",
    "%ctaid.z", "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid", "%warpid",
)  # fmt: skip
"""The first slots of every thread."""


class Param(NamedTuple):
    """A kernel's parameter: where it lies in the parameter buffer, and its bytes."""

    name: str
    offset: int
    size: int


@dataclass
class Program:
    """code (rows, FIELDS) int32; lists: fields of those that need more; opcodes, lines, primary:
    of each row the PTX instruction, where it stands, and whether the row counts as it.

    constants (slots,) uint64: the first value of every slot. Local and shared sizes in bytes.
    granule: the least bytes that an access to global or to shared memory has.
    """

    name: str
    params: tuple[Param, ...]
    param_bytes: int
    shared_bytes: int
    code: np.ndarray
    lists: np.ndarray
    constants: np.ndarray
    opcodes: list[str]
    lines: list[int]
    primary: np.ndarray
    local_bytes: int
    granules: tuple[int, int]
    text: list[str] = field(repr=False, default_factory=list)


def assemble(module: Module, kernel: Function, addresses: dict[str, int], text: str) -> Program:
    """addresses: of the module's global variables."""
    return _Assembler(module, kernel, addresses).program(text)


def _lay_out(variables: list[Variable], start: int = 0) -> tuple[dict[str, int], int]:
    """Offsets by name, and the end."""
    offsets: dict[str, int] = {}
    for variable in variables:
        start += -start % variable.align
        offsets[variable.name] = start
        start += variable.size
    return offsets, start


class _Frame:
    """One expansion of a function. places: space and offset of its variables and parameters."""

    def __init__(self, function: Function, prefix: str, places: dict[str, tuple[int, int]]) -> None:
        self.function, self.prefix, self.places = function, prefix, places


class _Assembler:
    def __init__(self, module: Module, kernel: Function, addresses: dict[str, int]) -> None:
        self.module, self.kernel = module, kernel
        self.slots = {name: i for i, name in enumerate(SPECIAL)}
        self.values: dict[int, int] = {}  # first value by slot
        self.rows: list[list[int]] = []
        self.opcodes: list[str] = []
        self.lines: list[int] = []
        self.primary: list[int] = []
        self.lists: list[int] = []
        self.labels: dict[str, int] = {}
        self.jumps: list[tuple[int, str]] = []  # row and label
        self.tables: list[tuple[int, str]] = []  # place in lists and label
        self.targets: dict[str, tuple[str, ...]] = {}
        self.granules = [8, 8]
        self.local_bytes = self.calls = self.temporaries = 0
        shared = [v for v in module.variables.values() if v.space == "shared"]
        shared += [v for v in kernel.variables.values() if v.space == "shared"]
        self.shared, self.shared_bytes = _lay_out(shared)
        self.addresses = addresses
        self.at = Instruction("ret", (), None, 0)  # the one that is being assembled

    def program(self, text: str) -> Program:
        offsets, end = _lay_out(self.kernel.params)
        places = {name: (op.PARAM, at) for name, at in offsets.items()}
        self.function(_Frame(self.kernel, "", places))
        self.emit(op.EXIT)
        for row, label in self.jumps:
            self.rows[row][5] = self.target(label)
        for at, label in self.tables:
            self.lists[at] = self.target(label)
        constants = np.zeros(len(self.slots), np.uint64)
        for slot, value in self.values.items():
            constants[slot] = value
        return Program(
            self.kernel.name,
            tuple(Param(v.name, offsets[v.name], v.size) for v in self.kernel.params),
            end,
            self.shared_bytes,
            np.array(self.rows, np.int32).reshape(-1, FIELDS),
            np.array([*self.lists, 0], np.int32),
            constants,
            self.opcodes,
            self.lines,
            np.array(self.primary, bool),
            self.local_bytes,
            (self.granules[0], self.granules[1]),
            text.splitlines(),
        )

    def target(self, label: str) -> int:
        if label not in self.labels:
            raise PtxError(f"ptx: {self.kernel.name} has no label {label.rpartition('/')[2]}")
        return self.labels[label]

    # Functions -------------------------------------------------------------------------------

    def function(self, frame: _Frame) -> None:
        """Rows of the function's body; `ret` goes to their end."""
        locals_ = [v for v in frame.function.variables.values() if v.space in ("local", "param")]
        offsets, self.local_bytes = _lay_out(locals_, self.local_bytes)
        frame.places |= {name: (op.LOCAL, at) for name, at in offsets.items()}
        for each in frame.function.body:
            if isinstance(each, Label):
                self.labels[frame.prefix + each.name] = len(self.rows)
            else:
                self.at = each
                self.instruction(frame, each)
        self.labels[frame.prefix + "return"] = len(self.rows)

    def call(self, frame: _Frame, instruction: Instruction) -> None:
        vectors = [x.elements for x in instruction.operands if isinstance(x, Vector)]
        names = [x.name for x in instruction.operands if isinstance(x, Name)]
        function = self.module.functions.get(names[0]) if names else None
        if function is None or not function.body:
            raise self.error("the function is not in this module")
        returned = vectors[0] if len(vectors) == 2 or function.returns else ()
        passed = vectors[-1] if vectors and (len(vectors) == 2 or not function.returns) else ()
        self.calls += 1
        prefix = f"{frame.prefix}{function.name}#{self.calls}/"
        if len(prefix) > 4000:
            raise self.error("functions call one another in a circle")
        places = {
            formal.name: frame.places[actual.name]
            for formals, actuals in ((function.returns, returned), (function.params, passed))
            for formal, actual in zip(formals, actuals, strict=True)
            if isinstance(actual, Name)
        }
        self.function(_Frame(function, prefix, places))

    # Operands --------------------------------------------------------------------------------

    def slot(self, frame: _Frame, operand: Operand, width: int = 64) -> int:
        """Where the value of a register, an immediate or a variable's address lies."""
        if isinstance(operand, Immediate):
            bits = operand.bits
            if operand.width == 64 and width == 32:
                bits = int(np.float32(np.uint64(bits).view(np.float64)).view(np.uint32))
            return self.constant(bits)
        if not isinstance(operand, Name):
            raise self.error(f"{operand} cannot stand here")
        name = operand.name
        if name in SPECIAL:
            return 8 * self.slots[name]
        if name in frame.function.registers:
            key = frame.prefix + name
            return 8 * self.slots.setdefault(key, len(self.slots))
        if name in frame.places:
            return self.constant(frame.places[name][1])
        if name in self.shared:
            return self.constant(self.shared[name])
        if name in self.addresses:
            return self.constant(self.addresses[name])
        if name == "WARP_SZ":
            return self.constant(32)
        raise self.error(f"unknown name {name}")

    def constant(self, value: int) -> int:
        value &= (1 << 64) - 1
        slot = self.slots.setdefault(f"={value}", len(self.slots))
        self.values[slot] = value
        return 8 * slot

    def temporary(self) -> int:
        """A slot of its own, where an instruction becomes several rows."""
        self.temporaries += 1
        return 8 * self.slots.setdefault(f"~{self.temporaries}", len(self.slots))

    def place(self, frame: _Frame, operand: Operand, space: int) -> tuple[int, int, int]:
        """(slot of the base, offset, space) of an address. Parameters of functions are local."""
        if not isinstance(operand, Address):
            raise self.error(f"{operand} is no address")
        if isinstance(operand.base, Name) and operand.base.name in frame.places:
            space, start = frame.places[operand.base.name]
            return self.constant(0), start + operand.offset, space
        return self.slot(frame, operand.base), operand.offset, space

    # Instructions ----------------------------------------------------------------------------

    def error(self, what: str) -> PtxError:
        return PtxError(f"ptx: line {self.at.line} of {self.kernel.name}: {self.at.opcode}: {what}")

    def emit(self, code: int, *fields: int) -> None:
        self.rows.append([code, *fields, *[0] * (FIELDS - 1 - len(fields))])
        self.opcodes.append(self.at.opcode)
        self.lines.append(self.at.line)
        self.primary.append(0)

    def instruction(self, frame: _Frame, each: Instruction) -> None:
        first = len(self.rows)
        stem, _, rest = each.opcode.partition(".")
        if stem == "bra":
            self.branch(frame, each)
        else:
            if each.guard is not None:
                name, negated = each.guard
                skip = op.SKIP_IF if negated else op.SKIP_UNLESS
                self.emit(skip, 0, self.slot(frame, name))
            if stem == "call":
                self.call(frame, each)
            elif not self.known(frame, each, stem, rest):
                raise self.error("the machine does not know this instruction")
            if each.guard is not None:
                self.rows[first][5] = len(self.rows)
        if len(self.rows) > first and stem != "call":
            self.primary[-1] = 1

    def branch(self, frame: _Frame, each: Instruction) -> None:
        (label,) = each.operands
        if not isinstance(label, Name):
            raise self.error(f"{label} is no label")
        self.jumps.append((len(self.rows), frame.prefix + label.name))
        if each.guard is None:
            self.emit(op.BRANCH)
        else:
            name, negated = each.guard
            code = op.BRANCH_UNLESS if negated else op.BRANCH_IF
            self.emit(code, 0, self.slot(frame, name))

    def known(self, frame: _Frame, each: Instruction, stem: str, rest: str) -> bool:
        """Whether the instruction is one that this emits rows for."""
        opcode, operands = each.opcode, each.operands
        words = rest.split(".")
        if stem in ("ret", "exit"):
            if stem == "ret" and frame.prefix:
                self.jumps.append((len(self.rows), frame.prefix + "return"))
                self.emit(op.BRANCH)
            else:
                self.emit(op.EXIT)
        elif stem in ("ld", "st"):
            self.transfer(frame, stem == "ld", words, operands)
        elif stem == "atom":
            self.atomic(frame, words, operands)
        elif stem == "setp":
            self.compare(frame, words, operands)
        elif stem == "cvt":
            return self.convert(frame, words, operands)
        elif stem in ("cvta", "bar", "barrier"):
            return self.window_or_barrier(frame, each, stem, words)
        elif opcode == MMA:
            places = [self.slot(frame, x) for v in operands if isinstance(v, Vector)
                      for x in v.elements]  # fmt: skip
            self.emit(op.MMA, 0, 0, 0, 0, len(self.lists))
            self.lists += places
        elif NOTHING.fullmatch(opcode):
            self.emit(op.NOTHING)
        elif stem == "mov" and any(isinstance(x, Vector) for x in operands):
            self.pack(frame, words[0], operands)
        else:
            return self.arithmetic(frame, opcode, operands)
        return True

    def arithmetic(self, frame: _Frame, opcode: str, operands: tuple[Operand, ...]) -> bool:
        width = 32 if opcode.endswith("32") else 64
        flush = ".ftz" in opcode and opcode.endswith("f32")
        plain = opcode.replace(".ftz", "")
        slots = [self.slot(frame, x, width) for x in operands]
        if plain in ("rcp.approx.f64", "rsqrt.approx.f64"):
            exact = op.RCP_F64 if plain.startswith("rcp") else op.RSQRT_F64
            self.emit(exact, *slots)
            self.emit(op.COARSE_F64, slots[0], slots[0])
        elif plain in SIMPLE:
            if flush:
                slots[1:] = [self.derived(op.FLUSH_F32, x) for x in slots[1:]]
            self.emit(SIMPLE[plain], *slots)
            if flush:
                self.emit(op.FLUSH_F32, slots[0], slots[0])
        elif (found := DIRECTED.match(plain)) and not flush:
            single = found[3] == "f32"
            one, minus_zero = (0x3F800000, 1 << 31) if single else (0x3FF << 52, 1 << 63)
            if found[1] == "add":  # a·1 + b
                slots.insert(2, self.constant(one))
            elif found[1] == "mul":  # a·b − 0
                slots.append(self.constant(minus_zero))
            code = op.FMA_DIRECTED_F32 if single else op.FMA_DIRECTED_F64
            self.emit(code, *slots, ROUNDING[found[2]])
        elif found := SHORT.match(plain):
            kind = op.S16 if found[2] == "s" else op.U16
            long = f"{found[1]}.{found[2] if found[2] != 'b' else 'u'}32"
            amounts = found[1] in ("shl", "shr")  # their second operand has 32 bits
            slots[1:] = [
                x if amounts and i == 1 else self.derived(op.CONVERT_INT, x, kind, kind)
                for i, x in enumerate(slots[1:])
            ]
            self.emit(SIMPLE[long], *slots)
        elif found := WIDE_SHORT.match(plain):
            kind = op.S16 if found[2] == "s" else op.U16
            slots[1:3] = [self.derived(op.CONVERT_INT, x, kind, kind) for x in slots[1:3]]
            self.emit(op.MUL32 if found[1] == "mul" else op.MAD32, *slots)
        elif (found := CARRY.match(plain)) and (found[2] or found[4]):
            first = {
                ("add", None): op.ADD_CARRY32, ("sub", None): op.SUB_CARRY32,
                ("mad", "lo"): op.MAD_LOW_CARRY32, ("mad", "hi"): op.MAD_HIGH_CARRY32,
            }[found[1], found[3]]  # fmt: skip
            flags = (op.CARRY_IN if found[2] else 0) | (op.CARRY_OUT if found[4] else 0)
            slots += [0] * (4 - len(slots))
            self.emit(first + (found[5] == "64"), *slots, flags)
        else:
            return False
        return True

    def derived(self, code: int, slot: int, *kinds: int) -> int:
        """A temporary with what `code` makes of the slot."""
        temporary = self.temporary()
        self.emit(code, temporary, slot, 0, 0, *kinds)
        return temporary

    def compare(self, frame: _Frame, words: list[str], operands: tuple[Operand, ...]) -> None:
        """setp.lt.s32 p, a, b; setp.lt.and.s32 p, a, b, q"""
        kind, flush = words[-1], "ftz" in words
        words = [word for word in words[:-1] if word != "ftz"]
        if words[0] not in COMPARISONS or len(words) != len(operands) - 2:
            raise self.error("the machine does not know this comparison")
        width = 32 if kind.endswith("32") else 64
        d, *slots = [self.slot(frame, x, width) for x in operands]
        if kind.endswith("16"):
            short = op.S16 if kind[0] == "s" else op.U16
            slots[:2] = [self.derived(op.CONVERT_INT, x, short, short) for x in slots[:2]]
            kind = f"{'s' if kind[0] == 's' else 'u'}32"
        if flush:
            slots[:2] = [self.derived(op.FLUSH_F32, x) for x in slots[:2]]
        code = {
            "u32": op.COMPARE_U32, "b32": op.COMPARE_U32, "s32": op.COMPARE_S32,
            "u64": op.COMPARE_U64, "b64": op.COMPARE_U64, "s64": op.COMPARE_S64,
            "f32": op.COMPARE_F32, "f64": op.COMPARE_F64,
        }[kind]  # fmt: skip
        self.emit(code, d, slots[0], slots[1], 0, COMPARISONS[words[0]])
        if len(words) == 2:
            combine = {"and": op.AND, "or": op.OR, "xor": op.XOR}[words[1]]
            self.emit(combine, d, d, slots[2])

    def convert(self, frame: _Frame, words: list[str], operands: tuple[Operand, ...]) -> bool:
        """cvt.rzi.s32.f32 d, a"""
        *modes, to, source = words
        d, a = (self.slot(frame, x, 32 if source == "f32" else 64) for x in operands)
        flush, saturate = "ftz" in modes, "sat" in modes
        modes = [mode for mode in modes if mode not in ("ftz", "sat")]
        if saturate and to != "f32":
            return False
        if to == "tf32" or source == "tf32":
            if modes != ["rna"] or (to, source) != ("tf32", "f32"):
                return False
            self.emit(op.ROUND_TF32, d, a)
            return True
        if to not in KINDS or source not in KINDS or len(modes) > 1:
            return False
        rounding = ROUNDING.get(modes[0], -1) if modes else op.NEAREST
        if rounding < 0:
            return False
        if flush and source == "f32":
            a = self.derived(op.FLUSH_F32, a)
        x, y = KINDS[source], KINDS[to]
        if x < op.F32 and y < op.F32:
            self.emit(op.CONVERT_INT, d, a, 0, 0, x, y)
        elif x < op.F32:
            if rounding != op.NEAREST:
                return False
            self.emit(op.INT_TO_F32 if y == op.F32 else op.INT_TO_F64, d, a, 0, 0, x)
        elif y < op.F32:
            code = op.F32_TO_INT if x == op.F32 else op.F64_TO_INT
            self.emit(code, d, a, 0, 0, rounding, y)
        elif x == y:
            code = op.ROUND_F32 if x == op.F32 else op.ROUND_F64
            whole = bool(modes) and modes[0].endswith("i")
            self.emit(code if whole else op.MOVE, d, a, 0, 0, rounding)
        elif y == op.F64:
            self.emit(op.F32_TO_F64, d, a)
        else:
            if rounding not in (op.NEAREST, op.ZERO, op.DOWN, op.UP):
                return False
            self.emit(op.F64_TO_F32, d, a, 0, 0, rounding)
        if flush and to == "f32":
            self.emit(op.FLUSH_F32, d, d)
        if saturate:  # to [0, 1], NaN to 0
            self.emit(op.MAX_F32, d, d, self.constant(0))
            self.emit(op.MIN_F32, d, d, self.constant(0x3F800000))
        return True

    def window_or_barrier(
        self, frame: _Frame, each: Instruction, stem: str, words: list[str]
    ) -> bool:
        slots = [self.slot(frame, x) for x in each.operands]
        if stem != "cvta":
            if slots != [self.constant(0)] or words not in (["sync"], ["sync", "aligned"]):
                return False
            self.emit(op.BARRIER)
            return True
        to = words[0] == "to"
        window = {"shared": op.SHARED_WINDOW, "local": op.LOCAL_WINDOW, "global": 0, "const": 0}
        offset = window[words[1] if to else words[0]]
        self.emit(op.SUB64 if to else op.ADD64, *slots, self.constant(offset))
        return True

    def pack(self, frame: _Frame, kind: str, operands: tuple[Operand, ...]) -> None:
        """mov.b64 {low, high}, a and mov.b64 d, {low, high}; b32 likewise."""
        d, a = operands
        half = 32 if kind == "b64" else 16
        if kind not in ("b64", "b32"):
            raise self.error("only .b64 and .b32 are split and joined")
        if isinstance(d, Vector):
            low, high = (
                self.temporary() if x == Name("_") else self.slot(frame, x) for x in d.elements
            )
            code = op.SPLIT64 if half == 32 else op.SPLIT32
            self.emit(code, low, self.slot(frame, a), high)
        elif isinstance(a, Vector):
            low, high = (self.slot(frame, x, half) for x in a.elements)
            self.emit(op.JOIN64 if half == 32 else op.JOIN32, self.slot(frame, d), low, high)

    # Memory ----------------------------------------------------------------------------------

    def transfer(
        self, frame: _Frame, loads: bool, words: list[str], operands: tuple[Operand, ...]
    ) -> None:
        """ld.global.nc.v4.f32 {a, b, c, d}, [p+16]"""
        kind = words[-1]
        known = {"nc", "volatile", "relaxed", "gpu", "sys", "cta", "v2", "v4"}
        spaces = [word for word in words[:-1] if word in SPACES]
        if kind not in KINDS or set(words[:-1]) - known - set(spaces) or len(spaces) > 1:
            raise self.error("the machine does not know this access")
        value, address = operands if loads else operands[::-1]
        space = SPACES[spaces[0]] if spaces else op.GENERIC
        base, offset, space = self.place(frame, address, space)
        width = 32 if kind == "f32" else 64
        values = value.elements if isinstance(value, Vector) else (value,)
        slots = [self.temporary() if x == Name("_") else self.slot(frame, x, width) for x in values]
        size = SIZES[kind]
        self.note_granule(space, size)
        fields = base, 0, len(slots), offset, space, KINDS[kind]
        if len(slots) == 1:
            self.emit(op.LOAD if loads else op.STORE, slots[0], *fields)
        else:
            code = op.LOAD_VECTOR if loads else op.STORE_VECTOR
            self.emit(code, len(self.lists), *fields)
            self.lists += slots

    def note_granule(self, space: int, size: int) -> None:
        if space in (op.GLOBAL, op.GENERIC):
            self.granules[0] = min(self.granules[0], size)
        if space in (op.SHARED, op.GENERIC):
            self.granules[1] = min(self.granules[1], size)

    def atomic(self, frame: _Frame, words: list[str], operands: tuple[Operand, ...]) -> None:
        """atom.global.min.s32 d, [a], b"""
        kind = words[-1]
        spaces = [word for word in words if word in SPACES]
        actions = [word for word in words if word in ATOMIC]
        rest = set(words[:-1]) - {*spaces, *actions, "relaxed", "gpu", "sys", "cta"}
        if rest or len(actions) != 1 or kind not in KINDS or SIZES[kind] < 4:
            raise self.error("the machine does not know this atomic operation")
        d, address, *values = operands
        base, offset, space = self.place(
            frame, address, SPACES[spaces[0]] if spaces else op.GENERIC
        )
        slots = [self.slot(frame, x, 8 * SIZES[kind]) for x in values]
        self.note_granule(space, SIZES[kind])
        self.emit(
            op.ATOMIC, self.slot(frame, d), base, slots[0], slots[-1], offset, space,
            KINDS[kind] | ATOMIC[actions[0]] << 8,
        )  # fmt: skip


def global_variables(module: Module) -> Iterator[Variable]:
    """Those that need memory of the device."""
    return (v for v in module.variables.values() if v.space in ("global", "const"))
