"""minigrad: tape-based autograd with hand-written Numba kernels.

import minigrad as mg, minigrad.nn as nn, minigrad.nn.functional as F
"""

import math as _math
from importlib import import_module as _import_module
from typing import Any as _Any

import numpy as _np

from . import ahead as _ahead  # noqa: F401  hears of compilations
from . import amp, autograd, backends, cuda, linalg, nn, optim, runtime
from .backends import (
    get_float32_matmul_precision,
    set_float32_matmul_precision,
    use_deterministic_algorithms,
)
from .device import (
    Device,
    Generator,
    default_generator,
    get_default_device,
    initial_seed,
    manual_seed,
    seed,
    set_default_device,
)
from .dtypes import (
    bfloat16,
    bool_,
    can_cast,
    complex64,
    complex128,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    set_default_dtype,
    uint8,
)
from .engine import (
    Function,
    Size,
    Tensor,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from .errors import (
    CheckpointError,
    DataError,
    DeviceError,
    DistributedError,
    DTypeError,
    GradcheckError,
    GraphError,
    MinigradError,
    ShapeError,
    TargetError,
)
from .layout import MemoryFormat
from .nn.functional import (
    celu,
    conv2d,
    conv_transpose2d,
    dropout,
    group_norm,
    layer_norm,
    max_pool2d,
    selu,
)
from .ops import access as _access
from .ops import arithmetic as _arithmetic
from .ops import cast as _cast
from .ops import compare as _compare
from .ops import creation as _creation
from .ops import division as _division
from .ops import exchange as _exchange
from .ops import extrema as _extrema
from .ops import functions as _functions
from .ops import gradcheck as _gradcheck
from .ops import inplace as _inplace
from .ops import join as _join
from .ops import matmul as _matmul
from .ops import methods as _methods  # noqa: F401  attaches the methods of Tensor
from .ops import parts as _parts
from .ops import printing as _printing
from .ops import products as _products
from .ops import promotion as _promotion
from .ops import random as _random
from .ops import rearrange as _rearrange
from .ops import reduce as _reduce
from .ops import scan as _scan
from .ops import scatter as _scatter
from .ops import search as _search
from .ops import select as _select
from .ops import shape as _shape
from .ops import shuffle as _shuffle
from .ops import softmax as _softmax
from .ops import sort as _sort
from .ops import unary as _unary
from .ops import vector_norm as _vector_norm
from .ops.access import *
from .ops.arithmetic import *
from .ops.cast import *
from .ops.compare import *
from .ops.creation import *
from .ops.division import *
from .ops.exchange import *
from .ops.extrema import *
from .ops.functions import *
from .ops.gradcheck import *
from .ops.join import *
from .ops.matmul import *
from .ops.parts import *
from .ops.printing import *
from .ops.products import *
from .ops.promotion import *
from .ops.random import *
from .ops.rearrange import *
from .ops.reduce import *
from .ops.scan import *
from .ops.scatter import *
from .ops.search import *
from .ops.select import *
from .ops.shape import *
from .ops.shuffle import *
from .ops.softmax import *
from .ops.sort import *
from .ops.unary import *
from .ops.vector_norm import *
from .recording import capture

__version__ = "0.1.0"

# torch's names of numbers and of memory orders.
e, inf, nan, pi, newaxis = _math.e, _math.inf, _math.nan, _math.pi, None
memory_format = MemoryFormat
channels_last = MemoryFormat.channels_last
contiguous_format = MemoryFormat.contiguous_format
preserve_format = MemoryFormat.preserve_format

# torch's short names of the dtypes.
bool, double, float, half = bool_, float64, float32, float16
long, int, short = int64, int32, int16

# torch's names of types; the file device.py stays importable beside its class.
device = Device
dtype = _np.dtype
OutOfMemoryError = MemoryError

autocast = amp.autocast
detach, index_put = Tensor.detach, Tensor.index_put
globals().update(_inplace.FUNCTIONS)


def compile(model: _Any = None, **options: _Any) -> _Any:
    """torch.compile: the model or function as it is.

    Kernels are compiled when they are first used. `capture` is what makes a step fast: but its
    replays do not ask for what Python decides (modes of modules, attributes, global variables), and
    their results lie in one place, so it cannot stand in for any function without being asked.
    """
    return (lambda function: function) if model is None else model


# Imported when first asked for: they need Numba, Matplotlib or files.
_LAZY = {
    "_C": (".jit", "_C"),
    "_assert": (".jit", "_assert"),
    "accelerator": (".accelerator", None),
    "compiler": (".compiler", None),
    "data": (".data", None),
    "distributed": (".distributed", None),
    "distributions": (".distributions", None),
    "fx": (".fx", None),
    "hub": (".hub", None),
    "jit": (".jit", None),
    "load": (".pth", "load"),
    "save": (".pth", "save"),
    "serialization": (".serialization", None),
    "utils": (".utils", None),
    "vision": (".vision", None),
    "viz": (".viz", None),
    "get_num_threads": (".runtime.threads", "get_num_threads"),
    "set_num_threads": (".runtime.threads", "set_num_threads"),
}


def __getattr__(name: str) -> _Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'minigrad' has no attribute {name!r}")
    path, attribute = _LAZY[name]
    module = _import_module(path, __name__)
    return getattr(module, attribute) if attribute else module


def __dir__() -> list[str]:
    return __all__


__all__ = [
    *_access.__all__,
    *_arithmetic.__all__,
    *_cast.__all__,
    *_compare.__all__,
    *_creation.__all__,
    *_exchange.__all__,
    *_extrema.__all__,
    *_gradcheck.__all__,
    *_join.__all__,
    *_matmul.__all__,
    *_promotion.__all__,
    *_random.__all__,
    *_reduce.__all__,
    *_select.__all__,
    *_shape.__all__,
    *_shuffle.__all__,
    *_softmax.__all__,
    *_sort.__all__,
    *_search.__all__,
    *_scatter.__all__,
    *_scan.__all__,
    *_rearrange.__all__,
    *_products.__all__,
    *_parts.__all__,
    *_printing.__all__,
    *_functions.__all__,
    *_division.__all__,
    *_access.__all__,
    *_unary.__all__,
    *_vector_norm.__all__,
    *_inplace.FUNCTIONS,
    "CheckpointError", "DTypeError", "DataError", "Device", "DeviceError", "DistributedError",
    "Function", "Generator", "GradcheckError", "GraphError", "MinigradError",
    "OutOfMemoryError", "ShapeError", "Size", "TargetError", "Tensor", "__version__", "amp",
    "autocast", "autograd", "backends", "bfloat16", "bool", "bool_", "can_cast", "capture",
    "celu", "channels_last", "compile", "complex128", "complex64", "contiguous_format",
    "conv2d", "conv_transpose2d", "cuda", "data", "default_generator", "detach", "device",
    "distributed", "double", "dropout", "dtype", "e", "enable_grad", "finfo", "float",
    "float16", "float32", "float64",
    "get_default_device", "get_default_dtype", "get_float32_matmul_precision",
    "get_num_threads", "group_norm", "half", "iinfo", "index_put", "inf", "inference_mode",
    "initial_seed", "int", "int16", "int32", "int64", "int8", "is_grad_enabled", "layer_norm",
    "linalg", "load", "long", "manual_seed", "max_pool2d", "memory_format", "nan", "nn",
    "no_grad", "optim", "pi", "preserve_format", "promote_types", "runtime", "save", "seed",
    "selu", "serialization", "set_default_device", "set_default_dtype",
    "set_float32_matmul_precision", "set_grad_enabled", "set_num_threads", "short", "uint8",
    "use_deterministic_algorithms", "vision", "viz",
]  # fmt: skip
