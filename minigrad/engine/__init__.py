"""The tape: tensors (tensor.py), the functions that make them (function.py), and the walk back
(backward.py), which leaves gradients (gradient.py); views and changes in place (view.py). It knows
no operation; who wants to record what a step does watches it (observer.py)."""

from .backward import backward, enable_grad, grad, is_grad_enabled, no_grad, set_grad_enabled
from .function import Context, Function, Node
from .grad_mode import inference_mode
from .gradient import clear_grad, read_grad
from .tensor import Size, Tensor
from .view import View

__all__ = [
    "Context",
    "Function",
    "Node",
    "Size",
    "Tensor",
    "View",
    "backward",
    "clear_grad",
    "enable_grad",
    "grad",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "read_grad",
    "set_grad_enabled",
]
