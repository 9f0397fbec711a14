"""Parser of PTX assembly: text to functions, variables and instructions.

What the NVVM compiler writes is read, not the whole language: registers, parameters and variables
with their types, labels, guarded instructions with registers, immediates, addresses and vectors as
operands. Names declared in an inner `{ … }` belong to it and are made distinct.

Source: PTX ISA, https://docs.nvidia.com/cuda/parallel-thread-execution/
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

SIZES = {
    "pred": 1, "b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "b32": 4,
    "u32": 4, "s32": 4, "f32": 4, "b64": 8, "u64": 8, "s64": 8, "f64": 8,
}  # fmt: skip
"""Bytes of each fundamental type."""

_SPACES = {".param", ".global", ".shared", ".local", ".const"}
_TOKEN = re.compile(
    r"(?P<skip>\s+|//[^\n]*|/\*.*?\*/)"
    r"|(?P<string>\"[^\"]*\")"
    r"|(?P<number>-?\d\w*)"
    r"|(?P<name>[A-Za-z_$%.][\w$%.]*)"
    r"|(?P<mark>.)",
    re.DOTALL,
)


class PtxError(ValueError):
    """The text is not PTX that this parser or the machine knows."""


class Name(NamedTuple):
    """A register, variable, label or function."""

    name: str


class Immediate(NamedTuple):
    """bits: an integer's value, or the bit pattern of a float. width: 32 or 64 for a float."""

    bits: int
    width: int = 0


class Address(NamedTuple):
    base: Name | Immediate
    offset: int


class Vector(NamedTuple):
    elements: tuple[Name | Immediate, ...]


Operand = Name | Immediate | Address | Vector


@dataclass(frozen=True)
class Variable:
    """size: bytes. data: initial bytes, zeros where there are fewer."""

    space: str
    name: str
    align: int
    size: int
    data: bytes = b""


@dataclass(frozen=True)
class Instruction:
    """guard: the predicate register and whether it is negated. line: of the text, from 1."""

    opcode: str
    operands: tuple[Operand, ...]
    guard: tuple[Name, bool] | None
    line: int


@dataclass(frozen=True)
class Label:
    name: str


@dataclass
class Function:
    """An entry or a device function. registers: the type of each; `%r<42>` stands as %r, 42."""

    name: str
    entry: bool
    params: list[Variable]
    returns: list[Variable] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    body: list[Instruction | Label] = field(default_factory=list)


@dataclass
class Module:
    functions: dict[str, Function] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)


