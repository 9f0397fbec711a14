"""An unpickler that runs nothing: a machine of some forty opcodes, which makes plain containers,
numbers and tensors, and refuses all else by name.
"""

from __future__ import annotations

import math
import os
import pickletools
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from .. import dtypes
from ..device import Device
from ..engine import Tensor
from ..nn.parameter import Parameter

# torch's classes of storages, each with its elements as they lie in the file.
STORAGES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
STORAGE_OF = {np.dtype(code): name for name, code in STORAGES.items() if code != "bfloat16"}


class RefusedError(Exception):
    """What the pickle asks for and does not get."""


# Tensors ------------------------------------------------------------------------------------


class Storage(NamedTuple):
    """One-dimensional memory of a file, of which tensors are views, and where it shall lie."""

    array: np.ndarray
    device: Device


def widened(raw: bytes | memoryview, code: str, order: Literal["<", ">"]) -> np.ndarray:
    """The elements of a storage; half precision, which minigrad does not compute in, in float32."""
    if code == "bfloat16":  # the upper half of a float32
        upper = np.frombuffer(raw, np.dtype("u2").newbyteorder(order))
        return (upper.astype(np.uint32) << 16).view(np.float32)
    array = np.frombuffer(raw, np.dtype(code).newbyteorder(order))
    wanted = np.dtype(np.float32 if code == "f2" else code)
    return array.astype(wanted)  # a copy: the user may write to it


def shown(value: Any) -> str:
    """A value for a message. A container in which others come again and again can be short in the
    file and endless as text."""
    plain = isinstance(value, str | int | float | bytes | None)
    return f"{value!r:.80}" if plain else f"a {type(value).__name__}"


def is_index(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False,
            *hooks: Any) -> Tensor:  # fmt: skip
    """A view of the storage's memory, as torch's _rebuild_tensor_v2 makes it."""
    if not isinstance(storage, Storage):
        raise RefusedError("a tensor without a storage")
    if not (
        isinstance(size, tuple)
        and isinstance(stride, tuple)
        and len(size) == len(stride) <= 32
        and all(map(is_index, (offset, *size, *stride)))
    ):
        raise RefusedError("a tensor whose size, strides and offset are no numbers")
    length = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if length and last >= storage.array.size:
        raise RefusedError(
            f"a tensor of size {size} with strides {stride} at {offset} of a storage of "
            f"{storage.array.size} elements"
        )
    item = storage.array.itemsize
    array = np.lib.stride_tricks.as_strided(
        storage.array[min(offset, storage.array.size) :] if length else storage.array[:0],
        size,
        [step * item for step in stride],
    )
    wants = requires_grad is True and dtypes.is_floating(array.dtype)
    return Tensor(array, storage.device, wants)


def _parameter(data: Any, requires_grad: Any, *hooks: Any) -> Parameter:
    if not isinstance(data, Tensor):
        raise RefusedError("a parameter without a tensor")
    return Parameter(data, bool(requires_grad))


# Plain values -------------------------------------------------------------------------------


def _key(value: Any) -> Any:
    """A key of a dict or a member of a set; deep tuples would exhaust the stack where they are
    hashed."""
    plain = (str, int, float, bool, bytes, type(None), np.dtype, Device)
    if isinstance(value, plain) or (
        type(value) is tuple and all(isinstance(v, plain) for v in value)
    ):
        return value
    raise RefusedError(f"a key of type {type(value).__name__}")


def _items(value: Any) -> Any:
    """What may be gone through: a tensor of one element in memory can have any number of rows."""
    if not isinstance(value, (str, bytes, bytearray, list, tuple, set, frozenset, Mapping)):
        raise RefusedError(f"the items of a {type(value).__name__}")
    return value


def _filled(kind: Callable[[], Any]) -> Callable[..., Any]:
    """Makes a dict of that kind from pairs or from another dict."""

    def make(items: Any = ()) -> Any:
        made = kind()
        for key, value in items.items() if isinstance(items, Mapping) else _items(items):
            made[_key(key)] = value
        return made

    return make


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """bytes, which pickles of protocol 2 spell as text."""
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RefusedError(f"the encoding {shown(encoding)}")
    return text.encode("latin1")


def _numpy_dtype(code: Any, *options: Any) -> np.dtype:
    if not isinstance(code, str) or np.dtype(code).hasobject:
        raise RefusedError(f"the NumPy dtype {shown(code)}")
    return np.dtype(code)


def _numpy_scalar(dtype: Any, raw: Any) -> Any:
    """As the Python number that it is."""
    if not isinstance(dtype, np.dtype) or not isinstance(raw, bytes):
        raise RefusedError("a NumPy scalar without its bytes")
    return np.frombuffer(raw, dtype, 1)[0].item()


def _device(kind: Any, *index: Any) -> Device:
    if not isinstance(kind, str) or not all(map(is_index, index)):
        raise RefusedError("a device without a name or with an index that is no number")
    return Device(kind, *index)


