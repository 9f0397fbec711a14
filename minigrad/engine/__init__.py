"""The tape: tensors, the functions that make them, and the walk back."""

from .backward import backward, enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from .function import Context, Function, Node
from .gradcheck import gradcheck
from .tensor import Tensor

__all__ = [
    "Context",
    "Function",
    "Node",
    "Tensor",
    "backward",
    "enable_grad",
    "gradcheck",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]
