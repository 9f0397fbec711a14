"""torchvision.models: networks of the common designs, with torchvision's names of parameters, so
that files of trained weights fit; the reports' networks, LeNet and a U-Net.

    model = resnet18(num_classes=10)
    model.load_state_dict(minigrad.load("resnet18.pth"))
"""

from typing import Any

from . import branches, classic, mobilenet, resnet, small, unet
from ._common import BUILDERS, get_model, list_models
from .branches import *
from .classic import *
from .mobilenet import *
from .resnet import *
from .small import *
from .unet import *

__all__ = [
    *branches.__all__, *classic.__all__, *mobilenet.__all__, *resnet.__all__, *small.__all__,
    *unet.__all__, "get_model", "list_models",
]  # fmt: skip


class _Weights:
    """What scripts name as weights=ResNet18_Weights.DEFAULT: the builder refuses it with the way
    to load a file."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return f"{self._name}.{name}"


def __getattr__(name: str) -> Any:
    if name.endswith("_Weights") and name.removesuffix("_Weights").lower() in BUILDERS:
        return _Weights(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
