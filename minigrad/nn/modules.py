"""torch's files of layers, torch.nn.modules.batchnorm and its neighbours: each of these names is
minigrad.nn, which has all layers."""

from __future__ import annotations

import sys
from typing import Any

from .. import nn

_FILES = (
    "activation", "adaptive", "batchnorm", "channelshuffle", "container", "conv", "distance",
    "dropout", "flatten", "fold", "instancenorm", "linear", "loss", "module", "normalization",
    "padding", "pixelshuffle", "pooling", "sparse", "transformer", "upsampling",
)  # fmt: skip

__path__: list[str] = []  # a package, as far as imports are concerned
for _name in _FILES:
    sys.modules[f"{__name__}.{_name}"] = globals()[_name] = nn


def __getattr__(name: str) -> Any:
    return getattr(nn, name)
