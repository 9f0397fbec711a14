"""A pickler of protocol 2 that knows torch's names, and needs no torch."""

from __future__ import annotations

import math
import struct
import zipfile
from collections import OrderedDict
from pickle import encode_long
from typing import Any, BinaryIO

import numpy as np

from .. import dtypes
from ..device import Device
from ..engine import Tensor
from ..nn.parameter import Parameter
from ..ops.access import data_ptr
from ..ops.transfer import host_c_order, is_cuda
from .unpickler import STORAGE_OF


class Pickler:
    """Writes a pickle of protocol 2, and keeps what goes beside it."""

    def __init__(self) -> None:
        self._out = bytearray(b"\x80\x02")
        self._memo: dict[Any, int] = {}
        self._kept: list[Any] = []  # alive, so that no other object gets its id
        self._storages: list[Tensor] = []
        self._keys: dict[Any, int] = {}

    def archive(self, file: BinaryIO, folder: str) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

            def entry(name: str, content: Any) -> None:
                # A date of its own would make equal states different files.
                archive.writestr(zipfile.ZipInfo(f"{folder}/{name}"), content)

            entry("data.pkl", bytes(self._out) + b".")
            entry("byteorder", "little")
            for key, tensor in enumerate(self._storages):
                array = host_c_order(tensor)
                little = array.astype(array.dtype.newbyteorder("<"), copy=False)
                entry(f"data/{key}", little.reshape(-1).view(np.uint8).data)
            entry("version", "3\n")

    def write(self, value: Any, path: str) -> None:
        out = self._out
        if value is None or isinstance(value, bool | np.bool_):
            out += b"N" if value is None else b"\x88" if value else b"\x89"
        elif isinstance(value, int | np.integer):
            self._int(int(value))
        elif isinstance(value, float | np.floating):
            out += b"G" + struct.pack(">d", value)
        elif isinstance(value, str):
            self._text(value)
        elif isinstance(value, bytes):
            self._call("_codecs", "encode", (value.decode("latin1"), "latin1"), path)
        elif isinstance(value, np.dtype):
            self._global("torch", "bool" if value == dtypes.bool_ else value.name)
        elif isinstance(value, Device):
            index = () if value.index is None else (value.index,)
            self._call("torch", "device", (value.type, *index), path)
        elif isinstance(value, Parameter):
            data = value.detach()
            arguments = (data, value.requires_grad, OrderedDict[str, Any]())
            self._call("torch._utils", "_rebuild_parameter", arguments, path)
        elif isinstance(value, Tensor):
            self._tensor(value, path)
        elif isinstance(value, tuple):
            self._tuple(value, path)
        elif isinstance(value, set | frozenset):
            self._call("__builtin__", type(value).__name__, (list(value),), path)
        elif id(value) in self._memo:
            out += b"j" + struct.pack("<I", self._memo[id(value)])
        elif isinstance(value, list):
            out += b"]"
            self._remember(value)
            out += b"("
            for i, item in enumerate(value):
                self.write(item, f"{path}[{i}]")
            out += b"e"
        elif isinstance(value, dict):
            self._dict(value, path)
        else:
            way_out = (
                "save its state_dict()" if hasattr(value, "state_dict")
                else "make a tensor of it" if isinstance(value, np.ndarray)
                else "save what it is made of"
            )  # fmt: skip
            raise TypeError(
                "save: tensors, numbers, strings and containers of them can be saved, got "
                f"{type(value).__name__} at {path}; {way_out}"
            )

    def _remember(self, value: Any) -> None:
        key = value if isinstance(value, str) else id(value)
        self._memo[key] = len(self._memo)
        self._kept.append(value)
        self._out += b"r" + struct.pack("<I", self._memo[key])

    def _int(self, value: int) -> None:
        if -(2**31) <= value < 2**31:
            self._out += b"J" + struct.pack("<i", value)
            return
        digits = encode_long(value)
        if len(digits) < 256:
            self._out += b"\x8a" + bytes([len(digits)]) + digits
        else:
            self._out += b"\x8b" + struct.pack("<i", len(digits)) + digits

    def _text(self, value: str) -> None:
        if value in self._memo:
            self._out += b"j" + struct.pack("<I", self._memo[value])
            return
        encoded = value.encode("utf-8", "surrogatepass")
        self._out += b"X" + struct.pack("<I", len(encoded)) + encoded
        self._remember(value)

    def _tuple(self, value: tuple[Any, ...], path: str) -> None:
        self._out += b"("
        for i, item in enumerate(value):
            self.write(item, f"{path}[{i}]")
        self._out += b"t"

    def _dict(self, value: dict[Any, Any], path: str) -> None:
        ordered = isinstance(value, OrderedDict)
        if ordered:
            self._call("collections", "OrderedDict", (), path)
        else:
            self._out += b"}"
        self._remember(value)
        self._out += b"("
        for key, item in value.items():
            self.write(key, f"a key of {path}")
            self.write(item, f"{path}[{key!r}]")
        self._out += b"u"
        metadata = getattr(value, "_metadata", None)
        if ordered and metadata is not None:
            self.write({"_metadata": OrderedDict(metadata)}, path)
            self._out += b"b"

    def _global(self, module: str, name: str) -> None:
        self._out += f"c{module}\n{name}\n".encode()

    def _call(self, module: str, name: str, arguments: tuple[Any, ...], path: str) -> None:
        self._global(module, name)
        self._tuple(arguments, path)
        self._out += b"R"

    def _tensor(self, tensor: Tensor, path: str) -> None:
        array = tensor.array
        if tensor.dtype not in STORAGE_OF:
            raise TypeError(f"save: torch has no dtype {tensor.dtype.name}, which {path} has")
        memory = tensor.device, data_ptr(tensor), array.shape, array.strides, array.dtype
        key = self._keys.setdefault(memory, len(self._storages))
        if key == len(self._storages):
            self._storages.append(tensor)
        length = math.prod(array.shape)
        strides = [1]
        for size in array.shape[:0:-1]:
            strides.insert(0, strides[0] * max(1, size))
        self._global("torch._utils", "_rebuild_tensor_v2")
        self._out += b"("
        self._out += b"("
        self._text("storage")
        self._global("torch", STORAGE_OF[tensor.dtype])
        location = str(tensor.device) if is_cuda(tensor.device) else "cpu"
        for part in (str(key), location, length):
            self.write(part, path)
        self._out += b"tQ"
        self.write(0, path)
        self.write(tuple(array.shape), path)
        self.write(tuple(strides[: array.ndim]), path)
        self.write(tensor.requires_grad, path)
        self.write(OrderedDict(), path)
        self._out += b"tR"
