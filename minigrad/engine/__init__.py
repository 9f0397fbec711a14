"""The tape: tensors, the functions that make them, and the walk back."""

from .backward import backward, enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from .capture import CapturedStep, capture
from .function import Context, Function, Node
from .gradcheck import gradcheck
from .tensor import Tensor

__all__ = [
    "CapturedStep",
    "Context",
    "Function",
    "Node",
    "Tensor",
    "backward",
    "capture",
    "enable_grad",
    "gradcheck",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]
