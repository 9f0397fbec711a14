"""torch.utils.tensorboard: tensorboardX's writer of event files, which takes our tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import tensorboardX  # type: ignore[import-untyped]

from ..engine import Tensor
from ..ops.transfer import host

__all__ = ["SummaryWriter"]


def _arrays(value: Any) -> Any:
    """The value with arrays in place of tensors, in containers, too."""
    if isinstance(value, Tensor):
        return host(value)
    if type(value) is dict:
        return {key: _arrays(each) for key, each in value.items()}
    return type(value)(map(_arrays, value)) if type(value) in (list, tuple) else value


def _of_arrays(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        return method(self, *_arrays(args), **_arrays(options))

    return call


class SummaryWriter(tensorboardX.SummaryWriter):
    """Writes numbers, histograms, images and texts that TensorBoard shows."""

    def add_graph(self, model: Any, *args: Any, **options: Any) -> None:
        """Refused: TensorBoard draws what torch traces. Raises RuntimeError."""
        raise RuntimeError("add_graph: minigrad traces no graph; print(model) tells its layers")


for _name in dir(tensorboardX.SummaryWriter):
    if _name.startswith("add_") and _name != "add_graph":
        setattr(SummaryWriter, _name, _of_arrays(getattr(tensorboardX.SummaryWriter, _name)))
