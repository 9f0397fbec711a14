"""Weights and checkpoints on disk, as safetensors files: no pickle, readable by other frameworks.

A checkpoint is one file: the tensors of model and optimiser, and in the file's metadata a JSON
header with everything else and a checksum. It is written beside its target and renamed over it, so
a reader or a crash never meets half a file.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .device import CPU, Device, as_device, default_generator
from .dtypes import SUPPORTED
from .engine import Tensor
from .errors import CheckpointError
from .files import StrPath, check_readable, written_whole
from .nn.module import Module
from .ops.transfer import host_c_order, placed
from .optim.lr_scheduler import LRScheduler
from .optim.optimizer import Optimizer
from .pth.unpickler import widened

__all__ = ["load_checkpoint", "load_file", "save_checkpoint", "save_file"]

FORMAT = 1

# safetensors' names of the dtypes.
_NAMES = {
    "F32": "float32", "F64": "float64", "I64": "int64", "I32": "int32", "I16": "int16",
    "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


# Files of tensors ---------------------------------------------------------------------------


def save_file(
    tensors: dict[str, Tensor], path: StrPath, metadata: dict[str, str] | None = None
) -> None:
    """Write a state dict, in logical C order. The file appears whole or not at all."""
    arrays = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise TypeError(
                f"save_file: tensors must map names to Tensors, got {name!r}: "
                f"{type(tensor).__name__}"
            )
        if name == "__metadata__":
            raise ValueError("save_file: the format keeps the name '__metadata__' for itself")
        arrays[name] = host_c_order(tensor)
    _write(arrays, Path(path), metadata)


def load_file(path: StrPath, device: Device | str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in the order of their names; half precision is widened.

    Raises FileNotFoundError, or CheckpointError for a file that is damaged or of another kind or
    has dtypes that minigrad lacks.
    """
    arrays, _ = _read(Path(path))
    to = as_device(device)
    return {name: Tensor(placed(array, to), to) for name, array in arrays.items()}


