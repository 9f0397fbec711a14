"""Launches in machine code: calls of compiled kernels with fixed arguments, one after the other.

A call of a kernel from Python costs a microsecond or more, most of it for taking arrays apart. Here
they are taken apart once: `compiled` makes one function without arguments that calls all kernels,
every address, size and number a constant in its code.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

# Calls in one function: LLVM takes longer than in proportion for long ones.
_CALLS = 64
_MEMMOVE, _MEMSET = (
    ctypes.cast(function, ctypes.c_void_p).value or 0
    for function in (ctypes.memmove, ctypes.memset)
)


class Launch(NamedTuple):
    """address: of a compiled kernel, or of a function in C. types: of its arguments, as LLVM has
    them, pointers as words. values: numbers, or where an array lies, as an object that `compiled`
    asks for its address."""

    address: int
    types: tuple[Any, ...]
    values: tuple[Any, ...]
    in_c: bool = False


class NotFixedError(Exception):
    """The kernel's call cannot be made of constants."""


def launch(dispatcher: Any, args: Sequence[Any], place: Callable[[np.ndarray], Any]) -> Launch:
    """A call of Numba's dispatcher. place: where an array is going to lie."""
    arrays = [a.view(np.ndarray) if isinstance(a, np.ndarray) else a for a in args]
    signature = tuple([dispatcher.typeof_pyval(value) for value in arrays])
    address, leaves = _entry(dispatcher, signature)
    values = tuple(
        [value for kind, arg in zip(signature, args, strict=True)
         for value in _words(kind, arg, place)]
    )  # fmt: skip
    if len(values) != len(leaves):
        raise NotFixedError
    return Launch(address, leaves, values)


def copy(target: Any, source: Any, nbytes: int) -> Launch:
    """A copy of so many bytes from one place to another."""
    from llvmlite import ir

    return Launch(_MEMMOVE, (ir.IntType(64),) * 3, (target, source, nbytes), in_c=True)


def clear(target: Any, nbytes: int) -> Launch:
    """Zeros in so many bytes."""
    from llvmlite import ir

    word = ir.IntType(64)
    return Launch(_MEMSET, (word, ir.IntType(32), word), (target, 0, nbytes), in_c=True)


@cache
def _entry(dispatcher: Any, signature: tuple[Any, ...]) -> tuple[int, tuple[Any, ...]]:
    """The address of the function itself, behind the wrapper for Python, and its arguments."""
    from llvmlite import ir
    from numba.core import types

    if signature not in dispatcher.overloads:
        dispatcher.compile(signature)
    found = dispatcher.overloads.get(signature)
    if found is None or found.signature.return_type != types.none:
        raise NotFixedError
    packer = found.target_context.get_arg_packer(found.fndesc.argtypes)
    word = ir.IntType(64)
    leaves = [word if isinstance(t, ir.PointerType) else t for t in packer.argument_types]
    address = found.library.get_pointer_to_function(found.fndesc.llvm_func_name)
    return address, tuple(leaves)


def _words(kind: Any, value: Any, place: Callable[[np.ndarray], Any]) -> Iterator[Any]:
    """An argument as Numba passes it on."""
    from numba.core import types

    parts: Any = kind
    if isinstance(kind, types.Array):
        # Without an owner: the kernel does not count who uses the memory.
        yield from (0, 0, value.size, value.itemsize, place(value), *value.shape, *value.strides)
    elif isinstance(kind, types.BaseTuple):
        for each, part in zip(parts, value, strict=True):
            yield from _words(each, part, place)
    elif kind is types.none:
        yield 0
    elif isinstance(kind, types.Float):
        yield float(value)
    elif isinstance(kind, types.Integer | types.Boolean):
        yield int(value)
    else:
        raise NotFixedError


def compiled(launches: Sequence[Launch], address: Callable[[Any], int]) -> list[Callable[[], None]]:
    """Functions that make these calls, in order. address: of what `launch` was told of an array."""
    parts = [launches[i : i + _CALLS] for i in range(0, len(launches), _CALLS)]
    return [_compiled(part, address) for part in parts]


def _compiled(launches: Sequence[Launch], address: Callable[[Any], int]) -> Callable[[], None]:
    from llvmlite import binding, ir

    word, status = ir.IntType(64), ir.IntType(32)
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), []), "replay")
    builder = ir.IRBuilder(function.append_basic_block())
    # Where Numba's functions leave their result, which is none, and their exception.
    unused = builder.ptrtoint(builder.alloca(word, 2), word)
    for entry, types, values, in_c in launches:
        constants = [
            ir.Constant(t, v if isinstance(v, int | float) else address(v))
            for t, v in zip(types, values, strict=True)
        ]
        kind = ir.FunctionType(word, types)
        if not in_c:
            kind = ir.FunctionType(status, [word, word, *types])
            constants = [unused, unused, *constants]
        builder.call(builder.inttoptr(ir.Constant(word, entry), kind.as_pointer()), constants)
    builder.ret_void()
    machine = binding.Target.from_default_triple().create_target_machine(opt=0, jit=True)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(str(module)), machine)
    engine.finalize_object()
    run: Any = ctypes.CFUNCTYPE(None)(engine.get_function_address("replay"))
    run.engine = engine  # which owns the code
    return run
