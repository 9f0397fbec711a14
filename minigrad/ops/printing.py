"""Tensors as text, in torch's manner.

Numbers of one tensor share a width and a style: integers where all are whole, scientific where they
differ by more than a factor of 1000, else four decimals. Past 1000 elements only the edges are
shown.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from ..arguments import check_int
from ..engine import Tensor
from .transfer import host

__all__ = ["set_printoptions"]


@dataclasses.dataclass
class _Options:
    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_options = _Options()
_PROFILES: dict[str, dict[str, Any]] = {
    "default": {},
    "short": {"precision": 2, "edgeitems": 2},
    "full": {"threshold": math.inf},
}
_PREFIX = "tensor("
# What a tensor has without being told; printed otherwise.
_PLAIN = ("float32", "int64", "bool")


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """How tensors are printed from here on; what is None stays.

    precision: decimals. threshold: the elements past which only `edgeitems` at both ends of each
    axis are shown. linewidth: characters a line. sci_mode: always or never scientific; None: where
    the numbers ask for it. profile: 'default', 'short' or 'full', before the others.
    """
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(
                f"set_printoptions: profile must be one of {', '.join(_PROFILES)}, got {profile!r}"
            )
        vars(_options).update(dataclasses.asdict(_Options(**_PROFILES[profile])))
    numbers = {"precision": precision, "edgeitems": edgeitems, "linewidth": linewidth}
    for name, value in numbers.items():
        if value is not None:
            setattr(_options, name, check_int("set_printoptions", name, value, 0))
    if threshold is not None:
        _options.threshold = threshold
    _options.sci_mode = sci_mode


def to_text(tensor: Tensor) -> str:
    """`repr(x)`: values, then dtype, device and gradient where they are not the usual ones."""
    data = host(tensor)
    suffixes = []
    if tensor.device != "cpu":
        suffixes.append(f"device='{tensor.device}'")
    if data.size == 0 and data.shape != (0,):
        suffixes.append(f"size={data.shape}")
    if data.dtype.name not in _PLAIN or (data.size == 0 and data.dtype.name != "float32"):
        suffixes.append(f"dtype=minigrad.{data.dtype.name}")
    if tensor.node is not None:
        suffixes.append(f"grad_fn={tensor.node!r}")
    elif tensor.requires_grad:
        suffixes.append("requires_grad=True")

    shorten = data.size > _options.threshold
    shown = _edges(data) if shorten else data
    body = "[]" if data.size == 0 else _block(data, len(_PREFIX), shorten, _Style(shown))
    text = _PREFIX + body
    used = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if used + len(suffix) + 2 > _options.linewidth:
            text += ",\n" + " " * len(_PREFIX) + suffix
            used = len(_PREFIX) + len(suffix)
        else:
            text += ", " + suffix
            used += len(suffix) + 2
    return text + ")"


def _edges(data: np.ndarray) -> np.ndarray:
    """The elements that are shown of a long array."""
    edge = _options.edgeitems
    for axis, size in enumerate(data.shape):
        if size > 2 * edge:
            data = np.take(data, [*range(edge), *range(size - edge, size)], axis=axis)
    return data


class _Style:
    """How the numbers of one tensor are written, and how wide."""

    def __init__(self, shown: np.ndarray) -> None:
        self.floating = shown.dtype.kind == "f"
        self.whole = self.scientific = False
        self.width = 1
        if not self.floating:
            self.width = max((len(str(value)) for value in shown.flat), default=1)
            return
        values = shown.astype(np.float64).ravel()
        values = np.abs(values[np.isfinite(values) & (values != 0)])
        self.whole = bool((values == np.ceil(values)).all())
        if values.size:
            low, high = values.min(), values.max()
            self.scientific = high / low > 1000 or high > 1e8 or (not self.whole and low < 1e-4)
        if _options.sci_mode is not None:
            self.scientific = _options.sci_mode
        finite = shown[np.isfinite(shown) & (shown != 0)]
        self.width = max((len(self._number(float(v))) for v in finite.flat), default=1)

    def _number(self, value: float) -> str:
        if self.scientific:
            return f"{value:.{_options.precision}e}"
        if self.whole:
            return f"{value:.0f}." if np.isfinite(value) else f"{value:.0f}"
        return f"{value:.{_options.precision}f}"

    def text(self, value: Any) -> str:
        written = self._number(float(value)) if self.floating else str(value)
        return written.rjust(self.width)


def _block(data: np.ndarray, indent: int, shorten: bool, style: _Style) -> str:
    if data.ndim == 0:
        return style.text(data[()])
    size, edge = len(data), _options.edgeitems
    cut = shorten and size > 2 * edge
    first, last = (range(edge), range(size - edge, size)) if cut else (range(size), range(0))
    margin = " " * (indent + 1)
    if data.ndim == 1:
        words = [style.text(data[i]) for i in first]
        words += [" ..."] * cut + [style.text(data[i]) for i in last]
        per_line = max(1, (_options.linewidth - indent) // (style.width + 2))
        lines = [", ".join(words[i : i + per_line]) for i in range(0, len(words), per_line)]
        return "[" + (",\n" + margin).join(lines) + "]"
    parts = [_block(data[i], indent + 1, shorten, style) for i in first]
    parts += ["..."] * cut + [_block(data[i], indent + 1, shorten, style) for i in last]
    return "[" + ("," + "\n" * (data.ndim - 1) + margin).join(parts) + "]"