def parse(text: str) -> Module:
    """The module's functions and variables. PtxError names the line that is not understood."""
    return _Parser(text).module()


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        self.lines: list[int] = []
        line = 1
        for match in _TOKEN.finditer(text):
            if match.lastgroup != "skip":
                self.tokens.append(match[0])
                self.lines.append(line)
            line += match[0].count("\n")
        self.tokens.append("")
        self.lines.append(line)
        self.at = 0
        self.blocks = 0

    # Tokens ----------------------------------------------------------------------------------

    @property
    def next(self) -> str:
        return self.tokens[self.at]

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def accept(self, token: str) -> bool:
        if self.next == token:
            self.at += 1
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.accept(token):
            raise self.error(f"expected {token!r}, got {self.next!r}")

    def error(self, what: str) -> PtxError:
        return PtxError(f"ptx: line {self.lines[self.at]}: {what}")

    def skip_to(self, token: str) -> None:
        while not self.accept(token):
            if not self.take():
                raise self.error(f"the text ends before {token!r}")

    # Module ----------------------------------------------------------------------------------

    def module(self) -> Module:
        module = Module()
        while self.next:
            token = self.next
            if token in (".version", ".target"):
                line = self.lines[self.at]
                while self.next and self.lines[self.at] == line:
                    self.take()
            elif token == ".address_size":
                self.take()
                if self.take() != "64":
                    raise self.error("addresses must have 64 bits")
            elif token in (".visible", ".extern", ".weak", ".common"):
                self.take()
            elif token in (".entry", ".func"):
                function = self.function()
                if function.body or function.name not in module.functions:
                    module.functions[function.name] = function
            elif token in _SPACES:
                variable = self.variable()
                self.expect(";")
                module.variables[variable.name] = variable
            else:
                raise self.error(f"unknown directive {token!r}")
        return module

    def variable(self) -> Variable:
        """`.global .align 4 .b8 name[24] = {1, 2, …}`"""
        space, align, kind = self.take()[1:], 0, ""
        while self.next.startswith("."):
            word = self.take()[1:]
            if word == "align":
                align = int(self.take())
            elif word in SIZES:
                kind = word
        if not kind:
            raise self.error(f"a variable in .{space} needs a type")
        name, size = self.take(), SIZES[kind]
        while self.accept("["):
            size *= int(self.take())
            self.expect("]")
        data = b""
        if self.accept("="):
            several = self.accept("{")
            values = [self.take()]
            while several and self.accept(","):
                values.append(self.take())
            if several:
                self.expect("}")
            width = SIZES[kind]
            mask = (1 << 8 * width) - 1
            data = b"".join(
                (_immediate(value).bits & mask).to_bytes(width, "little") for value in values
            )
        return Variable(space, name, align or SIZES[kind], size, data)

    def parameters(self) -> list[Variable]:
        params: list[Variable] = []
        if self.accept("("):
            while not self.accept(")"):
                params.append(self.variable())
                self.accept(",")
        return params

    def function(self) -> Function:
        entry = self.take() == ".entry"
        returns = [] if entry else self.parameters()
        function = Function(self.take(), entry, [], returns)
        function.params = self.parameters()
        while self.next.startswith("."):  # .maxntid and its kind
            self.take()
            while self.next not in (";", "{") and not self.next.startswith("."):
                self.take()
        if not self.accept(";"):
            self.expect("{")
            self.block(function, {})
        return function

    # Bodies ----------------------------------------------------------------------------------

    def block(self, function: Function, scope: dict[str, str]) -> None:
        """Up to the closing brace. scope: what names of inner blocks are called here."""
        while not self.accept("}"):
            token = self.next
            if token == "":
                raise self.error("the text ends inside a function")
            if token == "{":
                self.take()
                self.block(function, dict(scope))
            elif token == ".reg":
                self.registers(function, scope)
            elif token in _SPACES:
                variable = self.variable()
                self.expect(";")
                if variable.name in function.variables:
                    scope[variable.name] = self.distinct(variable.name)
                name = scope.get(variable.name, variable.name)
                function.variables[name] = Variable(
                    variable.space, name, variable.align, variable.size
                )
            elif token in (".pragma", ".loc", ".file"):
                self.skip_to(";")
            elif self.tokens[self.at + 1] == ":":
                function.body.append(Label(self.take()))
                self.take()
            else:
                function.body.append(self.instruction(scope))

    def distinct(self, name: str) -> str:
        self.blocks += 1
        return f"{name}#{self.blocks}"

    def registers(self, function: Function, scope: dict[str, str]) -> None:
        self.take()
        kind = self.take()[1:]
        while True:
            name, count = self.take(), 0
            if self.accept("<"):
                count = int(self.take())
                self.expect(">")
            if count:
                function.registers |= {f"{name}{i}": kind for i in range(count)}
            else:
                if name in function.registers:
                    scope[name] = self.distinct(name)
                function.registers[scope.get(name, name)] = kind
            if not self.accept(","):
                break
        self.expect(";")

    def instruction(self, scope: dict[str, str]) -> Instruction:
        line, guard = self.lines[self.at], None
        if self.accept("@"):
            negated = self.accept("!")
            guard = Name(self.name(scope)), negated
        opcode = self.take()
        operands: list[Operand] = []
        while not self.accept(";"):
            operands.append(self.operand(scope))
            if not (self.accept(",") or self.accept("|")) and self.next != ";":
                raise self.error(f"unexpected {self.next!r} in {opcode}")
        return Instruction(opcode, tuple(operands), guard, line)

    def name(self, scope: dict[str, str]) -> str:
        name = self.take()
        return scope.get(name, name)

    def operand(self, scope: dict[str, str]) -> Operand:
        if self.accept("["):
            base, offset = self.scalar(scope), 0
            if self.accept("+") or self.next.startswith("-"):
                offset = int(self.take())
            self.expect("]")
            return Address(base, offset)
        closing = {"{": "}", "(": ")"}.get(self.next)
        if closing is None:
            return self.scalar(scope)
        self.take()
        elements: list[Name | Immediate] = []
        while not self.accept(closing):
            elements.append(self.scalar(scope))
            self.accept(",")
        return Vector(tuple(elements))

    def scalar(self, scope: dict[str, str]) -> Name | Immediate:
        token = self.next
        if token[:1].isdigit() or (token[:1] == "-" and token[1:2].isdigit()):
            return _immediate(self.take())
        if not re.match(r"[A-Za-z_$%]", token):
            raise self.error(f"unexpected {token!r}")
        return Name(self.name(scope))


def _immediate(text: str) -> Immediate:
    if text[:2] in ("0f", "0F"):
        return Immediate(int(text[2:], 16), 32)
    if text[:2] in ("0d", "0D"):
        return Immediate(int(text[2:], 16), 64)
    return Immediate(int(text.rstrip("U"), 0))
