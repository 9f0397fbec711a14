"""PyTorch's files, `.pth` and `.pt`: what `torch.save` writes and `torch.load` reads.

Such a file is a zip of a pickle, which says how tensors lie in their storages, and of the storages'
bytes. Pickles are programs; here they are read by a machine that runs nothing (unpickler.py).
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from ..device import CPU, Device, as_device
from ..engine import Tensor
from ..errors import CheckpointError, DeviceError
from ..files import StrPath, check_readable, written_whole
from ..ops.transfer import is_cuda, placed
from .pickler import Pickler
from .unpickler import RefusedError, Storage, Unpickler, is_index, shown, widened

__all__ = ["load", "save"]

# How the two formats say the order of bytes.
_ORDERS: dict[Any, Literal["<", ">"]] = {b"little": "<", b"big": ">", True: "<", False: ">"}
# Before release 1.6 a file was five pickles, and the storages after them.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


# Reading ------------------------------------------------------------------------------------


def load(
    f: StrPath | BinaryIO,
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = True,
    mmap: bool | None = None,
) -> Any:
    """What `save` or `torch.save` wrote, from a file or a file object.

    Tensors come back where they were; map_location says where else: a device, a dict of devices, or
    a function of a storage and its place (a string) that returns a storage or None. Half precision
    becomes float32. Nothing in the file is run, whatever weights_only says; pickle_module and mmap
    are torch's and change nothing.

    Raises FileNotFoundError; CheckpointError for a file that is damaged, of another kind, or holds
    more than tensors, numbers, strings and containers of them; DeviceError for a place that is not
    here.
    """
    if isinstance(f, str | os.PathLike):
        check_readable(f)
        with open(f, "rb") as file:
            return _load(file, str(f), map_location)
    return _load(f, str(getattr(f, "name", "the file")), map_location)


def _load(file: BinaryIO, label: str, map_location: Any) -> Any:
    place = _place(map_location)
    start = file.tell()
    head = file.read(4)
    file.seek(start)
    try:
        if head == b"PK\3\4":
            value, tensors = _load_zip(file, place)
        elif head[:1] == b"\x80":
            value, tensors = _load_legacy(file, place)
        else:
            raise CheckpointError(f"load: {label} is no file of torch.save's; it begins {head!r}")
    except RefusedError as error:
        raise CheckpointError(
            f"load: {label} asks for {error}, which is not read: files may hold tensors, numbers, "
            "strings and containers of them, as a state_dict() does"
        ) from None
    except (DeviceError, CheckpointError):
        raise
    except Exception as error:  # whatever a damaged file may do to the machine
        raise CheckpointError(
            f"load: {label} is damaged: {type(error).__name__}: {error!s:.200}"
        ) from error
    moved: dict[int, Any] = {}
    for tensor in tensors:
        if is_cuda(tensor.device):
            key = id(tensor.array)
            try:
                if key not in moved:
                    moved[key] = tensor.array, placed(tensor.array, tensor.device)
            except DeviceError as error:
                raise _absent(str(tensor.device), error) from None
            tensor.array = moved[key][1]
    return value


def _place(map_location: Any) -> Callable[[np.ndarray, str], Device]:
    """Tells where a storage goes that was at `location`."""
    kinds = str | Device | Mapping | None
    if not callable(map_location) and not isinstance(map_location, kinds):
        raise TypeError(
            "load: map_location must be a device, a dict, a function or None, got "
            f"{map_location!r:.80}"
        )

    def place(array: np.ndarray, location: str) -> Device:
        wanted = map_location
        if callable(wanted):
            result = wanted(Tensor(array, CPU), location)
            wanted = None if result is None else result.device
        elif isinstance(wanted, Mapping):
            wanted = wanted.get(location)
        try:
            return as_device(location if wanted is None else wanted)
        except DeviceError as error:
            raise _absent(location, error) from None

    return place


def _absent(location: str, error: DeviceError) -> DeviceError:
    return DeviceError(
        f"load: tensors of the file go to {location}: {error}; map_location='cpu' brings them here"
    )


def _identified(identifier: Any) -> tuple[str, str, str, int]:
    """(elements, key, location, length) of the storage that a persistent id names."""
    kind, elements, key, location, length = identifier[:5]
    if (
        kind != "storage"
        or not all(isinstance(text, str) for text in (elements, key, location))
        or not is_index(length)
        or any(part is not None for part in identifier[5:])
    ):
        raise RefusedError(f"the storage ({', '.join(map(shown, identifier[:5]))})")
    return elements, key, location, length


def _load_zip(file: BinaryIO, place: Callable[[np.ndarray, str], Device]) -> Any:
    archive = zipfile.ZipFile(file)
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise RefusedError("compressed entries")
    if sum(entry.file_size for entry in entries) > file.seek(0, os.SEEK_END):
        raise RefusedError("entries that lie over one another")
    names = {entry.filename for entry in entries}
    folders = [n.removesuffix("data.pkl") for n in names if n.split("/")[1:] == ["data.pkl"]]
    if len(folders) != 1:
        raise RefusedError("an archive that torch.save did not write")
    (folder,) = folders
    if f"{folder}constants.pkl" in names:
        raise RefusedError("a TorchScript program")
    order = b"little"
    if f"{folder}byteorder" in names:
        order = archive.read(f"{folder}byteorder")
    storages: dict[str, Storage] = {}

    def storage(identifier: Any) -> Storage:
        elements, key, location, length = _identified(identifier)
        if key not in storages:
            raw = archive.read(f"{folder}data/{key}")
            array = widened(raw, elements, _ORDERS[order])
            storages[key] = Storage(array, place(array, location))
        if storages[key].array.size < length:
            raise RefusedError(f"{length} elements of a storage of {storages[key].array.size}")
        return storages[key]

    machine = Unpickler(storage)
    return machine.run(io.BytesIO(archive.read(f"{folder}data.pkl"))), machine.tensors


def _load_legacy(file: BinaryIO, place: Callable[[np.ndarray, str], Device]) -> Any:
    """Magic number, version, system, value and the storages' names, each a pickle; then of each
    storage its length and its elements."""
    content = io.BytesIO(file.read())
    size = len(content.getbuffer())
    storages: dict[str, tuple[Storage, str]] = {}
    promised = 0

    def storage(identifier: Any) -> Storage:
        nonlocal promised
        elements, key, location, length = _identified(identifier)
        if key not in storages:
            promised += length
            if promised > size:
                raise RefusedError(f"{promised} elements in a file of {size} bytes")
            array = np.empty(length, widened(b"", elements, "<").dtype)
            storages[key] = Storage(array, place(array, location)), elements
        return storages[key][0]

    machine = Unpickler(storage)
    if machine.run(content) != _LEGACY_MAGIC:
        raise RefusedError("a pickle that torch.save did not write")
    machine.run(content)
    order = _ORDERS[machine.run(content)["little_endian"]]
    value = machine.run(content)
    tensors, keys = machine.tensors, machine.run(content)
    for key in keys:
        (target, _), elements = storages[key]
        (length,) = struct.unpack("<q", content.read(8))
        item = 2 if elements == "bfloat16" else np.dtype(elements).itemsize
        target[...] = widened(content.read(item * length), elements, order)
    if len(set(keys)) != len(storages):
        raise RefusedError("storages that it does not hold")
    return value, tensors


# Writing ------------------------------------------------------------------------------------


def save(
    obj: Any,
    f: StrPath | BinaryIO,
    pickle_module: Any = None,
    pickle_protocol: Any = None,
    _use_new_zipfile_serialization: bool = True,
) -> None:
    """Write tensors, numbers, strings and containers of them as `torch.save` does, to a file, which
    appears whole or not at all, or to a file object. `torch.load` reads it.

    Tensors that share all of their memory still do when they are loaded. The arguments after f are
    torch's and change nothing. Raises TypeError, naming the place, for anything else, such as a
    module: save its state_dict().
    """
    writer = Pickler()
    writer.write(obj, "obj")
    if isinstance(f, str | os.PathLike):
        name = Path(f).stem or "archive"
        with written_whole(f) as part, open(part, "wb") as file:
            writer.archive(file, name)
    elif isinstance(f, io.BytesIO | io.BufferedWriter | io.BufferedRandom):
        writer.archive(f, "archive")
    else:  # a compressor, a pipe or a socket, in which an archive's sizes can't be filled in later
        archive = io.BytesIO()
        writer.archive(archive, "archive")
        f.write(archive.getbuffer())