def _write(arrays: dict[str, np.ndarray], path: Path, metadata: dict[str, str] | None) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file as write

    with written_whole(path) as part:
        try:
            write(arrays, str(part), metadata)
        except SafetensorError as error:
            raise OSError(f"could not write {path}: {error}") from error


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    from safetensors import SafetensorError, deserialize, safe_open

    check_readable(path)
    arrays, half = {}, list[str]()
    try:
        with safe_open(str(path), framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  the handle is no dict
                dtype = file.get_slice(name).get_dtype()
                if dtype in ("F16", "BF16"):
                    half.append(name)
                    continue
                if dtype not in _NAMES:
                    listed = ", ".join(d.name for d in SUPPORTED)
                    raise CheckpointError(
                        f"{path}: tensor {name!r} has dtype {dtype}; minigrad reads {listed} and "
                        "half precision"
                    )
                arrays[name] = file.get_tensor(name)
            metadata = file.metadata() or {}
        if half:  # NumPy has no bfloat16, so the library hands out the bytes
            raw = dict(deserialize(path.read_bytes()))
            for name in half:
                code = "bfloat16" if raw[name]["dtype"] == "BF16" else "f2"
                arrays[name] = widened(raw[name]["data"], code, "<").reshape(raw[name]["shape"])
    except (SafetensorError, ValueError) as error:  # NumPy has no array of such a shape
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error
    return arrays, metadata


# Checkpoints --------------------------------------------------------------------------------


def save_checkpoint(
    path: StrPath,
    *,
    model: Module | None = None,
    optimizer: Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    **extra: Any,
) -> None:
    """Write the state of training to one file, which appears whole or not at all.

    It holds the state dicts, the state of the random generator, and `extra`, which may be anything
    that JSON holds (numbers, strings, lists, dicts with string keys, None).
    """
    arrays: dict[str, np.ndarray] = {}
    header: dict[str, Any] = {
        "format": FORMAT,
        "model": None,
        "optimizer": None,
        "scheduler": None,
        "generator": default_generator.get_state(),
        "extra": extra,
    }
    if model is not None:
        state = model.state_dict()
        header["model"] = list(state)
        arrays |= {f"model.{name}": host_c_order(tensor) for name, tensor in state.items()}
    if optimizer is not None:
        saved = optimizer.state_dict()
        plain: dict[str, dict[str, Any]] = {}
        for index, values in saved["state"].items():
            plain[str(index)] = {}
            for key, value in values.items():
                if isinstance(value, Tensor):
                    arrays[f"optimizer.{index}.{key}"] = host_c_order(value)
                else:
                    plain[str(index)][key] = value
        header["optimizer"] = {"state": plain, "param_groups": saved["param_groups"]}
    if scheduler is not None:
        header["scheduler"] = scheduler.state_dict()
    try:
        text = json.dumps(header, default=_plain)
    except (TypeError, ValueError) as error:
        raise TypeError(f"save_checkpoint: only JSON values can be saved: {error}") from None
    _write(arrays, Path(path), {"minigrad": text, "crc32": _checksum(text, arrays)})


def load_checkpoint(
    path: StrPath,
    *,
    model: Module | None = None,
    optimizer: Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    generator: bool = True,
) -> dict[str, Any]:
    """Put the state that `save_checkpoint` wrote into the objects given; return its extra values.

    generator: whether to put the random generator back, too. Raises FileNotFoundError, or
    CheckpointError for a file that is damaged or does not fit; nothing is changed then.
    """
    path = Path(path)
    arrays, metadata = _read(path)
    header = _header(path, arrays, metadata)
    targets = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    for part, given in targets.items():
        if given is not None and header[part] is None:
            raise CheckpointError(f"{path}: the checkpoint holds no {part}")

    model_state: dict[str, Tensor] = {}
    optimizer_state: dict[str, Any] = {}
    if model is not None:
        model_state = {name: Tensor(arrays[f"model.{name}"], CPU) for name in header["model"]}
    if optimizer is not None:
        optimizer_state = _optimizer_state(header["optimizer"], arrays)
    # All checks come before the first change.
    try:
        if model is not None:
            model._check_state_dict(model_state, strict=True)
        if optimizer is not None:
            optimizer._check_state_dict(optimizer_state)
        if scheduler is not None:
            scheduler._check_state_dict(header["scheduler"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if model is not None:
        model.load_state_dict(model_state)
    if optimizer is not None:
        optimizer.load_state_dict(optimizer_state)
    if scheduler is not None:
        scheduler.load_state_dict(header["scheduler"])
    if generator:
        default_generator.set_state(header["generator"])
    return header["extra"]


def _header(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> dict[str, Any]:
    if "minigrad" not in metadata:
        raise CheckpointError(
            f"{path} holds tensors, but is no checkpoint of minigrad; read it with load_file"
        )
    text = metadata["minigrad"]
    if metadata.get("crc32") != _checksum(text, arrays):
        raise CheckpointError(f"{path} is damaged: its checksum does not match")
    header = json.loads(text)
    if header["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {header['format']}; this version reads {FORMAT}"
        )
    return header


def _optimizer_state(saved: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    state = {int(index): dict(values) for index, values in saved["state"].items()}
    for name, array in arrays.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, key = rest.partition(".")
            state[int(index)][key] = Tensor(array, CPU)
    return {"state": state, "param_groups": saved["param_groups"]}


def _plain(value: Any) -> Any:
    """NumPy scalars as Python numbers, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r}")


def _checksum(text: str, arrays: dict[str, np.ndarray]) -> str:
    value = zlib.crc32(text.encode())
    for name in sorted(arrays):
        value = zlib.crc32(name.encode(), value)
        value = zlib.crc32(arrays[name].reshape(-1).view(np.uint8).data, value)
    return str(value)
