"""Layers, containers, initial values and the functional forms, under torch.nn's names."""

from . import functional, init, utils
from .containers import ModuleDict, ModuleList, Sequential
from .conv import ConvTranspose2d
from .layers import BatchNorm1d, BatchNorm2d, Conv2d, Linear
from .losses import CrossEntropyLoss, MSELoss, NLLLoss
from .module import Module, Parameter
from .stateless import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    Dropout,
    Dropout2d,
    Flatten,
    Identity,
    LogSoftmax,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from .summary import summary

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "Identity",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "functional",
    "init",
    "summary",
    "utils",
]
