"""Host-device transfer: between the host's memory and the GPU's.

"cpu" and "reference" share the host's memory, so only GPUs need copies. What reads values on the
host comes through `host`; a value check that the host can make at once and the GPU only later,
through `check_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..device import CPU, Device
from ..dtypes import int64
from ..engine import Tensor
from ..engine.grad_mode import mode
from ..layout import contiguous, empty_array, memory_order, order_of
from ..runtime.recording import current


def is_cuda(device: Device) -> bool:
    return device.type == "cuda"


def share_memory(a: Device, b: Device) -> bool:
    """Whether kernels of one read what lies on the other."""
    return a == b if is_cuda(a) else not is_cuda(b)


def converted(
    array: Any, dtype: np.dtype, source: Device, target: Device, wait: bool = True
) -> Any:
    """A copy of the array on another device, or of another dtype, in the same memory order. wait:
    until pinned memory has been read."""
    order = memory_order(array)
    if share_memory(source, target):
        copy = empty_array(array.shape, dtype, target, order)
        kernels.get(target).elementwise.copy_strided(copy, array)
        return copy
    if current.recording is not None:
        for device in filter(is_cuda, (source, target)):
            current.recording.check_device(device, array.shape)
    if order is None or dtype != array.dtype:
        # Made dense, and of the dtype, where it is.
        array = converted(array, dtype, source, source)
        order = order_of(array)
    from ..runtime.cuda import memory

    stored = array.transpose(order)
    moved: Any
    if is_cuda(source) and is_cuda(target):
        moved = memory.to_peer(stored, target.index)
    elif is_cuda(target):
        moved = memory.to_device(stored, wait, target.index)
    else:
        moved = empty_array(stored.shape, dtype, target)
        memory.to_host(stored, moved)
    return moved.transpose(np.argsort(order))


def readable(tensor: Tensor, device: Device) -> Any:
    """The tensor's array where kernels of `device` can read it: a copy if need be."""
    if share_memory(tensor.device, device):
        return tensor.array
    return converted(tensor.array, tensor.dtype, tensor.device, device)


def placed(array: np.ndarray, device: Device) -> Any:
    """An array of the host where `device` works: itself, or its copy on the GPU."""
    if is_cuda(device):
        return converted(array, array.dtype, CPU, device)
    mode.observer.take_values(array.shape)
    return array


def host(tensor: Tensor) -> np.ndarray:
    """The values as a NumPy array: the tensor's own memory, or a copy of the GPU's.

    Waits for the GPU, and raises what its value checks have found.
    """
    if not is_cuda(tensor.device):
        mode.observer.read_values(tensor.shape)
        return tensor.array
    from ..runtime.cuda import checks

    checks.run(tensor.device.index)
    return converted(tensor.array, tensor.dtype, tensor.device, CPU)


def host_c_order(tensor: Tensor) -> np.ndarray:
    """The values as a C-ordered NumPy array."""
    return contiguous(host(tensor), CPU)


def constant(values: np.ndarray, device: Device) -> Any:
    """Small numbers of the host that a kernel reads."""
    if not is_cuda(device):
        if current.recording is not None:
            current.recording.keep(values)
        return values
    from ..runtime.cuda.table import upload

    return upload(values, index=device.index)


def check_rows(
    flag: Any, values: Any, device: Device, refuse: Callable[[int, Sequence[int | float]], None]
) -> None:
    """refuse(k, row k of values), which raises, if flag[0] is the number k of a row: now, or for a
    GPU at the next synchronisation. values: (rows,), or (rows, at most 7)."""
    if is_cuda(device):
        from ..kernels.cuda import _checks

        _checks.keep(flag, values, refuse)
    elif current.recording is not None:
        current.recording.call(_check_rows, flag, values, refuse)
    else:
        _check_rows(flag, values, refuse)


def _check_rows(
    flag: np.ndarray, values: np.ndarray, refuse: Callable[[int, Sequence[int | float]], None]
) -> None:
    if 0 <= (k := int(flag[0])) < len(values):
        refuse(k, values[k].reshape(-1).tolist())


def read_count(flag: Any, device: Device) -> int:
    """A number that decides a shape; waits for the GPU."""
    assert flag.dtype == int64
    if not is_cuda(device):
        mode.observer.read_values(flag.shape)
        return int(flag[0])
    from ..runtime.cuda import memory

    count = np.empty(1, np.int64)
    memory.to_host(flag, count)
    return int(count[0])