_BUILTIN: dict[str, Callable[..., Any]] = {
    "set": lambda items=(): {_key(item) for item in _items(items)},
    "frozenset": lambda items=(): frozenset(_key(item) for item in _items(items)),
    "list": lambda items=(): list(_items(items)),
    "dict": _filled(dict),
    "bytearray": lambda raw=b"", *encoding: bytearray(_encoded(raw, *encoding)),
    "complex": complex, "slice": slice,
    # Types that may be named, as by a defaultdict, and not called.
    "int": int, "float": float, "str": str, "bool": bool,
}  # fmt: skip
_CALLABLE: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _filled(OrderedDict),
    "collections.Counter": _filled(Counter),
    "collections.defaultdict": lambda factory=None, *items: _filled(defaultdict)(*items),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": lambda items=(): tuple(_items(items)),
    "torch.device": _device,
    "_codecs.encode": _encoded,
    "numpy.dtype": _numpy_dtype,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    **{f"builtins.{name}": kind for name, kind in _BUILTIN.items()},
    **{f"__builtin__.{name}": kind for name, kind in _BUILTIN.items()},
}
_TYPES = {"int", "float", "str", "bool"}  # that may only be named, as by a defaultdict


class _Global:
    """A name that a pickle has looked up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any) -> Any:
        if self.name not in _CALLABLE or self.name.rpartition(".")[2] in _TYPES:
            raise RefusedError(self.name)
        return _CALLABLE[self.name](*args)


def _lookup(module: Any, name: Any) -> Any:
    if not isinstance(module, str) or not isinstance(name, str):
        raise RefusedError(f"{shown(name)} of {shown(module)}")
    full = f"{module}.{name}"
    if module == "torch" and name in STORAGES:
        return STORAGES[name]
    if module == "torch" and isinstance(getattr(dtypes, name, None), np.dtype):
        return getattr(dtypes, name)
    if full == "torch.storage.UntypedStorage":
        return "u1"
    if full not in _CALLABLE:
        raise RefusedError(full)
    return _Global(full)


# The machine --------------------------------------------------------------------------------

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set,
}  # fmt: skip
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "BINUNICODE8",
    "SHORT_BINUNICODE", "BINBYTES", "BINBYTES8", "SHORT_BINBYTES", "BYTEARRAY8",
    "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
_MARK = object()

# Bytes that calls may copy for each byte of the pickle, and at least; a program of few bytes can
# ask for copies of one large list or text without end.
_COPIES, _SMALL = 64, 1 << 24


class Unpickler:
    """Reads pickles. storage: makes what a persistent id names."""

    def __init__(self, storage: Callable[[Any], Storage]) -> None:
        self._storage = storage
        self.tensors: list[Tensor] = []

    def run(self, source: BinaryIO) -> Any:
        """The value of the next pickle."""
        start = source.tell()
        self._left = _SMALL + _COPIES * (source.seek(0, os.SEEK_END) - start)
        source.seek(start)
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(source):
            if opcode.name == "STOP":
                (result,) = self._stack
                return result
            self._step(opcode.name, argument)
        raise EOFError("the pickle has no end")

    def _step(self, name: str, argument: Any) -> None:
        stack, memo = self._stack, self._memo
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name == "FROZENSET":
            stack.append(frozenset(map(_key, self._since_mark())))
        elif name in ("APPEND", "APPENDS"):
            items = self._since_mark() if name == "APPENDS" else [stack.pop()]
            self._top(list).extend(items)
        elif name == "ADDITEMS":
            items = self._since_mark()
            self._top(set).update(map(_key, items))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            target = self._top(dict)
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[_key(key)] = value
        elif name == "GLOBAL":
            stack.append(_lookup(*argument.split(" ")))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [_lookup(*stack[-2:])]
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            if not isinstance(function, _Global):
                raise RefusedError(f"a call of a {type(function).__name__}")
            for copied in _items(arguments):
                if isinstance(copied, (str, bytes, bytearray)):
                    self._left -= len(copied)
                elif isinstance(copied, (list, tuple, set, frozenset, Mapping)):
                    self._left -= 64 * len(copied)
            if self._left < 0:
                raise RefusedError("more and more copies of its content")
            stack.append(function(*arguments))
            if isinstance(stack[-1], Tensor):
                self.tensors.append(stack[-1])
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name not in ("PROTO", "FRAME"):
            raise RefusedError(f"the opcode {name}")

    def _top(self, kind: Any) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise RefusedError(f"items of a {type(self._stack[-1]).__name__}")
        return self._stack[-1]

    def _since_mark(self) -> list[Any]:
        stack = self._stack
        start = len(stack) - 1
        while stack[start] is not _MARK:
            start -= 1
            if start < 0:
                raise IndexError("a mark is missing")
        items = stack[start + 1 :]
        del stack[start:]
        return items


def _build(target: Any, state: Any) -> None:
    """The state of an object beside its items: the versions of a state dict, no more."""
    if isinstance(target, OrderedDict) and isinstance(state, dict) and set(state) <= {"_metadata"}:
        target.__dict__.update(state)
    elif not isinstance(target, np.dtype):  # of which it is the version of the pickle
        raise RefusedError(f"attributes of a {type(target).__name__}")
