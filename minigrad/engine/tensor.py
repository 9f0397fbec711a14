"""The tensor: an array, its gradient, and its place in the graph. Nothing else.

Operators and methods are attached by `minigrad.ops.methods`, in one visible list, which type
checkers read as a base class.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex, overload

import numpy as np

from ..device import CPU, Device
from ..dtypes import get_default_dtype, is_floating
from ..errors import DTypeError, GraphError
from .grad_mode import mode

if TYPE_CHECKING:
    from ..ops.methods import Methods
    from .function import Node
    from .view import Path
else:
    Methods = object


class Size(tuple[int, ...]):
    """A shape: a tuple that knows how many elements it holds, as its slices do."""

    __slots__ = ()

    def numel(self) -> int:
        return math.prod(self)

    @overload
    def __getitem__(self, key: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> Size: ...
    def __getitem__(self, key: Any) -> Any:
        item = tuple.__getitem__(self, key)
        return Size(item) if type(item) is tuple else item


class Version:
    """How often a memory was changed in place; a tensor and its views share one."""

    value = 0


class Tensor(Methods):
    """An n-dimensional array that remembers how it was made.

    array: its elements; four-dimensional activations are logically (N, C, H, W) and usually lie
        channels-last in memory, which only the strides tell. On a GPU a DeviceArray, whose views
        are NumPy's and which the host cannot read.
    grad: the gradient accumulated by `backward()`, a Tensor or None.
    node: the Node that made it, or None for a leaf; `output_index` says which of its outputs.

    Create tensors with `minigrad.tensor`, `zeros`, `randn` and the like. As in torch, Tensor(2, 3)
    has that shape and undefined elements, Tensor([2, 3]) these numbers, in the default dtype. An
    array keeps its dtype, but in scripts for torch (as_torch.py), which expect the default dtype.
    """

    arrays_keep_dtype: ClassVar[bool] = True

    __slots__ = (
        "__weakref__", "_hooks", "_node", "_requires_grad", "_version", "_view", "array", "device",
        "grad", "output_index",
    )  # fmt: skip

    # As NumPy operand, a Tensor takes precedence: `array * tensor` calls Tensor.__rmul__.
    __array_priority__ = 1000

    def __init__(
        self,
        array: Any = 0,
        device: Any = None,
        requires_grad: Any = False,
        version: Any = None,
    ) -> None:
        if type(array) is not np.ndarray and isinstance(array, (int, list, tuple, np.integer)):
            array = _of_sizes_or_numbers(array, device, requires_grad, version)
            device, requires_grad, version = CPU, False, None
        elif device is None:
            array, device = _of_data(array)
        self.array = array
        self.device = device
        self.grad: Tensor | None = None
        self.output_index = 0
        self._node: Node | None = None
        self._view: Path | None = None  # from its base, if it is a view
        self._version = version or Version()
        self._hooks: dict[int, Any] | None = None
        self._requires_grad = False
        if requires_grad:
            self.requires_grad = True

    # Array facts ------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return Size(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return self.array.ndim

    # Graph facts ------------------------------------------------------------------------------

    @property
    def node(self) -> Node | None:
        view = self._view
        if view is not None and view.version != self._version.value:
            view.renew(self)
        return self._node

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad or (self._view is not None and self._view.follows)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.node is not None and not value:
            raise GraphError(
                "requires_grad can be cleared on leaf tensors only; use .detach() for a tensor "
                "that was computed"
            )
        if value and not is_floating(self.array.dtype):
            raise DTypeError(
                f"only floating tensors can require gradients, got dtype {self.array.dtype.name}"
            )
        self._requires_grad = bool(value)

    @property
    def is_leaf(self) -> bool:
        """True for a tensor that no recorded operation made: the ones that receive `.grad`."""
        return self.node is None

    @property
    def grad_fn(self) -> Node | None:
        """The Node that made this tensor; torch's name for `node`."""
        return self.node

    @property
    def data(self) -> Tensor:
        """The same memory, outside the graph, with a version of its own: a backward pass does not
        notice what changes through it. Set it to a tensor to take over that tensor's memory."""
        return Tensor(self.array, self.device)

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"data must be a Tensor, got {type(value).__name__}; wrap an array in "
                "minigrad.tensor(…), or change the elements in place through .array"
            )
        if self._requires_grad and not is_floating(value.dtype):
            raise DTypeError(
                "data of a tensor that requires gradients must be floating, got dtype "
                f"{value.dtype.name}"
            )
        self.array, self.device = value.array, value.device

    def detach(self) -> Tensor:
        """The same memory, outside the graph."""
        return Tensor(self.array, self.device, False, self._version)

    def mark_changed(self) -> None:
        """Count an in-place change, so that a backward pass that saved this memory notices."""
        self._version.value += 1
        mode.observer.change(self._version)

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        """Add d(self)/d(leaf) to the `.grad` of every leaf that self depends on.

        gradient: same shape as self; may be left out for a tensor of one element (then 1).
        retain_graph: keep what backward needs, so that it can run again.
        """
        from .backward import backward

        backward(self, gradient, retain_graph=retain_graph, create_graph=create_graph)


def _of_sizes_or_numbers(first: Any, *more: Any) -> np.ndarray:
    """The array of torch's constructor Tensor(first, *more)."""
    if isinstance(first, Size):
        return np.empty(first, get_default_dtype())
    if not isinstance(first, (int, np.integer)):
        return np.array(first, get_default_dtype())
    defaults = None, False, None
    sizes = [size for size, absent in zip(more, defaults, strict=True) if size is not absent]
    return np.empty((first, *sizes), get_default_dtype())


def _of_data(data: Any) -> tuple[Any, Device]:
    """The array of Tensor(data), and where it lies."""
    if isinstance(data, Tensor):
        return data.array, data.device
    if not isinstance(data, (np.ndarray, np.generic)):
        raise TypeError(f"Tensor: expects sizes, numbers or an array, got {type(data).__name__}")
    keep = Tensor.arrays_keep_dtype
    return np.asarray(data) if keep else np.array(data, get_default_dtype()), CPU
