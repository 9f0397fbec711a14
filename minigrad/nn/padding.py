"""Padding as layers. See `functional.pad`; amounts are (before, after) of the last axis first."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine import Tensor
from ..errors import DTypeError, ShapeError
from . import functional as F
from .module import Module

__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d",
    "ConstantPad3d", "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d",
    "ReplicationPad2d", "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip


class _Pad(Module):
    _axes = 0
    _mode = "constant"

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        name = type(self).__name__
        count = 2 * self._axes
        amounts = (padding,) * count if hasattr(padding, "__index__") else padding
        try:
            self.padding = tuple(amount.__index__() for amount in amounts)
        except (AttributeError, TypeError):
            raise DTypeError(
                f"{name}: padding must be an int or {count} ints, got {padding!r}"
            ) from None
        if len(self.padding) != count:
            raise ShapeError(f"{name}: padding must be an int or {count} ints, got {padding!r}")

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        return str(self.padding)


class _ConstantPad(_Pad):
    """Lengthen the last axes by `value`."""

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """(C, W) or (N, C, W), padded by `value` to (…, W_out)."""

    _axes = 1


class ConstantPad2d(_ConstantPad):
    """(C, H, W) or (N, C, H, W), padded by `value` to (…, H_out, W_out)."""

    _axes = 2


class ConstantPad3d(_ConstantPad):
    """(C, D, H, W) or (N, C, D, H, W), padded by `value` to (…, D_out, H_out, W_out)."""

    _axes = 3


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return str(self.padding)


class ZeroPad1d(_ZeroPad):
    """(C, W) or (N, C, W), padded by zeros."""

    _axes = 1


class ZeroPad2d(_ZeroPad):
    """(C, H, W) or (N, C, H, W), padded by zeros."""

    _axes = 2


class ZeroPad3d(_ZeroPad):
    """(C, D, H, W) or (N, C, D, H, W), padded by zeros."""

    _axes = 3


class ReflectionPad1d(_Pad):
    """(C, W) or (N, C, W), mirrored at its edges, which are not repeated."""

    _axes, _mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """(C, H, W) or (N, C, H, W), mirrored at its edges, which are not repeated."""

    _axes, _mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """(C, D, H, W) or (N, C, D, H, W), mirrored at its edges, which are not repeated."""

    _axes, _mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """(C, W) or (N, C, W), its edges repeated."""

    _axes, _mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """(C, H, W) or (N, C, H, W), its edges repeated."""

    _axes, _mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """(C, D, H, W) or (N, C, D, H, W), its edges repeated."""

    _axes, _mode = 3, "replicate"


class CircularPad1d(_Pad):
    """(C, W) or (N, C, W), continued around the other end."""

    _axes, _mode = 1, "circular"


class CircularPad2d(_Pad):
    """(C, H, W) or (N, C, H, W), continued around the other ends."""

    _axes, _mode = 2, "circular"


class CircularPad3d(_Pad):
    """(C, D, H, W) or (N, C, D, H, W), continued around the other ends."""

    _axes, _mode = 3, "circular"
